//! How many connections an address, a certificate, and all together may hold.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;

use super::limits::TlsLimits;

/// Counts connections; each [`Ticket`] is one.
#[derive(Debug)]
pub(super) struct Admission {
    limits: TlsLimits,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    anonymous: usize,
    by_network: HashMap<Network, Counts>,
    by_certificate: HashMap<Certificate, usize>,
}

/// The connections of one address.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Counts {
    all: usize,
    handshakes: usize,
    anonymous: usize,
}

/// Addresses that are counted as one.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Network(IpAddr);

/// A leaf certificate, by its SHA-256.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Certificate([u8; 32]);

/// What a connection is counted as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Handshake,
    Anonymous,
    Known(Certificate),
}

/// Why a connection is closed at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Full {
    #[error("the door holds as many connections as it may")]
    Door,
    #[error("this address holds as many connections as one may")]
    Address,
    #[error("this address has as many handshakes under way as one may")]
    Handshakes,
    #[error("the door holds as many callers without a certificate as it may")]
    Anonymous,
    #[error("this address holds as many connections without a certificate as one may")]
    AnonymousOfAddress,
    #[error("this certificate holds as many connections as one may")]
    Certificate,
}

/// One connection; dropping it makes room.
#[derive(Debug)]
pub(super) struct Ticket {
    admission: Arc<Admission>,
    network: Network,
    kind: Kind,
}

impl Admission {
    pub(super) fn new(limits: TlsLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            held: Mutex::default(),
        })
    }

    /// Counts a connection that has been accepted; its handshake is still to come.
    pub(super) fn arrive(self: &Arc<Self>, address: IpAddr) -> Result<Ticket, Full> {
        let (network, limits) = (Network::of(address), self.limits);
        let mut held = self.held();
        if held.total >= limits.connections {
            return Err(Full::Door);
        }
        let counts = held.by_network.get(&network).copied().unwrap_or_default();
        if counts.all >= limits.per_address {
            return Err(Full::Address);
        }
        if counts.handshakes >= limits.handshakes_per_address {
            return Err(Full::Handshakes);
        }
        let ticket = Ticket {
            admission: Arc::clone(self),
            network,
            kind: Kind::Handshake,
        };
        held.total += 1;
        held.count(network, Kind::Handshake);
        Ok(ticket)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// The handshake is over: from now on the connection counts as what it turned out to be.
    pub(super) fn shaken(mut self, leaf: Option<&CertificateDer<'_>>) -> Result<Self, Full> {
        let limits = self.admission.limits;
        let kind = leaf.map_or(Kind::Anonymous, |leaf| Kind::Known(Certificate::of(leaf)));
        let mut held = self.admission.held();
        match kind {
            Kind::Known(certificate) => {
                let count = held.by_certificate.get(&certificate).copied().unwrap_or(0);
                if count >= limits.per_certificate {
                    drop(held);
                    return Err(Full::Certificate);
                }
            }
            Kind::Anonymous | Kind::Handshake => {
                let counts = held.by_network.get(&self.network).copied().unwrap_or_default();
                let full = if counts.anonymous >= limits.anonymous_per_address {
                    Some(Full::AnonymousOfAddress)
                } else {
                    (held.anonymous >= limits.anonymous).then_some(Full::Anonymous)
                };
                if let Some(full) = full {
                    drop(held);
                    return Err(full);
                }
            }
        }
        held.count(self.network, kind);
        held.uncount(self.network, self.kind);
        drop(held);
        self.kind = kind;
        Ok(self)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut held = self.admission.held();
        held.total -= 1;
        held.uncount(self.network, self.kind);
    }
}

impl Held {
    fn count(&mut self, network: Network, kind: Kind) {
        let counts = self.by_network.entry(network).or_default();
        counts.all += 1;
        match kind {
            Kind::Handshake => counts.handshakes += 1,
            Kind::Anonymous => {
                counts.anonymous += 1;
                self.anonymous += 1;
            }
            Kind::Known(certificate) => *self.by_certificate.entry(certificate).or_default() += 1,
        }
    }

    fn uncount(&mut self, network: Network, kind: Kind) {
        if let Some(counts) = self.by_network.get_mut(&network) {
            counts.all -= 1;
            match kind {
                Kind::Handshake => counts.handshakes -= 1,
                Kind::Anonymous => counts.anonymous -= 1,
                Kind::Known(_) => {}
            }
            if counts.all == 0 {
                self.by_network.remove(&network);
            }
        }
        match kind {
            Kind::Handshake => {}
            Kind::Anonymous => self.anonymous -= 1,
            Kind::Known(certificate) => {
                if let Some(count) = self.by_certificate.get_mut(&certificate) {
                    *count -= 1;
                    if *count == 0 {
                        self.by_certificate.remove(&certificate);
                    }
                }
            }
        }
    }
}

