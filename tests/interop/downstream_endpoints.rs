//! What a server below ours may, and who else may not, with SVIDs that SPIRE's agent hands out.

use muster_pki::{Signer as _, x509::create_csr};
use muster_proto::spire::{
    server::{
        bundle::{PublishJwtAuthorityRequest, bundle_client::BundleClient},
        entry::{CountEntriesRequest, entry_client::EntryClient},
        svid::{NewDownstreamX509caRequest, svid_client::SvidClient},
    },
    types::JwtKey,
};
use muster_tests::{Home, Identity, Settings, spire_is_here};
use tonic::Code;

use crate::{
    admin_endpoints::code,
    spire_agent::{Joined, uid_selector},
};

#[test]
fn a_downstream_entry_opens_the_downstream_methods_and_no_other_entry_does() {
    if !spire_is_here() {
        return;
    }
    let joined = Joined::start(&Settings::default());
    let home = joined.home();
    let entry = joined.register("/server", &[]);
    joined.until_ids("the identity", &["/server"]);
    let tool = home.tool();
    let may = |more: &[&str]| {
        let uid = uid_selector();
        let mut update = vec!["entry", "update", "-entryID", &entry, "-parentID", &joined.node];
        update.extend(["-spiffeID", "spiffe://example.org/server", "-selector", &uid]);
        update.extend(more);
        tool.ok(&update);
        joined.cluster.block_on(async {
            let identity = Identity::fetched(joined.agent.workload_socket()).await;
            codes(&home, Some(&identity)).await
        })
    };
    let (open, denied) = (Code::Ok, Code::PermissionDenied);
    // A downstream CA, a token-signing key, and something that is an administrator's.
    assert_eq!(may(&[]), [denied; 3]);
    assert_eq!(may(&["-downstream"]), [open, open, denied]);
    assert_eq!(may(&["-admin"]), [denied, denied, open]);
    assert_eq!(joined.cluster.block_on(codes(&home, None)), [denied; 3]);
}

async fn codes(home: &Home, identity: Option<&Identity>) -> [Code; 3] {
    let channel = home.tcp(identity).await;
    let key = Identity::key();
    let asked = NewDownstreamX509caRequest {
        csr: create_csr(&*key, None).unwrap(),
        preferred_ttl: 0,
    };
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    let published = PublishJwtAuthorityRequest {
        jwt_authority: Some(JwtKey {
            public_key: key.public_key().spki_der().to_vec(),
            key_id: now.to_string(),
            expires_at: now + 600,
            tainted: false,
        }),
    };
    let mut entries = EntryClient::new(channel.clone());
    [
        code(
            SvidClient::new(channel.clone())
                .new_downstream_x509ca(asked)
                .await,
        ),
        code(BundleClient::new(channel).publish_jwt_authority(published).await),
        code(entries.count_entries(CountEntriesRequest::default()).await),
    ]
}
