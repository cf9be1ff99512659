use std::os::unix::fs::MetadataExt;

use hyper_util::rt::TokioIo;
use muster_proto::spire::server::entry::BatchCreateEntryRequest;
use muster_proto::spire::server::entry::entry_client::EntryClient;
use muster_proto::spire::server::localauthority::local_authority_client::LocalAuthorityClient;
use muster_proto::spire::server::localauthority::{
    GetJwtAuthorityStateRequest, GetX509AuthorityStateRequest, PrepareJwtAuthorityRequest,
};
use muster_proto::spire::server::svid::MintJwtsvidRequest;
use muster_proto::spire::server::svid::svid_client::SvidClient;
use muster_proto::spire::types::{Entry, Selector, Spiffeid};
use muster_runtime::logging::Level;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::*;
use crate::ca::Tokens;
use crate::state::StateError;

fn config(dir: &Path) -> Config {
    let mut config = Config::new("example.org".parse().unwrap(), dir.join("data"));
    config.listen = SocketAddr::from(([127, 0, 0, 1], 0));
    config.admin_socket = dir.join("admin.sock");
    config
}

async fn server(dir: &Path) -> Result<Bound, BuildError> {
    build(config(dir), Surroundings::new(LogLevel::detached(Level::Info))).await
}

/// The next server on the folder: the lock goes with the last thread of the one before, a moment after it has ended.
async fn next_server(dir: &Path) -> Bound {
    for _ in 0..100_000 {
        match server(dir).await {
            Ok(server) => return server,
            Err(BuildError::State(StateError::Store(_))) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the lock is still held")
}

async fn admin(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    let connect = service_fn(move |_| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connect)
        .await
        .unwrap()
}

fn mint(path: &str) -> MintJwtsvidRequest {
    let id = Spiffeid {
        trust_domain: "example.org".into(),
        path: path.into(),
    };
    MintJwtsvidRequest {
        id: Some(id),
        audience: vec!["a".into()],
        ttl: 0,
    }
}

#[tokio::test]
async fn a_second_server_on_the_folder_is_refused_and_the_next_one_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (first, stop) = (server(folder.path()).await.unwrap(), Stop::new());
    let bundle = first.bundle();
    let trial = async {
        let error = server(folder.path()).await.err().unwrap();
        assert!(
            matches!(error, BuildError::State(StateError::Store(_))),
            "{error}"
        );
        // The first one was not disturbed.
        SvidClient::new(admin(&folder.path().join("admin.sock")).await)
            .mint_jwtsvid(mint("/web"))
            .await
            .unwrap();
        stop.order();
    };
    let (ended, ()) = tokio::join!(first.run(stop.clone()), trial);
    ended.unwrap();
    let second = next_server(folder.path()).await;
    assert_eq!(second.bundle(), bundle);
}

#[tokio::test]
async fn the_admin_socket_is_closed_to_others_and_what_is_done_there_is_recorded_with_its_uid() {
    let folder = tempfile::tempdir().unwrap();
    let (server, stop) = (server(folder.path()).await.unwrap(), Stop::new());
    let socket = server.admin_socket().to_owned();
    assert_eq!(socket.metadata().unwrap().mode() & 0o777, 0o770);
    let reference = async {
        let mut client = SvidClient::new(admin(&socket).await);
        client.mint_jwtsvid(mint("/web")).await.unwrap();
        let refused = client.mint_jwtsvid(mint("/spire/agent/x")).await.unwrap_err();
        stop.order();
        let (_, reference) = refused.message().split_once("(reference ").unwrap();
        reference.trim_end_matches(')').to_owned()
    };
    let (ended, reference) = tokio::join!(server.run(stop.clone()), reference);
    ended.unwrap();
    let scan = muster_journal::scan(&folder.path().join("data/audit"), 1).unwrap();
    let records: Vec<u8> = scan.records.flat_map(|record| record.unwrap().payload).collect();
    let records = String::from_utf8_lossy(&records);
    let uid = nix::unistd::geteuid();
    assert!(
        records.contains("jwt_svid.mint") && records.contains(&format!("\"uid\":{uid}")),
        "{records}"
    );
    assert!(
        records.contains(&reference),
        "the refusal is found under {reference}"
    );
}

#[tokio::test]
async fn a_reload_takes_over_limits_and_level_and_names_what_waits_for_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path()).await.unwrap();
    let file = folder.path().join("server.toml");
    let running = server.supervised(file.clone());
    let write = |rest: &str| {
        let dir = folder.path().display();
        let text = format!(
            "trust_domain = 'example.org'\ndata_dir = '{dir}/data'\nlisten = '127.0.0.1:0'\nadmin_socket = '{dir}/admin.sock'\n{rest}"
        );
        std::fs::write(&file, text).unwrap();
    };
    write("");
    assert_eq!(running.reload().unwrap().to_string(), "nothing to take over");
    write("[log]\nlevel = 'debug'\n[limits]\nattestation = false\n[ca]\nlifetime = '12h'");
    assert_eq!(
        running.reload().unwrap().to_string(),
        "took over log.level, limits; a restart is needed for ca"
    );
    assert_eq!(server.context.log_level.current(), Level::Debug);
    // A mistake anywhere leaves everything as it was.
    write("[log]\nlevel = 'loud'");
    assert!(running.reload().unwrap_err().contains("log.level"));
    assert_eq!(server.context.log_level.current(), Level::Debug);
    // The writer lives, so there is a sign of life.
    running.pulse().await;
}

