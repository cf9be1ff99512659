//! What an administrator may, and who else may not, on our server's door for nodes, with SVIDs that SPIRE's agent hands out.

use muster_proto::spire::server::{
    agent::{CountAgentsRequest, CreateJoinTokenRequest, agent_client::AgentClient},
    bundle::{CountBundlesRequest, bundle_client::BundleClient},
    debug::{GetInfoRequest, debug_client::DebugClient},
    entry::{CountEntriesRequest, entry_client::EntryClient},
    logger::{GetLoggerRequest, logger_client::LoggerClient},
    svid::{MintJwtsvidRequest, svid_client::SvidClient},
};
use muster_tests::{
    Cluster, Home, Identity, Settings, SpireAgent, SpireServer, SpireSettings, TRUST_DOMAIN, spire_is_here,
    until,
};
use tonic::{Code, Status};

use crate::spire_agent::{Joined, ids, uid_selector};

#[test]
fn an_admin_entry_opens_the_admin_methods_and_no_other_entry_does() {
    if !spire_is_here() {
        return;
    }
    let joined = Joined::start(&Settings::default());
    let home = joined.home();
    let entry = joined.register("/caller", &[]);
    joined.until_ids("the identity", &["/caller"]);
    let (caller, nobody) = joined.cluster.block_on(async {
        let caller = Identity::fetched(joined.agent.workload_socket()).await;
        let domain = TRUST_DOMAIN;
        (
            codes(&home, domain, Some(&caller)).await,
            codes(&home, domain, None).await,
        )
    });
    assert_eq!(caller, [Code::PermissionDenied; 7]);
    assert_eq!(nobody, [Code::PermissionDenied; 7]);

    let uid = uid_selector();
    home.tool().ok(&[
        "entry",
        "update",
        "-entryID",
        &entry,
        "-parentID",
        &joined.node,
        "-spiffeID",
        "spiffe://example.org/caller",
        "-selector",
        &uid,
        "-admin",
    ]);
    let admin = joined.cluster.block_on(async {
        let admin = Identity::fetched(joined.agent.workload_socket()).await;
        codes(&home, TRUST_DOMAIN, Some(&admin)).await
    });
    // The last two are for the admin socket alone.
    let denied = Code::PermissionDenied;
    assert_eq!(
        admin,
        [Code::Ok, Code::Ok, Code::Ok, Code::Ok, Code::Ok, denied, denied]
    );
    assert!(
        home.tool()
            .ok(&["debug", "getinfo"])
            .contains("Registered Agents:       1")
    );
}

/// Administrators by the configuration, of SPIRE's trust domain.
const FOREIGN: Settings = Settings {
    server: "admin_ids = [\"spiffe://example.org/operator\"]\n",
    agent: "",
    before: None,
};

#[test]
fn an_administrator_of_another_trust_domain_is_one_while_its_bundle_is_held() {
    if !spire_is_here() {
        return;
    }
    let ours = Cluster::start_server_of("muster.test", &FOREIGN);
    let theirs = SpireServer::start(&SpireSettings::default());
    let mut agent = SpireAgent::install(theirs.path(), "agent", &theirs.home());
    let node = agent.join(&theirs.home(), None);
    let fetched = |path: &str| {
        let (uid, id) = (uid_selector(), format!("spiffe://example.org{path}"));
        let said = theirs.tool().run(&[
            "entry",
            "create",
            "-parentID",
            &node,
            "-spiffeID",
            &id,
            "-selector",
            &uid,
        ]);
        let entry = said
            .field("Entry ID")
            .unwrap_or_else(|| panic!("{said:?}"))
            .to_owned();
        until("the identity", || ids(&agent).into_iter().eq([id.clone()]));
        let identity = ours.block_on(Identity::fetched(agent.workload_socket()));
        theirs.tool().ok(&["entry", "delete", "-entryID", &entry]);
        until("its end", || ids(&agent).is_empty());
        identity
    };
    let (operator, other) = (fetched("/operator"), fetched("/other"));
    let home = ours.home();
    let bundle = theirs.tool().ok(&["bundle", "show", "-format", "spiffe"]);
    let set = home.tool().run_with(
        &[
            "bundle",
            "set",
            "-id",
            "spiffe://example.org",
            "-format",
            "spiffe",
        ],
        &bundle,
    );
    assert_eq!(set.status, Some(0), "{set:?}");
    let denied = Code::PermissionDenied;
    let of = |identity: &Identity| ours.block_on(codes(&home, ours.trust_domain(), Some(identity)));
    let open = [Code::Ok, Code::Ok, Code::Ok, Code::Ok, Code::Ok, denied, denied];
    assert_eq!(of(&operator), open);
    assert_eq!(of(&other), [denied; 7]);
    home.tool()
        .ok(&["bundle", "delete", "-id", "spiffe://example.org"]);
    // Nobody knows any more who that is: not even the handshake is finished.
    let of_nobody = of(&operator);
    assert!(of_nobody.iter().all(|code| *code != Code::Ok), "{of_nobody:?}");
}

/// What the methods answer: five of administrators, two of local ones.
async fn codes(home: &Home, trust_domain: &str, identity: Option<&Identity>) -> [Code; 7] {
    let channel = home.tcp(identity).await;
    let mut agents = AgentClient::new(channel.clone());
    let token = CreateJoinTokenRequest {
        ttl: 60,
        ..Default::default()
    };
    let minted = MintJwtsvidRequest {
        id: Some(
            (&format!("spiffe://{trust_domain}/minted")
                .parse::<muster_identity::SpiffeId>()
                .unwrap())
                .into(),
        ),
        audience: vec!["db".into()],
        ttl: 60,
    };
    [
        code(agents.count_agents(CountAgentsRequest::default()).await),
        code(agents.create_join_token(token).await),
        code(
            BundleClient::new(channel.clone())
                .count_bundles(CountBundlesRequest {})
                .await,
        ),
        code(
            EntryClient::new(channel.clone())
                .count_entries(CountEntriesRequest::default())
                .await,
        ),
        code(SvidClient::new(channel.clone()).mint_jwtsvid(minted).await),
        code(
            DebugClient::new(channel.clone())
                .get_info(GetInfoRequest {})
                .await,
        ),
        code(LoggerClient::new(channel).get_logger(GetLoggerRequest {}).await),
    ]
}

/// The code of an answer.
pub(crate) fn code<T>(result: Result<T, Status>) -> Code {
    result.err().map_or(Code::Ok, |status| status.code())
}
