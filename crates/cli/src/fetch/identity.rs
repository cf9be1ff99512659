//! This process's own identity, for commands that show it to somebody.

use std::time::Duration;

use muster_pki::{LocalKey, bundle::Bundle, x509::X509Svid};
use muster_proto::workload::X509svidRequest;

use super::{Source, call, x509::Update};
use crate::failure::Failure;

/// How long the agent may take.
const WITHIN: Duration = Duration::from_secs(10);

/// The first X.509-SVID that the Workload API at `address` has for this process, with its key and the bundle of its trust domain.
pub(crate) async fn identity(address: &str) -> Result<(X509Svid, LocalKey, Bundle), Failure> {
    let source = Source {
        address: address.to_owned(),
        timeout: WITHIN,
    };
    let mut client = source.client().await?;
    let request = client.fetch_x509svid(call(X509svidRequest {}));
    let (message, _) = source.first_of("this process's identity", request).await?;
    Update::read(message)?.first()
}
