use tokio::sync::oneshot;

use super::tests::{Heart, heart};
use super::*;
use crate::ca::authorities::Asked;
use crate::ca::life::{Authority, Command, Refused, Stage};
use crate::ca::{CommandError, Tokens};
use muster_audit::Actor;
use muster_pki::bundle::AuthorityStanding;
use muster_pki::x509::verify_x509_svid;

type Answer = oneshot::Receiver<Result<Authority, CommandError>>;

async fn started() -> (Heart, Keeper) {
    let heart = heart();
    let mut keeper = heart.keeper();
    keeper.start().await.unwrap();
    (heart, keeper)
}

impl Keeper {
    /// As the task does it: the command, and what is due then.
    async fn asked(&mut self, kind: Kind, command: Command) -> Answer {
        let (answer, answered) = oneshot::channel();
        let actor = Actor::local(7, 1);
        self.command(Asked {
            kind,
            command,
            actor,
            answer,
        })
        .await;
        self.settled().await.unwrap();
        answered
    }

    async fn told(&mut self, kind: Kind, command: Command) -> Result<Authority, CommandError> {
        self.asked(kind, command).await.try_recv().unwrap()
    }

    fn standing(&self, kind: Kind, id: &str) -> AuthorityStanding {
        let own = self.bundles.own();
        match kind {
            Kind::X509 => own.x509_standing(&id.parse().unwrap()),
            Kind::Jwt => own.jwt_standing(&id.parse().unwrap()),
        }
    }
}

#[tokio::test]
async fn an_authority_is_taken_through_its_life_by_command() {
    let (heart, mut keeper) = started().await;
    for kind in [Kind::X509, Kind::Jwt] {
        let first = life::active(&keeper.held(kind).unwrap()).unwrap().id.clone();
        let svid = keeper.svid().await;
        let next = keeper.told(kind, Command::Prepare).await.unwrap();
        assert_eq!(next.stage, Stage::Prepared);
        assert!(keeper.ca.signs_with(kind, &first));
        let now = keeper
            .told(kind, Command::Activate(next.id.clone()))
            .await
            .unwrap();
        assert_eq!((&now.id, now.stage), (&next.id, Stage::Active));
        assert!(keeper.ca.signs_with(kind, &next.id));
        let tainted = keeper.told(kind, Command::Taint(first.clone())).await.unwrap();
        assert_eq!(tainted.stage, Stage::Tainted);
        assert_eq!(keeper.standing(kind, &first), AuthorityStanding::Tainted);
        assert_eq!(keeper.standing(kind, &next.id), AuthorityStanding::Trusted);
        // Trusted until it is revoked.
        let bundle = keeper.bundles.own();
        verify_x509_svid(svid.chain(), &*bundle, heart.clock.now()).unwrap();
        keeper.told(kind, Command::Revoke(first.clone())).await.unwrap();
        assert_eq!(keeper.standing(kind, &first), AuthorityStanding::Absent);
        let refused = verify_x509_svid(svid.chain(), &*keeper.bundles.own(), heart.clock.now()).is_err();
        assert_eq!(refused, kind == Kind::X509);
        assert_eq!(keeper.held(kind).unwrap().len(), 1);
    }
    let keys = heart.keys.list().await.unwrap().len();
    assert_eq!(keys, 2, "the keys of revoked authorities are destroyed");
    // What people did is recorded as theirs.
    let recorded = heart.audit.recorded();
    for action in [
        "authority.prepare",
        "authority.activate",
        "authority.taint",
        "authority.revoke",
    ] {
        let by_command = |line: &&String| line.contains(action) && line.contains("\"uid\":7");
        assert_eq!(recorded.iter().filter(by_command).count(), 2, "{action}");
    }
}

#[tokio::test]
async fn a_second_prepared_authority_takes_the_place_of_the_first_and_of_its_key() {
    let (heart, mut keeper) = started().await;
    let first = keeper.told(Kind::X509, Command::Prepare).await.unwrap();
    let keys = heart.keys.list().await.unwrap().len();
    let second = keeper.told(Kind::X509, Command::Prepare).await.unwrap();
    assert_eq!(keeper.standing(Kind::X509, &first.id), AuthorityStanding::Absent);
    assert_eq!(
        keeper.standing(Kind::X509, &second.id),
        AuthorityStanding::Trusted
    );
    assert_eq!(heart.keys.list().await.unwrap().len(), keys);
    let refused = keeper.told(Kind::X509, Command::Activate(first.id)).await;
    assert!(matches!(refused, Err(CommandError::Refused(Refused::Unexpected))));
}

#[tokio::test]
async fn a_commanded_activation_waits_until_the_last_node_holds_the_bundle() {
    let (heart, mut keeper) = started().await;
    let node = heart
        .connections
        .connect("spiffe://example.org/node".parse().unwrap());
    let next = keeper.told(Kind::Jwt, Command::Prepare).await.unwrap();
    let mut answer = keeper.asked(Kind::Jwt, Command::Activate(next.id.clone())).await;
    assert!(answer.try_recv().is_err() && !keeper.ca.signs_with(Kind::Jwt, &next.id));
    node.holds(keeper.bundles.own().sequence().unwrap());
    keeper.settled().await.unwrap();
    assert_eq!(answer.try_recv().unwrap().unwrap().stage, Stage::Active);
    assert!(keeper.ca.signs_with(Kind::Jwt, &next.id));
}

