//! From whom we have authorities that others made, as the log keeps it.
//!
//! It outlives their place in our bundle: what was taken out here is not taken in again when it is told again, and of what is gone above it is known that it came from
//! there. Both also after a restart, so every change of the bundle that takes something in has this in the same commit.

use std::collections::BTreeMap;

use muster_identity::{SpiffeId, UnixTime};
use muster_pki::bundle::{AuthorityStanding, Bundle};
use muster_pki::jwt::JwtAuthority;
use muster_pki::x509::X509Authority;
use muster_plugin_api::{Extent, UpstreamBundle};
use prost::Message;

use super::record::{Kind, RecordError};
use crate::registry::View;
use crate::store::{Change, Expect, Tree};

/// The first byte of a record.
const VERSION: u8 = 1;

/// What the log has of one authority.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Origin {
    /// Which upstream authority told of it last.
    pub(crate) above: Option<String>,
    /// The server below us that published it.
    pub(crate) below: Option<SpiffeId>,
    /// When it ends, if that is known.
    pub(crate) ends: Option<UnixTime>,
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins(BTreeMap<(Kind, String), Origin>);

#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(string, optional, tag = "1")]
    above: Option<String>,
    #[prost(int64, optional, tag = "2")]
    ends: Option<i64>,
    #[prost(string, optional, tag = "3")]
    below: Option<String>,
}

impl Origins {
    /// Those of the log.
    pub(crate) fn read(view: &View) -> Result<Self, RecordError> {
        let each = view.documents(Tree::Origins).map(|(name, document)| {
            let wrong = |reason: &str| RecordError {
                id: String::from_utf8_lossy(name).into_owned(),
                reason: reason.to_owned(),
            };
            let key = key(name).ok_or_else(|| wrong("its name is none"))?;
            Ok((key, from_bytes(&document.value).map_err(wrong)?))
        });
        Ok(Self(each.collect::<Result<_, RecordError>>()?))
    }

    /// Whether this upstream authority told of it. What one tells says nothing about what another told.
    pub(crate) fn is_told_by(&self, whom: &str, kind: Kind, id: &str) -> bool {
        self.of(kind, id)
            .is_some_and(|origin| origin.above.as_deref() == Some(whom))
    }

    /// Whether a root was in our bundle, and was taken out of it here.
    pub(super) fn lost_root(&self, root: &X509Authority, bundle: &Bundle) -> bool {
        self.of(Kind::X509, root.id().as_str()).is_some()
            && bundle.x509_standing(root.id()) == AuthorityStanding::Absent
    }

    /// Whether a token-signing key was in our bundle, and was taken out of it here.
    pub(crate) fn lost_key(&self, key: &JwtAuthority, bundle: &Bundle) -> bool {
        self.of(Kind::Jwt, key.key_id().as_str()).is_some()
            && bundle.jwt_standing(key.key_id()) == AuthorityStanding::Absent
    }

    /// Has the log know that `whom` told of these.
    pub(crate) fn told<'a>(
        &self,
        whom: &str,
        roots: impl IntoIterator<Item = &'a X509Authority>,
        keys: impl IntoIterator<Item = &'a JwtAuthority>,
    ) -> Vec<Change> {
        let roots = roots.into_iter().map(|root| {
            let ends = Some(root.validity().not_after);
            (Kind::X509, root.id().as_str(), ends)
        });
        let keys = keys
            .into_iter()
            .map(|key| (Kind::Jwt, key.key_id().as_str(), key.expires_at()));
        let mut changes = Vec::new();
        for (kind, id, ends) in roots.chain(keys) {
            let before = self.of(kind, id);
            let origin = Origin {
                above: Some(whom.to_owned()),
                below: before.and_then(|before| before.below.clone()),
                ends: later(before, ends),
            };
            if before != Some(&origin) {
                changes.push(put(kind, id, &origin));
            }
        }
        changes
    }

    /// Has the log know that the server `from` below us published a key.
    pub(crate) fn published(&self, from: &SpiffeId, key: &JwtAuthority) -> Change {
        let id = key.key_id().as_str();
        let known = self.of(Kind::Jwt, id);
        let ends = later(known, key.expires_at());
        let before = known.cloned().unwrap_or_default();
        let origin = Origin {
            below: before.below.or_else(|| Some(from.clone())),
            ends,
            ..before
        };
        put(Kind::Jwt, id, &origin)
    }

    /// The keys that servers below us published, each with the server and its end.
    pub(super) fn below(&self) -> impl Iterator<Item = (&str, &SpiffeId, Option<UnixTime>)> {
        self.0.iter().filter_map(|((kind, id), origin)| {
            let from = origin.below.as_ref().filter(|_| *kind == Kind::Jwt)?;
            Some((id.as_str(), from, origin.ends))
        })
    }

    /// Has the log forget what has ended and is not in the bundle any more.
    pub(super) fn ended(&self, bundle: &Bundle, now: UnixTime) -> Vec<Change> {
        let gone = self.0.iter().filter(|((kind, id), origin)| {
            let ended = origin.ends.is_some_and(|end| end < now);
            ended && !has(*kind, id, bundle.x509_authorities(), bundle.jwt_authorities())
        });
        gone.map(|((kind, id), _)| Change::delete(Tree::Origins, name(*kind, id), Expect::Any))
            .collect()
    }

    /// Has the log forget what can't be told again: it is not in the `bundle`, and not known to `whom` either, or has ended.
    pub(super) fn forgotten(
        &self,
        whom: &str,
        known: &UpstreamBundle,
        bundle: &Bundle,
        now: UnixTime,
    ) -> Vec<Change> {
        let stands =
            |kind: Kind, id: &str| has(kind, id, bundle.x509_authorities(), bundle.jwt_authorities());
        let is_known = |kind: Kind, id: &str| has(kind, id, &known.x509_authorities, &known.jwt_authorities);
        let gone = self.0.iter().filter(|((kind, id), origin)| {
            let told = origin.above.as_deref() == Some(whom) && origin.below.is_none();
            let is_all = known.extent == Extent::All && told;
            let ended = origin.ends.is_some_and(|end| end < now);
            !stands(*kind, id) && !is_known(*kind, id) && (is_all || ended)
        });
        gone.map(|((kind, id), _)| Change::delete(Tree::Origins, name(*kind, id), Expect::Any))
            .collect()
    }

    fn of(&self, kind: Kind, id: &str) -> Option<&Origin> {
        self.0.get(&(kind, id.to_owned()))
    }

    /// Whether an upstream authority told of it, whichever.
    #[cfg(test)]
    pub(super) fn is_from_above(&self, kind: Kind, id: &str) -> bool {
        self.of(kind, id).is_some_and(|origin| origin.above.is_some())
    }

    /// As if the changes were committed.
    #[cfg(test)]
    pub(super) fn with(mut self, changes: &[Change]) -> Self {
        for change in changes {
            let key = key(&change.key.name).unwrap();
            match &change.value {
                Some(value) => self.0.insert(key, from_bytes(value).unwrap()),
                None => self.0.remove(&key),
            };
        }
        self
    }
}

