//! What was done: one closed list, so that a reader of the log can know every word in it.

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What an event is about. The names are part of the record's format: they are added to, never reused.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        #[non_exhaustive]
        pub enum Action { $($(#[$doc])* $variant,)* }

        impl Action {
            /// Every action, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name in the record.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

actions! {
    /// A daemon began to serve.
    ServiceStart = "service.start",
    /// A daemon stopped in good order.
    ServiceStop = "service.stop",
    /// The log can be written again after it could not.
    AuditResume = "audit.resume",
    /// A call that the method table, or the caller's standing, did not allow.
    CallRefuse = "call.refuse",
    /// A caller whose presence or evidence failed: connection closed.
    CallerRefuse = "caller.refuse",
    /// A process was attested.
    WorkloadAttest = "workload.attest",
    /// The first hand-out of X.509-SVIDs to a process (later ones on the same evidence are counted).
    X509SvidHandOut = "x509_svid.hand_out",
    /// The first hand-out of a JWT-SVID to a process.
    JwtSvidHandOut = "jwt_svid.hand_out",
    /// An X.509-SVID was signed for an entry.
    X509SvidSign = "x509_svid.sign",
    /// A JWT-SVID was signed for an entry.
    JwtSvidSign = "jwt_svid.sign",
    /// An X.509-SVID was minted on an administrator's word.
    X509SvidMint = "x509_svid.mint",
    /// A JWT-SVID was minted on an administrator's word.
    JwtSvidMint = "jwt_svid.mint",
    /// A JWT-SVID was checked for a workload.
    JwtSvidValidate = "jwt_svid.validate",
    /// A CA certificate was signed for a downstream server.
    DownstreamCaSign = "downstream_ca.sign",
    /// A token-signing key of a downstream server was put into the bundle.
    JwtKeyPublish = "jwt_key.publish",
    /// An entry was created.
    EntryCreate = "entry.create",
    /// An entry was changed.
    EntryUpdate = "entry.update",
    /// An entry was deleted, by order.
    EntryDelete = "entry.delete",
    /// An entry came to its end.
    EntryExpire = "entry.expire",
    /// Entries were read or counted.
    EntryRead = "entry.read",
    /// A join token was made.
    TokenCreate = "token.create",
    /// A join token was removed unused.
    TokenDelete = "token.delete",
    /// A node was attested.
    NodeAttest = "node.attest",
    /// A node's certificate was renewed.
    NodeRenew = "node.renew",
    /// A node was banned.
    NodeBan = "node.ban",
    /// A node was evicted.
    NodeEvict = "node.evict",
    /// Nodes long gone were removed.
    NodePurge = "node.purge",
    /// A node opened its sync stream.
    NodeConnect = "node.connect",
    /// A node's sync stream ended.
    NodeDisconnect = "node.disconnect",
    /// Nodes were read or counted.
    NodeRead = "node.read",
    /// Authorities were added to the own bundle.
    BundleAppend = "bundle.append",
    /// A federated bundle was set.
    BundleSet = "bundle.set",
    /// A federated bundle was deleted.
    BundleDelete = "bundle.delete",
    /// A federation relationship was created.
    FederationCreate = "federation.create",
    /// A federation relationship was changed.
    FederationUpdate = "federation.update",
    /// A federation relationship was deleted.
    FederationDelete = "federation.delete",
    /// Nothing of a foreign trust domain counts any more.
    FederationRevoke = "federation.revoke",
    /// A foreign trust domain counts again.
    FederationRelease = "federation.release",
    /// An authority was made and published.
    AuthorityPrepare = "authority.prepare",
    /// An authority began to sign.
    AuthorityActivate = "authority.activate",
    /// An authority signs no more, before its time.
    AuthorityRetire = "authority.retire",
    /// An authority was tainted.
    AuthorityTaint = "authority.taint",
    /// An authority was revoked.
    AuthorityRevoke = "authority.revoke",
    /// An authority came to its end and left the bundle.
    AuthorityExpire = "authority.expire",
    /// A key was made in a key manager.
    KeyGenerate = "key.generate",
    /// A key was destroyed in a key manager.
    KeyDestroy = "key.destroy",
    /// A grant was created.
    GrantCreate = "grant.create",
    /// A grant was changed.
    GrantUpdate = "grant.update",
    /// A grant was deleted.
    GrantDelete = "grant.delete",
    /// Grants were read.
    GrantRead = "grant.read",
    /// Credentials were revoked.
    RevocationAdd = "revocation.add",
    /// A hold was set.
    HoldSet = "hold.set",
    /// A hold was released.
    HoldRelease = "hold.release",
    /// The log level was changed.
    LogLevelSet = "log_level.set",
}

impl serde::Serialize for Action {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_plain() {
        let mut seen = HashSet::new();
        for action in Action::ALL {
            let name = action.name();
            assert!(seen.insert(name), "{name} twice");
            assert!(
                name.bytes()
                    .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.')),
                "{name}"
            );
        }
    }
}
