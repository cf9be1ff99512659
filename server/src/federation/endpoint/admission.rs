//! Places at the endpoint: so many in all, so many for one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Connections in all.
const CONNECTIONS: usize = 1_024;
/// Connections of one address. Peers behind a translated network share one; each needs one for some milliseconds, or one that waits.
const PER_ADDRESS: usize = 64;

#[derive(Clone, Debug, Default)]
pub(crate) struct Admission {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place. It is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    admission: Admission,
    address: IpAddr,
}

impl Admission {
    pub(crate) fn admit(&self, address: IpAddr) -> Option<Ticket> {
        let address = network(address);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let own = taken.get(&address).copied().unwrap_or(0);
        if all >= CONNECTIONS || own >= PER_ADDRESS {
            return None;
        }
        taken.insert(address, own + 1);
        Some(Ticket {
            admission: self.clone(),
            address,
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut taken = self
            .admission
            .taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.address) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

/// An IPv4 address, or the /64 that one customer gets of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_fill_the_endpoint_and_places_come_back() {
        let admission = Admission::default();
        let of = |address: &str| admission.admit(address.parse().unwrap());
        let held: Vec<_> = (0..PER_ADDRESS).map(|_| of("203.0.113.1").unwrap()).collect();
        assert!(of("203.0.113.1").is_none() && of("::ffff:203.0.113.1").is_none());
        assert!(of("203.0.113.2").is_some());
        drop(held);
        assert!(of("203.0.113.1").is_some());
        let _many: Vec<_> = (0..CONNECTIONS)
            .filter_map(|n| of(&format!("10.0.{}.{}", n / 250, n % 250)))
            .collect();
        assert!(of("203.0.113.9").is_none());
    }
}
