use std::sync::Arc;

use muster_identity::{Lifetime, TrustDomain};
use muster_pki::x509::{RootProfile, ca_subject, issue_root};
use muster_pki::{KeyAlgorithm, LocalKey, Signer};

use super::*;

const NOW: i64 = 1_800_000_000;

fn now() -> UnixTime {
    UnixTime::from_secs(NOW)
}

fn trust_domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

fn root() -> X509Authority {
    root_of(&Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap()))
}

fn root_of(key: &Arc<LocalKey>) -> X509Authority {
    let profile = RootProfile {
        trust_domain: trust_domain(),
        subject: ca_subject(),
        now: now(),
        lifetime: Lifetime::from_secs(3600).unwrap(),
    };
    issue_root(key.clone(), &profile).unwrap().authority().clone()
}

fn key(id: &str) -> JwtAuthority {
    let key = LocalKey::generate(KeyAlgorithm::EcP256).unwrap();
    let end = UnixTime::from_secs(NOW + 3600);
    JwtAuthority::new(id.parse().unwrap(), key.public_key().clone()).with_expiry(Some(end))
}

fn under(root: &X509Authority, stage: Stage) -> Authority {
    Authority {
        id: format!("below-{}-{stage:?}", root.id()),
        issued_at: now(),
        not_after: UnixTime::from_secs(NOW + 3600),
        stage,
        upstream: Some(root.id().to_string()),
    }
}

fn all(roots: &[X509Authority], keys: &[JwtAuthority]) -> UpstreamBundle {
    UpstreamBundle {
        x509_authorities: roots.to_vec(),
        jwt_authorities: keys.to_vec(),
        extent: Extent::All,
    }
}

/// Our bundle, our authorities, what is known above, and what the log keeps of it.
struct Here {
    above: Above,
    bundle: Bundle,
    held: Vec<Authority>,
    origins: Origins,
}

impl Here {
    fn new(held: Vec<Authority>) -> Self {
        let bundle = Bundle::new(trust_domain());
        Self {
            above: Above::new("spire a:1".to_owned()),
            bundle,
            held,
            origins: Origins::default(),
        }
    }

    /// Another server of the same log, or the same one below another upstream.
    fn restarted(&mut self, whom: &str) {
        self.above = Above::new(whom.to_owned());
    }

    fn told(&mut self, known: UpstreamBundle) -> TakenOver {
        self.above.told(known);
        self.look()
    }

    fn look(&mut self) -> TakenOver {
        let keys = ForeignKeys::of(["ours"], now());
        let taken = self
            .above
            .take_over(&mut self.bundle, &self.held, &keys, &self.origins, now());
        let kept = self.above.kept(&self.origins, &self.bundle, &taken, now());
        self.origins = std::mem::take(&mut self.origins).with(&kept);
        taken
    }

    fn unknown_keys(&self) -> Vec<JwtAuthority> {
        let keys = ForeignKeys::of(["ours"], now());
        self.above.unknown_keys(&self.bundle, &keys, &self.origins, now())
    }

    fn roots(&self) -> Vec<(String, bool)> {
        let roots = self.bundle.x509_authorities().iter();
        roots
            .map(|root| (root.id().to_string(), root.tainted()))
            .collect()
    }
}

fn id(root: &X509Authority) -> String {
    root.id().to_string()
}

#[test]
fn a_root_that_is_tainted_above_is_tainted_here_once_we_have_left_it() {
    let (old, new) = (root(), root());
    let mut here = Here::new(vec![under(&old, Stage::Active)]);
    here.told(all(std::slice::from_ref(&old), &[]));
    let both = all(&[old.clone().with_taint(true), new.clone()], &[]);
    let taken = here.told(both);
    assert_eq!(taken.added, [id(&new)]);
    assert_eq!(taken.leaving, BTreeSet::from([id(&old)]));
    assert_eq!(here.roots(), [(id(&old), false), (id(&new), false)]);

    here.held = vec![under(&old, Stage::Active), under(&new, Stage::Prepared)];
    assert!(here.look().tainted.is_empty(), "it signs still");
    here.held = vec![under(&old, Stage::Old), under(&new, Stage::Active)];
    let taken = here.look();
    assert_eq!((taken.tainted, taken.leaving), (vec![id(&old)], BTreeSet::new()));
    assert_eq!(here.roots(), [(id(&old), true), (id(&new), false)]);
    assert_eq!(here.look(), TakenOver::default(), "once");
}

