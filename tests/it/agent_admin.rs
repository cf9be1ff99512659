//! What an administrator of a node asks its agent, with SPIRE's tools or with `muster`.

use muster_proto::spire::{
    agent::{
        debug::{GetInfoRequest, debug_client::DebugClient},
        logger::{GetLoggerRequest, ResetLogLevelRequest, SetLogLevelRequest, logger_client::LoggerClient},
    },
    types::LogLevel,
};
use muster_tests::{Cluster, Settings, Workload, unix_channel, until};

#[test]
fn the_agent_tells_its_administrator_what_it_holds() {
    let cluster = Cluster::start(&Settings::default());
    let info = || {
        cluster.block_on(async {
            let mut client = DebugClient::new(unix_channel(cluster.agent_socket()).await);
            client.get_info(GetInfoRequest {}).await.unwrap().into_inner()
        })
    };
    let before = info();
    let node = before.svid_chain[0].id.clone().unwrap();
    assert_eq!(
        format!("spiffe://{}{}", node.trust_domain, node.path),
        cluster.node()
    );
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    assert!(before.svid_chain[0].expires_at > now, "{before:?}");
    assert!(
        (now - 60..=now + 1).contains(&before.last_sync_success),
        "{before:?}"
    );
    assert_eq!(
        (before.cached_x509_svids_count, before.cached_jwt_svids_count),
        (0, 0)
    );

    let entry = cluster.register("/held", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
    Workload::Rust.start(&cluster, &["fetch-x509"]).event("x509");
    Workload::Rust.start(&cluster, &["fetch-jwt", "db"]).event("jwt");
    let after = info();
    assert_eq!(
        (after.cached_x509_svids_count, after.cached_jwt_svids_count),
        (1, 1)
    );
    cluster.unregister(&entry);
    until("what was held under the entry is gone", || {
        let now = info();
        (now.cached_x509_svids_count, now.cached_jwt_svids_count) == (0, 0)
    });
}

#[test]
fn the_agents_log_level_changes_while_it_runs_and_comes_back() {
    let cluster = Cluster::start(&Settings::default());
    cluster.block_on(async {
        let mut client = LoggerClient::new(unix_channel(cluster.agent_socket()).await);
        let at_start = client.get_logger(GetLoggerRequest {}).await.unwrap().into_inner();
        assert_eq!(at_start.current_level(), LogLevel::Info);
        let set = SetLogLevelRequest {
            new_level: LogLevel::Trace.into(),
        };
        let set = client.set_log_level(set).await.unwrap().into_inner();
        assert_eq!(
            (set.current_level(), set.launch_level()),
            (LogLevel::Trace, LogLevel::Info)
        );
    });
    cluster.register("/heard-of", &["unix:uid:4000000"]);
    cluster
        .agent()
        .line("what it did not say before", |line| line.contains(" DEBUG "));
    let shown = cluster.muster_ok(&["log", "level", "--agent"]);
    assert!(shown.contains("trace"), "{shown}");
    cluster.block_on(async {
        let mut client = LoggerClient::new(unix_channel(cluster.agent_socket()).await);
        let reset = client
            .reset_log_level(ResetLogLevelRequest {})
            .await
            .unwrap()
            .into_inner();
        assert_eq!(reset.current_level(), LogLevel::Info);
        let wrong = client
            .set_log_level(SetLogLevelRequest { new_level: 4711 })
            .await
            .unwrap_err();
        assert_eq!(wrong.code(), tonic::Code::InvalidArgument, "{wrong}");
    });
}

#[test]
fn the_agents_admin_socket_offers_nothing_of_the_workload_api_and_the_other_way_round() {
    let cluster = Cluster::start(&Settings::default());
    cluster.block_on(async {
        let mut info = DebugClient::new(unix_channel(cluster.workload_socket()).await);
        let refused = info.get_info(GetInfoRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unimplemented, "{refused}");
    });
    let fetched = cluster.muster(&[
        "fetch",
        "x509",
        "--socket",
        &format!("unix://{}", cluster.agent_socket().display()),
    ]);
    assert!(!fetched.status.success());
}
