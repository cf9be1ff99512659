use muster_audit::Actor;
use muster_identity::SpiffeId;
use muster_pki::bundle::AuthorityStanding;
use muster_pki::jwt::{Audience, TokenId};
use muster_pki::x509::{AuthorityId, verify_x509_svid};
use muster_plugin_api::UpstreamBundle;
use muster_plugin_api::fake::FakeUpstreamAuthority;
use muster_runtime::{Readiness, Tasks};

use super::tests::{Heart, heart};
use super::*;
use crate::ca::life::{Command, Stage};
use crate::ca::{Authorities, Follower, JwtRequest, UpstreamMeter};

const HOUR: u64 = 3600;

/// A keeper below a fake.
struct Below {
    heart: Heart,
    fake: Arc<FakeUpstreamAuthority>,
    readiness: Readiness,
    keeper: Keeper,
}

fn below() -> Below {
    let heart = heart();
    let trust_domain: TrustDomain = "example.org".parse().unwrap();
    let fake = Arc::new(FakeUpstreamAuthority::new(trust_domain, heart.clock.now()));
    let readiness = Readiness::new();
    let mut below = Below {
        keeper: heart.keeper(),
        heart,
        fake,
        readiness,
    };
    below.restart();
    below
}

impl Below {
    /// As after a restart of the server: what is in memory is gone.
    fn restart(&mut self) {
        let plugin = Box::new(Arc::clone(&self.fake));
        self.keeper = self.heart.keeper();
        self.keeper.upstream = Some(Upstream::new(
            plugin,
            UpstreamMeter::default(),
            self.readiness.clone(),
        ));
    }

    fn root(&self) -> AuthorityId {
        let known = self.fake.known().x509_authorities;
        known.last().unwrap().id().clone()
    }

    /// Follows the fake until the tasks are dropped or stopped.
    fn follow(&self) -> Tasks {
        let stop = Stop::new();
        let tasks = Tasks::new(stop.clone());
        let follower = Follower {
            upstream: self.keeper.upstream.clone().unwrap(),
            trust_domain: "example.org".parse().unwrap(),
            registry: self.heart.registry.clone(),
            bundles: self.keeper.bundles.clone(),
            audit: self.heart.audit.clone(),
            clock: Arc::new(self.heart.clock.clone()),
        };
        tasks.spawner().spawn("upstream", follower.run(stop));
        tasks
    }

    /// As an administrator does it.
    async fn revoke_here(&self, id: &AuthorityId) {
        let change = |bundle: &mut muster_pki::bundle::Bundle| {
            bundle.retain_x509_authorities(|root| root.id() != id);
            Ok(())
        };
        self.keeper.commit_with_bundle(Vec::new(), change).await.unwrap();
    }

    fn of(&self, stage: Stage) -> Vec<Authority> {
        let held = self.keeper.held(Kind::X509).unwrap();
        held.into_iter().filter(|own| own.stage == stage).collect()
    }
}

#[tokio::test]
async fn leaves_carry_the_chain_and_the_bundle_has_the_root_alone() {
    let mut below = below();
    below.keeper.start().await.unwrap();
    let svid = below.keeper.svid().await;
    assert_eq!(svid.chain().len(), 2);
    let bundle = below.keeper.bundles.own();
    let roots: Vec<_> = bundle.x509_authorities().iter().map(|root| root.id()).collect();
    assert_eq!(roots, [&below.root()]);
    verify_x509_svid(svid.chain(), &*bundle, below.heart.clock.now()).unwrap();
    let active = &below.of(Stage::Active)[0];
    assert_eq!(active.upstream.as_deref(), Some(below.root().as_str()));

    // The chain comes back from the log.
    below.restart();
    below.keeper.start().await.unwrap();
    let again = below.keeper.svid().await;
    assert_eq!(again.chain()[1..], svid.chain()[1..]);
}

#[tokio::test]
async fn through_days_of_rotation_everything_that_was_signed_verifies_until_its_end() {
    let mut below = below();
    below.keeper.start().await.unwrap();
    let mut signed = Vec::new();
    for _ in 0..120 {
        below.keeper.settled().await.unwrap();
        signed.push(below.keeper.svid().await);
        let (bundle, now) = (below.keeper.bundles.own(), below.heart.clock.now());
        for svid in signed.iter().filter(|svid| svid.not_after() >= now) {
            verify_x509_svid(svid.chain(), &*bundle, now).unwrap();
        }
        below.heart.clock.advance(Duration::from_secs(HOUR / 2));
    }
    assert_eq!(below.keeper.bundles.own().x509_authorities().len(), 1);
    let mut between: Vec<_> = signed.iter().map(|svid| svid.chain()[1].clone()).collect();
    between.dedup();
    assert!(between.len() >= 3, "authorities took turns");
}

