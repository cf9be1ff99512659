//! What is answered to a request.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use muster_pki::bundle::Bundle;
use muster_runtime::{Clock, Stop};
use tokio::sync::Semaphore;

use crate::bundles::Bundles;
use crate::federation::{HOLD, PEER, PREFER, PREFERENCE_APPLIED, Statuses};

/// How many may wait for something new at a time. Past it, who would wait is answered at once and comes again at the hint.
const WAITING: usize = 512;

/// Answers requests.
pub(super) struct Desk {
    bundles: Bundles,
    statuses: Statuses,
    clock: Arc<dyn Clock>,
    stop: Stop,
    published: ArcSwapOption<Published>,
    waiting: Semaphore,
    /// How long anybody may wait.
    hold: Duration,
}

/// The bundle as it is sent.
struct Published {
    bundle: Arc<Bundle>,
    document: Bytes,
    tag: String,
}

impl Desk {
    pub(super) fn new(bundles: Bundles, statuses: Statuses, clock: Arc<dyn Clock>, stop: Stop) -> Self {
        Self {
            bundles,
            statuses,
            clock,
            stop,
            published: ArcSwapOption::empty(),
            waiting: Semaphore::new(WAITING),
            hold: HOLD,
        }
    }

    /// The answer. Nothing of the body is read, and of the head only what is named here.
    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        if request.uri().path() != "/" {
            return plain(StatusCode::NOT_FOUND);
        }
        if request.method() != Method::GET {
            let mut answer = plain(StatusCode::METHOD_NOT_ALLOWED);
            answer
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET"));
            return answer;
        }
        let held = text(request, IF_NONE_MATCH);
        let wait = text(request, PREFER).and_then(wait);
        let mut published = self.published();
        self.note(request, held == Some(published.tag.as_str()));
        let mut applied = wait.is_some();
        if let (Some(held), Some(wait)) = (held, wait)
            && held == published.tag
        {
            match self.waiting.try_acquire() {
                Ok(_place) => published = self.changed(published, wait.min(self.hold)).await,
                Err(_) => applied = false,
            }
        }
        let mut answer = match held == Some(published.tag.as_str()) {
            true => plain(StatusCode::NOT_MODIFIED),
            false => {
                let mut answer = Response::new(Full::new(published.document.clone()));
                let json = HeaderValue::from_static("application/json");
                answer.headers_mut().insert(CONTENT_TYPE, json);
                answer
            }
        };
        let headers = answer.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(tag) = HeaderValue::from_str(&published.tag) {
            headers.insert(ETAG, tag);
        }
        if applied && let Ok(value) = HeaderValue::from_str(&format!("wait={}", self.hold.as_secs())) {
            headers.insert(PREFERENCE_APPLIED, value);
        }
        answer
    }

    /// The newest bundle, as soon as it is another than `held`; the same after `longest`.
    async fn changed(&self, held: Arc<Published>, longest: Duration) -> Arc<Published> {
        let mut changes = self.bundles.watch();
        let changed = async {
            loop {
                let published = self.published();
                if published.tag != held.tag {
                    return published;
                }
                if changes.changed().await.is_err() {
                    return published;
                }
            }
        };
        tokio::select! {
            published = changed => published,
            () = tokio::time::sleep(longest) => held,
            () = self.stop.ordered() => held,
        }
    }

    fn published(&self) -> Arc<Published> {
        let own = self.bundles.own();
        if let Some(published) = &*self.published.load()
            && Arc::ptr_eq(&published.bundle, &own)
        {
            return Arc::clone(published);
        }
        let document = Bytes::from(own.to_document());
        let hash = digest(&SHA256, &document);
        let tag: String = hash
            .as_ref()
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let published = Arc::new(Published {
            bundle: own,
            document,
            tag: format!("\"{tag}\""),
        });
        self.published.store(Some(Arc::clone(&published)));
        published
    }

    fn note<B>(&self, request: &Request<B>, newest: bool) {
        if let Some(peer) = text(request, PEER).and_then(|name| name.parse().ok()) {
            self.statuses.asked_us(&peer, self.clock.now(), newest);
        }
    }
}

fn text<B>(request: &Request<B>, name: HeaderName) -> Option<&str> {
    request.headers().get(name)?.to_str().ok()
}

/// The seconds in `wait=N`, alone or among other preferences.
fn wait(preferences: &str) -> Option<Duration> {
    let mut each = preferences.split([',', ';']).map(str::trim);
    let seconds = each.find_map(|one| one.strip_prefix("wait="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}

fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}

#[cfg(test)]
mod tests;
