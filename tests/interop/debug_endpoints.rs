//! What daemons tell of themselves, and at which doors: an agent of each kind on a server of the other.

use std::path::{Path, PathBuf};

use muster_proto::spire::{
    agent::debug::{
        GetInfoRequest as AboutAgent, GetInfoResponse as Agent, debug_client::DebugClient as OfAgent,
    },
    server::debug::{
        GetInfoRequest as AboutServer, GetInfoResponse as Server, debug_client::DebugClient as OfServer,
    },
    types,
};
use muster_tests::{Home, Identity, Settings, SpireSettings, spire_is_here, unix_channel, until};
use tokio::runtime::Runtime;
use tonic::{Request, Status};

use crate::{our_agent, spire_agent};

/// An agent on its server, whichever is whose.
struct Pair {
    home: Home,
    node: String,
    admin: PathBuf,
    workload: PathBuf,
}

#[test]
fn our_server_and_spires_agent_tell_of_themselves_at_their_admin_sockets_alone() {
    if !spire_is_here() {
        return;
    }
    let joined = spire_agent::Joined::start(&Settings::default());
    joined.register("/workload", &[]);
    joined.until_ids("the identity", &["/workload"]);
    let pair = Pair {
        home: joined.home(),
        node: joined.node.clone(),
        admin: joined.agent.admin_socket(),
        workload: joined.agent.workload_socket(),
    };
    let administrator = joined.cluster.block_on(Identity::minted(
        &joined.cluster,
        "spiffe://example.org/admin",
        600,
    ));
    let mut entry = joined.cluster.entry("/admin", &["unix:uid:4000000"]);
    entry.parent_id = Some(types::Spiffeid {
        trust_domain: "example.org".into(),
        path: "/nobody".into(),
    });
    entry.admin = true;
    joined.cluster.register_entry(entry);
    tells(&pair, Some(&administrator), 2);
}

#[test]
fn spires_server_and_our_agent_tell_of_themselves_at_their_admin_sockets_alone() {
    if !spire_is_here() {
        return;
    }
    let joined = our_agent::Joined::start(&SpireSettings::default(), "");
    joined.register("/workload", &[]);
    let watching = joined
        .agent
        .watching("the identity", |paths| paths == ["/workload"]);
    watching.event("x509");
    let pair = Pair {
        home: joined.server.home(),
        node: joined.agent.node.clone(),
        admin: joined.agent.admin_socket(),
        workload: joined.agent.workload_socket(),
    };
    tells(&pair, None, 1);
}

/// What both kinds must tell, with `entries` on the server.
fn tells(pair: &Pair, administrator: Option<&Identity>, entries: i32) {
    let runtime = Runtime::new().unwrap();
    let server = runtime.block_on(server(pair));
    assert_eq!(
        (
            server.agents_count,
            server.entries_count,
            server.federated_bundles_count
        ),
        (1, entries, 1),
        "{server:?}"
    );
    let own = server.svid_chain[0].id.clone().unwrap_or_default();
    assert_eq!(own.path, "/spire/server", "{server:?}");
    let told = runtime.block_on(agent(&pair.admin)).unwrap();
    let node = told.svid_chain[0].id.clone().unwrap_or_default();
    assert_eq!(format!("spiffe://{}{}", node.trust_domain, node.path), pair.node);
    assert_eq!(told.cached_x509_svids_count, 1, "{told:?}");
    // Each looks at its server again and again.
    until("a later look at the server", || {
        let later = runtime.block_on(agent(&pair.admin)).unwrap();
        later.last_sync_success > told.last_sync_success && later.uptime > told.uptime
    });

    let at_the_wrong_door = runtime.block_on(agent(&pair.workload));
    assert!(at_the_wrong_door.is_err(), "{at_the_wrong_door:?}");
    for caller in [None, administrator] {
        let refused = runtime.block_on(async {
            let mut client = OfServer::new(pair.home.tcp(caller).await);
            client.get_info(AboutServer {}).await
        });
        assert!(refused.is_err(), "{refused:?}");
    }
}

async fn server(pair: &Pair) -> Server {
    let mut client = OfServer::new(pair.home.channel().await);
    client.get_info(AboutServer {}).await.unwrap().into_inner()
}

/// What is told at a socket, to one who knows the header that the Workload API asks for.
async fn agent(socket: &Path) -> Result<Agent, Status> {
    let mut request = Request::new(AboutAgent {});
    let header = request.metadata_mut();
    header.insert("workload.spiffe.io", "true".parse().unwrap());
    let mut client = OfAgent::new(unix_channel(socket.to_path_buf()).await);
    client.get_info(request).await.map(tonic::Response::into_inner)
}
