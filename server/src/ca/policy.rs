//! How long what we sign may live, and which names it may have.

use muster_identity::{DnsName, Lifetime};

/// Whether JWT-SVIDs are signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Tokens {
    /// They are.
    Signed {
        /// Their `iss`; without it `https://<trust domain>`.
        issuer: Option<String>,
    },
    /// None is, and no key for them is made.
    Disabled,
}

/// What happens to a request for more than the cap.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OverCap {
    /// It gets the cap. The answer carries the real expiry, the audit log what was asked for.
    Cut,
    /// It is refused.
    Refuse,
}

/// Whether entries and minted certificates may have DNS names with a wildcard: such a name speaks for hosts that nobody
/// listed, so it takes an operator who wants it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wildcards {
    /// As any other name.
    Allow,
    /// They are refused.
    Refuse,
}

/// A name has a wildcard, and the policy is to refuse.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0} has a wildcard, which this server refuses (ca.wildcards)")]
pub struct WildcardError(DnsName);

impl Wildcards {
    /// Refuses the first name that is not allowed.
    pub fn check<'a>(self, names: impl IntoIterator<Item = &'a DnsName>) -> Result<(), WildcardError> {
        match names.into_iter().find(|name| name.is_wildcard()) {
            Some(name) if self == Self::Refuse => Err(WildcardError(name.clone())),
            _ => Ok(()),
        }
    }
}

/// For whom an X.509-SVID is, as far as its lifetime goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Holder {
    /// A workload.
    Workload,
    /// A node.
    Node,
    /// This server.
    Server,
}

/// Lifetimes by default and at most. The caps bind whoever asks: entries, administrators, nodes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lifetimes {
    /// Of a workload's X.509-SVID whose entry or request says nothing.
    pub x509_svid: Lifetime,
    /// Of a JWT-SVID whose entry or request says nothing.
    pub jwt_svid: Lifetime,
    /// Of a node's X.509-SVID.
    pub node: Lifetime,
    /// The longest life of any X.509-SVID.
    pub max_x509_svid: Lifetime,
    /// The longest life of any JWT-SVID.
    pub max_jwt_svid: Lifetime,
    /// What happens past it.
    pub over_cap: OverCap,
}

/// More was asked for than the cap allows, and the policy is to refuse.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a lifetime of {asked} s is over the cap of {cap} s")]
pub struct OverCapError {
    asked: u32,
    cap: u32,
}

impl Lifetimes {
    /// How long an X.509-SVID lives for which `asked` was asked.
    pub fn x509(&self, holder: Holder, asked: Option<Lifetime>) -> Result<Lifetime, OverCapError> {
        let usual = if holder == Holder::Node {
            self.node
        } else {
            self.x509_svid
        };
        self.within(asked, usual, self.max_x509_svid)
    }

    /// How long a JWT-SVID lives for which `asked` was asked.
    pub fn jwt(&self, asked: Option<Lifetime>) -> Result<Lifetime, OverCapError> {
        self.within(asked, self.jwt_svid, self.max_jwt_svid)
    }

    fn within(
        &self,
        asked: Option<Lifetime>,
        usual: Lifetime,
        cap: Lifetime,
    ) -> Result<Lifetime, OverCapError> {
        match asked {
            None => Ok(usual.min(cap)),
            Some(asked) if asked <= cap => Ok(asked),
            Some(_) if self.over_cap == OverCap::Cut => Ok(cap),
            Some(asked) => Err(OverCapError {
                asked: asked.as_secs(),
                cap: cap.as_secs(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_takes_an_operator_who_allows_it() {
        let names: [DnsName; 2] = ["a.example.org", "*.example.org"].map(|name| name.parse().unwrap());
        assert_eq!(Wildcards::Allow.check(&names), Ok(()));
        assert_eq!(Wildcards::Refuse.check(&names[..1]), Ok(()));
        assert_eq!(
            Wildcards::Refuse.check(&names),
            Err(WildcardError(names[1].clone()))
        );
    }

    fn secs(secs: u32) -> Lifetime {
        Lifetime::from_secs(secs).unwrap()
    }

    #[test]
    fn a_lifetime_over_the_cap_is_cut_or_refused_as_configured() {
        let mut lifetimes = Lifetimes {
            x509_svid: secs(3600),
            jwt_svid: secs(300),
            node: secs(7200),
            max_x509_svid: secs(5000),
            max_jwt_svid: secs(600),
            over_cap: OverCap::Cut,
        };
        assert_eq!(lifetimes.x509(Holder::Workload, None), Ok(secs(3600)));
        assert_eq!(lifetimes.x509(Holder::Node, None), Ok(secs(5000)));
        assert_eq!(lifetimes.x509(Holder::Workload, Some(secs(9000))), Ok(secs(5000)));
        lifetimes.over_cap = OverCap::Refuse;
        assert_eq!(lifetimes.jwt(Some(secs(600))), Ok(secs(600)));
        assert_eq!(
            lifetimes.jwt(Some(secs(601))),
            Err(OverCapError { asked: 601, cap: 600 })
        );
    }
}
