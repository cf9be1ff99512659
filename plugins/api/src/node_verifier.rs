//! What proves a machine to the server: the server's half.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use muster_identity::{
    IdPath, ParseIdError, ParsePathError, Selector, SelectorSet, SpiffeId, TrustDomain, UnixTime,
};
use muster_pki::SecretBytes;
use muster_pki::bundle::Bundle;

use crate::Reattestation;

/// The path that every node's identity lies below.
const NODES: &str = "/spire/agent";
/// The most selectors of one node. They are looked through at each change of an alias, and stored with the node.
pub const MAX_NODE_SELECTORS: usize = 256;

/// The kinds that have a name of their own, ours and SPIRE's: none names the nodes of another.
pub const NODE_KINDS: &[&str] = &[
    "join_token",
    "rejoin",
    "x509pop",
    "k8s_psat",
    "sshpop",
    "tpm_devid",
    "aws_iid",
    "gcp_iit",
    "azure_imds",
    "azure_msi",
    "http_challenge",
];

/// Judges what nodes show, in the protocol of its kind.
///
/// It states what it found and nothing more: whether a node that is banned, or known already, comes in is the server's to say.
#[async_trait]
pub trait NodeVerifier: Send + Sync {
    /// The attestation type on the wire, such as `x509pop`. It is also the type of each selector.
    fn kind(&self) -> &'static str;

    /// Whether it takes X.509-SVIDs of the server's own trust domain with this path as the proof of a node. Who gives such a name lets a node in, so that the
    /// server keeps it from callers who may give names alone. Without a default: a decorator that forgot to pass it on would open that way.
    fn takes_svid(&self, path: &IdPath) -> bool;

    /// Judges the first message of one attestation. Safe to cancel: dropping the future leaves nothing half done.
    async fn begin(&self, shown: Shown) -> Result<NodeStep, NodeVerifyError>;
}

/// A challenge that was posed and not answered yet.
#[async_trait]
pub trait NodeChallenge: Send {
    /// Judges the answer by what is true now: a node may take its time, and who vouches for it may have gone meanwhile. Whatever comes of it, the challenge is
    /// used up.
    async fn judge(self: Box<Self>, answer: Vec<u8>, moment: Moment) -> Result<NodeStep, NodeVerifyError>;
}

/// What the server knows of the moment at which a node says something.
#[derive(Clone, Debug)]
pub struct Moment {
    /// The server's own trust bundle.
    pub bundle: Arc<Bundle>,
    /// The time.
    pub now: UnixTime,
}

/// What a node showed first, and when.
#[derive(Clone, Debug)]
pub struct Shown {
    /// What the first message carries. It may be a secret (a token), so it is treated as one.
    pub payload: SecretBytes,
    /// Where the node connected from; none for the admin socket. Behind a balancer it is the balancer.
    pub peer: Option<IpAddr>,
    /// The moment.
    pub moment: Moment,
}

/// What comes after a message of the node.
pub enum NodeStep {
    /// The node must answer.
    Challenge {
        /// What it is asked.
        challenge: Vec<u8>,
        /// Who judges the answer.
        pending: Box<dyn NodeChallenge>,
    },
    /// The node has proved itself.
    Attested(AttestedNode),
}

/// What is known of a node that has proved itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AttestedNode {
    path: NodePath,
    selectors: SelectorSet,
    reattestation: Reattestation,
}

/// The path of a node's identity below `/spire/agent`. The server puts its own trust domain before it (I6).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodePath(IdPath);

/// Why a text is no path of a node.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NodePathError {
    /// Not a path.
    #[error(transparent)]
    Path(#[from] ParsePathError),
    /// Nothing below `/spire/agent`.
    #[error("the path of a node has at least one segment")]
    Empty,
}

