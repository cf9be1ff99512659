//! The server's half.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::rand;
use muster_identity::{IdPath, TrustDomain};
use muster_pki::bundle::{Bundle, BundleFileError};
use muster_pki::x509::{CertificateDer, Chain, ChainError, VerifiedChain};
use muster_pki::{KeyKind, PublicKey, SignatureScheme};
use muster_plugin_api::{
    AttestedNode, Moment, NodeChallenge, NodeStep, NodeVerifier, NodeVerifyError, Shown,
};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::wire::{Challenge, Payload, Response};
use super::{KIND, node};
use crate::file;
use crate::path_template::{PathTemplate, TemplateError};

/// Longer than any file of authorities.
const MOST_PEM: usize = 4 << 20;
/// How many chains are verified at once: each may cost a hundred signatures, by anybody who can reach the door.
const AT_ONCE: usize = 2;
const BY_FINGERPRINT: &str = "/{{ .PluginName }}/{{ .Fingerprint }}";
const BY_SVID: &str = "/{{ .PluginName }}/{{ .SVIDPathTrimmed }}";

/// How nodes are judged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct X509popSettings {
    /// By whose authorities.
    pub mode: Mode,
    /// How the path below `/spire/agent` is made; by default as SPIRE does.
    pub agent_path_template: Option<PathTemplate>,
    /// The most intermediates in a chain.
    pub max_intermediates: usize,
    /// The longest RSA key in a chain, in bits. Past 4096 no key is taken anyway.
    pub max_rsa_key_size: u16,
    /// Whether the node must connect from an address that its certificate names.
    pub verify_client_ip: bool,
}

/// Whose certificates prove a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Mode {
    /// Those of a PKI whose authorities are in these files, which are read at each attestation.
    ExternalPki {
        /// PEM.
        ca_bundle_paths: Vec<PathBuf>,
    },
    /// X.509-SVIDs of our own trust domain.
    Spiffe {
        /// What their paths begin with, with a slash at either end. It is not part of the node's name.
        prefix: String,
    },
}

impl Mode {
    /// What is left of the path of an SVID of our own, if that proves a node.
    fn below_prefix<'p>(&self, path: &'p IdPath) -> Option<&'p str> {
        match self {
            Self::ExternalPki { .. } => None,
            Self::Spiffe { prefix } => path
                .as_str()
                .strip_prefix(prefix.as_str())
                .filter(|rest| !rest.is_empty()),
        }
    }
}

/// Takes nodes that hold the key of a certificate.
#[derive(Debug)]
pub struct X509popVerifier(Verifying);

/// Why there is no verifier.
#[derive(Debug, thiserror::Error)]
pub enum StartX509popError {
    /// The authorities.
    #[error("node attestor x509pop")]
    Authorities(#[from] AuthoritiesError),
    /// The template.
    #[error("node attestor x509pop: agent_path_template")]
    Template(#[from] TemplateError),
}

/// Why there are no authorities to judge by.
#[derive(Debug, thiserror::Error)]
pub enum AuthoritiesError {
    /// A file can't be read.
    #[error("reading {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("the authorities in {}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        source: BundleFileError,
    },
}

#[derive(Debug)]
struct Rules {
    trust_domain: TrustDomain,
    settings: X509popSettings,
    template: PathTemplate,
}

/// The rules, with room for so many verifications at a time.
#[derive(Clone, Debug)]
struct Verifying {
    rules: Arc<Rules>,
    room: Arc<Semaphore>,
}

/// A chain that holds, and what is left of its SVID's path.
struct Candidate {
    chain: VerifiedChain,
    svid_path: Option<String>,
}

/// A chain that held when it was shown, and what its key is asked to sign.
struct Pending {
    verifying: Verifying,
    chain: Chain,
    key: PublicKey,
    challenge: Challenge,
}

impl X509popVerifier {
    /// A verifier for nodes of `trust_domain`. The files are read once, so that a mistake shows at the start.
    ///
    /// # Errors
    /// When a file can't be used, or the template names what this kind does not know.
    pub fn new(trust_domain: TrustDomain, settings: X509popSettings) -> Result<Self, StartX509popError> {
        let default = match &settings.mode {
            Mode::ExternalPki { ca_bundle_paths } => {
                authorities(&trust_domain, ca_bundle_paths)?;
                BY_FINGERPRINT
            }
            Mode::Spiffe { .. } => BY_SVID,
        };
        let template = match &settings.agent_path_template {
            Some(template) => template.clone(),
            None => PathTemplate::parse(default)?,
        };
        template.check(node::VARIABLES)?;
        let rules = Rules {
            trust_domain,
            settings,
            template,
        };
        Ok(Self(Verifying {
            rules: Arc::new(rules),
            room: Arc::new(Semaphore::new(AT_ONCE)),
        }))
    }
}

impl Verifying {
    /// Does `work` on a thread of its own, when there is room.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Rules) -> Result<T, NodeVerifyError> + Send + 'static,
    ) -> Result<T, NodeVerifyError> {
        let broken = |error: Box<dyn std::error::Error + Send + Sync>| {
            NodeVerifyError::unavailable("verifying the certificate", error)
        };
        let room = Arc::clone(&self.room).acquire_owned().await;
        let room = room.map_err(|error| broken(error.into()))?;
        let rules = Arc::clone(&self.rules);
        let done = spawn_blocking(move || {
            // Held while the thread works, also when nobody waits for it any more.
            let _room = room;
            work(&rules)
        })
        .await;
        done.map_err(|error| broken(error.into()))?
    }
}

