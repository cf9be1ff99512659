use muster_audit::Settings;
use muster_identity::StoreId;
use muster_pki::jwt::{Audience, TokenId};
use muster_pki::x509::{Subject, ca_subject, verify_x509_svid};
use muster_pki::{LocalKey, Signer};
use muster_plugin_api::KeyName;
use muster_plugin_api::fake::FakeKeyManager;
use muster_runtime::{ManualClock, SigningPool, Spawner, Tasks};

use super::*;
use crate::ca::{Holder, JwtRequest, Lifetimes, OverCap, SignError, Tokens, X509Request};
use crate::store::Memory;

const START: i64 = 1_800_000_000;
const HOUR: u64 = 3600;

/// A server's heart: registry, keys, clock. A keeper can be made anew from it, as after a restart.
pub(super) struct Heart {
    pub(super) registry: Registry,
    pub(super) keys: Arc<FakeKeyManager>,
    pub(super) clock: ManualClock,
    pub(super) audit: Audit,
    pub(super) connections: Connections,
    _tasks: Tasks,
}

fn secs(secs: u64) -> Lifetime {
    Lifetime::from_secs(u32::try_from(secs).unwrap()).unwrap()
}

pub(super) fn heart() -> Heart {
    let trust_domain: TrustDomain = "example.org".parse().unwrap();
    let store = Arc::new(Memory::new(StoreId::from_bytes([7; 16])));
    let (registry, committer) = Registry::open(store, trust_domain, Vec::new()).unwrap();
    let tasks = Tasks::new(Stop::new());
    let spawner: Spawner = tasks.spawner();
    spawner.spawn("registry", committer.run(tasks.stop()));
    let clock = ManualClock::new(UnixTime::from_secs(START));
    let now = clock.clone();
    let signer = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
    let audit = Audit::in_memory(Settings::new(
        "example.org/audit",
        signer,
        Arc::new(move || now.now()),
    ))
    .unwrap();
    Heart {
        registry,
        keys: Arc::new(FakeKeyManager::new()),
        clock,
        audit,
        connections: Connections::new(),
        _tasks: tasks,
    }
}

impl Heart {
    pub(super) fn keeper(&self) -> Keeper {
        self.keeper_with(Tokens::Signed { issuer: None })
    }

    pub(super) fn keeper_with(&self, tokens: Tokens) -> Keeper {
        let trust_domain: TrustDomain = "example.org".parse().unwrap();
        let lifetimes = Lifetimes {
            x509_svid: secs(HOUR),
            jwt_svid: secs(300),
            node: secs(HOUR),
            max_x509_svid: secs(4 * HOUR),
            max_jwt_svid: secs(HOUR),
            over_cap: OverCap::Cut,
        };
        let clock: Arc<dyn Clock> = Arc::new(self.clock.clone());
        let pool = SigningPool::start(1, 8).unwrap();
        Keeper {
            terms: Terms {
                trust_domain: trust_domain.clone(),
                subject: ca_subject(),
                lifetime: secs(24 * HOUR),
                x509_key: KeyAlgorithm::EcP256,
                jwt_key: KeyAlgorithm::EcP256,
                refresh_hint: Duration::from_secs(300),
            },
            ca: Ca::new(trust_domain.clone(), lifetimes, tokens, Arc::clone(&clock), pool),
            keys: self.keys.clone(),
            registry: self.registry.clone(),
            bundles: Bundles::read(trust_domain, &self.registry.view()).unwrap(),
            connections: self.connections.clone(),
            audit: self.audit.clone(),
            clock,
            meter: CaMeter::default(),
            awaited: Awaited::default(),
            making: Making::default(),
            upstream: None,
        }
    }
}

impl Keeper {
    /// Does what is due, and waits for what is made.
    pub(super) async fn settled(&mut self) -> Result<Next, KeeperError> {
        loop {
            let next = self.turn().await?;
            let Some(made) = self.making.next().await else {
                return Ok(next);
            };
            self.settle(made).await?;
        }
    }

    pub(super) async fn svid(&self) -> muster_pki::x509::X509Svid {
        let request = X509Request {
            id: "spiffe://example.org/web".parse().unwrap(),
            public_key: LocalKey::generate(KeyAlgorithm::EcP256)
                .unwrap()
                .public_key()
                .clone(),
            dns_names: Vec::new(),
            subject: Subject::Usual,
            holder: Holder::Workload,
            lifetime: None,
        };
        self.ca.sign_x509_svid(request).await.unwrap()
    }
}

