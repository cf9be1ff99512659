//! One try at a peer's bundle, from its order to the log.

use std::sync::Arc;
use std::time::Duration;

use muster_identity::TrustDomain;
use muster_pki::bundle::{Bundle, BundleFileError, DocumentError, ParsedBundle};
use muster_runtime::file;

use super::adopt::{AdoptError, Adopter};
use super::fetch::{Authentication, FetchError, Fetched, Fetcher, LARGEST, Patience};
use super::refresh::Order;
use super::{HOLD, Profile, Source};

/// How often a file that stands for an endpoint is read.
const FILE: Duration = Duration::from_secs(5);

/// What a peer's try brought.
pub(super) struct Came {
    pub(super) interval: Duration,
    pub(super) pushes: bool,
    pub(super) tag: Option<String>,
    /// None when nothing new was there to remark on.
    pub(super) remarks: Option<Vec<String>>,
}

/// Why a document that came is none that counts.
#[derive(Debug, thiserror::Error)]
pub(super) enum TakeError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("reading {0}")]
    File(String, #[source] std::io::Error),
    #[error("the document")]
    Document(#[from] DocumentError),
    #[error("the file's bundle")]
    FileBundle(#[from] BundleFileError),
    #[error("there is no bundle of {0} to verify the endpoint with; set one first")]
    NoBundle(TrustDomain),
    #[error(transparent)]
    Adopt(#[from] AdoptError),
    #[error("reading it broke off")]
    Broken,
}

/// Fetches the document of an order, or reads the file, and puts it into the log if it counts.
pub(super) async fn take(
    fetcher: &Fetcher,
    adopter: &Adopter,
    order: &Order<Source>,
    tag: Option<String>,
) -> Result<Came, TakeError> {
    let name = &order.trust_domain;
    let (url, profile) = match &order.source {
        Source::File(path) => {
            let read = file::read_aside(path, LARGEST).await;
            let bytes = read.map_err(|source| TakeError::File(path.display().to_string(), source))?;
            let parsed = parse(name, bytes, Form::AnyFile).await?;
            let remarks = remarks(&parsed);
            adopter.adopt(&parsed.bundle, &order.source, None).await?;
            return Ok(Came {
                interval: FILE,
                pushes: false,
                tag: None,
                remarks: Some(remarks),
            });
        }
        Source::Endpoint { url, profile } => (url, profile),
    };
    let set = adopter.bundles.set();
    let authentication = match profile {
        Profile::Web => Authentication::Web,
        Profile::Spiffe(id) => {
            let bundle = set
                .get(id.trust_domain())
                .filter(|bundle| !bundle.x509_authorities().is_empty());
            let bundle = bundle.ok_or_else(|| TakeError::NoBundle(id.trust_domain().clone()))?;
            Authentication::Spiffe {
                id: id.clone(),
                bundle: Arc::clone(bundle),
            }
        }
    };
    let held = set.get(name).filter(|_| order.wait && tag.is_some());
    let patience = Patience {
        tag: tag.clone().filter(|_| held.is_some()),
        // Asked for each time: by the answer we learn whether it can.
        hold: Some(HOLD),
    };
    let believed_by = match &authentication {
        // The fetcher looked whether its roots count still.
        Authentication::Web => None,
        Authentication::Spiffe { bundle, .. } => Some(&**bundle),
    };
    match fetcher.fetch(url, &authentication, &patience).await? {
        Fetched::Unchanged => {
            adopter.still_believed(&adopter.registry.view(), believed_by)?;
            Ok(Came {
                interval: held.map_or(FILE, |held| held.refresh_interval()),
                pushes: true,
                tag,
                remarks: None,
            })
        }
        Fetched::Document { body, tag, pushes } => {
            let parsed = parse(name, body.to_vec(), Form::Document).await?;
            adopter.adopt(&parsed.bundle, &order.source, believed_by).await?;
            Ok(Came {
                interval: parsed.bundle.refresh_interval(),
                pushes,
                tag,
                remarks: Some(remarks(&parsed)),
            })
        }
    }
}

/// What bytes may be.
#[derive(Clone, Copy)]
enum Form {
    /// What an endpoint gives.
    Document,
    /// What people put into files.
    AnyFile,
}

/// Takes the bytes apart on a thread that may be busy: they may hold thousands of certificates.
async fn parse(name: &TrustDomain, bytes: Vec<u8>, form: Form) -> Result<ParsedBundle, TakeError> {
    let name = name.clone();
    let parsing = tokio::task::spawn_blocking(move || match form {
        Form::Document => Bundle::from_document(name, &bytes).map_err(TakeError::from),
        Form::AnyFile => Bundle::from_file_bytes(name, &bytes).map_err(TakeError::from),
    });
    parsing.await.map_err(|_| TakeError::Broken)?
}

fn remarks(parsed: &ParsedBundle) -> Vec<String> {
    let mut remarks: Vec<String> = parsed
        .ignored
        .iter()
        .map(|ignored| format!("key {} is left out: {}", ignored.index, ignored.why))
        .collect();
    if parsed.bundle.is_empty() {
        remarks.insert(
            0,
            "the bundle has no key that is used: nothing of the trust domain verifies".to_owned(),
        );
    }
    remarks
}
