//! Compiles the contracts without protoc, one descriptor set and one run of the generator for each door.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo speaks to build scripts through the environment"
)]

use std::error::Error;
use std::path::{Path, PathBuf};

use prost::Message;

/// A group of contracts that is served or called together, behind one cargo feature.
struct Door {
    /// Name of the descriptor set file; also the feature, in cargo's spelling.
    name: &'static str,
    feature: Option<&'static str>,
    files: &'static [&'static str],
}

const DOORS: &[Door] = &[
    Door {
        name: "types",
        feature: None,
        files: &[
            "spire/api/types/agent.proto",
            "spire/api/types/attestation.proto",
            "spire/api/types/bundle.proto",
            "spire/api/types/entry.proto",
            "spire/api/types/federateswith.proto",
            "spire/api/types/federationrelationship.proto",
            "spire/api/types/jointoken.proto",
            "spire/api/types/jwtsvid.proto",
            "spire/api/types/logger.proto",
            "spire/api/types/selector.proto",
            "spire/api/types/spiffeid.proto",
            "spire/api/types/status.proto",
            "spire/api/types/witsvid.proto",
            "spire/api/types/x509svid.proto",
        ],
    },
    Door {
        name: "workload",
        feature: Some("WORKLOAD"),
        files: &["workload.proto"],
    },
    Door {
        name: "spire-server",
        feature: Some("SPIRE_SERVER"),
        files: &[
            "spire/api/server/agent/v1/agent.proto",
            "spire/api/server/bundle/v1/bundle.proto",
            "spire/api/server/debug/v1/debug.proto",
            "spire/api/server/entry/v1/entry.proto",
            "spire/api/server/localauthority/v1/localauthority.proto",
            "spire/api/server/logger/v1/logger.proto",
            "spire/api/server/svid/v1/svid.proto",
            "spire/api/server/trustdomain/v1/trustdomain.proto",
        ],
    },
    Door {
        name: "spire-agent",
        feature: Some("SPIRE_AGENT"),
        files: &[
            "spire/api/agent/debug/v1/debug.proto",
            "spire/api/agent/logger/v1/logger.proto",
        ],
    },
    Door {
        name: "node",
        feature: Some("NODE"),
        files: &["muster/node/v1/node.proto"],
    },
    Door {
        name: "delivery",
        feature: Some("DELIVERY"),
        files: &["muster/entry/v1/delivery.proto"],
    },
    Door {
        name: "authority",
        feature: Some("AUTHORITY"),
        files: &["muster/authority/v1/rotation.proto"],
    },
    Door {
        name: "grant",
        feature: Some("GRANT"),
        files: &["muster/grant/v1/grant.proto"],
    },
    Door {
        name: "federation",
        feature: Some("FEDERATION"),
        files: &["muster/federation/v1/federation.proto"],
    },
];

/// Messages that carry a key, a token or a password: their `Debug` is written by hand, in `redact.rs`.
const SECRET: &[&str] = &[
    ".X509SVID",
    ".JWTSVID",
    ".WITSVID",
    ".ValidateJWTSVIDRequest",
    ".spire.api.types.AttestationData",
    ".spire.api.types.JoinToken",
    ".spire.api.types.JWTSVID",
    ".spire.api.types.WITSVID",
    ".spire.api.server.agent.v1.CreateJoinTokenRequest",
];

/// Public bytes that one agent sends to thousands of streams: a clone must not copy them.
const SHARED_BYTES: &[&str] = &[".X509SVID.x509_svid", ".X509SVID.bundle"];

fn main() -> Result<(), Box<dyn Error>> {
    let contracts = Path::new("contracts");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    println!("cargo::rerun-if-changed={}", contracts.display());
    println!("cargo::rerun-if-changed=build.rs");

    for door in DOORS {
        let wanted = door
            .feature
            .is_none_or(|feature| std::env::var_os(format!("CARGO_FEATURE_{feature}")).is_some());
        if wanted {
            compile(door, contracts, &out)?;
        }
    }
    Ok(())
}

fn compile(door: &Door, contracts: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let set = protox::compile(door.files, [contracts])?;
    std::fs::write(out.join(format!("{}.bin", door.name)), set.encode_to_vec())?;

    // A folder for each door: the generator also writes (empty) files for what a door merely imports.
    let folder = out.join(door.name);
    std::fs::create_dir_all(&folder)?;
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    config.skip_debug(SECRET);
    config.bytes(SHARED_BYTES);
    if door.name != "types" {
        // The Rust modules are shallower than the packages, so paths must not be relative.
        config.extern_path(".spire.api.types", "crate::spire::types");
    }
    tonic_prost_build::configure()
        .out_dir(&folder)
        .compile_fds_with_config(set, config)?;
    Ok(())
}
