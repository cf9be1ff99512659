//! `Debug` for messages that carry secrets: public fields as usual, secret ones by length only.
//!
//! The generator would print everything, and a request ends up in a log sooner or later.

use std::fmt;

use crate::spire::types;

/// Stands for a secret of so many bytes.
struct Redacted(usize);

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes, redacted]", self.0)
    }
}

impl fmt::Debug for types::AttestationData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The payload of a join token attestation is the token.
        f.debug_struct("AttestationData")
            .field("type", &self.r#type)
            .field("payload", &Redacted(self.payload.len()))
            .finish()
    }
}

impl fmt::Debug for types::JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("value", &Redacted(self.value.len()))
            .field("expires_at", &self.expires_at)
            .finish()
    }
}

impl fmt::Debug for types::Jwtsvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JWTSVID")
            .field("token", &Redacted(self.token.len()))
            .field("id", &self.id)
            .field("expires_at", &self.expires_at)
            .field("issued_at", &self.issued_at)
            .field("hint", &self.hint)
            .finish()
    }
}

impl fmt::Debug for types::Witsvid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WITSVID")
            .field("token", &Redacted(self.token.len()))
            .field("id", &self.id)
            .field("expires_at", &self.expires_at)
            .field("issued_at", &self.issued_at)
            .field("hint", &self.hint)
            .finish()
    }
}

#[cfg(feature = "spire-server")]
impl fmt::Debug for crate::spire::server::agent::CreateJoinTokenRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreateJoinTokenRequest")
            .field("ttl", &self.ttl)
            .field("token", &Redacted(self.token.len()))
            .field("agent_id", &self.agent_id)
            .finish()
    }
}

#[cfg(feature = "workload")]
mod workload {
    use super::{Redacted, fmt};
    use crate::workload::{Jwtsvid, ValidateJwtsvidRequest, Witsvid, X509svid};

    impl fmt::Debug for X509svid {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("X509SVID")
                .field("spiffe_id", &self.spiffe_id)
                .field("x509_svid", &format_args!("[{} bytes]", self.x509_svid.len()))
                .field("x509_svid_key", &Redacted(self.x509_svid_key.len()))
                .field("bundle", &format_args!("[{} bytes]", self.bundle.len()))
                .field("hint", &self.hint)
                .finish()
        }
    }

    impl fmt::Debug for Jwtsvid {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("JWTSVID")
                .field("spiffe_id", &self.spiffe_id)
                .field("svid", &Redacted(self.svid.len()))
                .field("hint", &self.hint)
                .finish()
        }
    }

    impl fmt::Debug for Witsvid {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("WITSVID")
                .field("spiffe_id", &self.spiffe_id)
                .field("wit_svid", &Redacted(self.wit_svid.len()))
                .field("wit_svid_key", &Redacted(self.wit_svid_key.len()))
                .field("hint", &self.hint)
                .finish()
        }
    }

    impl fmt::Debug for ValidateJwtsvidRequest {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("ValidateJWTSVIDRequest")
                .field("audience", &self.audience)
                .field("svid", &Redacted(self.svid.len()))
                .finish()
        }
    }
}
