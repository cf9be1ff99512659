//! Places: so many in all, so many for one caller, so that none shuts out all others.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// So many places in all, counted by whose they are. Clones share them.
#[derive(Debug)]
pub(crate) struct Places<K> {
    most: usize,
    taken: Arc<Mutex<HashMap<K, usize>>>,
}

/// A place. It is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Eq + Hash> {
    places: Places<K>,
    of: K,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Full {
    /// For nobody.
    All,
    /// For this one: it has its share.
    One,
}

impl<K> Places<K> {
    /// `most` places in all.
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            taken: Arc::default(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<K, usize>> {
        // Each change is one step: a panic elsewhere leaves it whole.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + Hash> Places<K> {
    /// A place for `of`, who may have `share` of them.
    pub(crate) fn take(&self, of: K, share: usize) -> Result<Place<K>, Full> {
        let mut taken = self.taken();
        if taken.get(&of).is_some_and(|own| *own >= share) {
            return Err(Full::One);
        }
        if taken.values().sum::<usize>() >= self.most {
            return Err(Full::All);
        }
        *taken.entry(of.clone()).or_default() += 1;
        Ok(Place {
            places: self.clone(),
            of,
        })
    }
}

impl<K> Clone for Places<K> {
    fn clone(&self) -> Self {
        Self {
            most: self.most,
            taken: self.taken.clone(),
        }
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(own) = taken.get_mut(&self.of) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

/// The places of a door for callers who have proved nothing: they are told apart by the network that they come from.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    per_address: usize,
    places: Places<Option<IpAddr>>,
}

/// A place at a door.
pub(crate) type Ticket = Place<Option<IpAddr>>;

impl Admission {
    /// `most` in all, `per_address` of them for one.
    pub(crate) fn new(most: usize, per_address: usize) -> Self {
        Self {
            per_address,
            places: Places::new(most),
        }
    }

    /// A place for a caller from `address`; none: from this machine, who is bounded by the whole alone.
    pub(crate) fn admit(&self, address: Option<IpAddr>) -> Result<Ticket, Full> {
        let share = address.map_or(usize::MAX, |_| self.per_address);
        self.places.take(address.map(network), share)
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
        assert_eq!(of("203.0.113.1").unwrap_err(), Full::One);
        assert_eq!(of("::ffff:203.0.113.1").unwrap_err(), Full::One);
        assert!(of("203.0.113.2").is_ok());
        assert!(admission.admit(None).is_ok(), "nor this machine");
        drop(held);
        assert!(
            admission.places.taken().is_empty(),
            "who went leaves nothing behind"
        );
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
