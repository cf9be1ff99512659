//! From a TOML table to [`Config`], with the defaults and the checks that need more than one value.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use muster_identity::Lifetime;
use muster_pki::KeyAlgorithm;
use muster_runtime::config::{FileMode, Table};
use muster_runtime::logging::{Format, Level};
use muster_transport::TlsLimits;

use super::publishers::publishers;
use super::{CaConfig, Config, federation, node_attestors, oidc, upstream};
use crate::api::limits::LimitSettings;
use crate::ca::{Lifetimes, OverCap, Tokens, Wildcards, life};
use crate::nodes::Pruning;

/// SPIRE's port, so that its agents find us.
pub(super) const PORT: u16 = 8081;
pub(super) const ADMIN_SOCKET: &str = "/run/muster/server/admin.sock";
/// Its group administrates.
pub(super) const ADMIN_SOCKET_MODE: u32 = 0o770;
const DATA_DIR: &str = "/var/lib/muster/server";
/// Longer for fewer rotations, shorter for less harm by a stolen authority.
pub(super) const CA: Duration = Duration::from_secs(24 * 3600);
/// Longer when nodes may be cut off for long, shorter when revocation is all one has.
pub(super) const X509_SVID: Duration = Duration::from_secs(3600);
/// A token can't be bound to its holder: it should be used at once.
pub(super) const JWT_SVID: Duration = Duration::from_secs(300);
pub(super) const MAX_JWT_SVID: Duration = Duration::from_secs(3600);
pub(super) const REFRESH_HINT: Duration = Duration::from_secs(300);
/// At 10,000 signatures a second a full queue is waited for no longer than 100 ms.
pub(super) const SIGNING_QUEUE: usize = 1024;
pub(super) const DRAIN: Duration = Duration::from_secs(10);

/// Each costs a descriptor, and the unit grants 65536: the store, the log and the admin socket need some too.
const MOST_CONNECTIONS: usize = 60_000;

/// Each new connection costs a handshake, of every node.
const YOUNGEST: Duration = Duration::from_secs(10);
/// A connection is what it was opened with: the certificates and the server of that time.
const OLDEST: Duration = Duration::from_secs(24 * 3600);

/// The longest lifetime that makes sense anywhere here.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

pub(super) fn read(table: &mut Table) -> Option<Config> {
    let trust_domain = table.required("trust_domain");
    let data_dir = table.or("data_dir", PathBuf::from(DATA_DIR));
    let listen = table.or("listen", SocketAddr::from(([0, 0, 0, 0], PORT)));
    let admin_socket = table.or("admin_socket", PathBuf::from(ADMIN_SOCKET));
    let FileMode(admin_socket_mode) = table.or_checked(
        "admin_socket_mode",
        FileMode(ADMIN_SOCKET_MODE),
        "permission bits that let others do nothing, such as \"0770\"",
        |FileMode(mode)| mode & 0o007 == 0,
    );
    let admin_ids = table.list("admin_ids").into_iter().collect();
    let drain = table.or("drain", DRAIN);
    let ca = ca(&mut table.table("ca"));
    let node_attestors = node_attestors::read(&mut table.table("node_attestors"));
    let pruning = pruning(&mut table.table("nodes"));
    let upstream = upstream::read(table);
    let federation = federation::read(&mut table.table("federation"), trust_domain.as_ref());
    let mut limits = table.table("limits");
    let connections = connections(&mut limits);
    let limits = LimitSettings {
        attestation: limits.or("attestation", true),
        signing: limits.or("signing", true),
    };
    let mut signing = table.table("signing");
    let signing_threads = signing.or_checked(
        "threads",
        0,
        "a number up to 256; 0 is one for each processor",
        |n| *n <= 256,
    );
    let signing_queue = signing.or_checked("queue", SIGNING_QUEUE, "a number from 1 to 65536", |n| {
        (1..=65536).contains(n)
    });
    drop(signing);
    let http = table
        .optional_table("http")
        .and_then(|mut http| http.required("listen"));
    let issuer = ca.as_ref().and_then(|ca| match &ca.tokens {
        Tokens::Signed { issuer } => issuer.as_deref(),
        Tokens::Disabled => None,
    });
    let oidc = oidc::read(table, issuer, trust_domain.as_ref());
    let publishers = publishers(table);
    let mut log = table.table("log");
    let (log_level, log_format) = (log.or("level", Level::Info), log.or("format", Format::Text));
    drop(log);
    Some(Config {
        trust_domain: trust_domain?,
        data_dir,
        listen,
        admin_socket,
        admin_socket_mode,
        admin_ids,
        ca: ca?,
        node_attestors,
        upstream,
        federation,
        limits,
        connections,
        pruning,
        signing_threads,
        signing_queue,
        http,
        oidc,
        publishers,
        log_level,
        log_format,
        drain,
    })
}

/// A node that is gone costs a record; one that comes back and is not known any more costs a person.
pub(super) const NOBODY: Pruning = Pruning {
    expired_for: None,
    non_reattestable: false,
};

