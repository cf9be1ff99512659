//! What it was done to.

use std::fmt::Display;

use serde::Serialize;

use crate::text::Text;

/// The thing an event is about: a kind from a closed list, and its name.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Object {
    kind: &'static str,
    name: Text,
}

impl Object {
    /// A registration entry, by its id.
    pub fn entry(id: impl Display) -> Self {
        Self::new("entry", id)
    }

    /// An identity, by its SPIFFE ID.
    pub fn identity(id: impl Display) -> Self {
        Self::new("identity", id)
    }

    /// A node, by its SPIFFE ID.
    pub fn node(id: impl Display) -> Self {
        Self::new("node", id)
    }

    /// A join token, by the digest under which it is kept. Never by the token.
    pub fn token(digest: impl Display) -> Self {
        Self::new("token", digest)
    }

    /// A bundle, by its trust domain.
    pub fn bundle(trust_domain: impl Display) -> Self {
        Self::new("bundle", trust_domain)
    }

    /// A federation relationship, by its trust domain.
    pub fn federation(trust_domain: impl Display) -> Self {
        Self::new("federation", trust_domain)
    }

    /// An authority, by its id (subject key id or `kid`).
    pub fn authority(id: impl Display) -> Self {
        Self::new("authority", id)
    }

    /// A key of a key manager, by its id.
    pub fn key(id: impl Display) -> Self {
        Self::new("key", id)
    }

    /// A grant, by its name.
    pub fn grant(name: impl Display) -> Self {
        Self::new("grant", name)
    }

    /// A process, by its pid as it stood then.
    pub fn process(pid: i32) -> Self {
        Self::new("process", pid)
    }

    /// A method of a service, by its full name.
    pub fn method(name: impl Display) -> Self {
        Self::new("method", name)
    }

    /// A daemon, by its name.
    pub fn service(name: impl Display) -> Self {
        Self::new("service", name)
    }

    fn new(kind: &'static str, name: impl Display) -> Self {
        Self {
            kind,
            name: Text::new(name),
        }
    }
}
