//! Somebody above our authorities: a CA in files, or another server.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use muster_identity::UnixTime;
use muster_plugin_api::conformance;
use muster_proto::spire::{
    server::{
        bundle::{
            AppendBundleRequest, GetBundleRequest, PublishJwtAuthorityRequest, bundle_client::BundleClient,
        },
        localauthority::{
            ActivateX509AuthorityRequest, GetX509AuthorityStateRequest, PrepareX509AuthorityRequest,
            RevokeX509AuthorityRequest, RevokeX509UpstreamAuthorityRequest, TaintX509AuthorityRequest,
            TaintX509UpstreamAuthorityRequest, local_authority_client::LocalAuthorityClient,
        },
        svid::{NewDownstreamX509caRequest, svid_client::SvidClient},
    },
    types::{Bundle, JwtKey, X509Certificate},
};
use muster_tests::{Cluster, Identity, Settings, from_pem, tcp_channel, until};
use muster_upstream_authorities::{Spire, SpireConfig};
use tonic::{Code, Status, transport::Channel};

/// As a directory service names its CA: one attribute twice, and two in one part.
const NAME: &str = "/DC=org/DC=example/O=Example+OU=PKI/CN=";

fn openssl(folder: &Path, arguments: &[&str]) -> bool {
    let done = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("openssl is installed");
    if !done.status.success() {
        println!(
            "openssl {arguments:?}: {}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        );
    }
    done.status.success()
}

/// A root in `folder`, as `ca.crt` and `ca.key`.
fn make_root(folder: &Path, name: &str) {
    let subject = format!("{NAME}{name}");
    let made = openssl(
        folder,
        &[
            "req",
            "-x509",
            "-nodes",
            "-days",
            "30",
            "-multivalue-rdn",
            "-subj",
            &subject,
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-out",
            "new.crt",
            "-keyout",
            "new.key",
        ],
    );
    assert!(made, "a root is made");
    fs::set_permissions(folder.join("new.key"), fs::Permissions::from_mode(0o600)).unwrap();
    // Each whole, one after the other, as an operator does it.
    for file in ["key", "crt"] {
        fs::rename(
            folder.join(format!("new.{file}")),
            folder.join(format!("ca.{file}")),
        )
        .unwrap();
    }
}

/// The settings live as long as the process does.
fn settings(server: String) -> Settings {
    Settings {
        server: Box::leak(server.into_boxed_str()),
        ..Settings::default()
    }
}

fn below_files(folder: &Path) -> Settings {
    let at = folder.display();
    settings(format!(
        "[upstream_authority.disk]\ncert = '{at}/ca.crt'\nkey = '{at}/ca.key'\n"
    ))
}

/// What a workload of the cluster gets, in files of its own: `svid.0.pem`, `svid.0.key`, `bundle.0.pem`.
fn fetch(cluster: &Cluster) -> PathBuf {
    let folder = cluster.path().join("fetched");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    cluster.muster_ok(&["fetch", "x509", "--write", folder.to_str().unwrap()]);
    folder
}

/// Whether OpenSSL, which knows nothing of ours, finds a way from the workload's SVID to `root`.
fn chains_to(cluster: &Cluster, root: &Path) -> bool {
    let folder = fetch(cluster);
    let root = root.display().to_string();
    openssl(
        &folder,
        &[
            "verify",
            "-x509_strict",
            "-CAfile",
            &root,
            "-untrusted",
            "svid.0.pem",
            "svid.0.pem",
        ],
    )
}

fn local_authority(cluster: &Cluster) -> LocalAuthorityClient<Channel> {
    LocalAuthorityClient::new(cluster.block_on(cluster.channel()))
}

/// Has the next X.509 authority made and sign. Answers with the root above the one that signed before.
fn rotate(cluster: &Cluster) -> String {
    let mut authority = local_authority(cluster);
    cluster.block_on(async {
        let before = authority
            .get_x509_authority_state(GetX509AuthorityStateRequest {})
            .await
            .unwrap()
            .into_inner();
        let prepared = authority
            .prepare_x509_authority(PrepareX509AuthorityRequest {})
            .await;
        let prepared = prepared.unwrap().into_inner().prepared_authority.unwrap();
        let activate = ActivateX509AuthorityRequest {
            authority_id: prepared.authority_id,
        };
        authority.activate_x509_authority(activate).await.unwrap();
        before.active.unwrap().upstream_authority_subject_key_id
    })
}

fn uid() -> String {
    format!("unix:uid:{}", nix::unistd::getuid())
}

#[test]
fn a_ca_in_files_stands_above_whatever_its_name_and_another_may_take_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    make_root(at, "one");
    fs::copy(at.join("ca.crt"), at.join("one.crt")).unwrap();
    let cluster = Cluster::start(&below_files(at));
    cluster.register("/web", &[&uid()]);
    assert!(chains_to(&cluster, &at.join("one.crt")));
    assert_eq!(cluster.bundle().x509_authorities.len(), 1, "the root alone");

    make_root(at, "two");
    fs::copy(at.join("ca.crt"), at.join("two.crt")).unwrap();
    let first = rotate(&cluster);
    let mut authority = local_authority(&cluster);
    let judged = cluster.block_on(async {
        let active = authority
            .get_x509_authority_state(GetX509AuthorityStateRequest {})
            .await
            .unwrap()
            .into_inner()
            .active
            .unwrap();
        let second = active.upstream_authority_subject_key_id;
        let taint = |subject_key_id: &str| TaintX509UpstreamAuthorityRequest {
            subject_key_id: subject_key_id.to_owned(),
        };
        let own = TaintX509AuthorityRequest {
            authority_id: active.authority_id,
        };
        let refused = authority.taint_x509_authority(own).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        let refused = authority
            .taint_x509_upstream_authority(taint(&second))
            .await
            .unwrap_err();
        assert_eq!(
            refused.code(),
            Code::InvalidArgument,
            "it signed what signs: {refused}"
        );
        let upper = first.to_uppercase();
        let done = authority.taint_x509_upstream_authority(taint(&upper)).await;
        done.unwrap().into_inner().upstream_authority_subject_key_id
    });
    assert_eq!(judged, first);
    until("an SVID under the second root", || {
        chains_to(&cluster, &at.join("two.crt"))
    });
    cluster.block_on(async {
        let revoke = RevokeX509UpstreamAuthorityRequest {
            subject_key_id: first,
        };
        authority.revoke_x509_upstream_authority(revoke).await.unwrap();
    });
    assert_eq!(cluster.bundle().x509_authorities.len(), 1);
    until("an SVID under the second root", || {
        chains_to(&cluster, &at.join("two.crt"))
    });
    assert!(!chains_to(&cluster, &at.join("one.crt")));
}

