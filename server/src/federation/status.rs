//! How it stands with each peer, for operators, metrics and probes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use muster_identity::{TrustDomain, UnixTime};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::gauge::ConstGauge;

use super::MOST_PEERS;

/// How many intervals a bundle may go without being confirmed before an operator is told.
const ALARM_AFTER: u32 = 3;
/// How long a peer may go without a first bundle before an operator is told.
const FIRST: Duration = Duration::from_secs(300);
/// How many remarks on a document are kept.
const REMARKS: usize = 8;

/// One peer. All of it is of this server's run.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PeerStatus {
    /// Since when it is asked.
    pub since: Option<UnixTime>,
    /// When it was last asked.
    pub asked_at: Option<UnixTime>,
    /// When its bundle was last confirmed or renewed.
    pub confirmed_at: Option<UnixTime>,
    /// Why the last try brought nothing; none when it did.
    pub failure: Option<String>,
    /// How many tries in a row brought nothing.
    pub failures: u32,
    /// How often it is asked, by its hint.
    pub interval: Option<Duration>,
    /// Whether it tells us when there is something new.
    pub pushes: bool,
    /// What was left out of its last document, and other remarks on it.
    pub remarks: Vec<String>,
    /// The tag of the document that is held.
    pub(super) tag: Option<String>,
    /// When somebody who says that he is this peer last asked for our bundle, and whether he had the newest. Nothing proves it: a bundle endpoint asks nobody who he is.
    pub asked_us: Option<(UnixTime, bool)>,
}

impl PeerStatus {
    /// Why an operator must look, if he must.
    pub fn alarm(&self, now: UnixTime) -> Option<String> {
        let failure = self.failure.as_ref()?;
        let (from, limit) = match (self.confirmed_at, self.interval) {
            (Some(confirmed), Some(interval)) => (confirmed, interval.saturating_mul(ALARM_AFTER)),
            (confirmed, _) => (confirmed.or(self.since)?, FIRST),
        };
        let age = now.since(from);
        (age >= limit).then(|| format!("not refreshed for {} s: {failure}", age.as_secs()))
    }

    pub(super) fn remark(&mut self, remarks: Vec<String>) {
        let left_out = remarks.len().saturating_sub(REMARKS);
        self.remarks = remarks;
        self.remarks.truncate(REMARKS);
        if left_out > 0 {
            self.remarks.push(format!("and {left_out} more"));
        }
    }
}

/// All peers. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Statuses {
    peers: Arc<Mutex<BTreeMap<TrustDomain, PeerStatus>>>,
}

impl Statuses {
    /// How it stands with one peer.
    pub fn get(&self, trust_domain: &TrustDomain) -> PeerStatus {
        self.lock().get(trust_domain).cloned().unwrap_or_default()
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<TrustDomain, PeerStatus> {
        self.lock().clone()
    }

    /// Somebody says that he is `trust_domain` and asked for our bundle. Counts only for peers that we know.
    pub(super) fn asked_us(&self, trust_domain: &TrustDomain, now: UnixTime, newest: bool) {
        if let Some(peer) = self.lock().get_mut(trust_domain) {
            peer.asked_us = Some((now, newest));
        }
    }

    pub(super) fn change(&self, trust_domain: &TrustDomain, change: impl FnOnce(&mut PeerStatus)) {
        let mut peers = self.lock();
        if peers.len() < MOST_PEERS * 2 || peers.contains_key(trust_domain) {
            change(peers.entry(trust_domain.clone()).or_default());
        }
    }

    pub(super) fn retain(&self, keep: impl Fn(&TrustDomain) -> bool) {
        self.lock().retain(|name, _| keep(name));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TrustDomain, PeerStatus>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for Statuses {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let peers = self.all();
        let confirmed = |peer: &PeerStatus| peer.confirmed_at.map_or(0, UnixTime::as_secs);
        let failures = |peer: &PeerStatus| i64::from(peer.failures);
        type Value<'a> = &'a dyn Fn(&PeerStatus) -> i64;
        let families: [(&str, &str, Value<'_>); 2] = [
            (
                "federation_bundle_confirmed_seconds",
                "When the peer's bundle was last confirmed, in Unix time; 0 for not since the start",
                &confirmed,
            ),
            (
                "federation_refresh_failures",
                "How many refreshes of the peer's bundle in a row brought nothing",
                &failures,
            ),
        ];
        for (name, help, value) in families {
            let kind = ConstGauge::new(0_i64).metric_type();
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (trust_domain, peer) in &peers {
                let labels = [("trust_domain_id", trust_domain.as_str())];
                ConstGauge::new(value(peer)).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_is_told_after_three_intervals_and_not_before() {
        let at = UnixTime::from_secs;
        let mut peer = PeerStatus {
            since: Some(at(0)),
            confirmed_at: Some(at(100)),
            interval: Some(Duration::from_secs(60)),
            ..PeerStatus::default()
        };
        assert_eq!(peer.alarm(at(10_000)), None, "nothing failed");
        peer.failure = Some("connecting".into());
        assert_eq!(peer.alarm(at(279)), None);
        assert_eq!(
            peer.alarm(at(280)).unwrap(),
            "not refreshed for 180 s: connecting"
        );
        peer.confirmed_at = None;
        peer.interval = None;
        assert!(peer.alarm(at(299)).is_none() && peer.alarm(at(300)).is_some());
    }

    #[test]
    fn remarks_are_bounded_and_strangers_are_not_counted() {
        let mut peer = PeerStatus::default();
        peer.remark(vec!["x".into(); 10_000]);
        assert_eq!(
            (peer.remarks.len(), peer.remarks[8].as_str()),
            (9, "and 9992 more")
        );
        let statuses = Statuses::default();
        statuses.asked_us(&"stranger.example".parse().unwrap(), UnixTime::from_secs(1), true);
        assert!(statuses.all().is_empty());
    }
}