#[test]
fn a_root_that_is_gone_above_is_gone_here_once_we_have_left_it() {
    let (old, new, appended) = (root(), root(), root());
    let mut here = Here::new(vec![under(&old, Stage::Active)]);
    here.bundle.put_x509_authority(appended.clone());
    here.told(all(&[old.clone(), new.clone()], &[]));
    let taken = here.told(all(std::slice::from_ref(&new), &[]));
    assert_eq!((taken.revoked.len(), taken.leaving.len()), (0, 1));
    here.held = vec![under(&old, Stage::Old), under(&new, Stage::Active)];
    assert_eq!(here.look().revoked, [id(&old)]);
    let left = [(id(&appended), false), (id(&new), false)];
    assert_eq!(here.roots(), left, "what never was known above stays");
}

#[test]
fn a_root_that_signed_us_is_missed_also_after_a_restart() {
    let (old, new) = (root(), root());
    let mut here = Here::new(vec![under(&old, Stage::Old), under(&new, Stage::Active)]);
    here.bundle.put_x509_authority(old.clone());
    assert_eq!(here.told(all(&[new], &[])).revoked, [id(&old)]);
}

#[test]
fn what_an_upstream_with_a_part_does_not_name_stays() {
    let (old, new) = (root(), root());
    let mut here = Here::new(vec![under(&old, Stage::Old)]);
    let part = |roots: &[X509Authority]| UpstreamBundle {
        extent: Extent::Some,
        ..all(roots, &[])
    };
    here.told(part(std::slice::from_ref(&old)));
    here.told(part(std::slice::from_ref(&new)));
    assert_eq!(here.roots(), [(id(&old), false), (id(&new), false)]);
}

#[test]
fn what_was_taken_out_here_or_has_ended_does_not_come_back() {
    let (one, other) = (root(), root());
    let mut here = Here::new(Vec::new());
    let token = key("theirs");
    here.told(all(std::slice::from_ref(&one), std::slice::from_ref(&token)));
    here.bundle.retain_x509_authorities(|_| false);
    here.bundle.retain_jwt_authorities(|_| false);
    here.told(all(&[one.clone(), other.clone()], std::slice::from_ref(&token)));
    assert_eq!(here.roots(), [(id(&other), false)]);
    assert!(here.bundle.jwt_authorities().is_empty());

    let mut late = Here::new(Vec::new());
    late.above.told(all(&[one], &[token]));
    let then = UnixTime::from_secs(NOW + 4000);
    let keys = ForeignKeys::of(["ours"], then);
    late.above
        .take_over(&mut late.bundle, &[], &keys, &late.origins, then);
    assert!(late.bundle.is_empty());
}

#[test]
fn token_keys_come_and_go_and_ours_are_only_our_own_business() {
    let (ours, theirs) = (key("ours"), key("theirs"));
    let mut here = Here::new(Vec::new());
    here.bundle.put_jwt_authority(ours.clone()).unwrap();
    let taken = here.told(all(&[], std::slice::from_ref(&theirs)));
    assert_eq!(taken.added, ["theirs"]);
    assert_eq!(here.unknown_keys(), std::slice::from_ref(&ours));

    let tainted = [ours.clone().with_taint(true), theirs.clone().with_taint(true)];
    assert_eq!(here.told(all(&[], &tainted)).tainted, ["theirs"]);
    assert!(here.unknown_keys().is_empty());
    assert_eq!(here.told(all(&[], &[])).revoked, ["theirs"]);
    assert_eq!(here.bundle.jwt_authorities(), [ours]);
    assert!(
        here.unknown_keys().is_empty(),
        "a key that was taken out above is not pushed there again"
    );
}

#[test]
fn what_went_there_or_here_while_we_were_away_is_gone_after_a_restart() {
    let (kept, gone, taken_out) = (root(), root(), root());
    let (token, gone_token, taken_token) = (key("kept"), key("gone"), key("taken"));
    let mut here = Here::new(Vec::new());
    here.told(all(
        &[kept.clone(), gone.clone(), taken_out.clone()],
        &[token.clone(), gone_token, taken_token.clone()],
    ));
    here.bundle
        .retain_x509_authorities(|root| root.id() != taken_out.id());
    here.bundle
        .retain_jwt_authorities(|key| key.key_id() != taken_token.key_id());
    here.restarted("spire a:1");
    let taken = here.told(all(
        &[kept.clone(), taken_out.clone()],
        &[token.clone(), taken_token],
    ));
    assert_eq!(taken.revoked, [id(&gone), "gone".to_owned()]);
    assert_eq!(here.roots(), [(id(&kept), false)]);
    assert_eq!(here.bundle.jwt_authorities(), [token]);

    here.told(all(std::slice::from_ref(&kept), &[]));
    assert_eq!(
        here.told(all(&[kept, gone, taken_out], &[])).added.len(),
        2,
        "what went there and comes again is new"
    );
}

