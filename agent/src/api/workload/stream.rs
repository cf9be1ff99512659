//! A stream of the latest state.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use muster_identity::{EntryId, SpiffeId};
use muster_transport::Refusal;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_stream::Stream;
use tonic::{Code, Status};

use super::WorkloadSettings;
use super::call::Call;
use super::hand_outs::Form;
use crate::api::metrics::OpenStream;
use crate::api::status::Refused;
use crate::cache::WorkloadView;
use crate::peer::{AttestedCaller, Followed, Turned};

/// How long a first message may be waited for.
const FIRST: Duration = Duration::from_secs(5);
/// How long what is there is held back for what is being signed.
const WHOLE: Duration = Duration::from_secs(1);

/// A kind of message about a view.
pub(super) trait Shape: Copy + Send + Sync + 'static {
    /// Whether there is something to send.
    fn verdict(self, view: &WorkloadView, settings: &WorkloadSettings) -> Verdict;

    /// The message.
    fn encode(self, view: &WorkloadView) -> Bytes;

    /// Whether both views give the same message.
    fn same(self, one: &WorkloadView, other: &WorkloadView) -> bool;

    /// The identities that the message hands out.
    fn hands_out(self, view: &WorkloadView) -> Vec<(&EntryId, &SpiffeId)>;
}

/// What a view means for a kind of message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// Send it.
    Send,
    /// It can be sent, and more will be there in a moment.
    SendSoon,
    /// Not yet, for this reason.
    Wait(&'static str),
    /// The caller has no identity.
    Nobody,
}

type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// The stream for a caller, once its first message is there.
pub(super) async fn open<S: Shape>(call: Call, shape: S) -> Result<Messages, Status> {
    let (watch, first) = call
        .for_caller(|caller| begin(call.clone(), caller, shape))
        .await?;
    call.called(Code::Ok);
    let later = unfold((watch, Some(first)), |(mut watch, first)| async move {
        let message = match first {
            Some(first) => Ok(first),
            None => watch.next().await?,
        };
        Some((message, (watch, None)))
    });
    Ok(Box::pin(later))
}

/// Waits for the first message.
async fn begin<S: Shape>(call: Call, caller: AttestedCaller, shape: S) -> Result<(Watch<S>, Bytes), Refused> {
    let views = call.desk.parts.identities.subscribe(caller.facts());
    let open = call.desk.parts.metrics.stream();
    let mut watch = Watch {
        call,
        _followed: caller.follow(),
        caller,
        shape,
        views,
        sent: None,
        over: false,
        _open: open,
    };
    let first = watch.first().await?;
    Ok((watch, first))
}

struct Watch<S> {
    call: Call,
    caller: AttestedCaller,
    shape: S,
    views: watch::Receiver<Arc<WorkloadView>>,
    sent: Option<Arc<WorkloadView>>,
    over: bool,
    _open: OpenStream,
    _followed: Followed,
}

impl<S: Shape> Watch<S> {
    async fn first(&mut self) -> Result<Bytes, Refused> {
        let (deadline, soon) = (Instant::now() + FIRST, Instant::now() + WHOLE);
        let stop = self.call.desk.parts.stop.clone();
        loop {
            let view = Arc::clone(&self.views.borrow_and_update());
            let until = match self.verdict(&view) {
                Verdict::Send => return self.send(view).await,
                Verdict::Nobody => return Err(self.call.no_identity(&self.caller, None)),
                Verdict::SendSoon => soon,
                Verdict::Wait(_) => deadline,
            };
            tokio::select! {
                () = stop.ordered() => return Err(Refused::Stopping),
                changed = timeout_at(until, self.views.changed()) => match changed {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return Err(Refused::Stopping),
                    Err(_) => match self.verdict(&view) {
                        Verdict::Wait(why) => return Err(Refused::NotReady(why)),
                        _ => return self.send(view).await,
                    },
                },
            }
        }
    }

    /// The next message, or the status that the stream ends with. `None` when nobody is there to read it.
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        if self.over {
            return None;
        }
        let outcome = self.changed_message().await;
        self.over = !matches!(outcome, Ok(Some(_)));
        match outcome {
            Ok(message) => message.map(Ok),
            Err(refused) => Some(Err(self.call.refuse(&refused, Some(&self.caller)).await)),
        }
    }

    async fn changed_message(&mut self) -> Result<Option<Bytes>, Refused> {
        let stop = self.call.desk.parts.stop.clone();
        loop {
            tokio::select! {
                // In this order: what ends a stream comes before what it would say.
                biased;
                refusal = self.caller.voided() => return match refusal {
                    Refusal::Ended { .. } | Refusal::Closed { .. } => Ok(None),
                    refusal => Err(Refused::Attestation(Turned::Presence(refusal))),
                },
                () = stop.ordered() => return Err(Refused::Stopping),
                changed = self.views.changed() => if changed.is_err() { return Err(Refused::Stopping) },
            }
            let view = Arc::clone(&self.views.borrow_and_update());
            match self.verdict(&view) {
                Verdict::Nobody => return Err(self.call.no_identity(&self.caller, None)),
                Verdict::Wait(_) => {}
                Verdict::Send | Verdict::SendSoon => {
                    if !self
                        .sent
                        .as_ref()
                        .is_some_and(|sent| self.shape.same(sent, &view))
                    {
                        return self.send(view).await.map(Some);
                    }
                }
            }
        }
    }

    async fn send(&mut self, view: Arc<WorkloadView>) -> Result<Bytes, Refused> {
        let identities = self.shape.hands_out(&view);
        if !identities.is_empty() {
            self.call
                .record_hand_out(&self.caller, Form::X509, &identities)
                .await?;
        }
        // The last thing before it leaves: the caller may have become another while the record was written.
        self.call.still(&self.caller)?;
        let message = self.shape.encode(&view);
        self.sent = Some(view);
        Ok(message)
    }

    fn verdict(&self, view: &WorkloadView) -> Verdict {
        self.shape.verdict(view, &self.call.desk.settings())
    }
}