fn pruning(table: &mut Table) -> Pruning {
    Pruning {
        expired_for: table.optional("prune_expired_for"),
        non_reattestable: table.or("prune_non_reattestable", false),
    }
}

/// The rest of the door's bounds protects each connection from the others; nobody has a reason to move it.
fn connections(table: &mut Table) -> TlsLimits {
    let defaults = TlsLimits::default();
    let age = table.or_checked(
        "connection_age",
        defaults.age,
        "a duration of 10 seconds to a day, such as \"1h\"",
        |age| (YOUNGEST..=OLDEST).contains(age),
    );
    let mut number = |key, default: usize| {
        table.or_checked(key, default, "a number from 1 to 60000", |n| {
            (1..=MOST_CONNECTIONS).contains(n)
        })
    };
    TlsLimits {
        connections: number("connections", defaults.connections),
        per_address: number("connections_per_address", defaults.per_address),
        per_certificate: number("connections_per_certificate", defaults.per_certificate),
        anonymous: number("connections_without_certificate", defaults.anonymous),
        age,
        ..defaults
    }
}

fn ca(table: &mut Table) -> Option<CaConfig> {
    let keys = KeyAlgorithm::ALL.map(|algorithm| (algorithm.name(), algorithm));
    let x509_key = table.choice("key", KeyAlgorithm::EcP256, &keys);
    let jwt_key = table.choice("jwt_key", x509_key, &keys);
    let issuer = table.optional("jwt_issuer");
    let tokens = match table.or("disable_jwt_svids", false) {
        false => Tokens::Signed { issuer },
        true => Tokens::Disabled,
    };
    let life = table.or_checked(
        "lifetime",
        CA,
        "a duration of 1 minute to 10 years, such as \"24h\"",
        |life| (life::SHORTEST..=LONGEST).contains(life),
    );
    let life = lifetime(life);
    let x509_svid = seconds(table, "x509_svid", X509_SVID.min(life.duration() / 6));
    let jwt_svid = seconds(table, "jwt_svid", JWT_SVID.min(life.duration() / 6));
    let node = seconds(table, "node", x509_svid.duration());
    let max_x509_svid = seconds(
        table,
        "max_x509_svid",
        sixth(life).max(x509_svid).max(node).duration(),
    );
    let max_jwt_svid = seconds(
        table,
        "max_jwt_svid",
        MAX_JWT_SVID.min(life.duration() / 6).max(jwt_svid.duration()),
    );
    let over_cap = table.choice(
        "over_cap",
        OverCap::Cut,
        &[("cut", OverCap::Cut), ("refuse", OverCap::Refuse)],
    );
    let wildcards = table.choice(
        "wildcards",
        Wildcards::Refuse,
        &[("refuse", Wildcards::Refuse), ("allow", Wildcards::Allow)],
    );
    let refresh_hint = table.or("refresh_hint", REFRESH_HINT);
    let sealing_key = table.optional("sealing_key");
    let longest = life::longest_leaf(life.duration());
    let leaves = [
        ("x509_svid", x509_svid),
        ("jwt_svid", jwt_svid),
        ("node", node),
        ("max_x509_svid", max_x509_svid),
        ("max_jwt_svid", max_jwt_svid),
    ];
    let mut over = leaves
        .into_iter()
        .filter(|(_, lifetime)| lifetime.duration() > longest);
    if let Some((key, lifetime)) = over.next() {
        let expected = format!(
            "at most {}s with this ca.lifetime, so that no SVID is cut short by the end of its authority",
            longest.as_secs()
        );
        table.refuse(key, &format!("{}s", lifetime.as_secs()), &expected);
    }
    for (key, lifetime, cap) in [
        ("x509_svid", x509_svid, max_x509_svid),
        ("node", node, max_x509_svid),
        ("jwt_svid", jwt_svid, max_jwt_svid),
    ] {
        if lifetime > cap {
            table.refuse(
                key,
                &format!("{}s", lifetime.as_secs()),
                "at most the cap on this kind of SVID",
            );
        }
    }
    Some(CaConfig {
        lifetime: life,
        x509_key,
        jwt_key,
        tokens,
        lifetimes: Lifetimes {
            x509_svid,
            jwt_svid,
            node,
            max_x509_svid,
            max_jwt_svid,
            over_cap,
        },
        wildcards,
        refresh_hint,
        sealing_key,
    })
}

fn seconds(table: &mut Table, key: &'static str, default: Duration) -> Lifetime {
    let expected = "a duration of 1 second to 10 years, such as \"1h\"";
    let range = Duration::from_secs(1)..=LONGEST;
    lifetime(table.or_checked(key, default, expected, |duration| range.contains(duration)))
}

/// A duration in whole seconds, at least one.
pub(super) fn lifetime(duration: Duration) -> Lifetime {
    let secs = u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).max(1);
    Lifetime::from_secs(secs).expect("it is at least one second")
}

/// The longest leaf that no rotation cuts short: the next authority is active when a sixth is left.
pub(super) fn sixth(life: Lifetime) -> Lifetime {
    lifetime(life.duration() / 6)
}