#[test]
fn a_server_that_stands_alone_again_can_take_out_the_root_that_stood_above_it() {
    let folder = tempfile::tempdir().unwrap();
    make_root(folder.path(), "above");
    let below = below_files(folder.path());
    let mut cluster = Cluster::start(&below);
    let config = cluster.path().join("server.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains(below.server), "{text}");
    cluster.take_server().stop();
    fs::write(&config, text.replace(below.server, "")).unwrap();
    cluster.start_server();
    let above = from_pem(&fs::read_to_string(folder.path().join("ca.crt")).unwrap());
    let left = rotate(&cluster);
    assert!(!left.is_empty() && rotate(&cluster).is_empty());

    let mut authority = local_authority(&cluster);
    cluster.block_on(async {
        let taint = |subject_key_id| TaintX509UpstreamAuthorityRequest { subject_key_id };
        let state = authority
            .get_x509_authority_state(GetX509AuthorityStateRequest {})
            .await;
        let own = state.unwrap().into_inner().active.unwrap().authority_id;
        let mut bundle = BundleClient::new(cluster.channel().await);
        // Our own is no root of somebody above us.
        for none_above in [own, "00".repeat(20)] {
            let refused = authority.taint_x509_upstream_authority(taint(none_above)).await;
            assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
        }
        // Once as it was left, and once as an administrator brought it in again.
        for appended in [false, true] {
            if appended {
                let root = X509Certificate {
                    asn1: above.clone(),
                    ..X509Certificate::default()
                };
                let append = AppendBundleRequest {
                    x509_authorities: vec![root],
                    ..AppendBundleRequest::default()
                };
                bundle.append_bundle(append).await.unwrap();
            }
            let tainted = authority.taint_x509_upstream_authority(taint(left.clone())).await;
            tainted.unwrap();
            let revoke = RevokeX509UpstreamAuthorityRequest {
                subject_key_id: left.clone(),
            };
            authority.revoke_x509_upstream_authority(revoke).await.unwrap();
            let now = bundle.get_bundle(GetBundleRequest::default()).await;
            let roots = now.unwrap().into_inner().x509_authorities;
            assert!(!roots.is_empty() && roots.iter().all(|root| root.asn1 != above));
        }
    });
}

#[test]
fn a_ca_whose_key_is_away_stops_nothing_and_is_said_loudly() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    make_root(at, "one");
    let mut cluster = Cluster::start(&below_files(at));
    cluster.register("/web", &[&uid()]);
    assert!(chains_to(&cluster, &at.join("ca.crt")));

    fs::rename(at.join("ca.key"), at.join("away")).unwrap();
    let refused = cluster.block_on(async {
        let mut authority = LocalAuthorityClient::new(cluster.channel().await);
        authority
            .prepare_x509_authority(PrepareX509AuthorityRequest {})
            .await
            .unwrap_err()
    });
    assert_eq!(refused.code(), Code::Internal, "{refused}");
    cluster
        .server()
        .line("why", |line| line.contains("ca.key") && line.contains("ERROR"));
    cluster.take_server().stop();
    cluster.start_server();
    until("an SVID after the restart", || {
        chains_to(&cluster, &at.join("ca.crt"))
    });
    fs::rename(at.join("away"), at.join("ca.key")).unwrap();
    rotate(&cluster);
}

