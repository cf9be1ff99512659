//! Token-signing keys of other servers in our bundle: those below us published them, or they came from above.

use std::collections::{BTreeMap, BTreeSet};

use muster_identity::{SpiffeId, UnixTime};
use muster_pki::bundle::{Bundle, KeyIdTaken};
use muster_pki::jwt::JwtAuthority;

use super::authorities::records;
use super::origin::Origins;
use super::record::{Kind, RecordError};
use crate::registry::View;

/// The most keys of others: each stands in every bundle that is sent to a node, and in the one record that holds it, of at most a
/// MiB, where the largest have 1.6 KiB. Three for each of 170 servers.
const MOST: usize = 512;

/// How many keys of servers below us are taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// Of one of them: by time it has three of its own, and as many of each server below it, since those come by it. Whoever has more takes no other's places.
    of_one: usize,
    /// Of all of them.
    of_all: usize,
    /// Which count.
    counts: Counts,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Counts {
    /// Those in our bundle.
    Held,
    /// Those that have not ended: above they stay to their end, whatever is revoked here.
    Alive,
}

impl Share {
    /// Where keys are made known to nobody above us.
    pub(crate) const AT_ROOT: Self = Self {
        of_one: 64,
        of_all: MOST,
        counts: Counts::Held,
    };
    /// Where they are. What is published here is published there as well, as ours and out of our share, which must keep room for our own keys. That share is taken for
    /// the one at a root; a server further down has to be given fewer servers below it.
    pub(crate) const BELOW_ANOTHER: Self = Self {
        of_one: 16,
        of_all: 56,
        counts: Counts::Alive,
    };
}

/// What tells others' keys from our own.
pub(crate) struct ForeignKeys {
    own: BTreeSet<String>,
    origins: Origins,
    /// Those on their way up, each with the server that publishes it: they have their places already.
    under_way: Vec<(String, SpiffeId)>,
    now: UnixTime,
}

/// Why a key is not put into the bundle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForeignKeyError {
    /// Its name is another key's.
    #[error(transparent)]
    Taken(#[from] KeyIdTaken),
    /// There are enough.
    #[error("the bundle holds {0} keys of other servers already; revoke what is not used")]
    TooMany(usize),
    /// This server has enough.
    #[error(
        "the bundle holds {0} keys of this server already; wait until one has ended, or have one revoked"
    )]
    TooManyOfOne(usize),
    /// It was here and was taken out.
    #[error("this key was revoked here; make another")]
    Revoked,
}

impl ForeignKeyError {
    /// Whether there are enough.
    pub(crate) fn is_too_many(&self) -> bool {
        matches!(self, Self::TooMany(_) | Self::TooManyOfOne(_))
    }
}

impl ForeignKeys {
    /// By the authorities that `view` has as ours.
    pub(crate) fn new(view: &View, now: UnixTime) -> Result<Self, RecordError> {
        let own = records(view, Kind::Jwt)?.into_iter().map(|record| record.life.id);
        Ok(Self {
            own: own.collect(),
            origins: Origins::read(view)?,
            under_way: Vec::new(),
            now,
        })
    }

    /// With these names as ours.
    #[cfg(test)]
    pub(crate) fn of<const N: usize>(own: [&str; N], now: UnixTime) -> Self {
        let own = own.into_iter().map(str::to_owned).collect();
        Self {
            own,
            origins: Origins::default(),
            under_way: Vec::new(),
            now,
        }
    }

    /// With these keys on their way up.
    pub(crate) fn with(self, under_way: Vec<(String, SpiffeId)>) -> Self {
        Self { under_way, ..self }
    }

    /// Whether it is our own.
    pub(crate) fn is_own(&self, key: &JwtAuthority) -> bool {
        self.own.contains(key.key_id().as_str())
    }

    /// Puts a key into the bundle that the server `from` below us published, within its share. One that was revoked here stays out.
    pub(crate) fn put_of(
        &self,
        bundle: &mut Bundle,
        key: &JwtAuthority,
        from: &SpiffeId,
        share: Share,
    ) -> Result<(), ForeignKeyError> {
        if self.origins.lost_key(key, bundle) {
            return Err(ForeignKeyError::Revoked);
        }
        let counted = self.origins.below().filter(|(id, _, ends)| match share.counts {
            Counts::Held => bundle
                .jwt_authorities()
                .iter()
                .any(|held| held.key_id().as_str() == *id),
            Counts::Alive => ends.is_none_or(|ends| ends > self.now),
        });
        let mut taken: BTreeMap<&str, &SpiffeId> = counted.map(|(id, from, _)| (id, from)).collect();
        taken.extend(self.under_way.iter().map(|(id, from)| (id.as_str(), from)));
        taken.remove(key.key_id().as_str());
        if taken.values().filter(|whose| **whose == from).count() >= share.of_one {
            return Err(ForeignKeyError::TooManyOfOne(share.of_one));
        }
        if taken.len() >= share.of_all {
            return Err(ForeignKeyError::TooMany(share.of_all));
        }
        self.put(bundle, key)
    }

