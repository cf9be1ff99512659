//! The only way from an error to a gRPC status.
//!
//! The caller learns what he may act on, and a reference; the log gets the rest under the same reference, with what an operator can do.

use muster_identity::SpiffeId;
use muster_pki::jwt::VerifyJwtError;
use muster_runtime::Reference;
use muster_transport::Refusal;
use tonic::{Code, Status};
use tracing::{info, warn};

use crate::cache::JwtFetchError;
use crate::peer::{AttestedCaller, Turned};

/// How many facts and gaps a log line names.
const SHOWN: usize = 24;

/// Why a call of the Workload API is refused.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The header that a forged web request can't have is missing (Workload Endpoint 3).
    #[error("security header missing from request")]
    NoHeader,
    /// A field of the request is wrong.
    #[error("{field}: {reason}")]
    Argument {
        /// Which one.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The token is not valid.
    #[error("the JWT-SVID is not valid")]
    Token(#[source] VerifyJwtError),
    /// The caller does not prove its presence, or is not what it was.
    #[error("workload attestation failed")]
    Attestation(#[source] Turned),
    /// The caller is known, and nobody registered it.
    #[error("no identity issued")]
    NoIdentity,
    /// It is known, and this identity is not its.
    #[error("no identity issued")]
    NotYours(SpiffeId),
    /// What lacks for an identity may be known a moment later: an attestor failed.
    #[error("workload attestation is incomplete")]
    Incomplete,
    /// The server was not heard yet, or did not sign yet.
    #[error("{0}")]
    NotReady(&'static str),
    /// The caller calls too often.
    #[error("too many requests from this workload")]
    TooMany,
    /// No token could be had.
    #[error("no JWT-SVID could be issued")]
    Jwt(#[source] JwtFetchError),
    /// It could not be recorded, so nothing leaves.
    #[error("the audit log can't be written")]
    Audit(#[source] muster_audit::AuditError),
    /// The node agent is stopping.
    #[error("the node agent is stopping")]
    Stopping,
    /// There is no such method, or its profile is not offered.
    #[error("{0} is not offered")]
    Unimplemented(String),
}

impl Refused {
    /// The status code, as the standards and SPIRE's clients expect it.
    pub fn code(&self) -> Code {
        match self {
            Self::NoHeader | Self::Argument { .. } | Self::Token(_) => Code::InvalidArgument,
            Self::Attestation(Turned::Presence(refusal)) if refusal.is_temporary() => Code::Unavailable,
            Self::Attestation(_) | Self::NoIdentity | Self::NotYours(_) => Code::PermissionDenied,
            Self::Incomplete
            | Self::NotReady(_)
            | Self::TooMany
            | Self::Jwt(_)
            | Self::Audit(_)
            | Self::Stopping => Code::Unavailable,
            Self::Unimplemented(_) => Code::Unimplemented,
        }
    }

    /// Whether this is a decision about the caller that belongs into the audit log.
    pub fn is_decision(&self) -> bool {
        self.code() == Code::PermissionDenied
    }

    /// What the caller is told beside the message: only what he may act on. Of a token, the rule it breaks; never what others have.
    fn detail(&self) -> Option<String> {
        match self {
            Self::Token(error) => Some(error.to_string()),
            Self::Attestation(Turned::Presence(Refusal::Silent { .. })) => {
                Some("the connection did not answer an HTTP/2 PING".to_owned())
            }
            Self::Jwt(
                error @ (JwtFetchError::NotReady | JwtFetchError::Busy | JwtFetchError::Unreachable),
            ) => Some(error.to_string()),
            _ => None,
        }
    }

    /// What an operator can do about it.
    fn advice(&self) -> &'static str {
        match self {
            Self::NoHeader => {
                "the client must send the metadata workload.spiffe.io: true; SPIFFE libraries do"
            }
            Self::Argument { .. } | Self::Token(_) => "the workload sent a wrong request",
            Self::Attestation(_) => {
                "the process that calls must be the one that connected, unchanged, and answer HTTP/2 PINGs"
            }
            Self::NoIdentity | Self::NotYours(_) => {
                "create an entry for this node whose selectors are all among the facts (muster entry create)"
            }
            Self::Incomplete => {
                "look at the gaps: an attestor was down or slow, and an entry needs its facts"
            }
            Self::NotReady(_) | Self::Jwt(_) => "look at this node agent's connection to its server",
            Self::TooMany => "the workload calls in a loop; it should keep its stream open",
            Self::Audit(_) => {
                "make room for the audit log or repair its disk; nothing is handed out without it"
            }
            Self::Stopping => "nothing",
            Self::Unimplemented(_) => "the workload asks for what this node agent does not offer",
        }
    }
}

/// Who is refused.
#[derive(Clone, Copy, Debug)]
pub struct Whom<'a> {
    /// Its process number.
    pub pid: u32,
    /// Its real uid, if its evidence was taken.
    pub uid: Option<u32>,
    /// What is known of it, if it was attested.
    pub caller: Option<&'a AttestedCaller>,
}

/// Whether a refusal is logged: what one caller does too often is only counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loudness {
    /// One line.
    Logged,
    /// None.
    Quiet,
}

/// The status for a refusal, with the reference that the log line and the audit record carry too.
pub fn status(
    refused: &Refused,
    method: &str,
    whom: Whom<'_>,
    reference: Reference,
    loudness: Loudness,
) -> Status {
    if loudness == Loudness::Logged {
        log(refused, method, whom, reference);
    }
    let message = match refused.detail() {
        Some(detail) => format!("{refused}: {detail}"),
        None => refused.to_string(),
    };
    Status::new(refused.code(), reference.sign(message))
}

fn log(refused: &Refused, method: &str, Whom { pid, uid, caller }: Whom<'_>, reference: Reference) {
    let error: &dyn std::error::Error = refused;
    let advice = refused.advice();
    let facts = caller.map(|caller| list(caller.facts().iter().map(|fact| fact.selector().to_string())));
    let gaps = caller.map(|caller| list(caller.gaps().iter().map(ToString::to_string)));
    let (facts, gaps) = (facts.unwrap_or_default(), gaps.unwrap_or_default());
    let code = refused.code();
    match refused {
        // A person must act, or at least know.
        Refused::Audit(_) | Refused::Attestation(Turned::Presence(Refusal::OtherSender { .. })) => {
            warn!(%reference, method, pid, uid, ?code, error, facts, gaps, advice, "refused");
        }
        _ => info!(%reference, method, pid, uid, ?code, error, facts, gaps, advice, "refused"),
    }
}

fn list(items: impl Iterator<Item = String>) -> String {
    let mut items = items;
    let shown: Vec<String> = items.by_ref().take(SHOWN).collect();
    match items.count() {
        0 => shown.join(" "),
        more => format!("{} …(+{more})", shown.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_code_of_the_standard_and_a_reference() {
        let reference = Reference::new();
        let whom = Whom {
            pid: 1,
            uid: None,
            caller: None,
        };
        let cases = [
            (Refused::NoHeader, Code::InvalidArgument),
            (Refused::NoIdentity, Code::PermissionDenied),
            (
                Refused::NotYours("spiffe://example.org/a".parse().unwrap()),
                Code::PermissionDenied,
            ),
            (Refused::Incomplete, Code::Unavailable),
            (Refused::NotReady("not yet"), Code::Unavailable),
            (Refused::TooMany, Code::Unavailable),
            (
                Refused::Attestation(Turned::Presence(Refusal::Silent { pid: 1 })),
                Code::Unavailable,
            ),
            (
                Refused::Attestation(Turned::Presence(Refusal::OtherSender { pid: 1, sender: 2 })),
                Code::PermissionDenied,
            ),
            (
                Refused::Unimplemented("FetchWITSVID".to_owned()),
                Code::Unimplemented,
            ),
        ];
        for (refused, code) in cases {
            let status = status(&refused, "FetchX509SVID", whom, reference, Loudness::Quiet);
            assert_eq!(status.code(), code, "{refused}");
            assert!(
                status.message().ends_with(&format!("(reference {reference})")),
                "{}",
                status.message()
            );
            assert!(
                !status.message().contains("example.org"),
                "a refusal does not say what others have"
            );
        }
    }
}
