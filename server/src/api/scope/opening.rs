//! Which verb opens a method to callers with grants. What is not here is for full administrators.

use muster_identity::Verb;

const VERBS: &[(&str, Verb, &[&str])] = &[
    (
        "spire.api.server.entry.v1.Entry",
        Verb::EntryRead,
        &["CountEntries", "ListEntries", "GetEntry"],
    ),
    (
        "spire.api.server.entry.v1.Entry",
        Verb::EntryCreate,
        &["BatchCreateEntry"],
    ),
    (
        "spire.api.server.entry.v1.Entry",
        Verb::EntryUpdate,
        &["BatchUpdateEntry"],
    ),
    (
        "spire.api.server.entry.v1.Entry",
        Verb::EntryDelete,
        &["BatchDeleteEntry"],
    ),
    ("muster.entry.v1.Delivery", Verb::EntryRead, &["Follow"]),
    (
        "spire.api.server.svid.v1.SVID",
        Verb::X509SvidMint,
        &["MintX509SVID"],
    ),
    (
        "spire.api.server.svid.v1.SVID",
        Verb::JwtSvidMint,
        &["MintJWTSVID"],
    ),
    (
        "spire.api.server.agent.v1.Agent",
        Verb::NodeRead,
        &["CountAgents", "ListAgents", "GetAgent"],
    ),
    ("spire.api.server.agent.v1.Agent", Verb::NodeBan, &["BanAgent"]),
    (
        "spire.api.server.agent.v1.Agent",
        Verb::NodeEvict,
        &["DeleteAgent"],
    ),
    (
        "spire.api.server.agent.v1.Agent",
        Verb::TokenCreate,
        &["CreateJoinToken"],
    ),
    (
        "spire.api.server.bundle.v1.Bundle",
        Verb::BundleRead,
        &["CountBundles", "ListFederatedBundles", "GetFederatedBundle"],
    ),
    (
        "spire.api.server.trustdomain.v1.TrustDomain",
        Verb::FederationRead,
        &["ListFederationRelationships", "GetFederationRelationship"],
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority",
        Verb::AuthorityRead,
        &[
            "GetJWTAuthorityState",
            "GetX509AuthorityState",
            "GetWITAuthorityState",
        ],
    ),
    (
        "muster.authority.v1.Rotation",
        Verb::AuthorityRead,
        &["GetProgress"],
    ),
    ("muster.grant.v1.Grants", Verb::GrantRead, &["List", "Get"]),
    (
        "spire.api.server.logger.v1.Logger",
        Verb::ServerRead,
        &["GetLogger"],
    ),
    ("spire.api.server.debug.v1.Debug", Verb::ServerRead, &["GetInfo"]),
    ("grpc.health.v1.Health", Verb::ServerRead, &["Check"]),
];

/// The verb for the method at this HTTP path (`/package.Service/Method`); none: no grant opens it.
pub(in crate::api) fn verb_for(path: &str) -> Option<Verb> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let found = VERBS
        .iter()
        .find(|(name, _, methods)| *name == service && methods.contains(&method));
    found.map(|(_, verb, _)| *verb)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::methods::{SERVICES, open_to};

    #[test]
    fn a_grant_opens_only_what_is_open_to_administrators() {
        for (service, verb, methods) in VERBS {
            for method in *methods {
                let path = format!("/{service}/{method}");
                let open = open_to(&path);
                assert!(open.local, "{path} is in no table");
                assert!(!open.anybody && !open.downstream, "{path}");
                assert_eq!(verb_for(&path), Some(*verb), "{path} is there twice");
            }
        }
    }

    #[test]
    fn what_changes_the_server_itself_is_opened_by_no_grant() {
        for (service, methods) in SERVICES {
            for (method, _) in *methods {
                let path = format!("/{service}/{method}");
                let grants = *service == "muster.grant.v1.Grants" && !matches!(*method, "List" | "Get");
                let own = ["Prepare", "Activate", "Taint", "Revoke", "Append", "Set", "Reset"]
                    .iter()
                    .any(|word| method.starts_with(word));
                if grants || own {
                    assert_eq!(verb_for(&path), None, "{path}");
                }
            }
        }
    }
}
