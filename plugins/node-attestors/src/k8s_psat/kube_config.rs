//! How to reach an API server, as `kubectl` is told it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use muster_pki::SecretBytes;
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::cluster::ClusterAccess;
use crate::file;

/// Longer than any kubeconfig, certificate or token.
const MOST: usize = 1 << 20;

/// An API server, how it is recognised, and as whom we come.
pub(super) struct Endpoint {
    /// `https://host[:port][/path]`.
    pub(super) server: String,
    /// The name in its certificate, when that is not the host's.
    pub(super) server_name: Option<String>,
    /// PEM: who vouches for it.
    pub(super) ca: Vec<u8>,
    /// As whom.
    pub(super) credentials: Credentials,
}

/// What we show to the API server.
pub(super) enum Credentials {
    /// A bearer token.
    Token(Zeroizing<String>),
    /// A certificate in PEM and its key.
    Certificate { certificate: Vec<u8>, key: SecretBytes },
}

/// Why an API server can't be reached as configured.
#[derive(Debug, thiserror::Error)]
pub enum KubeConfigError {
    /// A file can't be read.
    #[error("reading {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a kubeconfig file. The parser's own words may repeat a secret, so they are not here.
    #[error("{} is no kubeconfig file, at line {line}", path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// About where.
        line: u64,
    },
    /// Something that it should say and does not, or that is not supported.
    #[error("{}: {what}", path.display())]
    Content {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Wire {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Deserialize)]
struct Context {
    cluster: String,
    #[serde(default)]
    user: String,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    tls_server_name: Option<String>,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    proxy_url: Option<String>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: User,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    token: Option<Secret>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<Secret>,
}

/// A text that is zeroed when it goes.
struct Secret(Zeroizing<String>);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// Whether the file at `path` is a kubeconfig file that can be used, with every file that it names.
///
/// # Errors
/// Says what is wrong.
pub fn is_kube_config(path: &Path) -> Result<(), KubeConfigError> {
    Endpoint::from_kube_config(path).map(drop)
}

impl Endpoint {
    /// Reads everything anew: tokens and certificates are renewed by others.
    pub(super) fn read(access: &ClusterAccess) -> Result<Self, KubeConfigError> {
        match access {
            ClusterAccess::KubeConfig(path) => Self::from_kube_config(path),
            ClusterAccess::InCluster {
                server,
                service_account,
            } => Ok(Self {
                server: server.clone(),
                server_name: None,
                ca: contents(&service_account.join("ca.crt"))?,
                credentials: Credentials::Token(token(&service_account.join("token"))?),
            }),
        }
    }

    fn from_kube_config(path: &Path) -> Result<Self, KubeConfigError> {
        let text = Zeroizing::new(contents(path)?);
        let wire = parse(path, &text)?;
        let wrong = |what| KubeConfigError::Content {
            path: path.to_owned(),
            what,
        };
        let context = wire
            .contexts
            .into_iter()
            .find(|named| named.name == wire.current_context);
        let context = context
            .ok_or_else(|| wrong("its current-context names no context"))?
            .context;
        let cluster = wire
            .clusters
            .into_iter()
            .find(|named| named.name == context.cluster);
        let cluster = cluster
            .ok_or_else(|| wrong("its context names no cluster"))?
            .cluster;
        let user = wire.users.into_iter().find(|named| named.name == context.user);
        let user = user.ok_or_else(|| wrong("its context names no user"))?.user;
        if cluster.insecure_skip_tls_verify {
            return Err(wrong(
                "insecure-skip-tls-verify would let anybody vouch for nodes; give certificate-authority",
            ));
        }
        if cluster.proxy_url.is_some() {
            return Err(wrong("proxy-url is not supported"));
        }
        // Files are named from where the file is, as kubectl has it.
        let folder = path.parent().unwrap_or(Path::new("/"));
        let ca = content_of(
            folder,
            cluster.certificate_authority,
            cluster.certificate_authority_data.as_deref(),
        )
        .unwrap_or_else(|| Err(wrong("it has no certificate-authority")))?;
        let credentials = credentials(folder, user).unwrap_or_else(|| {
            Err(wrong("its user has neither a token nor a client certificate with its key (exec and auth-provider are not supported)"))
        })?;
        Ok(Self {
            server: cluster.server,
            server_name: cluster.tls_server_name,
            ca,
            credentials,
        })
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.server)
    }
}

fn parse(path: &Path, text: &[u8]) -> Result<Wire, KubeConfigError> {
    serde_saphyr::from_slice(text).map_err(|error| KubeConfigError::Format {
        path: path.to_owned(),
        line: error.location().map_or(0, |location| location.line()),
    })
}

