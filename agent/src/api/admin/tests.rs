use std::time::Duration;

use muster_identity::UnixTime;
use muster_proto::spire::agent::debug::GetInfoRequest;
use muster_proto::spire::agent::debug::debug_server::Debug as _;
use muster_proto::spire::agent::logger::logger_server::Logger as _;
use muster_proto::spire::agent::logger::{GetLoggerRequest, ResetLogLevelRequest, SetLogLevelRequest};
use muster_proto::spire::types::LogLevel as Wire;
use muster_runtime::logging::{Level, LogLevel};
use tonic::{Code, Request};

use super::*;

struct Fixed;

impl NodeInfo for Fixed {
    fn state(&self) -> NodeState {
        NodeState {
            chain: vec![ChainLink {
                id: Some("spiffe://example.org/spire/agent/a".parse().unwrap()),
                expires: UnixTime::from_secs(7),
                subject: "O=SPIRE,C=US".to_owned(),
            }],
            uptime: Duration::from_secs(3),
            last_sync: None,
            x509_svids: 2,
            jwt_svids: 1,
        }
    }
}

#[tokio::test]
async fn the_state_of_the_node_is_told() {
    let info = Debug::new(Fixed)
        .get_info(Request::new(GetInfoRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            info.uptime,
            info.cached_x509_svids_count,
            info.cached_jwt_svids_count
        ),
        (3, 2, 1)
    );
    let id = info.svid_chain[0].id.clone().unwrap();
    assert_eq!(
        (id.trust_domain.as_str(), id.path.as_str()),
        ("example.org", "/spire/agent/a")
    );
}

#[tokio::test]
async fn the_log_level_is_read_set_and_reset() {
    let level = LogLevel::detached(Level::Info);
    let logger = Logger::new(level.clone());
    let set = |level: Wire| {
        Request::new(SetLogLevelRequest {
            new_level: level.into(),
        })
    };
    let answer = logger.set_log_level(set(Wire::Debug)).await.unwrap().into_inner();
    assert_eq!(
        (answer.current_level(), answer.launch_level()),
        (Wire::Debug, Wire::Info)
    );
    assert_eq!(level.current(), Level::Debug);
    let refused = logger.set_log_level(set(Wire::Unspecified)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    logger
        .reset_log_level(Request::new(ResetLogLevelRequest {}))
        .await
        .unwrap();
    let answer = logger
        .get_logger(Request::new(GetLoggerRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.current_level(), Wire::Info);
}