/// Why a node is not let in.
#[derive(Debug, thiserror::Error)]
pub enum NodeVerifyError {
    /// What it sent is not what this kind speaks.
    #[error("{0}")]
    Malformed(String),
    /// It did not prove itself, or not as somebody who may come in.
    #[error("{0}")]
    Denied(String),
    /// What must be asked is down or broken; the node may try again.
    #[error("{what}")]
    Unavailable {
        /// What was being done.
        what: String,
        /// Why that failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl AttestedNode {
    /// A node of the kind `kind`, with the values of its selectors. A value that can't be a selector is left out: nobody can have
    /// asked for it. So is what is beyond [`MAX_NODE_SELECTORS`].
    pub fn new(
        kind: &'static str,
        path: NodePath,
        values: impl IntoIterator<Item = String>,
        reattestation: Reattestation,
    ) -> Self {
        let selectors = values
            .into_iter()
            .filter_map(|value| Selector::new(kind, &value).ok())
            .take(MAX_NODE_SELECTORS)
            .collect();
        Self {
            path,
            selectors,
            reattestation,
        }
    }

    /// Where its identity lies.
    pub fn path(&self) -> &NodePath {
        &self.path
    }

    /// What node aliases may ask for.
    pub fn selectors(&self) -> &SelectorSet {
        &self.selectors
    }

    /// Whether it can prove itself again.
    pub fn reattestation(&self) -> Reattestation {
        self.reattestation
    }
}

impl NodePath {
    /// The path `text` below `/spire/agent`: `/x509pop/0beec7b5`. It is checked, never altered (T-35).
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, NodePathError> {
        let path: IdPath = text.parse()?;
        if path.is_root() {
            return Err(NodePathError::Empty);
        }
        Ok(Self(path))
    }

    /// The path of these segments. Each is checked: a value that somebody else chose can't add another.
    ///
    /// # Errors
    /// When one is no segment, or there is none.
    pub fn of<'a>(segments: impl IntoIterator<Item = &'a str>) -> Result<Self, NodePathError> {
        let mut path = IdPath::root();
        for segment in segments {
            path = path.join(segment)?;
        }
        if path.is_root() {
            return Err(NodePathError::Empty);
        }
        Ok(Self(path))
    }

    /// Its first segment: by default the kind of attestation.
    pub fn first_segment(&self) -> &str {
        self.0.segments().next().unwrap_or_default()
    }

    /// The identity in `trust_domain`.
    ///
    /// # Errors
    /// When it would be longer than any SPIFFE ID.
    pub fn id(&self, trust_domain: &TrustDomain) -> Result<SpiffeId, ParseIdError> {
        format!("{}{NODES}{}", trust_domain.id(), self.0).parse()
    }
}

impl NodeVerifyError {
    /// A failure of something that was asked.
    pub fn unavailable(
        what: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable {
            what: what.into(),
            source: source.into(),
        }
    }
}

impl std::fmt::Debug for NodeStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Challenge { challenge, .. } => write!(f, "Challenge({} bytes)", challenge.len()),
            Self::Attested(node) => node.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_identity_is_built_by_the_server_below_its_own_path() {
        let td: TrustDomain = "example.org".parse().unwrap();
        let id = |path: &str| NodePath::parse(path).unwrap().id(&td).unwrap().to_string();
        assert_eq!(id("/x509pop/ab"), "spiffe://example.org/spire/agent/x509pop/ab");
        for bad in [
            "", "/", "x509pop", "/a/../b", "/a//b", "/a/", "/a b", "/ä", "/a%2f",
        ] {
            assert!(NodePath::parse(bad).is_err(), "{bad}");
        }
        for bad in ["..", "a/b", "", "a b"] {
            assert!(NodePath::of(["x509pop", bad]).is_err(), "{bad}");
        }
        assert!(NodePath::of([]).is_err());
        assert!(
            NodePath::parse(&format!("/{}", "a".repeat(3000)))
                .map(|path| path.id(&td))
                .is_ok_and(|id| id.is_err())
        );
    }

    #[test]
    fn selectors_have_the_type_of_their_kind_and_a_bound() {
        let path = NodePath::parse("/fake/a").unwrap();
        let values = (0..1000)
            .map(|n| format!("n:{n}"))
            .chain(["a\nb".to_owned(), String::new()]);
        let node = AttestedNode::new("fake", path.clone(), values, Reattestation::Once);
        assert_eq!(node.selectors().len(), MAX_NODE_SELECTORS);
        let node = AttestedNode::new(
            "fake",
            path,
            ["a\nb".to_owned(), "b".to_owned()],
            Reattestation::Once,
        );
        let found: Vec<_> = node.selectors().iter().map(Selector::as_str).collect();
        assert_eq!(found, ["fake:b"]);
    }
}