/// The later of both ends, an unknown one being never: what is told again with a shorter life would be forgotten before it has ended.
fn later(before: Option<&Origin>, ends: Option<UnixTime>) -> Option<UnixTime> {
    match before {
        None => ends,
        Some(before) => Some(before.ends?.max(ends?)),
    }
}

fn has(kind: Kind, id: &str, roots: &[X509Authority], keys: &[JwtAuthority]) -> bool {
    match kind {
        Kind::X509 => roots.iter().any(|root| root.id().as_str() == id),
        Kind::Jwt => keys.iter().any(|key| key.key_id().as_str() == id),
    }
}

/// The kind is part of the name: the id of a key may be any text, also that of a root.
fn name(kind: Kind, id: &str) -> Vec<u8> {
    format!("{}/{id}", kind.name()).into_bytes()
}

fn key(name: &[u8]) -> Option<(Kind, String)> {
    let (kind, id) = std::str::from_utf8(name).ok()?.split_once('/')?;
    let kinds = [Kind::X509, Kind::Jwt];
    let kind = kinds.into_iter().find(|known| known.name() == kind)?;
    Some((kind, id.to_owned()))
}

fn put(kind: Kind, id: &str, origin: &Origin) -> Change {
    Change::put(Tree::Origins, name(kind, id), to_bytes(origin), Expect::Any)
}

fn to_bytes(origin: &Origin) -> Vec<u8> {
    let wire = Wire {
        above: origin.above.clone(),
        below: origin.below.as_ref().map(SpiffeId::to_string),
        ends: origin.ends.map(UnixTime::as_secs),
    };
    let mut bytes = vec![VERSION];
    bytes.extend(wire.encode_to_vec());
    bytes
}

fn from_bytes(bytes: &[u8]) -> Result<Origin, &'static str> {
    let (&version, rest) = bytes.split_first().ok_or("it is empty")?;
    if version != VERSION {
        return Err("it was written by a newer version");
    }
    let wire = Wire::decode(rest).map_err(|_| "it can't be read")?;
    let below = wire.below.map(|id| id.parse()).transpose();
    Ok(Origin {
        above: wire.above,
        below: below.map_err(|_| "the server is no SPIFFE ID")?,
        ends: wire.ends.map(UnixTime::from_secs),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_published_again_with_a_shorter_life_is_remembered_as_long_as_before() {
        use muster_pki::{KeyAlgorithm, LocalKey, Signer as _};
        let made = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
        let key = JwtAuthority::new("k".parse().unwrap(), made.public_key().clone());
        let until = |secs| key.clone().with_expiry(Some(UnixTime::from_secs(secs)));
        let from: SpiffeId = "spiffe://example.org/east".parse().unwrap();
        let mut origins = Origins::default();
        for secs in [900, 2] {
            let change = origins.published(&from, &until(secs));
            origins = origins.with(&[change]);
        }
        let bundle = Bundle::new("example.org".parse().unwrap());
        assert!(origins.ended(&bundle, UnixTime::from_secs(100)).is_empty());
        assert!(
            origins.lost_key(&until(900), &bundle),
            "it was revoked and stays out"
        );
        assert_eq!(origins.ended(&bundle, UnixTime::from_secs(901)).len(), 1);
    }

    #[test]
    fn a_record_is_read_back_as_it_was_written_and_damage_is_an_error() {
        for above in [None, Some("spire 10.0.0.1:8081".to_owned())] {
            let ends = above.is_some().then(|| UnixTime::from_secs(7));
            let below = above
                .is_none()
                .then(|| "spiffe://example.org/east".parse().unwrap());
            let origin = Origin { above, below, ends };
            assert_eq!(from_bytes(&to_bytes(&origin)), Ok(origin));
        }
        for damaged in [&[][..], &[9], &[VERSION, 0xff]] {
            from_bytes(damaged).unwrap_err();
        }
        for (kind, id) in [(Kind::X509, "ab"), (Kind::Jwt, "a/b")] {
            assert_eq!(key(&name(kind, id)), Some((kind, id.to_owned())));
        }
        assert_eq!(key(b"ab"), None);
    }
}