#[tokio::test]
async fn an_upstream_that_is_away_stops_nothing_while_the_present_authority_lasts() {
    let mut below = below();
    below.keeper.start().await.unwrap();
    below.heart.clock.advance(Duration::from_secs(13 * HOUR));
    below.fake.set_down(true);
    below.keeper.settled().await.unwrap_err();
    below.keeper.svid().await;
    let standing = below.readiness.standing();
    assert!(standing.is_ready(), "{standing:?}");
    let notes = format!("{:?}", standing.notes);
    assert!(
        notes.contains("fake: asking the fake: it was told to be down"),
        "{notes}"
    );

    below.restart();
    below.keeper.start().await.expect("a restart goes well too");
    below.keeper.svid().await;
    below.fake.set_down(false);
    below.keeper.settled().await.unwrap();
    assert_eq!(below.of(Stage::Prepared).len(), 1);
    assert!(below.readiness.standing().notes.is_empty());
}

#[tokio::test]
async fn without_an_authority_that_counts_a_server_does_not_start_below_an_upstream_that_is_away() {
    let mut below = below();
    below.fake.set_down(true);
    let error = below.keeper.start().await.unwrap_err();
    assert!(error.is_upstreams(), "{error}");
}

#[tokio::test]
async fn keys_that_sign_tokens_are_known_above_before_they_sign() {
    let mut below = below();
    below.keeper.start().await.unwrap();
    let known = below.fake.known().jwt_authorities;
    assert_eq!(known.len(), 1);
    let id: SpiffeId = "spiffe://example.org/web".parse().unwrap();
    let request = JwtRequest {
        id,
        audience: Audience::new(vec!["a".into()]).unwrap(),
        lifetime: None,
        token_id: TokenId::Absent,
    };
    let token = below.keeper.ca.sign_jwt_svid(request).await.unwrap();
    let mut above = muster_pki::bundle::Bundle::new("example.org".parse().unwrap());
    above.put_jwt_authority(known[0].clone()).unwrap();
    let now = below.heart.clock.now();
    muster_pki::jwt::verify_jwt_svid(token.token(), &above, "a", now).unwrap();
}

#[tokio::test]
async fn where_tokens_mean_nothing_above_keys_are_known_here_alone() {
    let mut below = below();
    below.fake.forget_tokens();
    below.keeper.start().await.unwrap();
    assert!(below.fake.known().jwt_authorities.is_empty());
    assert_eq!(below.keeper.bundles.own().jwt_authorities().len(), 1);
}

#[tokio::test]
async fn a_root_that_is_tainted_above_is_left_then_tainted_here_and_goes_when_it_goes_there() {
    let mut below = below();
    below.keeper.start().await.unwrap();
    let upstream = below.keeper.upstream.clone().unwrap();
    let _following = below.follow();

    let old = below.fake.change_root(below.heart.clock.now());
    below.fake.taint(&old);
    let mut leaving = upstream.leaving();
    leaving
        .wait_for(|leaving| leaving.contains(old.as_str()))
        .await
        .unwrap();
    let bundles = below.keeper.bundles.clone();
    let standing = |id: &AuthorityId| bundles.own().x509_standing(id);
    assert_eq!(
        standing(&old),
        AuthorityStanding::Trusted,
        "nothing better signs yet"
    );

    below.keeper.settled().await.unwrap();
    assert_eq!(
        below.of(Stage::Prepared)[0].upstream.as_deref(),
        Some(below.root().as_str())
    );
    below.heart.clock.advance(Duration::from_secs(11));
    below.keeper.settled().await.unwrap();
    assert_eq!(
        below.of(Stage::Active)[0].upstream.as_deref(),
        Some(below.root().as_str())
    );
    let mut changes = bundles.watch();
    changes
        .wait_for(|_| standing(&old) == AuthorityStanding::Tainted)
        .await
        .unwrap();
    below.fake.revoke(&old);
    changes
        .wait_for(|_| standing(&old) == AuthorityStanding::Absent)
        .await
        .unwrap();
    let svid = below.keeper.svid().await;
    verify_x509_svid(svid.chain(), &*bundles.own(), below.heart.clock.now()).unwrap();
    let recorded = below.heart.audit.recorded().join("\n");
    for action in ["bundle.append", "authority.taint", "authority.revoke"] {
        assert!(recorded.contains(action), "{action}");
    }
}

#[tokio::test]
async fn an_upstream_that_still_signs_under_the_tainted_root_is_asked_again_and_nothing_stops() {
    let mut below = below();
    below.keeper.start().await.unwrap();
    let root = below.root();
    below.fake.taint(&root);
    let upstream = below.keeper.upstream.clone().unwrap();
    upstream.leave_for_test(&root);
    let error = below.keeper.settled().await.unwrap_err();
    assert!(matches!(error, KeeperError::TaintedRoot(_)), "{error}");
    below.keeper.svid().await;
    below.fake.change_root(below.heart.clock.now());
    below.keeper.settled().await.unwrap();
    assert_eq!(below.of(Stage::Prepared).len(), 1);
    assert_ne!(below.fake.known(), UpstreamBundle::default());
}