/// A caller that hangs up between the change and its record: whichever instant it finds, there is no change without its record (I9).
#[tokio::test]
async fn a_caller_that_hangs_up_leaves_no_change_without_its_record() {
    let folder = tempfile::tempdir().unwrap();
    let (server, stop) = (server(folder.path()).await.unwrap(), Stop::new());
    let socket = server.admin_socket().to_owned();
    let (registry, dir) = (server.context.registry.clone(), folder.path().join("data/audit"));
    let hang_up = async {
        for instant in 0..200 {
            let mut client = EntryClient::new(admin(&socket).await);
            tokio::select! {
                biased;
                _ = client.batch_create_entry(new_entry(instant)) => {}
                () = turns(instant) => {}
            }
        }
        // One that is answered stands behind all of them.
        let mut client = EntryClient::new(admin(&socket).await);
        client.batch_create_entry(new_entry(200)).await.unwrap();
        stop.order();
    };
    let (ended, ()) = tokio::join!(server.run(stop.clone()), hang_up);
    ended.unwrap();
    let made: Vec<String> = registry
        .view()
        .entries()
        .map(|entry| entry.entry.id.to_string())
        .collect();
    assert!(!made.is_empty());
    let scan = muster_journal::scan(&dir, 1).unwrap();
    let records: Vec<u8> = scan.records.flat_map(|record| record.unwrap().payload).collect();
    let records = String::from_utf8_lossy(&records);
    let created: Vec<&str> = records
        .lines()
        .filter(|line| line.contains("entry.create"))
        .collect();
    for id in made {
        assert!(
            created.iter().any(|line| line.contains(&id)),
            "{id} was made without a record"
        );
    }
}

/// So many times round the runtime.
async fn turns(count: u32) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

fn new_entry(number: u32) -> BatchCreateEntryRequest {
    let id = |path: String| {
        Some(Spiffeid {
            trust_domain: "example.org".into(),
            path,
        })
    };
    let entry = Entry {
        id: format!("hung-up-{number}-"),
        spiffe_id: id(format!("/web/{number}")),
        parent_id: id("/node".into()),
        selectors: vec![Selector {
            r#type: "unix".into(),
            value: "uid:1".into(),
        }],
        ..Entry::default()
    };
    BatchCreateEntryRequest {
        entries: vec![entry],
        output_mask: None,
    }
}

/// Dashboards and alarms are written against these names; where the thing is SPIRE's, so is the name behind the prefix.
#[tokio::test]
async fn the_metrics_have_the_names_that_they_had() {
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path()).await.unwrap();
    // A call, so that calls are shown.
    let (path, answer) = (
        "/spire.api.server.entry.v1.Entry/ListEntries",
        http::Response::new(()),
    );
    server.context.meter.count(path, &answer, Duration::ZERO);
    let text = server.metrics.encode().unwrap();
    let names: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE muster_server_"))
        .collect();
    assert_eq!(
        names,
        [
            "ca_manager_x509_ca_prepare counter",
            "ca_manager_x509_ca_activate counter",
            "ca_manager_x509_ca_taint counter",
            "ca_manager_x509_ca_revoke counter",
            "ca_manager_x509_ca_prune counter",
            "ca_manager_jwt_key_prepare counter",
            "manager_jwt_key_activate counter",
            "ca_manager_jwt_key_taint counter",
            "ca_manager_jwt_key_revoke counter",
            "ca_manager_jwt_key_prune counter",
            "ca_manager_failed counter",
            "manager_x509_ca_rotate_expiration gauge",
            "rpc counter",
            "rpc_elapsed_time_seconds histogram",
            "started gauge",
            "entries gauge",
            "nodes gauge",
            "nodes_connected gauge",
            "bundle_sequence gauge",
            "certificate_expiry_seconds gauge",
            "uptime_in_ms gauge",
            "federation_bundle_confirmed_seconds gauge",
            "federation_refresh_failures gauge",
        ]
    );
    assert!(text.contains(r#"trust_domain_id="example.org"} 1"#), "{text}");
}

#[tokio::test]
async fn a_server_that_is_built_and_dropped_leaves_the_folder_to_the_next() {
    let folder = tempfile::tempdir().unwrap();
    drop(server(folder.path()).await.unwrap());
    next_server(folder.path()).await;
}

#[tokio::test]
async fn where_tokens_are_disabled_whoever_asks_for_one_is_told_so_as_by_spire() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    config.ca.tokens = Tokens::Disabled;
    let server = build(config, Surroundings::new(LogLevel::detached(Level::Info)))
        .await
        .unwrap();
    assert!(server.bundle().jwt_authorities().is_empty());
    let (socket, stop) = (server.admin_socket().to_owned(), Stop::new());
    let asking = async {
        let channel = admin(&socket).await;
        let mut authorities = LocalAuthorityClient::new(channel.clone());
        let answers = [
            SvidClient::new(channel)
                .mint_jwtsvid(mint("/web"))
                .await
                .map(drop),
            authorities
                .get_jwt_authority_state(GetJwtAuthorityStateRequest {})
                .await
                .map(drop),
            authorities
                .prepare_jwt_authority(PrepareJwtAuthorityRequest {})
                .await
                .map(drop),
        ];
        let signs = authorities
            .get_x509_authority_state(GetX509AuthorityStateRequest {})
            .await;
        assert!(signs.unwrap().into_inner().active.is_some());
        stop.order();
        answers
    };
    let (ended, answers) = tokio::join!(server.run(stop.clone()), asking);
    ended.unwrap();
    for answer in answers {
        let refused = answer.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented);
        assert!(
            refused.message().starts_with("JWT functionality is disabled"),
            "{refused}"
        );
    }
}
