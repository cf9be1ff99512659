//! Tainting and revoking roots of the upstream authority, by SPIRE's rules and in its words: a root may go that signed an authority of ours that signs no more, and none
//! that signs or will.

use muster_audit::{Action, Event, Object, Outcome};
use muster_pki::bundle::{AuthorityStanding, Bundle};
use muster_pki::x509::AuthorityId;
use tonic::Code;

use super::{Caller, Context, Refusal};
use crate::ca::life::{Authority, Stage};
use crate::ca::{Kind, Origins, RecordError, Upstream, change_own_bundle};

/// What is done to a root.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Taint,
    Revoke,
}

impl Verdict {
    fn action(self) -> Action {
        match self {
            Self::Taint => Action::AuthorityTaint,
            Self::Revoke => Action::AuthorityRevoke,
        }
    }

    /// What SPIRE's tools print before the reason.
    fn invalid(self) -> &'static str {
        match self {
            Self::Taint => "provided subject key id is not valid",
            Self::Revoke => "invalid subject key ID",
        }
    }

    fn failed(self) -> &'static str {
        match self {
            Self::Taint => "failed to taint upstream authority",
            Self::Revoke => "failed to revoke X.509 upstream authority",
        }
    }
}

/// Taints or revokes the root with this subject key id. Answers with the id as it is kept.
pub(super) async fn judge(
    context: &Context,
    caller: &Caller,
    verdict: Verdict,
    subject_key_id: &str,
) -> Result<String, Refusal> {
    let id = subject_key_id.to_ascii_lowercase();
    let event = |outcome| {
        Event::new(caller.actor(), verdict.action(), outcome)
            .object(Object::authority(&id))
            .fact("kind", "x509_upstream")
    };
    let judged = async {
        // Refused before it is recorded as done; decided once more on what is then committed.
        decide(context, verdict, &id, &mut (*context.bundles.own()).clone())?;
        context.record(event(Outcome::Done)).await?;
        let Context {
            registry,
            bundles,
            trust_domain,
            ..
        } = context;
        change_own_bundle(registry, bundles, trust_domain, Vec::new(), |bundle| {
            decide(context, verdict, &id, bundle)
        })
        .await
    };
    match judged.await {
        Ok(()) => Ok(id),
        Err(refusal) => Err(context.refused(refusal, event).await),
    }
}

fn decide(context: &Context, verdict: Verdict, id: &str, bundle: &mut Bundle) -> Result<(), Refusal> {
    let unread = |error: RecordError| Refusal::internal("the authorities can't be read").because(error);
    let held = context.authorities.held(Kind::X509).map_err(unread)?;
    let stands = bundle
        .x509_authorities()
        .iter()
        .any(|root| root.id().as_str() == id);
    // Our own are judged by their own commands.
    let is_own = held.iter().any(|own| own.id == id);
    let origins = Origins::read(&context.registry.view()).map_err(unread)?;
    let told = |upstream: &Upstream| origins.is_told_by(&upstream.whom(), Kind::X509, id);
    let told = context.upstream.as_ref().is_some_and(told);
    let root = match stands && !is_own && !told {
        true => Root::Strange,
        false => Root::Upstream,
    };
    if context.upstream.is_none() && root == Root::Upstream {
        let text = "upstream authority is not configured";
        return Err(Refusal::new(Code::FailedPrecondition, text));
    }
    let unfit = |why: &str| Refusal::invalid(format!("{}: {why}", verdict.invalid()));
    may_go(&held, id, root).map_err(unfit)?;
    let id: AuthorityId = id.parse().map_err(|_| unfit("it is no subject key ID"))?;
    let wrong = |why: &str| Refusal::new(Code::FailedPrecondition, format!("{}: {why}", verdict.failed()));
    match (verdict, bundle.x509_standing(&id)) {
        (_, AuthorityStanding::Absent) => Err(wrong("no ca found with provided subject key ID")),
        (Verdict::Taint, AuthorityStanding::Tainted) => Err(wrong("root CA is already tainted")),
        (Verdict::Taint, AuthorityStanding::Trusted) => {
            let roots = bundle.x509_authorities().iter().filter(|root| *root.id() == id);
            for root in roots.cloned().collect::<Vec<_>>() {
                bundle.put_x509_authority(root.with_taint(true));
            }
            Ok(())
        }
        (Verdict::Revoke, AuthorityStanding::Trusted) => {
            Err(wrong("it is not possible to revoke an untainted root CA"))
        }
        (Verdict::Revoke, AuthorityStanding::Tainted) => {
            bundle.retain_x509_authorities(|root| *root.id() != id);
            Ok(())
        }
    }
}

/// Where a root of our bundle comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Root {
    /// From the upstream authority, as far as we know.
    Upstream,
    /// An administrator appended it, or it is of an upstream authority that has been left. It counts to its end unless somebody takes it out.
    Strange,
}

/// Whether nothing of ours that signs, or will sign, stands below the root; and something that signed does, unless the root is a strange one.
fn may_go(held: &[Authority], id: &str, root: Root) -> Result<(), &'static str> {
    if id.is_empty() {
        return Err("no subject key ID provided");
    }
    let below = |stages: &[Stage]| {
        let mut below = held.iter().filter(|own| own.upstream.as_deref() == Some(id));
        below.any(|own| stages.contains(&own.stage))
    };
    if below(&[Stage::Active]) {
        // SPIRE's spelling: scripts compare it.
        return Err("unable to use upstream authority singing current authority");
    }
    if below(&[Stage::Prepared]) {
        return Err("only upstream authorities signing an old authority can be used");
    }
    if root == Root::Upstream && !below(&[Stage::Old, Stage::Tainted]) {
        return Err("upstream authority didn't sign the old local authority");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use muster_identity::UnixTime;

    use super::*;

    #[test]
    fn a_root_may_go_that_signed_what_signs_no_more() {
        let below = |root: &str, stage| Authority {
            id: format!("{root}-{stage:?}"),
            issued_at: UnixTime::from_secs(0),
            not_after: UnixTime::from_secs(60),
            stage,
            upstream: Some(root.to_owned()),
        };
        let held = [
            below("aa", Stage::Old),
            below("bb", Stage::Old),
            below("bb", Stage::Active),
            below("cc", Stage::Old),
            below("cc", Stage::Prepared),
        ];
        assert_eq!(may_go(&held, "aa", Root::Upstream), Ok(()));
        let refused = ["", "bb", "cc", "dd"].map(|id| may_go(&held, id, Root::Upstream).unwrap_err());
        assert_eq!(
            refused,
            [
                "no subject key ID provided",
                "unable to use upstream authority singing current authority",
                "only upstream authorities signing an old authority can be used",
                "upstream authority didn't sign the old local authority",
            ]
        );
    }

    #[test]
    fn a_strange_root_may_go_unless_something_stands_below_it() {
        let below = Authority {
            id: "below".to_owned(),
            issued_at: UnixTime::from_secs(0),
            not_after: UnixTime::from_secs(60),
            stage: Stage::Active,
            upstream: Some("signs".to_owned()),
        };
        assert_eq!(
            may_go(std::slice::from_ref(&below), "strange", Root::Strange),
            Ok(())
        );
        may_go(&[below], "signs", Root::Strange).unwrap_err();
    }
}