#[tokio::test]
async fn a_node_that_hangs_holds_a_commanded_activation_up_for_ten_seconds() {
    let (heart, mut keeper) = started().await;
    let _hangs = heart
        .connections
        .connect("spiffe://example.org/node".parse().unwrap());
    let next = keeper.told(Kind::X509, Command::Prepare).await.unwrap();
    let mut answer = keeper.asked(Kind::X509, Command::Activate(next.id)).await;
    heart.clock.advance(Duration::from_secs(10));
    keeper.settled().await.unwrap();
    assert!(answer.try_recv().is_err());
    heart.clock.advance(Duration::from_secs(1));
    keeper.settled().await.unwrap();
    assert_eq!(answer.try_recv().unwrap().unwrap().stage, Stage::Active);
}

#[tokio::test]
async fn who_waits_for_an_authority_that_will_never_sign_is_told_so() {
    let (heart, mut keeper) = started().await;
    let _hangs = heart
        .connections
        .connect("spiffe://example.org/node".parse().unwrap());
    let next = keeper.told(Kind::X509, Command::Prepare).await.unwrap();
    let mut answer = keeper.asked(Kind::X509, Command::Activate(next.id)).await;
    keeper.told(Kind::X509, Command::Prepare).await.unwrap();
    let told = answer.try_recv().unwrap();
    assert!(matches!(told, Err(CommandError::Refused(Refused::Unexpected))));

    let next = keeper.told(Kind::Jwt, Command::Prepare).await.unwrap();
    let mut answer = keeper.asked(Kind::Jwt, Command::Activate(next.id.clone())).await;
    let record = keeper.records(Kind::Jwt).unwrap();
    let record = record
        .into_iter()
        .find(|record| record.life.id == next.id)
        .unwrap();
    heart.keys.delete(&record.key).await.unwrap();
    heart.clock.advance(Duration::from_secs(11));
    keeper.settled().await.unwrap();
    assert!(matches!(answer.try_recv().unwrap(), Err(CommandError::KeyGone)));
    assert_eq!(keeper.standing(Kind::Jwt, &next.id), AuthorityStanding::Absent);
}

#[tokio::test]
async fn where_tokens_are_disabled_what_signed_them_can_still_be_revoked() {
    let (heart, _) = started().await;
    let mut keeper = heart.keeper_with(Tokens::Disabled);
    keeper.start().await.unwrap();
    let signed = keeper.held(Kind::Jwt).unwrap().remove(0).id;
    let refused = keeper.told(Kind::Jwt, Command::Prepare).await;
    assert!(matches!(
        refused,
        Err(CommandError::Refused(Refused::Initializing))
    ));
    for (command, then) in [
        (Command::Taint(signed.clone()), AuthorityStanding::Tainted),
        (Command::Revoke(signed.clone()), AuthorityStanding::Absent),
    ] {
        keeper.told(Kind::Jwt, command).await.unwrap();
        assert_eq!(keeper.standing(Kind::Jwt, &signed), then);
    }
    let keys = heart.keys.list().await.unwrap();
    assert_eq!(keys.len(), 1, "the key that signs certificates");
}

#[tokio::test]
async fn a_command_that_cannot_be_recorded_changes_nothing() {
    let (heart, mut keeper) = started().await;
    let next = keeper.told(Kind::X509, Command::Prepare).await.unwrap();
    let first = life::active(&keeper.held(Kind::X509).unwrap())
        .unwrap()
        .id
        .clone();
    keeper.told(Kind::X509, Command::Activate(next.id)).await.unwrap();
    heart.audit.set_memory_full(true);
    let failed = keeper.told(Kind::X509, Command::Taint(first.clone())).await;
    assert!(matches!(failed, Err(CommandError::Failed(_))));
    assert_eq!(keeper.standing(Kind::X509, &first), AuthorityStanding::Trusted);
    heart.audit.set_memory_full(false);
    keeper.told(Kind::X509, Command::Taint(first)).await.unwrap();
}

#[tokio::test]
async fn what_was_commanded_stands_after_a_restart() {
    let (heart, mut before) = started().await;
    let first = life::active(&before.held(Kind::X509).unwrap())
        .unwrap()
        .id
        .clone();
    let next = before.told(Kind::X509, Command::Prepare).await.unwrap();
    before
        .told(Kind::X509, Command::Activate(next.id.clone()))
        .await
        .unwrap();
    before
        .told(Kind::X509, Command::Taint(first.clone()))
        .await
        .unwrap();
    let mut after = heart.keeper();
    after.start().await.unwrap();
    assert!(after.ca.signs_with(Kind::X509, &next.id));
    after
        .told(Kind::X509, Command::Revoke(first.clone()))
        .await
        .unwrap();
    assert_eq!(after.standing(Kind::X509, &first), AuthorityStanding::Absent);
}