    /// Puts a key into the bundle. One that is there stays as it is: its taint is never taken away. One that has ended is left out.
    pub(crate) fn put(&self, bundle: &mut Bundle, key: &JwtAuthority) -> Result<(), ForeignKeyError> {
        if key.expires_at().is_some_and(|end| end <= self.now) {
            return Ok(());
        }
        let held = bundle
            .jwt_authorities()
            .iter()
            .find(|held| held.key_id() == key.key_id());
        match held {
            Some(held) if held.public_key() == key.public_key() => return Ok(()),
            Some(held) => return Err(KeyIdTaken(held.key_id().clone()).into()),
            None => {}
        }
        let foreign = bundle.jwt_authorities().iter().filter(|held| !self.is_own(held));
        if foreign.count() >= MOST {
            return Err(ForeignKeyError::TooMany(MOST));
        }
        bundle.put_jwt_authority(key.clone())?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use muster_pki::{KeyAlgorithm, LocalKey, Signer};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn key(id: &str) -> JwtAuthority {
        let key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
        let end = UnixTime::from_secs(NOW + 3600);
        JwtAuthority::new(id.parse().unwrap(), key.public_key().clone()).with_expiry(Some(end))
    }

    fn server(name: &str) -> SpiffeId {
        format!("spiffe://example.org/servers/{name}").parse().unwrap()
    }

    /// As the service does it, with what the log keeps.
    fn publish(
        foreign: &mut ForeignKeys,
        bundle: &mut Bundle,
        key: &JwtAuthority,
        from: &SpiffeId,
        share: Share,
    ) -> Result<(), ForeignKeyError> {
        foreign.put_of(bundle, key, from, share)?;
        let change = foreign.origins.published(from, key);
        foreign.origins = std::mem::take(&mut foreign.origins).with(&[change]);
        Ok(())
    }

    #[test]
    fn a_server_that_publishes_many_keys_takes_no_other_s_places() {
        for share in [Share::AT_ROOT, Share::BELOW_ANOTHER] {
            let mut foreign = ForeignKeys::of(["ours"], UnixTime::from_secs(NOW));
            let mut bundle = Bundle::new("example.org".parse().unwrap());
            let (greedy, other) = (server("greedy"), server("other"));
            let mut publish =
                |bundle: &mut Bundle, key: &_, from: &_| publish(&mut foreign, bundle, key, from, share);
            let first = key("greedy-0");
            publish(&mut bundle, &first, &greedy).unwrap();
            for number in 1..share.of_one {
                publish(&mut bundle, &key(&format!("greedy-{number}")), &greedy).unwrap();
            }
            let refused = publish(&mut bundle, &key("one more"), &greedy).unwrap_err();
            assert!(refused.is_too_many(), "{refused}");
            publish(&mut bundle, &first, &greedy).expect("one that is there is no more");
            publish(&mut bundle, &key("other"), &other).unwrap();
            assert_eq!(bundle.jwt_authorities().len(), share.of_one + 1);
            // A place that became free is free, unless the key stays above to its end.
            bundle.retain_jwt_authorities(|held| held.key_id() != first.key_id());
            let published = publish(&mut bundle, &key("one more"), &greedy);
            assert_eq!(published.is_ok(), share.counts == Counts::Held);
        }
    }

    #[test]
    fn servers_below_leave_room_for_the_keys_of_the_one_that_has_another_above_it() {
        let mut foreign = ForeignKeys::of(["ours"], UnixTime::from_secs(NOW));
        let mut bundle = Bundle::new("example.org".parse().unwrap());
        let share = Share::BELOW_ANOTHER;
        let taken = (0..100).filter(|number| {
            let (key, from) = (key(&format!("key-{number}")), server(&format!("{}", number % 10)));
            publish(&mut foreign, &mut bundle, &key, &from, share).is_ok()
        });
        // All come to the one above as keys of ours, who has ours beside them.
        assert!(taken.count() + 8 <= Share::AT_ROOT.of_one);
    }

    #[test]
    fn keys_on_their_way_up_have_their_places() {
        let one = server("one");
        let under_way = (0..16).map(|number| (format!("key-{number}"), one.clone()));
        let foreign = ForeignKeys::of([], UnixTime::from_secs(NOW)).with(under_way.collect());
        let mut bundle = Bundle::new("example.org".parse().unwrap());
        let mut put = |id: &str, from| foreign.put_of(&mut bundle, &key(id), from, Share::BELOW_ANOTHER);
        assert!(put("key-16", &one).unwrap_err().is_too_many());
        put("key-3", &one).expect("it has its place itself");
        put("another", &server("two")).unwrap();
    }

    #[test]
    fn a_key_that_was_revoked_here_is_not_published_again() {
        let mut foreign = ForeignKeys::of([], UnixTime::from_secs(NOW));
        let mut bundle = Bundle::new("example.org".parse().unwrap());
        let (key, from) = (key("revoked"), server("one"));
        let mut publish = |bundle: &mut Bundle| publish(&mut foreign, bundle, &key, &from, Share::AT_ROOT);
        publish(&mut bundle).unwrap();
        bundle.retain_jwt_authorities(|_| false);
        let refused = publish(&mut bundle).unwrap_err();
        assert!(matches!(refused, ForeignKeyError::Revoked), "{refused}");
    }
}