#[tokio::test]
async fn through_days_of_rotation_everything_that_was_signed_verifies_until_its_end() {
    let heart = heart();
    let mut keeper = heart.keeper();
    keeper.start().await.unwrap();
    let mut signed = Vec::new();
    let mut sequence = 0;
    for _ in 0..150 {
        keeper.settled().await.unwrap();
        let bundle = keeper.bundles.own();
        assert!(
            bundle.sequence().unwrap() >= sequence,
            "the sequence never goes back"
        );
        sequence = bundle.sequence().unwrap();
        signed.push(keeper.svid().await);
        let now = heart.clock.now();
        for svid in signed.iter().filter(|svid| svid.not_after() >= now) {
            verify_x509_svid(svid.chain(), &*bundle, now).unwrap();
        }
        heart.clock.advance(Duration::from_secs(HOUR / 2));
    }
    let bundle = keeper.bundles.own();
    assert!(
        (2..=5).contains(&bundle.x509_authorities().len()),
        "what has ended leaves the bundle"
    );
    assert_eq!(bundle.refresh_hint(), Some(300));
    let named = keeper.records(Kind::X509).unwrap().len() + keeper.records(Kind::Jwt).unwrap().len();
    assert_eq!(
        heart.keys.list().await.unwrap().len(),
        named,
        "keys go with their authorities"
    );
    let recorded = heart.audit.recorded().join("\n");
    for action in ["authority.prepare", "authority.activate", "authority.expire"] {
        assert!(recorded.contains(action), "{action}");
    }
}

#[tokio::test]
async fn a_restarted_server_signs_with_the_same_authorities() {
    let heart = heart();
    let mut before = heart.keeper();
    before.start().await.unwrap();
    let mut after = heart.keeper();
    after.start().await.unwrap();
    assert_eq!(after.bundles.own().sequence(), before.bundles.own().sequence());
    let svid = after.svid().await;
    verify_x509_svid(svid.chain(), &*before.bundles.own(), heart.clock.now()).unwrap();
    let request = JwtRequest {
        id: "spiffe://example.org/web".parse().unwrap(),
        audience: Audience::new(vec!["a".into()]).unwrap(),
        lifetime: None,
        token_id: TokenId::Absent,
    };
    let token = after.ca.sign_jwt_svid(request).await.unwrap();
    muster_pki::jwt::verify_jwt_svid(token.token(), &*before.bundles.own(), "a", heart.clock.now()).unwrap();
}

#[tokio::test]
async fn an_authority_whose_key_is_gone_is_replaced_and_stays_trusted() {
    let heart = heart();
    let mut before = heart.keeper();
    before.start().await.unwrap();
    let old = before.svid().await;
    for key in heart.keys.list().await.unwrap() {
        heart.keys.delete(&key).await.unwrap();
    }
    let mut after = heart.keeper();
    after.start().await.unwrap();
    let bundle = after.bundles.own();
    for svid in [old, after.svid().await] {
        verify_x509_svid(svid.chain(), &*bundle, heart.clock.now()).unwrap();
    }
}

#[tokio::test]
async fn a_key_manager_that_is_down_stops_no_signing_and_is_tried_again() {
    let heart = heart();
    let mut keeper = heart.keeper();
    keeper.start().await.unwrap();
    heart.clock.advance(Duration::from_secs(13 * HOUR));
    heart.keys.set_down(true);
    assert!(keeper.settled().await.is_err());
    keeper.svid().await;
    heart.keys.set_down(false);
    keeper.settled().await.unwrap();
    assert_eq!(keeper.bundles.own().x509_authorities().len(), 2);
}

#[tokio::test]
async fn a_key_that_no_record_names_is_destroyed_at_the_start() {
    let heart = heart();
    let (stray, foreign): (KeyName, KeyName) =
        ("x509-ca-1-crash".parse().unwrap(), "audit-log".parse().unwrap());
    for key in [&stray, &foreign] {
        heart.keys.generate(key, KeyAlgorithm::EcP256).await.unwrap();
    }
    heart.keeper().start().await.unwrap();
    let keys = heart.keys.list().await.unwrap();
    assert!(!keys.contains(&stray) && keys.contains(&foreign));
}

/// The keeper at an hour after the start at which the next X.509 authority was to be prepared and active long ago.
async fn late() -> (Heart, Keeper) {
    let heart = heart();
    let mut keeper = heart.keeper();
    keeper.start().await.unwrap();
    heart.clock.advance(Duration::from_secs(21 * HOUR));
    (heart, keeper)
}

impl Keeper {
    fn active(&self) -> String {
        let records = self.records(Kind::X509).unwrap();
        let active = records
            .into_iter()
            .find(|record| record.life.stage == life::Stage::Active);
        active.unwrap().life.id
    }

    fn sequence(&self) -> u64 {
        self.bundles.own().sequence().unwrap()
    }
}

#[tokio::test]
async fn a_new_authority_signs_once_the_last_connected_node_holds_it() {
    let (heart, mut keeper) = late().await;
    let first = keeper.active();
    let id: muster_identity::SpiffeId = "spiffe://example.org/node".parse().unwrap();
    let nodes = [
        heart.connections.connect(id.clone()),
        heart.connections.connect(id),
    ];
    let next = keeper.settled().await.unwrap();
    assert_eq!(next.awaits, Some(keeper.sequence()), "published, and waited for");
    nodes[0].holds(keeper.sequence());
    keeper.settled().await.unwrap();
    assert_eq!(keeper.active(), first);
    assert!(keeper.ca.signs_with(Kind::X509, &first));
    let waiting = held_everywhere(&heart.connections, next.awaits);
    nodes[1].holds(keeper.sequence());
    waiting.await;
    keeper.settled().await.unwrap();
    assert_ne!(keeper.active(), first);
    assert!(keeper.ca.signs_with(Kind::X509, &keeper.active()));
}

