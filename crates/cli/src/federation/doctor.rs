//! `muster federation doctor`: what each side sees, and what is wrong, in one page.

use muster_identity::TrustDomain;
use muster_proto::{federation::Peer, spire::server::trustdomain::RefreshBundleRequest};
use muster_runtime::{Clock, SystemClock};
use serde_json::{Value, json};
use tonic::Code;

use super::{ours, peers, spire, view};
use crate::{
    args::ServerSocket,
    bundle,
    connect::{Daemon, connect},
    failure::{Failure, clean},
    output::{self, Answer},
};

#[derive(clap::Args, Debug)]
pub(crate) struct Doctor {
    /// Only this trust domain.
    #[arg(value_name = "TRUST DOMAIN")]
    trust_domain: Option<TrustDomain>,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Doctor {
    pub(super) async fn run(self) -> Result<Answer, Failure> {
        let mut ours = ours(&self.socket).await?;
        let mut spire = spire(&self.socket).await?;
        // A try of now: what the last one said may be hours old.
        for peer in peers(&mut ours, self.trust_domain.as_ref()).await? {
            if peer.revoked_at != 0 || view::source(&peer) == "set by hand" {
                continue;
            }
            let request = RefreshBundleRequest {
                trust_domain: peer.trust_domain.clone(),
            };
            match spire.refresh_bundle(request).await {
                // How it went is in what is read next.
                Ok(_) => {}
                Err(status) if matches!(status.code(), Code::Internal | Code::NotFound) => {}
                Err(status) => return Err(Failure::status("could not try the endpoints", &status)),
            }
        }
        let channel = connect(&self.socket.path, Daemon::Server).await?;
        let own =
            bundle::own(&mut muster_proto::spire::server::bundle::bundle_client::BundleClient::new(channel))
                .await?;
        let examined = peers(&mut ours, self.trust_domain.as_ref()).await?;
        let mut text = output::block([
            ("We are", own.trust_domain().to_string()),
            (
                "Our bundle",
                own.sequence()
                    .map(|sequence| format!("sequence {sequence}"))
                    .unwrap_or_default(),
            ),
        ]);
        let mut sick = false;
        let mut shown = Vec::new();
        for peer in &examined {
            let faults = faults(peer);
            sick |= !faults.is_empty();
            text.push_str("\n\n");
            text.push_str(&page(peer, &faults));
            shown.push(json!({ "peer": view::json(peer), "faults": faults }));
        }
        if examined.is_empty() {
            text.push_str("\n\nNobody is federated with: muster federation create");
        }
        Ok(Answer::new(text, Value::Array(shown)).incomplete(sick))
    }
}

fn page(peer: &Peer, faults: &[String]) -> String {
    let now = SystemClock.now();
    let mut text = clean(&peer.trust_domain);
    text.push('\n');
    let they = match view::asked_us(peer, now) {
        seen if seen.is_empty() => "nobody who says that he is they has asked for our bundle".to_owned(),
        seen => format!("last asked {seen} (nothing proves who asked)"),
    };
    text.push_str(&output::block([
        (
            "  We see",
            format!("{}, from {}", view::bundle(peer), view::source(peer)),
        ),
        ("  Confirmed", view::moment(peer.confirmed_at, now)),
        ("  Renewed", view::cadence(peer)),
        ("  They see", they),
        ("  Entries", format!("{} federate with them", peer.entries)),
    ]));
    for fault in faults {
        text.push_str("\n  WRONG: ");
        text.push_str(fault);
    }
    if faults.is_empty() {
        text.push_str("\n  Nothing is wrong");
    }
    text
}

/// What is wrong, each with the next step.
fn faults(peer: &Peer) -> Vec<String> {
    let name = clean(&peer.trust_domain);
    let mut faults = Vec::new();
    if peer.revoked_at != 0 {
        faults.push(format!(
            "it is revoked: muster federation release {name} lets it count again"
        ));
        return faults;
    }
    if !peer.failure.is_empty() {
        let failure = clean(&peer.failure);
        let next = match () {
            () if failure.contains("there is no bundle of") => {
                format!("hand over their bundle: muster bundle set {name} FILE")
            }
            () if failure.contains("older than") => format!(
                "they were set back, or somebody replays an old bundle; ask them, and if it is right: muster bundle set {name} FILE"
            ),
            () if failure.contains("UnknownIssuer") => {
                format!("the endpoint's certificate is of an authority that we do not hold; compare bundles with them, then: muster bundle set {name} FILE")
            }
            () if failure.contains("the TLS handshake") => "look with them at the certificate that their endpoint shows, and at profile, URL and endpoint ID here".to_owned(),
            () if failure.contains("connecting to") || failure.contains("looking up") => {
                "look whether their endpoint runs and can be reached from here".to_owned()
            }
            () => "muster federation show has the rest".to_owned(),
        };
        faults.push(format!("{failure}; {next}"));
    }
    if !peer.has_bundle {
        faults.push("no bundle of theirs is held: nothing of them verifies".to_owned());
    } else if peer.x509_authorities == 0 && peer.jwt_authorities == 0 {
        faults.push(
            "their bundle has no key: they have revoked everything, or publish only what we can't use"
                .to_owned(),
        );
    }
    for other in &peer.shares_keys_with {
        faults.push(format!(
            "a key of theirs is also one of {}: whoever holds it speaks for both",
            clean(other)
        ));
    }
    for remark in &peer.remarks {
        faults.push(clean(remark));
    }
    if peer.entries == 0 {
        faults.push(format!(
            "no entry federates with them, so no workload gets their bundle: muster entry update --federates-with {name}"
        ));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_comes_with_a_next_step_and_a_healthy_peer_has_none() {
        let healthy = Peer {
            trust_domain: "b.example".into(),
            has_bundle: true,
            x509_authorities: 1,
            jwt_authorities: 1,
            entries: 1,
            ..Peer::default()
        };
        assert!(faults(&healthy).is_empty());
        assert!(page(&healthy, &[]).contains("Nothing is wrong"));
        let sick = Peer {
            failure: "there is no bundle of b.example to verify the endpoint with\u{1b}".into(),
            shares_keys_with: vec!["a.example".into()],
            has_bundle: false,
            ..healthy.clone()
        };
        let told = faults(&sick).join("\n");
        assert!(
            told.contains("muster bundle set b.example FILE") && told.contains("a.example"),
            "{told}"
        );
        assert!(!told.contains('\u{1b}'));
        let revoked = Peer {
            revoked_at: 1,
            ..sick
        };
        assert_eq!(faults(&revoked).len(), 1);
    }
}
