//! The bounds of a TLS door, and why they are what they are.

use std::time::Duration;

/// The bounds of a [`TlsDoor`](crate::TlsDoor). Past a bound on connections, new ones are closed at once.
///
/// Three kinds are told apart. *Handshakes* cost a signature, and their peers are nobody yet. *Callers without a
/// certificate* have something to do here for seconds: a node that joins, a bundle that is fetched. Callers *with* one
/// stay, and are many behind one address where networks translate addresses; so their own bound is by certificate.
/// An address is an IPv4 address or a /64 of IPv6, the least that one customer gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TlsLimits {
    /// Connections in all, of every kind.
    pub connections: usize,
    /// Connections of one address, of every kind: no address fills the door.
    pub per_address: usize,
    /// Connections with one certificate. A node holds one, and two while it reconnects.
    pub per_certificate: usize,
    /// Callers without a certificate in all: they take no room from those who have one.
    pub anonymous: usize,
    /// Callers without a certificate from one address.
    pub anonymous_per_address: usize,
    /// Handshakes at a time; past it new connections wait to be accepted.
    pub handshakes: usize,
    /// Handshakes at a time of one address.
    pub handshakes_per_address: usize,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// How long a client may take after it to say that it speaks HTTP/2.
    pub preface: Duration,
    /// How long a caller without a certificate may stay, busy or not.
    pub anonymous_life: Duration,
    /// How old a connection grows before its caller is asked to make a new one (GOAWAY); what runs on it may finish.
    pub age: Duration,
}

impl Default for TlsLimits {
    fn default() -> Self {
        Self {
            connections: 8_192,
            per_address: 2_048,
            per_certificate: 16,
            anonymous: 512,
            anonymous_per_address: 64,
            handshakes: 512,
            handshakes_per_address: 128,
            handshake: Duration::from_secs(10),
            preface: Duration::from_secs(10),
            anonymous_life: Duration::from_secs(60),
            age: Duration::from_secs(3_600),
        }
    }
}