/// A server with an agent, and the entry by which the server of another cluster stands below it.
fn parent() -> Cluster {
    let parent = Cluster::start(&Settings::default());
    let mut entry = parent.entry("/downstream", &[&uid()]);
    entry.downstream = true;
    parent.register_entry(entry);
    parent
}

fn below_server(parent: &Cluster) -> Settings {
    let (server, socket) = (parent.server_address(), parent.workload_socket());
    settings(format!(
        "[upstream_authority.spire]\nserver = '{server}'\nworkload_api = '{}'\n",
        socket.display()
    ))
}

fn roots(bundle: &Bundle) -> Vec<(Vec<u8>, bool)> {
    let roots = bundle.x509_authorities.iter();
    let mut roots: Vec<_> = roots.map(|root| (root.asn1.clone(), root.tainted)).collect();
    roots.sort();
    roots
}

fn key_ids(bundle: &Bundle) -> Vec<String> {
    let mut ids: Vec<_> = bundle
        .jwt_authorities
        .iter()
        .map(|key| key.key_id.clone())
        .collect();
    ids.sort();
    ids
}

fn write_roots(cluster: &Cluster) -> PathBuf {
    let path = cluster.path().join("roots.pem");
    let shown = cluster.muster_ok(&["bundle", "show", "--format", "pem"]);
    fs::write(&path, shown).unwrap();
    path
}

#[test]
fn a_server_below_another_shares_its_roots_and_keys_and_follows_it_through_taint_and_revocation() {
    let parent = parent();
    let child = Cluster::start(&below_server(&parent));
    child.register("/web", &[&uid()]);
    let first = parent.path().join("first.pem");
    fs::rename(write_roots(&parent), &first).unwrap();
    assert!(chains_to(&child, &first), "verified by the root above");
    until("the same roots and keys on both sides", || {
        let (above, below) = (parent.bundle(), child.bundle());
        roots(&above) == roots(&below) && key_ids(&above) == key_ids(&below)
    });
    assert_eq!(
        key_ids(&parent.bundle()).len(),
        2,
        "each server signs tokens with a key of its own"
    );

    rotate(&parent);
    until("the new root below", || {
        roots(&parent.bundle()) == roots(&child.bundle())
    });
    let mut authority = local_authority(&parent);
    let old = parent.block_on(async {
        let state = authority
            .get_x509_authority_state(GetX509AuthorityStateRequest {})
            .await;
        let old = state.unwrap().into_inner().old.unwrap().authority_id;
        let taint = TaintX509AuthorityRequest {
            authority_id: old.clone(),
        };
        authority.taint_x509_authority(taint).await.unwrap();
        old
    });
    // The child has its authority made anew under the other root, and only then says that the old one is tainted.
    until("the taint below", || {
        roots(&parent.bundle()) == roots(&child.bundle())
    });
    assert!(child.bundle().x509_authorities.iter().any(|root| root.tainted));
    until("SVIDs under the next root", || !chains_to(&child, &first));
    parent.block_on(async {
        let revoke = RevokeX509AuthorityRequest { authority_id: old };
        authority.revoke_x509_authority(revoke).await.unwrap();
    });
    until("the revocation below", || {
        roots(&parent.bundle()) == roots(&child.bundle())
    });
    assert_eq!(child.bundle().x509_authorities.len(), 1);
    let left = write_roots(&parent);
    until("an SVID under the root that is left", || chains_to(&child, &left));
}