#[tokio::test]
async fn what_is_revoked_above_while_the_server_is_away_goes_and_what_was_revoked_here_stays_away() {
    let mut below = below();
    below.keeper.start().await.unwrap();
    let now = below.heart.clock.now();
    let used = below.fake.change_root(now);
    let gone_here = below.fake.change_root(now);
    let gone_above = below.root();
    let following = below.follow();
    let standing = |below: &Below, id: &AuthorityId| {
        below.keeper.bundles.own().x509_standing(id) != AuthorityStanding::Absent
    };
    let mut changes = below.keeper.bundles.watch();
    changes
        .wait_for(|_| standing(&below, &gone_here) && standing(&below, &gone_above))
        .await
        .unwrap();
    following.stop().order();
    following.run(Duration::from_secs(5)).await.unwrap();

    below.revoke_here(&gone_here).await;
    below.fake.revoke(&gone_above);
    below.restart();
    let _following = below.follow();
    let mut changes = below.keeper.bundles.watch();
    changes
        .wait_for(|_| !standing(&below, &gone_above))
        .await
        .unwrap();
    assert!(standing(&below, &used));
    assert!(!standing(&below, &gone_here));
}

#[tokio::test]
async fn a_root_that_was_revoked_here_does_not_come_back_with_what_is_signed_below_it() {
    let mut below = below();
    below.keeper.start().await.unwrap();
    let root = below.root();
    below.revoke_here(&root).await;
    below.restart();
    below.heart.clock.advance(Duration::from_secs(13 * HOUR));
    let error = below.keeper.settled().await.unwrap_err();
    assert!(matches!(error, KeeperError::TaintedRoot(_)), "{error}");
    let standing = below.keeper.bundles.own().x509_standing(&root);
    assert_eq!(standing, AuthorityStanding::Absent);
}

#[tokio::test]
async fn while_the_upstream_hangs_commands_are_done_and_tokens_have_their_next_key() {
    let mut below = below();
    below.keeper.start().await.unwrap();
    below.heart.clock.advance(Duration::from_secs(13 * HOUR));
    below.fake.set_hanging(true);
    let keeper = std::mem::replace(&mut below.keeper, below.heart.keeper());
    let bundles = keeper.bundles.clone();
    let (authorities, commands) = Authorities::new(below.heart.registry.clone());
    let stop = Stop::new();
    let tasks = Tasks::new(stop.clone());
    let standing = below.readiness.condition("authorities");
    tasks
        .spawner()
        .spawn("authorities", keeper.run(commands, standing, stop));

    let mut changes = bundles.watch();
    changes
        .wait_for(|_| bundles.own().jwt_authorities().len() == 2)
        .await
        .expect("the next key for tokens is due");
    let command = |kind, command| authorities.command(kind, command, Actor::local(7, 1));
    let next = command(Kind::Jwt, Command::Prepare).await.unwrap();
    command(Kind::Jwt, Command::Activate(next.id)).await.unwrap();

    let waits = command(Kind::X509, Command::Prepare);
    let goes_on = async {
        below.fake.somebody_waits().await;
        below.fake.set_hanging(false);
    };
    let (prepared, ()) = tokio::join!(waits, goes_on);
    assert_eq!(prepared.unwrap().stage, Stage::Prepared);
}

#[tokio::test]
async fn a_server_whose_authorities_count_starts_while_the_upstream_hangs() {
    let mut below = below();
    below.keeper.start().await.unwrap();
    below.heart.clock.advance(Duration::from_secs(13 * HOUR));
    below.fake.set_hanging(true);
    below.restart();
    below.keeper.start().await.unwrap();
    below.keeper.svid().await;
}

#[tokio::test]
async fn an_authority_that_took_long_to_be_signed_is_known_to_nodes_before_it_signs() {
    let mut below = below();
    below.keeper.start().await.unwrap();
    let node = "spiffe://example.org/node".parse().unwrap();
    let _hangs = below.heart.connections.connect(node);
    // Late: the next one is to sign as soon as it may.
    below.heart.clock.advance(Duration::from_secs(21 * HOUR));
    below.fake.set_hanging(true);
    below.keeper.turn().await.unwrap();
    let (fake, clock) = (Arc::clone(&below.fake), below.heart.clock.clone());
    let signed_later = async move {
        fake.somebody_waits().await;
        clock.advance(Duration::from_secs(50));
        fake.set_hanging(false);
    };
    let (settled, ()) = tokio::join!(below.keeper.settled(), signed_later);
    settled.unwrap();
    assert_eq!(below.of(Stage::Prepared).len(), 1, "it does not sign yet");
    below.heart.clock.advance(Duration::from_secs(11));
    below.keeper.settled().await.unwrap();
    assert_eq!(below.of(Stage::Prepared).len(), 0);
}
