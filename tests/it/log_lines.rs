//! What somebody else wrote stands in a log as a value, never as a line of its own.

use muster_proto::{
    spire::{
        server::{
            agent::{GetAgentRequest, agent_client::AgentClient},
            entry::{BatchCreateEntryRequest, entry_client::EntryClient},
            svid::{MintJwtsvidRequest, svid_client::SvidClient},
        },
        types,
    },
    workload::{JwtsvidRequest, ValidateJwtsvidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient},
};
use muster_tests::{Cluster, Identity, Settings, TRUST_DOMAIN, Workload, join, tcp_channel, unix_channel};
use serde_json::Value;
use tonic::Request;

use crate::audit::records;

const FORGED: &str = "muster-forged";

const JSON: Settings = Settings {
    server: "[log]\nformat = \"json\"\nlevel = \"trace\"\n",
    agent: "[log]\nformat = \"json\"\nlevel = \"trace\"\n",
    before: None,
};
const TEXT: Settings = Settings {
    server: "[log]\nlevel = \"trace\"\n",
    agent: "[log]\nlevel = \"trace\"\n",
    before: None,
};

/// Values that would be lines, colours, ends of strings or floods if they were written as they are.
fn hostile() -> Vec<String> {
    let forged = format!("{{\"level\":\"ERROR\",\"message\":\"{FORGED}\",\"timestamp\":\"2026\"}}");
    let line = format!("2026-11-24T00:00:00.000Z ERROR {FORGED}");
    let mut all: Vec<String> = [
        "\n", "\r", "\r\n", "\u{2028}", "\u{2029}", "\u{85}", "\u{b}", "\u{c}",
    ]
    .iter()
    .flat_map(|end| [format!("a{end}{forged}{end}"), format!("a{end}{line}{end}")])
    .collect();
    all.extend([
        "\u{1b}[31mred\u{1b}[0m".to_owned(),
        "\u{1b}]0;title\u{7}".to_owned(),
        "\u{9b}2J".to_owned(),
        "\u{202e}txet".to_owned(),
        "\0\u{8}\u{7f}".to_owned(),
        format!("\",\"message\":\"{FORGED}\",\"x\":\""),
        format!("\\\",\"message\":\"{FORGED}"),
        "{}%s%n${jndi:x}".to_owned(),
        "x".repeat(60_000),
        "\n".repeat(60_000),
    ]);
    all
}

fn tell_everything(cluster: &Cluster) {
    cluster.register("/caller", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
    Workload::Rust.start(cluster, &["fetch-x509"]).event("x509");
    let member = |path: &str| types::Spiffeid {
        trust_domain: TRUST_DOMAIN.into(),
        path: path.into(),
    };
    cluster.block_on(async {
        let channel = unix_channel(cluster.workload_socket()).await;
        let mut workload = SpiffeWorkloadApiClient::new(channel);
        let admin = cluster.channel().await;
        let stranger = tcp_channel(cluster, None).await;
        for value in hostile() {
            let asked = |message| {
                let mut request = Request::new(message);
                request
                    .metadata_mut()
                    .insert("workload.spiffe.io", "true".parse().unwrap());
                request
            };
            for (audience, id) in [(value.as_str(), ""), ("db", value.as_str())] {
                let request = JwtsvidRequest {
                    audience: vec![audience.into()],
                    spiffe_id: id.into(),
                };
                let _ = workload.fetch_jwtsvid(asked(request)).await;
            }
            for (audience, svid) in [(value.as_str(), "a.b.c"), ("db", value.as_str())] {
                let mut request = Request::new(ValidateJwtsvidRequest {
                    audience: audience.into(),
                    svid: svid.into(),
                });
                request
                    .metadata_mut()
                    .insert("workload.spiffe.io", "true".parse().unwrap());
                let _ = workload.validate_jwtsvid(request).await;
            }
            assert!(join(stranger.clone(), &value, &*Identity::key()).await.is_err());
            let mut entry = cluster.entry("/hostile", &["unix:uid:1"]);
            entry.hint.clone_from(&value);
            let mut by_selector = cluster.entry("/hostile", &["unix:uid:1"]);
            by_selector.selectors[0].value.clone_from(&value);
            let mut by_path = cluster.entry("/hostile", &["unix:uid:1"]);
            by_path.spiffe_id = Some(member(&format!("/{value}")));
            let request = BatchCreateEntryRequest {
                entries: vec![entry, by_selector, by_path],
                output_mask: None,
            };
            let _ = EntryClient::new(admin.clone()).batch_create_entry(request).await;
            let request = MintJwtsvidRequest {
                id: Some(member("/minted")),
                audience: vec![value.clone()],
                ttl: 60,
            };
            let _ = SvidClient::new(admin.clone()).mint_jwtsvid(request).await;
            let request = GetAgentRequest {
                id: Some(member(&value)),
                output_mask: None,
            };
            let _ = AgentClient::new(admin.clone()).get_agent(request).await;
        }
    });
}

/// The lines of a log, of which none may hold what a terminal or a reader of lines would act upon.
fn lines(said: &str) -> impl Iterator<Item = &str> {
    said.lines().inspect(|line| {
        let acts = |character: char| {
            character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}')
        };
        assert!(!line.chars().any(acts), "{line:?}");
        assert!(
            line.len() < 16_384,
            "a line of {} bytes: {:.200}",
            line.len(),
            line
        );
    })
}

#[test]
fn no_value_makes_a_line_of_its_own_in_a_json_log() {
    let mut cluster = Cluster::start(&JSON);
    tell_everything(&cluster);
    let mut count = 0;
    for said in [cluster.server().said(), cluster.agent().said()] {
        for line in lines(&said) {
            let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            let level = event["level"]
                .as_str()
                .unwrap_or_else(|| panic!("no level: {line}"));
            assert!(
                ["error", "warn", "info", "debug", "trace"].contains(&level),
                "{line}"
            );
            assert_ne!(event["message"], FORGED, "{line}");
            count += 1;
        }
    }
    println!(
        "figure: {count} log lines after {} hostile values, each one event",
        hostile().len()
    );
    assert!(cluster.take_agent().stop().success());
    assert!(cluster.take_server().stop().success());
    for log in ["server/data/audit", "agent/data/audit"] {
        for record in records(&cluster.path().join(log)) {
            assert!(record["action"].is_string(), "{record}");
            assert_ne!(record["message"], FORGED, "{record}");
        }
    }
}

#[test]
fn no_value_makes_a_line_of_its_own_in_a_log_for_people() {
    let cluster = Cluster::start(&TEXT);
    tell_everything(&cluster);
    for said in [cluster.server().said(), cluster.agent().said()] {
        for line in lines(&said) {
            let (time, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
            assert!(time.starts_with("20") && time.ends_with('Z'), "{line}");
            assert!(
                !rest.trim_start().starts_with(&format!("ERROR {FORGED}")),
                "{line}"
            );
        }
    }
}
