//! From a TOML table to [`Config`], with the defaults and the checks that need more than one value.

use std::path::{Path, PathBuf};
use std::time::Duration;

use muster_pki::KeyAlgorithm;
use muster_runtime::config::{FileMode, Table, host_and_port};
use muster_runtime::logging::{Format, Level};
use muster_transport::UdsLimits;
use muster_workload_attestors::{HashSettings, UnixSettings};

use super::{Config, DATA_DIR, JoinConfig, TokenSource, node_attestor};
use crate::api::workload::WorkloadSettings;
use crate::attest::Pin;

/// In a folder of its own: the only one to mount into containers.
pub(super) const WORKLOAD_SOCKET: &str = "/run/muster/workload/api.sock";
pub(super) const WORKLOAD_SOCKET_MODE: u32 = 0o777;
pub(super) const ADMIN_SOCKET: &str = "/run/muster/agent/admin.sock";
/// Its group administrates.
pub(super) const ADMIN_SOCKET_MODE: u32 = 0o770;
pub(super) const DRAIN: Duration = Duration::from_secs(8);

pub(super) fn read(table: &mut Table) -> Option<Config> {
    let data_dir = table.or("data_dir", PathBuf::from(DATA_DIR));
    let server: Option<String> = table.optional("server");
    if let Some(server) = server.as_ref().filter(|server| host_and_port(server).is_none()) {
        table.refuse(
            "server",
            server,
            "a host and a port, such as \"server.example.org:8081\"",
        );
    }
    let trust_domain = table.optional("trust_domain");
    let workload_socket = table.or("workload_socket", PathBuf::from(WORKLOAD_SOCKET));
    let FileMode(workload_socket_mode) = table.or("workload_socket_mode", FileMode(WORKLOAD_SOCKET_MODE));
    let admin_socket = table.or("admin_socket", PathBuf::from(ADMIN_SOCKET));
    let FileMode(admin_socket_mode) = table.or_checked(
        "admin_socket_mode",
        FileMode(ADMIN_SOCKET_MODE),
        "permission bits that let others do nothing, such as \"0770\"",
        |FileMode(mode)| mode & 0o007 == 0,
    );
    if lies_below(&admin_socket, &workload_socket) {
        let expected = "a path outside the folder of workload_socket: that folder is shown to containers";
        table.refuse("admin_socket", &admin_socket.display(), expected);
    }
    let drain = table.or("drain", DRAIN);
    let attestor = table.optional_table("node_attestor");
    let proved = attestor.is_some();
    let node_attestor = attestor.and_then(|mut table| node_attestor::read(&mut table));
    let join = table
        .optional_table("join")
        .map(|mut join| self::join(&mut join, proved));
    let mut svids = table.table("svids");
    let keys = KeyAlgorithm::ALL.map(|algorithm| (algorithm.name(), algorithm));
    let key = svids.choice("key", KeyAlgorithm::EcP256, &keys);
    let prefetch = svids.or_checked("prefetch", crate::cache::PREFETCH, "a number up to 100000", |n| {
        *n <= 100_000
    });
    drop(svids);
    let (limits, workload) = callers(&mut table.table("workload"));
    let unix = unix(&mut table.table("attest"));
    let http = table
        .optional_table("http")
        .and_then(|mut http| http.required("listen"));
    let mut log = table.table("log");
    let (log_level, log_format) = (log.or("level", Level::Info), log.or("format", Format::Text));
    drop(log);
    Some(Config {
        data_dir,
        server,
        trust_domain,
        workload_socket,
        workload_socket_mode,
        admin_socket,
        admin_socket_mode,
        join: join.flatten(),
        node_attestor,
        limits,
        workload,
        key,
        prefetch,
        unix,
        http,
        log_level,
        log_format,
        drain,
    })
}

/// `proved`: whether a `[node_attestor]` stands in place of a token.
fn join(table: &mut Table, proved: bool) -> Option<JoinConfig> {
    let token: Option<PathBuf> = if proved {
        let token: Option<PathBuf> = table.optional("token_file");
        if let Some(token) = &token {
            table.refuse(
                "token_file",
                &token.display(),
                "no token beside [node_attestor]: that proves this node",
            );
        }
        None
    } else {
        table.required("token_file")
    };
    let file: Option<PathBuf> = table.optional("bundle_file");
    let fingerprint: Option<String> = table.optional("bundle_sha256");
    let pin = match (file, fingerprint) {
        (Some(file), None) => Some(Pin::File(file)),
        (None, Some(text)) => {
            let pin = text.parse().ok();
            if pin.is_none() {
                table.refuse(
                    "bundle_sha256",
                    &text,
                    "64 hexadecimal digits, with or without colons",
                );
            }
            pin
        }
        (Some(_), Some(_)) => {
            table.refuse("bundle_file", &"both", "either bundle_file or bundle_sha256");
            None
        }
        (None, None) => {
            // Without a pin the node would be whoever's answers first (T-38).
            table.refuse(
                "bundle_file",
                &"nothing",
                "bundle_file or bundle_sha256, to recognise the server by",
            );
            None
        }
    };
    if token.is_none() && !proved {
        return None;
    }
    Some(JoinConfig {
        token: token.map(TokenSource::File),
        pin: pin?,
    })
}

fn callers(table: &mut Table) -> (UdsLimits, WorkloadSettings) {
    let (limits, calls) = (UdsLimits::default(), WorkloadSettings::default());
    let positive = "a number from 1 to 1000000";
    let one_up = |n: &usize| (1..=1_000_000).contains(n);
    let limits = UdsLimits {
        per_caller: table.or_checked("connections_per_caller", limits.per_caller, positive, one_up),
        per_user: table.or_checked("connections_per_user", limits.per_user, positive, one_up),
        total: table.or_checked("connections", limits.total, positive, one_up),
        ..limits
    };
    let one_up = |n: &u32| (1..=1_000_000).contains(n);
    let workload = WorkloadSettings {
        allow_unauthenticated_verifiers: table.or(
            "allow_unauthenticated_verifiers",
            calls.allow_unauthenticated_verifiers,
        ),
        allowed_foreign_jwt_claims: table.list("allowed_foreign_jwt_claims").into_iter().collect(),
        calls_per_second: table.or_checked("calls_per_second", calls.calls_per_second, positive, one_up),
        validations_per_second: table.or_checked(
            "validations_per_second",
            calls.validations_per_second,
            positive,
            one_up,
        ),
    };
    (limits, workload)
}

fn unix(table: &mut Table) -> UnixSettings {
    let defaults = HashSettings::default();
    let wanted = table.or("sha256", true);
    let hash = HashSettings {
        max_size: table.or("sha256_max_bytes", defaults.max_size),
        hashers: table.or_checked("sha256_threads", defaults.hashers, "a number from 1 to 64", |n| {
            (1..=64).contains(n)
        }),
        deadline: table.or("sha256_within", defaults.deadline),
        ..defaults
    };
    UnixSettings {
        hash: wanted.then_some(hash),
    }
}

/// Whether `socket` lies in the folder of `other`, or below it.
fn lies_below(socket: &Path, other: &Path) -> bool {
    other.parent().is_some_and(|folder| socket.starts_with(folder))
}
