use std::process::Output;

use muster_tests::Cluster;
use serde_json::Value;

/// What an authority signs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    X509,
    Jwt,
}

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::X509, Self::Jwt];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::X509 => "x509",
            Self::Jwt => "jwt",
        }
    }
}

/// When its operator taints an authority that the next one has replaced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Taints {
    /// At once: what it signed is made anew by that.
    AtOnce,
    /// When what it signed was renewed in its own time.
    WhenRenewed,
}

/// A trust domain with a server, a node agent and a bundle endpoint, ours or SPIRE's, as an operator handles it.
pub(super) trait Domain {
    fn name(&self) -> &'static str;

    /// What `SPIFFE_ENDPOINT_SOCKET` names at its node.
    fn workload_api(&self) -> String;

    /// Where its bundle endpoint is.
    fn endpoint_url(&self) -> String;

    /// Its bundle, as a document of the standard.
    fn document(&self) -> String;

    /// An entry for whoever runs the story, which federates with `other`.
    fn register(&self, path: &str, other: &str);

    /// Fetches `other`'s bundle now.
    fn refresh(&self, other: &str) -> Output;

    /// The authority that signs, by its id.
    fn signing(&self, kind: Kind) -> String;

    /// Makes the next authority; its id.
    fn prepare(&self, kind: Kind) -> String;

    /// Lets the prepared authority sign.
    fn activate(&self, kind: Kind, id: &str);

    /// Lets everything be made anew that an old authority signed.
    fn taint(&self, kind: Kind, id: &str);

    /// When an authority is tainted.
    fn taints(&self, kind: Kind) -> Taints;

    /// Lets a tainted authority count no more.
    fn revoke(&self, kind: Kind, id: &str);

    /// kill -9 for the server; the node stays.
    fn lose_server(&mut self);

    /// Starts the server again.
    fn regain_server(&mut self);
}

impl Domain for Cluster {
    fn name(&self) -> &'static str {
        self.trust_domain()
    }

    fn workload_api(&self) -> String {
        self.endpoint()
    }

    fn endpoint_url(&self) -> String {
        format!("https://{}/", self.bundle_endpoint())
    }

    fn document(&self) -> String {
        self.muster_ok(&["bundle", "show", "--format", "spiffe"])
    }

    fn register(&self, path: &str, other: &str) {
        super::pair::register(self, path, other);
    }

    fn refresh(&self, other: &str) -> Output {
        self.muster(&["federation", "refresh", other])
    }

    fn signing(&self, kind: Kind) -> String {
        authority(self, kind, "active")
    }

    fn prepare(&self, kind: Kind) -> String {
        self.muster_ok(&["authority", "prepare", kind.name()]);
        authority(self, kind, "prepared")
    }

    fn activate(&self, kind: Kind, id: &str) {
        self.muster_ok(&["authority", "activate", kind.name(), id]);
    }

    fn taint(&self, kind: Kind, id: &str) {
        self.muster_ok(&["authority", "taint", kind.name(), id]);
    }

    fn taints(&self, _: Kind) -> Taints {
        Taints::AtOnce
    }

    fn revoke(&self, kind: Kind, id: &str) {
        self.muster_ok(&["authority", "revoke", kind.name(), id]);
    }

    fn lose_server(&mut self) {
        self.take_server().kill();
    }

    fn regain_server(&mut self) {
        self.start_server();
    }
}

/// The id of a cluster's authority at this stage of its life.
fn authority(cluster: &Cluster, kind: Kind, stage: &str) -> String {
    let shown = cluster.muster_ok(&["--output", "json", "authority", "show", kind.name()]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let id = &shown[kind.name()][stage]["authority_id"];
    id.as_str()
        .unwrap_or_else(|| panic!("no {stage} authority: {shown}"))
        .to_owned()
}
