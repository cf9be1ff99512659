//! Our own SVID, from the Workload API of an agent of the server above.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use muster_identity::TrustDomain;
use muster_pki::bundle::Bundle;
use muster_pki::x509::X509Svid;
use muster_pki::{LocalKey, SecretBytes, Signer};
use muster_plugin_api::UpstreamError;
use muster_proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use muster_proto::workload::{X509svidRequest, X509svidResponse};
use tokio::net::UnixStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status, Streaming};
use tower::service_fn;

/// How long the first answer may take. An agent that has to have the SVID signed first needs a moment.
const FIRST_WITHIN: Duration = Duration::from_secs(20);
/// How often it is asked again while it says that it has none for us.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// An SVID with its key, and the authorities that vouch for its trust domain.
pub(super) struct Held {
    pub(super) svid: X509Svid,
    pub(super) key: Arc<dyn Signer>,
    pub(super) bundle: Bundle,
}

/// The Workload API's stream of our SVIDs.
pub(super) struct Identities {
    socket: PathBuf,
    stream: Streaming<X509svidResponse>,
}

impl Identities {
    /// Opens the stream and waits for the first SVID.
    pub(super) async fn open(
        socket: &Path,
        trust_domain: &TrustDomain,
    ) -> Result<(Self, Held), UpstreamError> {
        let mut last = None;
        let opening = async {
            loop {
                match Self::first(socket).await {
                    Ok(opened) => return opened.held(trust_domain),
                    // An entry that was just made reaches the agent seconds later, and who starts both at once need not know.
                    Err(status) if status.code() == Code::PermissionDenied => last = Some(status),
                    Err(status) => return Err(UpstreamError::unavailable(asking(socket), status)),
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        };
        let opened = tokio::time::timeout(FIRST_WITHIN, opening).await;
        opened.unwrap_or_else(|elapsed| match last {
            Some(status) => Err(UpstreamError::Refused {
                what: asking(socket),
                reason: status.message().to_owned(),
            }),
            None => Err(UpstreamError::unavailable(asking(socket), elapsed)),
        })
    }

    async fn first(socket: &Path) -> Result<Opened, Status> {
        let path = socket.to_owned();
        // The name is for the :authority header only; nothing is looked up.
        let channel = Endpoint::from_static("http://localhost")
            .connect_with_connector(service_fn(move |_| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }))
            .await
            .map_err(|error| Status::from_error(error.into()))?;
        let mut request = Request::new(X509svidRequest {});
        request
            .metadata_mut()
            .insert("workload.spiffe.io", MetadataValue::from_static("true"));
        let mut stream = SpiffeWorkloadApiClient::new(channel)
            .fetch_x509svid(request)
            .await?
            .into_inner();
        let first = stream.message().await?;
        let first = first.ok_or_else(|| Status::unavailable("it ended the stream of our SVIDs"))?;
        let socket = socket.to_owned();
        Ok(Opened {
            identities: Self { socket, stream },
            first,
        })
    }

    /// Waits for the next SVID. May be dropped half way.
    pub(super) async fn next(&mut self, trust_domain: &TrustDomain) -> Result<Held, UpstreamError> {
        let message = self.stream.message().await;
        let message = message.map_err(|status| UpstreamError::unavailable(asking(&self.socket), status))?;
        let message = message.ok_or_else(|| {
            UpstreamError::unavailable(asking(&self.socket), "it ended the stream of our SVIDs")
        })?;
        self.read(message, trust_domain)
    }

    fn read(&self, message: X509svidResponse, trust_domain: &TrustDomain) -> Result<Held, UpstreamError> {
        held(message, trust_domain).map_err(|source| {
            let socket = self.socket.display();
            UpstreamError::unusable(
                format!("the answer of the Workload API at {socket} can't be used"),
                source,
            )
        })
    }
}

/// The stream with its first message.
struct Opened {
    identities: Identities,
    first: X509svidResponse,
}

impl Opened {
    fn held(self, trust_domain: &TrustDomain) -> Result<(Identities, Held), UpstreamError> {
        let held = self.identities.read(self.first, trust_domain)?;
        Ok((self.identities, held))
    }
}

fn asking(socket: &Path) -> String {
    format!("asking the Workload API at {} for our SVID", socket.display())
}

/// The first SVID is the default one (WA 4.4): an agent puts it there, whatever else we are.
fn held(
    message: X509svidResponse,
    trust_domain: &TrustDomain,
) -> Result<Held, Box<dyn std::error::Error + Send + Sync>> {
    let mut first = message.svids.into_iter().next().ok_or("there is no SVID in it")?;
    let key = SecretBytes::new(std::mem::take(&mut first.x509_svid_key));
    let svid = X509Svid::from_der_concat(&first.x509_svid)?;
    if !svid.id().is_member_of(trust_domain) {
        return Err(format!("{} is not of our trust domain {trust_domain}", svid.id()).into());
    }
    let key = LocalKey::from_pkcs8(key.expose_secret())?;
    if key.public_key() != svid.public_key() {
        return Err("the key is not the SVID's".into());
    }
    Ok(Held {
        svid,
        key: Arc::new(key),
        bundle: Bundle::from_der_concat(trust_domain.clone(), &first.bundle)?,
    })
}