#[async_trait]
impl NodeVerifier for X509popVerifier {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn takes_svid(&self, path: &IdPath) -> bool {
        self.0.rules.settings.mode.below_prefix(path).is_some()
    }

    async fn begin(&self, shown: Shown) -> Result<NodeStep, NodeVerifyError> {
        let shown_first = self.0.run(move |rules| {
            let chain = rules.shown(&shown)?;
            let candidate = rules.candidate(chain.clone(), &shown)?;
            Ok((chain, candidate.chain.leaf().public_key().clone()))
        });
        let (chain, key) = shown_first.await?;
        let challenge = challenge_for(&key)?;
        let pending = Pending {
            verifying: self.0.clone(),
            chain,
            key,
            challenge,
        };
        Ok(NodeStep::Challenge {
            challenge: challenge.to_bytes(),
            pending: Box::new(pending),
        })
    }
}

#[async_trait]
impl NodeChallenge for Pending {
    async fn judge(self: Box<Self>, answer: Vec<u8>, moment: Moment) -> Result<NodeStep, NodeVerifyError> {
        let response = Response::parse(&answer)
            .map_err(|error| NodeVerifyError::Malformed(format!("the answer to the challenge: {error}")))?;
        if !holds(&self.key, &self.challenge, &response) {
            let text =
                "challenge response verification failed: it is not a signature of the certificate's key";
            return Err(NodeVerifyError::Denied(text.to_owned()));
        }
        let Self { verifying, chain, .. } = *self;
        // Once more: the authority may have been revoked while the node took its time.
        let node = verifying.run(move |rules| rules.node(&rules.verified(chain, &moment)?));
        node.await.map(NodeStep::Attested)
    }
}

impl Rules {
    /// The chain that was shown, within bounds.
    fn shown(&self, shown: &Shown) -> Result<Chain, NodeVerifyError> {
        let malformed = |text: String| NodeVerifyError::Malformed(text);
        let payload = Payload::parse(shown.payload.expose_secret())
            .map_err(|error| malformed(format!("the payload: {error}")))?;
        let intermediates = payload
            .certificates
            .len()
            .checked_sub(1)
            .ok_or_else(|| malformed("no certificate to attest".to_owned()))?;
        if intermediates > self.settings.max_intermediates {
            return Err(malformed("too many intermediate certificates".to_owned()));
        }
        let certificates: Vec<_> = payload
            .certificates
            .into_iter()
            .map(CertificateDer::from)
            .collect();
        let chain = Chain::parse(&certificates).map_err(|error| malformed(unusable(&error)))?;
        if chain.public_keys().any(|key| self.is_too_long(key)) {
            return Err(malformed(
                "the RSA key of a certificate is longer than this server takes".to_owned(),
            ));
        }
        Ok(chain)
    }

    /// The same chain, if it holds.
    fn candidate(&self, chain: Chain, shown: &Shown) -> Result<Candidate, NodeVerifyError> {
        let candidate = self.verified(chain, &shown.moment)?;
        let leaf = candidate.chain.leaf();
        if self.settings.verify_client_ip
            && !shown.peer.is_some_and(|peer| leaf.ip_addresses().contains(&peer))
        {
            let text = "the address that the node connected from is none of its certificate's";
            return Err(NodeVerifyError::Denied(text.to_owned()));
        }
        if !leaf.may_sign_data() {
            let text = "the certificate's key usage lacks digitalSignature";
            return Err(NodeVerifyError::Denied(text.to_owned()));
        }
        Ok(candidate)
    }

