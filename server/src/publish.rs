//! Lays our bundle where the configuration says, at each change.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use muster_bundle_publishers::{FilePublisher, HttpPublisher, S3Publisher};
use muster_plugin_api::{BundlePublisher, PublishError};
use muster_runtime::{Backoff, Clock, Readiness, Stop};
use tracing::{info, warn};

use crate::bundles::Bundles;
use crate::config::PublisherConfig;

/// The first and the longest wait after a failure. A bundle that is not where it is looked for makes a rotation fail there, so it is tried for ever.
const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5 * 60));
/// How long what was laid is left alone: whoever lost or changed it gets it again.
const AGAIN_AFTER: Duration = Duration::from_secs(10 * 60);

/// The publishers of the configuration.
pub(crate) fn publishers(
    configured: &[PublisherConfig],
    clock: &Arc<dyn Clock>,
) -> Result<Vec<Box<dyn BundlePublisher>>, PublishError> {
    let each = configured.iter().cloned().map(|publisher| {
        Ok(match publisher {
            PublisherConfig::File { path, form } => {
                Box::new(FilePublisher::new(path, form)) as Box<dyn BundlePublisher>
            }
            PublisherConfig::Http {
                place,
                form,
                authorities,
                identity,
            } => Box::new(HttpPublisher::new(place, form, authorities, identity)),
            PublisherConfig::S3 { target, form } => {
                Box::new(S3Publisher::new(target, form, Arc::clone(clock))?)
            }
        })
    });
    each.collect()
}

/// Publishes the newest bundle by `publisher` until the stop is ordered: at each change, again after a failure, and now and then.
pub(crate) async fn publish(
    publisher: Box<dyn BundlePublisher>,
    bundles: Bundles,
    readiness: Readiness,
    stop: Stop,
) -> Result<(), Infallible> {
    let mut changes = bundles.watch();
    let mut backoff = Backoff::new(WAITS.0, WAITS.1);
    let name = publisher.name();
    let note = match name {
        "file" => "bundle publisher file",
        "http" => "bundle publisher http",
        _ => "bundle publisher s3",
    };
    let mut published = None;
    loop {
        changes.mark_unchanged();
        let bundle = bundles.own();
        let publishing = async {
            tokio::select! {
                () = stop.ordered() => None,
                outcome = publisher.publish(&bundle) => Some(outcome),
            }
        };
        let wait = match publishing.await {
            None => return Ok(()),
            Some(Ok(())) => {
                if published != Some(bundle.sequence()) {
                    info!(publisher = name, sequence = bundle.sequence(), "bundle published");
                    published = Some(bundle.sequence());
                }
                readiness.note(note, None);
                backoff.reset();
                AGAIN_AFTER
            }
            Some(Err(error)) => {
                let wait = backoff.next_wait();
                let error = &error as &dyn Error;
                warn!(publisher = name, error, retry_in = ?wait, "bundle not published; readers find the one before");
                readiness.note(note, Some(format!("the bundle was not published: {error}")));
                wait
            }
        };
        tokio::select! {
            () = stop.ordered() => return Ok(()),
            () = tokio::time::sleep(wait) => {}
            changed = changes.changed() => if changed.is_err() { return Ok(()) },
        }
    }
}
