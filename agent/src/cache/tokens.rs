//! JWT-SVIDs that may be handed out again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use muster_identity::{EntryId, UnixTime};
use muster_pki::jwt::{JwtSvid, KeyId};

use crate::rotate::Jitter;

/// How many tokens are kept at most.
const MOST: usize = 4_096;
/// How many bytes the kept tokens and their audiences have at most.
const MOST_BYTES: usize = 16 << 20;
/// What a token costs beside its own bytes.
const OVERHEAD: usize = 256;

/// Tokens by entry and by the audience list in the order that was asked for: the `aud` of a token is exactly what its caller wanted.
#[derive(Debug)]
pub(super) struct Tokens {
    by_entry: HashMap<EntryId, HashMap<Arc<[String]>, Held>>,
    /// By last use, the oldest first.
    by_use: BTreeMap<u64, (EntryId, Arc<[String]>)>,
    uses: u64,
    bytes: usize,
    jitter: Jitter,
    most: usize,
    most_bytes: usize,
}

/// How good a kept token is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Age {
    /// In the first half of its life.
    Fresh,
    /// Still valid, but a new one is to be asked for; it is handed out when none comes (I11).
    Aging,
}

#[derive(Debug)]
struct Held {
    svid: Arc<JwtSvid>,
    renew_at: UnixTime,
    last_use: u64,
    bytes: usize,
}

impl Tokens {
    pub(super) fn new(jitter: Jitter) -> Self {
        Self::bounded(jitter, MOST, MOST_BYTES)
    }

    fn bounded(jitter: Jitter, most: usize, most_bytes: usize) -> Self {
        Self {
            by_entry: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            bytes: 0,
            jitter,
            most,
            most_bytes,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_use.len()
    }

    /// The token for `entry` and exactly this audience, if one is kept and valid at `now`.
    pub(super) fn find(
        &mut self,
        entry: &EntryId,
        audience: &[String],
        now: UnixTime,
    ) -> Option<(Arc<JwtSvid>, Age)> {
        let held = self.by_entry.get_mut(entry)?.get_mut(audience)?;
        if held.svid.expires_at() <= now {
            self.remove(entry, audience);
            return None;
        }
        self.uses += 1;
        if let Some(key) = self.by_use.remove(&held.last_use) {
            self.by_use.insert(self.uses, key);
        }
        held.last_use = self.uses;
        let age = if now < held.renew_at {
            Age::Fresh
        } else {
            Age::Aging
        };
        Some((Arc::clone(&held.svid), age))
    }

    /// Keeps `svid`, at the cost of those that were used longest ago.
    pub(super) fn keep(&mut self, entry: &EntryId, audience: &[String], svid: Arc<JwtSvid>, now: UnixTime) {
        self.remove(entry, audience);
        let audience: Arc<[String]> = audience.into();
        let life = svid.expires_at().as_secs().saturating_sub(now.as_secs()).max(0);
        let wait = self
            .jitter
            .between(life.saturating_mul(45) / 100, life.saturating_mul(55) / 100);
        let renew_at = UnixTime::from_secs(now.as_secs().saturating_add(wait));
        let bytes =
            OVERHEAD + svid.token().len() + 2 * audience.iter().map(|name| name.len() + 24).sum::<usize>();
        self.uses += 1;
        self.bytes += bytes;
        self.by_use
            .insert(self.uses, (entry.clone(), Arc::clone(&audience)));
        let held = Held {
            svid,
            renew_at,
            last_use: self.uses,
            bytes,
        };
        self.by_entry
            .entry(entry.clone())
            .or_default()
            .insert(audience, held);
        while (self.len() > self.most || self.bytes > self.most_bytes)
            && let Some((_, (entry, audience))) =
                self.by_use.first_key_value().map(|(at, key)| (*at, key.clone()))
        {
            self.remove(&entry, &audience);
        }
    }

    /// The entry is gone or another: what was made under it is handed out no more.
    pub(super) fn forget(&mut self, entry: &EntryId) {
        for held in self
            .by_entry
            .remove(entry)
            .into_iter()
            .flatten()
            .map(|(_, held)| held)
        {
            self.bytes -= held.bytes;
            self.by_use.remove(&held.last_use);
        }
    }

    /// Keeps only what a key signed of which `counts` is true. How many went.
    pub(super) fn retain_signed_by(&mut self, counts: impl Fn(&KeyId) -> bool) -> usize {
        let stale = self.by_entry.iter().flat_map(|(entry, held)| {
            let signed = |held: &Held| held.svid.key_id().is_none_or(&counts);
            held.iter()
                .filter(move |(_, held)| !signed(held))
                .map(move |(audience, _)| (entry.clone(), Arc::clone(audience)))
        });
        let stale: Vec<_> = stale.collect();
        stale
            .iter()
            .for_each(|(entry, audience)| self.remove(entry, audience));
        stale.len()
    }

    fn remove(&mut self, entry: &EntryId, audience: &[String]) {
        let Some(of_entry) = self.by_entry.get_mut(entry) else {
            return;
        };
        if let Some(held) = of_entry.remove(audience) {
            self.bytes -= held.bytes;
            self.by_use.remove(&held.last_use);
        }
        if of_entry.is_empty() {
            self.by_entry.remove(entry);
        }
    }
}
