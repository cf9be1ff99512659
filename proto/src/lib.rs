//! Every wire contract of Muster, and the one place where wire data is believed.
//!
//! `contracts/*.proto` are ours to read; their packages, names and numbers are the published ones of
//! the SPIFFE Workload API ([`workload`]) and of SPIRE's server and agent ([`spire`]). What those
//! lack is in services of our own ([`node`], [`delivery`], [`authority`], [`grant`], [`federation`]), never as
//! extra fields in theirs.
//!
//! The generated types say nothing about whether a value makes sense: a `SPIFFEID` on the wire is two
//! strings. [`convert`] turns them into the types of `muster-identity` and `muster-pki`, which can't
//! hold a wrong value, and names the field when it refuses. Handlers convert first and look at the
//! message no more.
//!
//! Messages that carry secrets have a redacting `Debug`, so that a logged request leaks nothing.
//!
//! A cargo feature for each door: `workload`, `spire-server`, `spire-agent`, `node`, `delivery`, `authority`,
//! `grant`, `federation`. Begin at [`convert`].

pub mod convert;
mod redact;

/// The SPIFFE Workload API: what a workload and its node agent say to each other.
#[cfg(feature = "workload")]
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod workload {
    include!(concat!(env!("OUT_DIR"), "/workload/_.rs"));

    /// The contract itself, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/workload.bin"));
}

/// SPIRE's contracts, by which its agents, tools and integrations speak to us and we to them.
pub mod spire {
    /// Messages that the services share.
    #[allow(missing_docs, clippy::all, reason = "generated")]
    pub mod types {
        include!(concat!(env!("OUT_DIR"), "/types/spire.api.types.rs"));
    }

    /// What a server offers: to administrators, to agents, and to downstream servers.
    #[cfg(feature = "spire-server")]
    #[allow(missing_docs, clippy::all, reason = "generated")]
    pub mod server {
        /// Nodes and join tokens.
        pub mod agent {
            include!(concat!(
                env!("OUT_DIR"),
                "/spire-server/spire.api.server.agent.v1.rs"
            ));
        }
        /// Trust bundles.
        pub mod bundle {
            include!(concat!(
                env!("OUT_DIR"),
                "/spire-server/spire.api.server.bundle.v1.rs"
            ));
        }
        /// Counters and the server's own certificate.
        pub mod debug {
            include!(concat!(
                env!("OUT_DIR"),
                "/spire-server/spire.api.server.debug.v1.rs"
            ));
        }
        /// Registration entries.
        pub mod entry {
            include!(concat!(
                env!("OUT_DIR"),
                "/spire-server/spire.api.server.entry.v1.rs"
            ));
        }
        /// One server's own authorities.
        pub mod localauthority {
            include!(concat!(
                env!("OUT_DIR"),
                "/spire-server/spire.api.server.localauthority.v1.rs"
            ));
        }
        /// The log level.
        pub mod logger {
            include!(concat!(
                env!("OUT_DIR"),
                "/spire-server/spire.api.server.logger.v1.rs"
            ));
        }
        /// Signing.
        pub mod svid {
            include!(concat!(
                env!("OUT_DIR"),
                "/spire-server/spire.api.server.svid.v1.rs"
            ));
        }
        /// Federation relationships.
        pub mod trustdomain {
            include!(concat!(
                env!("OUT_DIR"),
                "/spire-server/spire.api.server.trustdomain.v1.rs"
            ));
        }

        /// The contracts themselves, for gRPC reflection.
        pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/spire-server.bin"));
    }

    /// What an agent offers on its admin socket.
    #[cfg(feature = "spire-agent")]
    #[allow(missing_docs, clippy::all, reason = "generated")]
    pub mod agent {
        /// Counters and the agent's own certificate.
        pub mod debug {
            include!(concat!(env!("OUT_DIR"), "/spire-agent/spire.agent.debug.v1.rs"));
        }
        /// The log level.
        pub mod logger {
            include!(concat!(
                env!("OUT_DIR"),
                "/spire-agent/spire.api.agent.logger.v1.rs"
            ));
        }

        /// The contracts themselves, for gRPC reflection.
        pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/spire-agent.bin"));
    }
}

/// What our node agent and our server say to each other (`muster.node.v1`).
#[cfg(feature = "node")]
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod node {
    include!(concat!(env!("OUT_DIR"), "/node/muster.node.v1.rs"));

    /// The contract itself, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/node.bin"));

    /// The generation of this contract that we speak; travels in `Hello`.
    pub const WIRE_VERSION: u32 = 1;
}

/// Whether an entry has arrived on the nodes (`muster.entry.v1`).
#[cfg(feature = "delivery")]
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod delivery {
    include!(concat!(env!("OUT_DIR"), "/delivery/muster.entry.v1.rs"));

    /// The contract itself, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/delivery.bin"));
}

/// How far a rotation of authorities has come (`muster.authority.v1`).
#[cfg(feature = "authority")]
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod authority {
    include!(concat!(env!("OUT_DIR"), "/authority/muster.authority.v1.rs"));

    /// The contract itself, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/authority.bin"));
}

/// Who may do a part of what an administrator may (`muster.grant.v1`).
#[cfg(feature = "grant")]
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod grant {
    include!(concat!(env!("OUT_DIR"), "/grant/muster.grant.v1.rs"));

    /// The contract itself, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/grant.bin"));
}

/// How it stands with foreign trust domains (`muster.federation.v1`).
#[cfg(feature = "federation")]
#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod federation {
    include!(concat!(env!("OUT_DIR"), "/federation/muster.federation.v1.rs"));

    /// The contract itself, for gRPC reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/federation.bin"));
}