fn credentials(folder: &Path, user: User) -> Option<Result<Credentials, KubeConfigError>> {
    if let Some(file) = user.token_file {
        return Some(token(&folder.join(file)).map(Credentials::Token));
    }
    if let Some(token) = user.token {
        return Some(Ok(Credentials::Token(token.0)));
    }
    let certificate = content_of(
        folder,
        user.client_certificate,
        user.client_certificate_data.as_deref(),
    )?;
    let key = content_of(
        folder,
        user.client_key,
        user.client_key_data.as_ref().map(|data| data.0.as_str()),
    )?;
    Some(certificate.and_then(|certificate| {
        Ok(Credentials::Certificate {
            certificate,
            key: key?.into(),
        })
    }))
}

/// Data goes before a file, as kubectl has it.
fn content_of(
    folder: &Path,
    file: Option<PathBuf>,
    data: Option<&str>,
) -> Option<Result<Vec<u8>, KubeConfigError>> {
    if let Some(data) = data {
        let decoded = STANDARD.decode(data.trim_ascii());
        return Some(decoded.map_err(|_| KubeConfigError::Content {
            path: folder.to_owned(),
            what: "a kubeconfig file here has data that is not in base64",
        }));
    }
    file.map(|file| contents(&folder.join(file)))
}

fn token(path: &Path) -> Result<Zeroizing<String>, KubeConfigError> {
    let content = Zeroizing::new(contents(path)?);
    let text = std::str::from_utf8(&content).map(str::trim).unwrap_or_default();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(KubeConfigError::Content {
            path: path.to_owned(),
            what: "there is no token in it",
        });
    }
    Ok(Zeroizing::new(text.to_owned()))
}

fn contents(path: &Path) -> Result<Vec<u8>, KubeConfigError> {
    file::read(path, MOST).map_err(|source| KubeConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Result<Endpoint, KubeConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, text).unwrap();
        std::fs::write(folder.path().join("ca.crt"), "the CA").unwrap();
        std::fs::write(folder.path().join("token"), "from.a.file\n").unwrap();
        Endpoint::from_kube_config(&path)
    }

    const WHOLE: &str = "\
apiVersion: v1
kind: Config
preferences: {}
current-context: here
contexts:
- name: other
  context: {cluster: none, user: none}
- name: here
  context:
    cluster: one
    user: muster
    namespace: default
clusters:
- name: one
  cluster:
    server: https://api.example.org:6443
    certificate-authority: ca.crt
users:
- name: muster
  user:
    token: secret.of.ours
";

    #[test]
    fn a_file_is_read_as_kubectl_reads_it() {
        let read = endpoint(WHOLE).unwrap();
        assert_eq!(
            (read.server.as_str(), read.ca.as_slice()),
            ("https://api.example.org:6443", &b"the CA"[..])
        );
        assert!(matches!(&read.credentials, Credentials::Token(token) if token.as_str() == "secret.of.ours"));
        assert!(!format!("{read:?}").contains("secret"));
        let read = endpoint(&WHOLE.replace("token: secret.of.ours", "tokenFile: token")).unwrap();
        assert!(matches!(&read.credentials, Credentials::Token(token) if token.as_str() == "from.a.file"));
        let pair = "client-certificate-data: Y2VydA==\n    client-key-data: a2V5";
        let read = endpoint(&WHOLE.replace("token: secret.of.ours", pair)).unwrap();
        assert!(
            matches!(&read.credentials, Credentials::Certificate { certificate, key }
            if certificate == b"cert" && key.expose_secret() == b"key")
        );
    }

    #[test]
    fn what_is_missing_or_not_supported_is_said_without_a_secret() {
        for (from, to, says) in [
            (
                "current-context: here",
                "current-context: there",
                "names no context",
            ),
            ("cluster: one", "cluster: two", "names no cluster"),
            ("user: muster", "user: nobody", "names no user"),
            (
                "certificate-authority: ca.crt",
                "insecure-skip-tls-verify: true",
                "vouch",
            ),
            (
                "    certificate-authority: ca.crt\n",
                "",
                "no certificate-authority",
            ),
            ("token: secret.of.ours", "exec: {command: x}", "not supported"),
            ("token: secret.of.ours", "tokenFile: missing", "reading"),
            ("token: secret.of.ours", "token: [secret.of.ours]", "at line"),
            ("kind: Config", "kind: 'secret", "at line"),
        ] {
            assert!(WHOLE.contains(from), "{from}");
            let error = endpoint(&WHOLE.replace(from, to)).unwrap_err();
            assert!(error.to_string().contains(says), "{from} to {to}: {error}");
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }
}
