//! Places for callers who have proved nothing: so many in all, so many for one address, so that none shuts out all others.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The places of one door. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    most: usize,
    per_address: usize,
    taken: Arc<Mutex<HashMap<Option<IpAddr>, usize>>>,
}

/// A place. It is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    admission: Admission,
    address: Option<IpAddr>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Full {
    /// For nobody.
    All,
    /// For this address: it has its share.
    Address,
}

impl Admission {
    /// `most` in all, `per_address` of them for one.
    pub(crate) fn new(most: usize, per_address: usize) -> Self {
        Self {
            most,
            per_address,
            taken: Arc::default(),
        }
    }

    /// A place for a caller from `address`; none: from this machine, who is bounded by the whole alone.
    pub(crate) fn admit(&self, address: Option<IpAddr>) -> Result<Ticket, Full> {
        let address = address.map(network);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = taken.values().sum();
        let own = taken.get(&address).copied().unwrap_or(0);
        if address.is_some() && own >= self.per_address {
            return Err(Full::Address);
        }
        if all >= self.most {
            return Err(Full::All);
        }
        taken.insert(address, own + 1);
        Ok(Ticket {
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
pub(crate) fn network(address: IpAddr) -> IpAddr {
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
    fn one_address_does_not_fill_the_door_and_places_come_back() {
        let admission = Admission::new(40, 8);
        let of = |address: &str| admission.admit(Some(address.parse().unwrap()));
        let held: Vec<_> = (0..8).map(|_| of("203.0.113.1").unwrap()).collect();
        assert_eq!(of("203.0.113.1").unwrap_err(), Full::Address);
        assert_eq!(of("::ffff:203.0.113.1").unwrap_err(), Full::Address);
        assert!(of("203.0.113.2").is_ok());
        assert!(admission.admit(None).is_ok(), "nor this machine");
        drop(held);
        assert!(of("203.0.113.1").is_ok());
        let _many: Vec<_> = (0..40).map_while(|n| of(&format!("10.0.0.{n}")).ok()).collect();
        assert_eq!(of("203.0.113.9").unwrap_err(), Full::All);
        assert_eq!(admission.admit(None).unwrap_err(), Full::All);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
