//! What stands in our bundle and is no authority of ours: roots from above, keys of servers below, what an administrator appended. It goes when it has ended.

use std::time::Duration;

use muster_audit::{Action, Actor, Event, Object, Outcome};
use muster_identity::UnixTime;
use muster_pki::bundle::Bundle;

use super::{Keeper, KeeperError};
use crate::ca::origin::Origins;
use crate::ca::record::Kind;

/// How long it stays after its end: verifiers' clocks may be that slow.
const LEEWAY: Duration = Duration::from_secs(60);

/// Which of them have ended, and when the next one will have.
#[derive(Debug, Default, Eq, PartialEq)]
struct Ended {
    roots: Vec<String>,
    keys: Vec<String>,
    next: Option<UnixTime>,
}

impl Keeper {
    /// Takes out of the bundle what has ended and is not ours: ours go with their records. Says when to look again.
    pub(super) async fn forget_ended(&self) -> Result<UnixTime, KeeperError> {
        let now = self.clock.now();
        let ids = |kind| -> Result<Vec<String>, KeeperError> {
            Ok(self.held(kind)?.into_iter().map(|own| own.id).collect())
        };
        let (x509, jwt) = (ids(Kind::X509)?, ids(Kind::Jwt)?);
        let ended = ended(&self.bundles.own(), &x509, &jwt, now);
        for id in ended.roots.iter().chain(&ended.keys) {
            let event = Event::new(Actor::Daemon, Action::AuthorityExpire, Outcome::Done);
            self.audit.record(event.object(Object::authority(id))).await?;
        }
        let forgotten = Origins::read(&self.registry.view())?.ended(&self.bundles.own(), now);
        if !ended.roots.is_empty() || !ended.keys.is_empty() || !forgotten.is_empty() {
            self.commit_with_bundle(forgotten, |bundle| {
                take_out(bundle, &ended, now);
                Ok(())
            })
            .await?;
        }
        Ok(ended.next.unwrap_or(UnixTime::MAX))
    }
}

fn ended(bundle: &Bundle, x509: &[String], jwt: &[String], now: UnixTime) -> Ended {
    let mut ended = Ended::default();
    let others = bundle.x509_authorities().iter();
    let others = others.map(|root| (root.id().to_string(), root.validity().not_after));
    // The last ones stay, whatever they are: a bundle without any root verifies nothing, and says nothing to whoever looks.
    let lives = bundle
        .x509_authorities()
        .iter()
        .any(|root| root.validity().not_after > now);
    for (id, end) in others.filter(|(id, _)| lives && !x509.contains(id)) {
        note(&mut ended.roots, &mut ended.next, id, end, now);
    }
    let others = bundle.jwt_authorities().iter();
    let others = others.filter_map(|key| Some((key.key_id().to_string(), key.expires_at()?)));
    for (id, end) in others.filter(|(id, _)| !jwt.contains(id)) {
        note(&mut ended.keys, &mut ended.next, id, end, now);
    }
    ended
}

fn take_out(bundle: &mut Bundle, ended: &Ended, now: UnixTime) {
    // Each root by its own end: one that was renewed with its key has the id of the one before.
    bundle.retain_x509_authorities(|root| {
        let over = root.validity().not_after.saturating_add(LEEWAY) <= now;
        !(over && ended.roots.iter().any(|id| id == root.id().as_str()))
    });
    bundle.retain_jwt_authorities(|key| !ended.keys.iter().any(|id| id == key.key_id().as_str()));
}

fn note(gone: &mut Vec<String>, next: &mut Option<UnixTime>, id: String, end: UnixTime, now: UnixTime) {
    let at = end.saturating_add(LEEWAY);
    if at <= now {
        gone.push(id);
    } else {
        *next = Some(next.map_or(at, |next| next.min(at)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_identity::Lifetime;
    use muster_pki::jwt::JwtAuthority;
    use muster_pki::x509::{RootProfile, ca_subject, issue_root};
    use muster_pki::{KeyAlgorithm, LocalKey, Signer};

    use super::*;

    #[test]
    fn what_has_ended_and_is_not_ours_goes_a_minute_later() {
        let now = UnixTime::from_secs(1_800_000_000);
        let mut bundle = Bundle::new("example.org".parse().unwrap());
        let mut ids = Vec::new();
        for (id, lifetime) in [("ours", 100), ("theirs", 100), ("later", 500)] {
            let key = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
            let end = now.saturating_add(Duration::from_secs(lifetime));
            let token = JwtAuthority::new(id.parse().unwrap(), key.public_key().clone());
            bundle.put_jwt_authority(token.with_expiry(Some(end))).unwrap();
            let profile = RootProfile {
                trust_domain: "example.org".parse().unwrap(),
                subject: ca_subject(),
                now,
                lifetime: Lifetime::from_secs(u32::try_from(lifetime).unwrap()).unwrap(),
            };
            let root = issue_root(key, &profile).unwrap();
            bundle.put_x509_authority(root.authority().clone());
            ids.push(root.authority().id().to_string());
        }
        let at = |seconds| {
            let now = now.saturating_add(Duration::from_secs(seconds));
            ended(&bundle, &ids[..1], &["ours".to_owned()], now)
        };
        let first = now.saturating_add(Duration::from_secs(160));
        let none = Ended {
            next: Some(first),
            ..Ended::default()
        };
        assert_eq!(at(159), none);
        let then = at(160);
        assert_eq!(
            (then.roots.as_slice(), then.keys.as_slice()),
            (&ids[1..2], &["theirs".to_owned()][..])
        );
        assert!(at(10_000).roots.is_empty(), "the last root stays");
    }

    #[test]
    fn a_root_that_was_renewed_with_its_key_stays_when_the_one_before_goes() {
        let now = UnixTime::from_secs(1_800_000_000);
        let key = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
        let root = |lifetime| {
            let profile = RootProfile {
                trust_domain: "example.org".parse().unwrap(),
                subject: ca_subject(),
                now,
                lifetime: Lifetime::from_secs(lifetime).unwrap(),
            };
            issue_root(key.clone(), &profile).unwrap().authority().clone()
        };
        let (before, renewed) = (root(100), root(500));
        assert_eq!(before.id(), renewed.id());
        let mut bundle = Bundle::new("example.org".parse().unwrap());
        bundle.put_x509_authority(before);
        bundle.put_x509_authority(renewed.clone());
        let later = now.saturating_add(Duration::from_secs(200));
        let ended = ended(&bundle, &[], &[], later);
        assert_eq!(ended.roots, [renewed.id().to_string()]);
        take_out(&mut bundle, &ended, later);
        assert_eq!(bundle.x509_authorities(), [renewed]);
    }
}