#[test]
fn a_key_of_ours_that_went_above_is_not_pushed_there_again_after_a_restart_but_to_another() {
    let ours = key("ours");
    let mut here = Here::new(Vec::new());
    here.bundle.put_jwt_authority(ours.clone()).unwrap();
    here.told(all(&[root()], std::slice::from_ref(&ours)));
    here.restarted("spire a:1");
    here.told(all(&[root()], &[]));
    assert!(here.unknown_keys().is_empty());
    here.restarted("spire b:1");
    here.told(all(&[root()], &[]));
    assert_eq!(here.unknown_keys(), [ours]);
}

#[test]
fn what_one_upstream_told_is_not_gone_because_another_does_not_know_it() {
    let (theirs, others, taken_out) = (root(), root(), root());
    let mut here = Here::new(Vec::new());
    here.told(all(&[theirs.clone(), taken_out.clone()], &[key("theirs")]));
    here.bundle
        .retain_x509_authorities(|root| root.id() != taken_out.id());
    here.restarted("spire b:1");
    let taken = here.told(all(&[others.clone(), taken_out], &[]));
    assert_eq!((taken.added, taken.revoked), (vec![id(&others)], Vec::new()));
    assert_eq!(here.roots(), [(id(&theirs), false), (id(&others), false)]);
}

#[test]
fn what_the_log_keeps_goes_when_it_can_t_be_told_again() {
    let (one, other) = (root(), root());
    let mut here = Here::new(Vec::new());
    here.told(all(std::slice::from_ref(&one), &[key("theirs")]));
    here.told(all(std::slice::from_ref(&other), &[]));
    let held = |here: &Here| {
        let roots = [&one, &other].map(|root| here.origins.is_from_above(Kind::X509, root.id().as_str()));
        (roots, here.origins.is_from_above(Kind::Jwt, "theirs"))
    };
    assert_eq!(held(&here), ([false, true], false));
    // One that names but a part may name it again until its end.
    let mut part = Here::new(Vec::new());
    let some = |root: &X509Authority| UpstreamBundle {
        extent: Extent::Some,
        ..all(std::slice::from_ref(root), &[])
    };
    part.told(some(&one));
    part.bundle.retain_x509_authorities(|_| false);
    part.told(some(&other));
    assert_eq!(held(&part), ([true, true], false));
    let later = UnixTime::from_secs(NOW + 4000);
    let kept = part
        .above
        .kept(&part.origins, &part.bundle, &TakenOver::default(), later);
    part.origins = std::mem::take(&mut part.origins).with(&kept);
    assert_eq!(held(&part), ([false, true], false));
}

#[test]
fn another_key_under_a_name_that_is_taken_is_refused() {
    let (ours, other) = (key("ours"), key("ours"));
    let mut here = Here::new(Vec::new());
    here.bundle.put_jwt_authority(ours.clone()).unwrap();
    assert_eq!(here.told(all(&[], &[other])).refused, ["ours"]);
    assert_eq!(here.bundle.jwt_authorities(), [ours]);
    assert!(!here.origins.is_from_above(Kind::Jwt, "ours"), "it was not taken");
}

#[test]
fn a_root_that_was_renewed_with_its_key_is_taken_over_and_nothing_is_left_for_it() {
    let key = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
    let (before, after) = (root_of(&key), root_of(&key));
    assert!(before.id() == after.id() && before.der() != after.der());
    let mut here = Here::new(vec![under(&before, Stage::Active)]);
    here.told(all(std::slice::from_ref(&before), &[]));
    let taken = here.told(all(std::slice::from_ref(&after), &[]));
    assert_eq!(taken.added, [id(&after)]);
    assert_eq!((taken.revoked.len(), taken.leaving.len()), (0, 0));
    assert_eq!(here.roots().len(), 2);
    // What is revoked is the key, in whatever certificate.
    here.bundle.retain_x509_authorities(|_| false);
    assert!(here.told(all(&[root_of(&key)], &[])).added.is_empty());
}
