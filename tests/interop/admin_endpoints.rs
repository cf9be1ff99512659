//! What an administrator may, and who else may not, on our server's door for nodes, with SVIDs that SPIRE's agent hands out.

use std::sync::Arc;

use muster_pki::{LocalKey, x509::X509Svid};
use muster_proto::{
    spire::server::{
        agent::{CountAgentsRequest, CreateJoinTokenRequest, agent_client::AgentClient},
        bundle::{CountBundlesRequest, bundle_client::BundleClient},
        debug::{GetInfoRequest, debug_client::DebugClient},
        entry::{CountEntriesRequest, entry_client::EntryClient},
        logger::{GetLoggerRequest, logger_client::LoggerClient},
        svid::{MintJwtsvidRequest, svid_client::SvidClient},
    },
    workload::{X509svidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient},
};
use muster_tests::{Home, Identity, Settings, spire_is_here, unix_channel};
use tonic::{Code, Request, Status};

use crate::spire_agent::Joined;

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
        let caller = fetch(&joined).await;
        (codes(&home, Some(&caller)).await, codes(&home, None).await)
    });
    assert_eq!(caller, [Code::PermissionDenied; 7]);
    assert_eq!(nobody, [Code::PermissionDenied; 7]);

    let uid = crate::spire_agent::uid_selector();
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
        let admin = fetch(&joined).await;
        codes(&home, Some(&admin)).await
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

/// The SVID that the workload has now, with its key.
async fn fetch(joined: &Joined) -> Identity {
    let channel = unix_channel(joined.agent.workload_socket()).await;
    let mut request = Request::new(X509svidRequest {});
    let header = request.metadata_mut();
    header.insert("workload.spiffe.io", "true".parse().unwrap());
    let mut stream = SpiffeWorkloadApiClient::new(channel)
        .fetch_x509svid(request)
        .await
        .unwrap()
        .into_inner();
    let svid = stream.message().await.unwrap().unwrap().svids.remove(0);
    Identity {
        svid: X509Svid::from_der_concat(&svid.x509_svid).unwrap(),
        key: Arc::new(LocalKey::from_pkcs8(&svid.x509_svid_key).unwrap()),
    }
}

/// What the methods answer: five of administrators, two of local ones.
async fn codes(home: &Home, identity: Option<&Identity>) -> [Code; 7] {
    let channel = home.tcp(identity).await;
    let mut agents = AgentClient::new(channel.clone());
    let token = CreateJoinTokenRequest {
        ttl: 60,
        ..Default::default()
    };
    let minted = MintJwtsvidRequest {
        id: Some(
            (&"spiffe://example.org/minted"
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

fn code<T>(result: Result<T, Status>) -> Code {
    result.err().map_or(Code::Ok, |status| status.code())
}
