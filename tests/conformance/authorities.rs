//! Part 10: authorities that an operator taints and revokes, seen by a workload of a running agent.

use muster_identity::SpiffeId;
use muster_pki::{
    bundle::{Bundle, BundleSet},
    x509::{X509Svid, verify_x509_svid},
};
use muster_proto::{
    authority::{GetProgressRequest, rotation_client::RotationClient},
    workload::{JwtsvidRequest, X509svidResponse},
};
use muster_tests::{Cluster, Settings, until as watch};
use serde_json::Value;
use tonic::Code;

use crate::{
    asked_tokens::validate,
    book::Book,
    caller::{client, has, opened, ourselves, request, until, within},
    issuer::now,
};

const AUDIENCE: &str = "a";

pub(crate) fn judge(book: &mut Book) {
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/w", &[&ourselves()]);
    book.case("IS-15", || svids_are_replaced_and_the_bundle_drops_it(&cluster));
    book.case("IS-15", || tokens_are_replaced_and_the_bundle_drops_it(&cluster));
}

fn svids_are_replaced_and_the_bundle_drops_it(cluster: &Cluster) {
    let (state, mut stream) = cluster.block_on(opened(cluster, &["/w"]));
    let first = Held::in_state(&state, "/w");
    assert!(first.trusts(&first.svid) && first.authorities() == 1);
    let old = signing(cluster, "x509");
    command(cluster, &["prepare", "x509"]);
    command(cluster, &["activate", "x509"]);
    // Signed after the change, so whatever the change does to what was there has come before.
    cluster.register("/after", &[&ourselves()]);
    let both = |state: &X509svidResponse| has(state, &["/w", "/after"]);
    let state = cluster.block_on(until(&mut stream, both)).unwrap();
    let after = Held::in_state(&state, "/after");
    assert!(after.trusts(&after.svid) && !first.trusts(&after.svid));
    let held = Held::in_state(&state, "/w");
    assert_eq!(held.svid.serial(), first.svid.serial(), "replaced without need");

    command(cluster, &["taint", "x509", &old]);
    let replaced = |state: &X509svidResponse| {
        both(state) && Held::in_state(state, "/w").svid.serial() != first.svid.serial()
    };
    let state = cluster.block_on(until(&mut stream, replaced)).unwrap();
    let held = Held::in_state(&state, "/w");
    assert!(held.trusts(&held.svid) && !first.trusts(&held.svid));
    assert_eq!(
        Held::in_state(&state, "/after").svid.serial(),
        after.svid.serial(),
        "the other authority signed it"
    );
    assert!(held.trusts(&first.svid), "a tainted authority is trusted still");
    let tainted = cluster.bundle().x509_authorities;
    assert_eq!(tainted.iter().filter(|authority| authority.tainted).count(), 1);

    until_replaced(cluster);
    command(cluster, &["revoke", "x509", &old]);
    assert_eq!(cluster.bundle().x509_authorities.len(), 1);
    let dropped = |state: &X509svidResponse| both(state) && Held::in_state(state, "/w").authorities() == 1;
    let state = cluster.block_on(until(&mut stream, dropped)).unwrap();
    for path in ["/w", "/after"] {
        let held = Held::in_state(&state, path);
        assert!(held.trusts(&held.svid) && !held.trusts(&first.svid), "{path}");
    }
}

fn tokens_are_replaced_and_the_bundle_drops_it(cluster: &Cluster) {
    let token = || cluster.block_on(token(cluster));
    let judged = |token: &str| cluster.block_on(validate(cluster, AUDIENCE, token));
    cluster.block_on(opened(cluster, &["/w", "/after"]));
    let old = signing(cluster, "jwt");
    let first = token();
    command(cluster, &["prepare", "jwt"]);
    command(cluster, &["activate", "jwt"]);
    judged(&first).expect("its key is in the bundle");
    assert_eq!(token(), first, "replaced without need");

    command(cluster, &["taint", "jwt", &old]);
    let mut second = first.clone();
    watch("a token of the other key", || {
        second = token();
        second != first
    });
    judged(&second).expect("the other key is in the bundle");
    judged(&first).expect("a tainted key is trusted still");

    until_replaced(cluster);
    command(cluster, &["revoke", "jwt", &old]);
    let keys = cluster.bundle().jwt_authorities;
    assert!(keys.len() == 1 && keys[0].key_id != old);
    watch("the token of the revoked key to be refused", || {
        judged(&first).is_err_and(|refused| {
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
            true
        })
    });
    judged(&second).expect("nothing became of the other key");
    assert_eq!(token(), second);
}

/// An SVID of a state, and the bundle that came with it.
struct Held {
    svid: X509Svid,
    bundles: BundleSet,
}

impl Held {
    fn in_state(state: &X509svidResponse, path: &str) -> Self {
        let id = format!("spiffe://example.org{path}");
        let held = state.svids.iter().find(|held| held.spiffe_id == id);
        let held = held.expect("who asks for it has seen that it is there");
        let id: SpiffeId = id.parse().unwrap();
        let bundle = Bundle::from_der_concat(id.trust_domain().clone(), &held.bundle).unwrap();
        Self {
            svid: X509Svid::from_der_concat(&held.x509_svid).unwrap(),
            bundles: BundleSet::new(std::sync::Arc::new(bundle)),
        }
    }

    fn authorities(&self) -> usize {
        self.bundles.own().x509_authorities().len()
    }

    /// Whether an SVID counts for who holds this bundle.
    fn trusts(&self, svid: &X509Svid) -> bool {
        verify_x509_svid(svid.chain(), &self.bundles, now()).is_ok()
    }
}

async fn token(cluster: &Cluster) -> String {
    let message = JwtsvidRequest {
        audience: vec![AUDIENCE.to_owned()],
        spiffe_id: "spiffe://example.org/w".to_owned(),
    };
    let mut client = client(cluster).await;
    let fetched = within(client.fetch_jwtsvid(request(message))).await.unwrap();
    fetched.into_inner().svids.remove(0).svid
}

/// Waits until the node says that nothing is left of what a tainted authority signed.
fn until_replaced(cluster: &Cluster) {
    watch("everything to be replaced", || {
        let progress = cluster.block_on(async {
            let mut rotation = RotationClient::new(cluster.channel().await);
            let progress = rotation.get_progress(GetProgressRequest {}).await;
            progress.unwrap().into_inner()
        });
        (progress.connected, progress.informed, progress.outdated) == (1, 1, 0)
    });
}

fn command(cluster: &Cluster, args: &[&str]) -> Value {
    let words = [&["--output", "json", "authority"], args].concat();
    serde_json::from_str(&cluster.muster_ok(&words)).unwrap()
}

/// The id of what signs now.
fn signing(cluster: &Cluster, kind: &str) -> String {
    let shown = command(cluster, &["show", kind]);
    shown[kind]["active"]["authority_id"].as_str().unwrap().to_owned()
}