#[test]
fn a_server_above_that_is_away_stops_nothing_below() {
    let mut parent = parent();
    let mut child = Cluster::start(&below_server(&parent));
    child.register("/web", &[&uid()]);
    let left = write_roots(&parent);
    assert!(chains_to(&child, &left));
    parent.take_server().stop();
    child.server().line("that it follows nobody", |line| {
        line.contains("can't be followed")
    });
    child.take_server().stop();
    child.start_server();
    until("an SVID after the restart", || chains_to(&child, &left));
    parent.start_server();
    until("an authority from above", || {
        child.block_on(async {
            let mut authority = LocalAuthorityClient::new(child.channel().await);
            let prepared = authority
                .prepare_x509_authority(PrepareX509AuthorityRequest {})
                .await;
            prepared.is_ok()
        })
    });
}

#[test]
fn a_server_keeps_the_promises_of_an_upstream_authority_to_who_has_a_downstream_entry() {
    let parent = parent();
    let config = SpireConfig {
        server: parent.server_address().to_owned(),
        workload_api: parent.workload_socket(),
    };
    let trust_domain: muster_identity::TrustDomain = muster_tests::TRUST_DOMAIN.parse().unwrap();
    let upstream = Spire::new(config, trust_domain.clone());
    parent.block_on(conformance::upstream_authority(&upstream, &trust_domain, now()));
}

fn now() -> UnixTime {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap_or(Duration::ZERO);
    UnixTime::from_secs(i64::try_from(since.as_secs()).unwrap())
}

#[test]
fn what_a_downstream_server_asks_for_is_checked() {
    let cluster = Cluster::start_server_only(&Settings::default());
    let mut entry = cluster.entry("/downstream", &["unix:uid:0"]);
    entry.downstream = true;
    entry.parent_id.as_mut().unwrap().path = "/spire/agent/join_token/none".into();
    let entry = cluster.register_entry(entry);
    let bundle_before = cluster.bundle();
    cluster.block_on(async {
        let identity = Identity::minted(&cluster, "spiffe://example.org/downstream", 600).await;
        let channel = tcp_channel(&cluster, Some(&identity)).await;
        let (mut svids, mut bundles) = (SvidClient::new(channel.clone()), BundleClient::new(channel));
        for (csr, preferred_ttl) in [
            (Vec::new(), 0),
            (b"no request".to_vec(), 0),
            (vec![0x30; 20_000], 0),
            (Vec::new(), -1),
        ] {
            let request = NewDownstreamX509caRequest { csr, preferred_ttl };
            let refused = svids.new_downstream_x509ca(request).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        }
        let key = |expires_at: i64, key_id: &str, public_key: &[u8]| PublishJwtAuthorityRequest {
            jwt_authority: Some(JwtKey {
                public_key: public_key.to_vec(),
                key_id: key_id.into(),
                expires_at,
                tainted: false,
            }),
        };
        let (good, later) = (Identity::key(), now().as_secs() + 600);
        let spki = muster_pki::Signer::public_key(&*good).spki_der().to_vec();
        let own = bundle_before.jwt_authorities[0].key_id.clone();
        let missing = PublishJwtAuthorityRequest { jwt_authority: None };
        for request in [
            missing,
            key(0, "a", &spki),
            key(1, "a", &spki),
            key(later + 91 * 86_400, "a", &spki),
            key(later, "", &spki),
            key(later, "a", b"no key"),
            key(later, &own, &spki),
        ] {
            let refused: Status = bundles.publish_jwt_authority(request).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        }
        let published = bundles.publish_jwt_authority(key(later, "theirs", &spki)).await;
        let published = published.unwrap().into_inner().jwt_authorities;
        assert_eq!(published.len(), 2);
        assert!(
            published
                .iter()
                .any(|key| key.key_id == "theirs" && key.expires_at == later)
        );
        // It has its share of the places, and no more.
        for number in 1..64 {
            let more = key(later, &format!("theirs-{number}"), &spki);
            bundles.publish_jwt_authority(more).await.unwrap();
        }
        let more = bundles.publish_jwt_authority(key(later, "more", &spki)).await;
        assert_eq!(more.unwrap_err().code(), Code::ResourceExhausted);
    });
    cluster.unregister(&entry);
}
