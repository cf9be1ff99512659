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
use tonic::{Request, Streaming};
use tower::service_fn;

/// How long the first answer may take. An agent that has to have the SVID signed first needs a moment.
const FIRST_WITHIN: Duration = Duration::from_secs(20);

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
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| {
            UpstreamError::unavailable(asking(socket), source)
        };
        let opening = async {
            let path = socket.to_owned();
            // The name is for the :authority header only; nothing is looked up.
            let channel = Endpoint::from_static("http://localhost")
                .connect_with_connector(service_fn(move |_| {
                    let path = path.clone();
                    async move { UnixStream::connect(path).await.map(TokioIo::new) }
                }))
                .await
                .map_err(|error| failed(error.into()))?;
            let mut request = Request::new(X509svidRequest {});
            request
                .metadata_mut()
                .insert("workload.spiffe.io", MetadataValue::from_static("true"));
            let stream = SpiffeWorkloadApiClient::new(channel)
                .fetch_x509svid(request)
                .await
                .map_err(|status| failed(status.into()))?
                .into_inner();
            let mut identities = Self {
                socket: socket.to_owned(),
                stream,
            };
            let held = identities.next(trust_domain).await?;
            Ok((identities, held))
        };
        match tokio::time::timeout(FIRST_WITHIN, opening).await {
            Ok(opened) => opened,
            Err(elapsed) => Err(failed(elapsed.into())),
        }
    }

    /// Waits for the next SVID. May be dropped half way.
    pub(super) async fn next(&mut self, trust_domain: &TrustDomain) -> Result<Held, UpstreamError> {
        let message = self.stream.message().await;
        let message = message.map_err(|status| UpstreamError::unavailable(asking(&self.socket), status))?;
        let message = message.ok_or_else(|| {
            UpstreamError::unavailable(asking(&self.socket), "it ended the stream of our SVIDs")
        })?;
        held(message, trust_domain).map_err(|source| {
            UpstreamError::unusable(
                format!(
                    "the answer of the Workload API at {} can't be used",
                    self.socket.display()
                ),
                source,
            )
        })
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