#[tokio::test]
async fn a_node_that_hangs_holds_a_new_authority_up_for_ten_seconds() {
    let (heart, mut keeper) = late().await;
    let first = keeper.active();
    let _hangs = heart
        .connections
        .connect("spiffe://example.org/node".parse().unwrap());
    keeper.settled().await.unwrap();
    heart.clock.advance(Duration::from_secs(10));
    let next = keeper.settled().await.unwrap();
    assert_eq!(keeper.active(), first);
    heart.clock.set(next.wake);
    keeper.settled().await.unwrap();
    assert_ne!(keeper.active(), first);
    assert_eq!(next.wake, UnixTime::from_secs(START + 21 * HOUR as i64 + 11));
}

#[tokio::test]
async fn an_authority_whose_key_went_before_its_time_is_never_said_to_be_active() {
    let heart = heart();
    let mut keeper = heart.keeper();
    keeper.start().await.unwrap();
    heart.clock.advance(Duration::from_secs(13 * HOUR));
    keeper.settled().await.unwrap();
    let prepared = keeper.records(Kind::X509).unwrap();
    let prepared = prepared
        .into_iter()
        .find(|record| record.life.stage == life::Stage::Prepared)
        .unwrap();
    heart.keys.delete(&prepared.key).await.unwrap();
    heart.clock.advance(Duration::from_secs(8 * HOUR));
    keeper.settled().await.unwrap();
    keeper.svid().await;
    assert_ne!(keeper.active(), prepared.life.id);
    let recorded = heart.audit.recorded();
    let of = |action: &str| {
        let lines = recorded.iter().filter(|line| line.contains(action));
        lines.filter(|line| line.contains(&prepared.life.id)).count()
    };
    assert_eq!((of("authority.activate"), of("authority.retire")), (0, 1));
}

#[tokio::test]
async fn what_cannot_be_recorded_is_not_done_and_leaves_no_heap_of_keys() {
    let (heart, mut keeper) = late().await;
    let (sequence, keys) = (keeper.sequence(), heart.keys.list().await.unwrap().len());
    heart.audit.set_memory_full(true);
    for _ in 0..5 {
        keeper.settled().await.unwrap_err();
    }
    assert_eq!(keeper.sequence(), sequence);
    assert!(
        heart.keys.list().await.unwrap().len() <= keys + 2,
        "one of each kind"
    );
    heart.audit.set_memory_full(false);
    // What was begun while nothing could be recorded may have been refused already.
    while let Some(made) = keeper.making.next().await {
        keeper.settle(made).await.ok();
    }
    keeper.settled().await.unwrap();
    assert_eq!(keeper.sequence(), sequence + 2);
    assert_eq!(heart.keys.list().await.unwrap().len(), keys + 2);
}

#[tokio::test]
async fn where_tokens_are_disabled_no_key_is_made_and_those_that_were_there_go_with_their_end() {
    let heart = heart();
    let mut before = heart.keeper();
    before.start().await.unwrap();
    heart.clock.advance(Duration::from_secs(13 * HOUR));
    before.settled().await.unwrap();
    let keys = || heart.keys.list();
    assert_eq!(
        keys().await.unwrap().len(),
        4,
        "one of each kind signs, one is prepared"
    );

    let mut keeper = heart.keeper_with(Tokens::Disabled);
    keeper.start().await.unwrap();
    keeper.settled().await.unwrap();
    let request = JwtRequest {
        id: "spiffe://example.org/web".parse().unwrap(),
        audience: Audience::new(vec!["a".into()]).unwrap(),
        lifetime: None,
        token_id: TokenId::Absent,
    };
    let refused = keeper.ca.sign_jwt_svid(request.clone()).await;
    assert!(matches!(refused, Err(SignError::TokensDisabled)), "{refused:?}");
    let own = keeper.bundles.own();
    assert_eq!(
        own.jwt_authorities().len(),
        1,
        "what was signed counts to its end"
    );
    assert_eq!(keys().await.unwrap().len(), 3, "what signed nothing is gone");
    keeper.svid().await;

    heart.clock.advance(Duration::from_secs(35 * HOUR));
    keeper.settled().await.unwrap();
    assert!(keeper.bundles.own().jwt_authorities().is_empty());
    assert!(keeper.held(Kind::Jwt).unwrap().is_empty());
    keeper.svid().await;

    let mut again = heart.keeper();
    again.start().await.unwrap();
    again.ca.sign_jwt_svid(request).await.unwrap();
}