impl Network {
    fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            address => address,
        })
    }
}

impl Certificate {
    fn of(leaf: &CertificateDer<'_>) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, leaf).as_ref());
        Self(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TlsLimits = TlsLimits {
        connections: 8,
        per_address: 5,
        per_certificate: 2,
        anonymous: 3,
        anonymous_per_address: 2,
        handshakes: 8,
        handshakes_per_address: 3,
        handshake: std::time::Duration::from_secs(1),
        preface: std::time::Duration::from_secs(1),
        anonymous_life: std::time::Duration::from_secs(1),
        age: std::time::Duration::from_secs(1),
    };

    fn at(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    fn nobody(admission: &Arc<Admission>, address: &str) -> Result<Ticket, Full> {
        admission.arrive(at(address))?.shaken(None)
    }

    fn somebody(admission: &Arc<Admission>, address: &str, leaf: &[u8]) -> Result<Ticket, Full> {
        let leaf = CertificateDer::from(leaf);
        admission.arrive(at(address))?.shaken(Some(&leaf))
    }

    #[test]
    fn one_address_is_bounded_in_each_kind_and_others_are_not_touched() {
        let admission = Admission::new(LIMITS);
        let _shaking: Vec<_> = (0..3)
            .map(|_| admission.arrive(at("192.0.2.1")).unwrap())
            .collect();
        assert_eq!(admission.arrive(at("192.0.2.1")).unwrap_err(), Full::Handshakes);
        let _nobodies: Vec<_> = (0..2).map(|_| nobody(&admission, "192.0.2.2").unwrap()).collect();
        assert_eq!(
            nobody(&admission, "192.0.2.2").unwrap_err(),
            Full::AnonymousOfAddress
        );
        let _third = nobody(&admission, "192.0.2.3").unwrap();
        assert_eq!(nobody(&admission, "192.0.2.4").unwrap_err(), Full::Anonymous);
        // Those who have a certificate still come in, from there too.
        let _known = somebody(&admission, "192.0.2.2", b"a").unwrap();
    }

    #[test]
    fn one_certificate_is_bounded_wherever_it_comes_from_and_many_share_an_address() {
        let admission = Admission::new(LIMITS);
        let _two = [
            somebody(&admission, "192.0.2.1", b"a").unwrap(),
            somebody(&admission, "192.0.2.2", b"a").unwrap(),
        ];
        assert_eq!(
            somebody(&admission, "192.0.2.3", b"a").unwrap_err(),
            Full::Certificate
        );
        let _others: Vec<_> = [b"b", b"c", b"d", b"e"]
            .map(|leaf| somebody(&admission, "192.0.2.1", leaf).unwrap())
            .into();
        assert_eq!(
            somebody(&admission, "192.0.2.1", b"f").unwrap_err(),
            Full::Address
        );
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_mapped_one_is_what_it_maps() {
        let admission = Admission::new(LIMITS);
        let _held: Vec<_> = ["2001:db8::1", "2001:db8::ffff:2"]
            .map(|address| nobody(&admission, address).unwrap())
            .into();
        assert_eq!(
            nobody(&admission, "2001:db8::3").unwrap_err(),
            Full::AnonymousOfAddress
        );
        let _other = nobody(&admission, "2001:db8:0:1::1").unwrap();
        assert_eq!(Network::of(at("::ffff:192.0.2.1")), Network::of(at("192.0.2.1")));
    }

    #[test]
    fn what_is_closed_or_refused_leaves_nothing_behind() {
        let admission = Admission::new(LIMITS);
        for _ in 0..20 {
            drop(admission.arrive(at("192.0.2.1")).unwrap());
            let held = [
                nobody(&admission, "192.0.2.1"),
                nobody(&admission, "192.0.2.1"),
                nobody(&admission, "192.0.2.1"),
                somebody(&admission, "192.0.2.1", b"a"),
            ];
            assert_eq!(held.iter().filter(|ticket| ticket.is_ok()).count(), 3);
        }
        let held = admission.held();
        assert_eq!((held.total, held.anonymous), (0, 0));
        assert!(held.by_network.is_empty() && held.by_certificate.is_empty());
    }
}
