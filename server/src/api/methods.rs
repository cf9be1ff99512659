//! Which method is open to whom: the one table. What is not in it is closed to everybody.

/// Who may call a method. A caller needs to be one of them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Open {
    /// Anybody who can connect, on either door.
    pub anybody: bool,
    /// Attested nodes.
    pub agent: bool,
    /// Downstream servers, by an entry.
    pub downstream: bool,
    /// Administrators, by configuration or an entry.
    pub admin: bool,
    /// Local administrators, by the admin socket.
    pub local: bool,
}

const CLOSED: Open = Open {
    anybody: false,
    agent: false,
    downstream: false,
    admin: false,
    local: false,
};
const ANYBODY: Open = Open {
    anybody: true,
    ..CLOSED
};
const AGENT: Open = Open {
    agent: true,
    ..CLOSED
};
const DOWNSTREAM: Open = Open {
    downstream: true,
    ..CLOSED
};
const ADMIN: Open = Open {
    admin: true,
    local: true,
    ..CLOSED
};
const ADMIN_OR_AGENT: Open = Open { agent: true, ..ADMIN };
const LOCAL: Open = Open {
    local: true,
    ..CLOSED
};

/// The methods of one service: its full name, and each method with who may call it.
type Service = (&'static str, &'static [(&'static str, Open)]);

/// Every method of every service that the server knows.
pub const SERVICES: &[Service] = &[
    (
        "spire.api.server.agent.v1.Agent",
        &[
            ("AttestAgent", ANYBODY),
            ("RenewAgent", AGENT),
            ("PostStatus", AGENT),
            ("CountAgents", ADMIN),
            ("ListAgents", ADMIN),
            ("GetAgent", ADMIN),
            ("DeleteAgent", ADMIN),
            ("BanAgent", ADMIN),
            ("CreateJoinToken", ADMIN),
        ],
    ),
    (
        "spire.api.server.bundle.v1.Bundle",
        &[
            ("GetBundle", ANYBODY),
            ("GetFederatedBundle", ADMIN_OR_AGENT),
            ("PublishJWTAuthority", DOWNSTREAM),
            ("PublishWITAuthority", DOWNSTREAM),
            ("CountBundles", ADMIN),
            ("AppendBundle", ADMIN),
            ("ListFederatedBundles", ADMIN),
            ("BatchCreateFederatedBundle", ADMIN),
            ("BatchUpdateFederatedBundle", ADMIN),
            ("BatchSetFederatedBundle", ADMIN),
            ("BatchDeleteFederatedBundle", ADMIN),
        ],
    ),
    (
        "spire.api.server.entry.v1.Entry",
        &[
            ("GetAuthorizedEntries", AGENT),
            ("SyncAuthorizedEntries", AGENT),
            ("CountEntries", ADMIN),
            ("ListEntries", ADMIN),
            ("GetEntry", ADMIN),
            ("BatchCreateEntry", ADMIN),
            ("BatchUpdateEntry", ADMIN),
            ("BatchDeleteEntry", ADMIN),
        ],
    ),
    (
        "spire.api.server.svid.v1.SVID",
        &[
            ("BatchNewX509SVID", AGENT),
            ("NewJWTSVID", AGENT),
            ("BatchNewWITSVID", AGENT),
            ("NewDownstreamX509CA", DOWNSTREAM),
            ("MintX509SVID", ADMIN),
            ("MintJWTSVID", ADMIN),
            ("MintWITSVID", ADMIN),
        ],
    ),
    (
        "spire.api.server.trustdomain.v1.TrustDomain",
        &[
            ("ListFederationRelationships", ADMIN),
            ("GetFederationRelationship", ADMIN),
            ("BatchCreateFederationRelationship", ADMIN),
            ("BatchUpdateFederationRelationship", ADMIN),
            ("BatchDeleteFederationRelationship", ADMIN),
            ("RefreshBundle", ADMIN),
        ],
    ),
    (
        "spire.api.server.localauthority.v1.LocalAuthority",
        &[
            ("GetJWTAuthorityState", ADMIN),
            ("PrepareJWTAuthority", ADMIN),
            ("ActivateJWTAuthority", ADMIN),
            ("TaintJWTAuthority", ADMIN),
            ("RevokeJWTAuthority", ADMIN),
            ("GetX509AuthorityState", ADMIN),
            ("PrepareX509Authority", ADMIN),
            ("ActivateX509Authority", ADMIN),
            ("TaintX509Authority", ADMIN),
            ("RevokeX509Authority", ADMIN),
            ("TaintX509UpstreamAuthority", ADMIN),
            ("RevokeX509UpstreamAuthority", ADMIN),
            ("GetWITAuthorityState", ADMIN),
            ("PrepareWITAuthority", ADMIN),
            ("ActivateWITAuthority", ADMIN),
            ("TaintWITAuthority", ADMIN),
            ("RevokeWITAuthority", ADMIN),
        ],
    ),
    (
        "spire.api.server.logger.v1.Logger",
        &[
            ("GetLogger", LOCAL),
            ("SetLogLevel", LOCAL),
            ("ResetLogLevel", LOCAL),
        ],
    ),
    ("spire.api.server.debug.v1.Debug", &[("GetInfo", LOCAL)]),
    ("grpc.health.v1.Health", &[("Check", LOCAL), ("Watch", LOCAL)]),
    ("muster.node.v1.Node", &[("Sync", AGENT), ("Issue", AGENT)]),
    ("muster.entry.v1.Delivery", &[("Follow", ADMIN)]),
    ("muster.authority.v1.Rotation", &[("GetProgress", ADMIN)]),
    (
        "muster.grant.v1.Grants",
        &[
            ("Create", ADMIN),
            ("List", ADMIN),
            ("Get", ADMIN),
            ("Update", ADMIN),
            ("Delete", ADMIN),
        ],
    ),
    (
        "muster.federation.v1.Federation",
        &[
            ("ListPeers", ADMIN),
            ("Revoke", ADMIN),
            ("Release", ADMIN),
            ("Narrow", ADMIN),
        ],
    ),
];

/// Who may call the method at this HTTP path (`/package.Service/Method`); nobody when it is not in the table.
pub fn open_to(path: &str) -> Open {
    let found = path
        .strip_prefix('/')
        .and_then(|rest| rest.split_once('/'))
        .and_then(|(service, method)| {
            let (_, methods) = SERVICES.iter().find(|(name, _)| *name == service)?;
            methods.iter().find(|(name, _)| *name == method)
        });
    found.map_or(CLOSED, |(_, open)| *open)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    fn methods_of(descriptors: &[u8]) -> BTreeSet<String> {
        let files = FileDescriptorSet::decode(descriptors).unwrap().file;
        let services = files
            .iter()
            .flat_map(|file| file.service.iter().map(|service| (file.package(), service)));
        let paths = services.flat_map(|(package, service)| {
            service
                .method
                .iter()
                .map(move |method| format!("/{package}.{}/{}", service.name(), method.name()))
        });
        paths.collect()
    }

    #[test]
    fn the_table_covers_exactly_the_methods_of_the_contracts() {
        let mut contracts = methods_of(muster_proto::spire::server::FILE_DESCRIPTOR_SET);
        contracts.extend(methods_of(muster_proto::node::FILE_DESCRIPTOR_SET));
        contracts.extend(methods_of(muster_proto::delivery::FILE_DESCRIPTOR_SET));
        contracts.extend(methods_of(muster_proto::authority::FILE_DESCRIPTOR_SET));
        contracts.extend(methods_of(muster_proto::grant::FILE_DESCRIPTOR_SET));
        contracts.extend(methods_of(muster_proto::federation::FILE_DESCRIPTOR_SET));
        contracts.extend(methods_of(tonic_health::pb::FILE_DESCRIPTOR_SET));
        let services = SERVICES
            .iter()
            .flat_map(|(service, methods)| methods.iter().map(move |(name, _)| (service, name)));
        let table: BTreeSet<_> = services
            .map(|(service, method)| format!("/{service}/{method}"))
            .collect();
        assert_eq!(table, contracts);
    }

    #[test]
    fn an_unknown_path_is_open_to_nobody() {
        for path in [
            "",
            "/",
            "/spire.api.server.agent.v1.Agent",
            "/spire.api.server.agent.v1.Agent/attestagent",
            "/x/y",
        ] {
            assert_eq!(open_to(path), CLOSED, "{path}");
        }
        assert_eq!(open_to("/spire.api.server.bundle.v1.Bundle/GetBundle"), ANYBODY);
    }
}