    fn verified(&self, chain: Chain, moment: &Moment) -> Result<Candidate, NodeVerifyError> {
        let denied = |error: &dyn std::fmt::Display| {
            NodeVerifyError::Denied(format!("certificate verification failed: {error}"))
        };
        match &self.settings.mode {
            Mode::ExternalPki { ca_bundle_paths } => {
                let authorities = authorities(&self.trust_domain, ca_bundle_paths).map_err(|error| {
                    NodeVerifyError::unavailable("reading the authorities of nodes", error)
                })?;
                let chain = chain
                    .verify(authorities.x509_authorities(), moment.now)
                    .map_err(|error| denied(&error))?;
                Ok(Candidate {
                    chain,
                    svid_path: None,
                })
            }
            mode @ Mode::Spiffe { .. } => {
                let (id, chain) = chain
                    .verify_svid(&moment.bundle, moment.now)
                    .map_err(|error| denied(&error))?;
                // Our own bundle vouches for our own trust domain alone; said once more because the name below depends on it.
                if !id.is_member_of(&self.trust_domain) {
                    return Err(denied(&"it is of another trust domain"));
                }
                let svid_path = mode.below_prefix(id.path()).ok_or_else(|| {
                    NodeVerifyError::Denied(
                        "the path of the SVID does not begin with the prefix of nodes".to_owned(),
                    )
                })?;
                Ok(Candidate {
                    svid_path: Some(svid_path.to_owned()),
                    chain,
                })
            }
        }
    }

    fn is_too_long(&self, key: &PublicKey) -> bool {
        matches!(key.kind(), KeyKind::Rsa { bits } if bits > self.settings.max_rsa_key_size)
    }

    fn node(&self, candidate: &Candidate) -> Result<AttestedNode, NodeVerifyError> {
        let Candidate { chain, svid_path } = candidate;
        node::node(&self.trust_domain, &self.template, chain, svid_path.as_deref())
            .map_err(|error| NodeVerifyError::Denied(format!("the node gets no name: {error}")))
    }
}

/// What a leaf's key is asked to sign: 32 fresh bytes.
fn challenge_for(key: &PublicKey) -> Result<Challenge, NodeVerifyError> {
    let mut nonce = [0; 32];
    rand::fill(&mut nonce).map_err(|error| NodeVerifyError::unavailable("finding randomness", error))?;
    match key.kind() {
        KeyKind::Rsa { .. } => Ok(Challenge::Rsa(nonce)),
        KeyKind::EcP256 | KeyKind::EcP384 | KeyKind::EcP521 => Ok(Challenge::Ecdsa(nonce)),
        KeyKind::Ed25519 => {
            let text = "a key of kind ed25519 can't answer the challenges of this kind; use RSA or EC";
            Err(NodeVerifyError::Denied(text.to_owned()))
        }
    }
}

/// Whether `response` is signed by `key` over the nonce that we posed.
fn holds(key: &PublicKey, challenge: &Challenge, response: &Response) -> bool {
    match (challenge, response) {
        (Challenge::Rsa(_), Response::Rsa { nonce, signature }) => key
            .verify_pss_sha256(&challenge.message(nonce), signature)
            .is_ok(),
        (Challenge::Ecdsa(_), Response::Ecdsa { nonce, signature }) => {
            signature.to_der().is_some_and(|signature| {
                let message = challenge.message(nonce);
                key.verify(SignatureScheme::EcdsaSha256, &message, &signature)
                    .is_ok()
            })
        }
        _ => false,
    }
}

fn authorities(trust_domain: &TrustDomain, paths: &[PathBuf]) -> Result<Bundle, AuthoritiesError> {
    // A bundle is the set of authorities that we have; the name on it is used nowhere.
    let mut all = Bundle::new(trust_domain.clone());
    for path in paths {
        let pem = file::read(path, MOST_PEM).map_err(|source| AuthoritiesError::Read {
            path: path.clone(),
            source,
        })?;
        let read =
            Bundle::from_pem(trust_domain.clone(), &pem).map_err(|source| AuthoritiesError::Content {
                path: path.clone(),
                source,
            })?;
        for authority in read.x509_authorities() {
            all.put_x509_authority(authority.clone());
        }
    }
    Ok(all)
}

fn unusable(error: &ChainError) -> String {
    match error {
        ChainError::Certificate { at: 0, source } => format!("unable to parse leaf certificate: {source}"),
        ChainError::Certificate { at, source } => {
            format!("unable to parse intermediate certificate {}: {source}", at - 1)
        }
        other => other.to_string(),
    }
}
