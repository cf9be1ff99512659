//! Orders for SVIDs and tokens that are on their way to the server, without IO.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use muster_identity::{EntryId, UnixTime};
use muster_pki::jwt::JwtSvid;
use muster_pki::x509::X509Svid;
use muster_pki::{KeyAlgorithm, LocalKey, SecretBytes};
use muster_proto::node::{self, issue_request, issue_response};
use muster_proto::spire::types;
use tokio::time::Instant;
use tracing::warn;

use crate::cache::{HeldX509, JwtOrder, SignFailure, SignOrder};

/// gRPC codes that tell a refusal from a failure that may heal.
mod code {
    pub(super) const OK: i32 = 0;
    pub(super) const CANCELLED: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const DEADLINE_EXCEEDED: i32 = 4;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const ABORTED: i32 = 10;
    pub(super) const INTERNAL: i32 = 13;
    pub(super) const UNAVAILABLE: i32 = 14;
}

/// A key that was made for an order, and the request for its certificate.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) order: SignOrder,
    pub(super) key: SecretBytes,
    pub(super) csr: Vec<u8>,
}

/// What came back.
#[derive(Debug)]
pub(super) enum Answer {
    /// Of a batch: an SVID or none for each entry.
    X509(Vec<(EntryId, Result<HeldX509, SignFailure>)>),
    /// Of one order for a token.
    Jwt(JwtOrder, Result<Arc<JwtSvid>, SignFailure>),
}

/// Requests without an answer yet.
#[derive(Debug, Default)]
pub(super) struct Issuing {
    next: u64,
    open: HashMap<u64, (Instant, Open)>,
}

#[derive(Debug)]
enum Open {
    X509(Vec<(SignOrder, SecretBytes)>),
    Jwt(JwtOrder),
}

/// Makes a new key and a certificate request for each order. Costs CPU: it runs where that blocks nobody.
pub(super) fn prepare(orders: Vec<SignOrder>, algorithm: KeyAlgorithm) -> Vec<Result<Prepared, EntryId>> {
    let prepared = orders.into_iter().map(|order| {
        let made = || {
            let key = LocalKey::generate(algorithm)?;
            let csr = muster_pki::x509::create_csr(&key, Some(&order.id))?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((key.to_pkcs8()?, csr))
        };
        match made() {
            Ok((key, csr)) => Ok(Prepared { order, key, csr }),
            Err(error) => {
                warn!(entry_id = %order.entry_id, error = &*error as &dyn std::error::Error, "no key could be made");
                Err(order.entry_id)
            }
        }
    });
    prepared.collect()
}

impl Issuing {
    /// How many batches of certificate requests are unanswered.
    pub(super) fn batches_out(&self) -> usize {
        self.open
            .values()
            .filter(|(_, open)| matches!(open, Open::X509(_)))
            .count()
    }

    /// Whether everything is answered.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The request for a batch, and its answer's place.
    pub(super) fn ask_x509(&mut self, batch: Vec<Prepared>, until: Instant) -> node::IssueRequest {
        let mut items = Vec::with_capacity(batch.len());
        let mut open = Vec::with_capacity(batch.len());
        for Prepared { order, key, csr } in batch {
            items.push(node::X509Item {
                entry_id: order.entry_id.to_string(),
                csr,
            });
            open.push((order, key));
        }
        self.ask(
            Open::X509(open),
            issue_request::What::X509(node::X509Request { items }),
            until,
        )
    }

    /// The request for a token, and its answer's place.
    pub(super) fn ask_jwt(&mut self, order: JwtOrder, until: Instant) -> node::IssueRequest {
        let request = node::JwtRequest {
            entry_id: order.entry_id.to_string(),
            audience: order.audience.to_vec(),
        };
        self.ask(Open::Jwt(order), issue_request::What::Jwt(request), until)
    }

    /// Takes an answer. None: it belongs to nothing that is open, for instance because it came too late.
    pub(super) fn receive(&mut self, response: node::IssueResponse, now: UnixTime) -> Option<Answer> {
        let (_, open) = self.open.remove(&response.request)?;
        match (open, response.what) {
            (Open::X509(orders), Some(issue_response::What::X509(response))) => {
                Some(x509_answer(orders, response.results, now))
            }
            (Open::Jwt(order), Some(issue_response::What::Jwt(response))) => {
                let result = token(&order, response);
                Some(Answer::Jwt(order, result))
            }
            (open, Some(issue_response::What::Refused(status))) => {
                warn!(code = status.code, message = %status.message, "the server refused a request");
                Some(open.failed(failure_of(status.code)))
            }
            (open, _) => {
                warn!("the server's answer is none to what was asked");
                Some(open.failed(SignFailure::Refused))
            }
        }
    }

    /// When the first request has waited too long.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.open.values().map(|(until, _)| *until).min()
    }

    /// The requests that have waited too long. Their answers are not waited for any more.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<Answer> {
        let late = self.open.extract_if(|_, (until, _)| *until <= now);
        late.map(|(_, (_, open))| open.failed(SignFailure::Unreachable))
            .collect()
    }

    /// The connection is gone, and all that was asked on it.
    pub(super) fn abandon(&mut self) -> Vec<Answer> {
        self.open
            .drain()
            .map(|(_, (_, open))| open.failed(SignFailure::Unreachable))
            .collect()
    }

    fn ask(&mut self, open: Open, what: issue_request::What, until: Instant) -> node::IssueRequest {
        self.next += 1;
        self.open.insert(self.next, (until, open));
        node::IssueRequest {
            request: self.next,
            what: Some(what),
        }
    }
}

impl Open {
    fn failed(self, failure: SignFailure) -> Answer {
        match self {
            Self::X509(orders) => Answer::X509(
                orders
                    .into_iter()
                    .map(|(order, _)| (order.entry_id, Err(failure)))
                    .collect(),
            ),
            Self::Jwt(order) => Answer::Jwt(order, Err(failure)),
        }
    }
}

fn x509_answer(
    orders: Vec<(SignOrder, SecretBytes)>,
    results: Vec<node::X509Result>,
    now: UnixTime,
) -> Answer {
    // A result that lacks is a failure that may heal; one too many is nobody's.
    let mut results = results.into_iter();
    let each = orders.into_iter().map(|(order, key)| {
        let result = match results.next() {
            Some(result) => svid(&order, key, result, now),
            None => Err(SignFailure::Unreachable),
        };
        (order.entry_id, result)
    });
    Answer::X509(each.collect())
}

/// The SVID of a result, if it is what was asked for: this name and this key (I13: what was checked is what is kept).
pub(super) fn svid(
    order: &SignOrder,
    key: SecretBytes,
    result: node::X509Result,
    now: UnixTime,
) -> Result<HeldX509, SignFailure> {
    let refused = |why: &dyn std::fmt::Display| {
        warn!(entry_id = %order.entry_id, spiffe_id = %order.id, %why, "no SVID was signed");
        SignFailure::Refused
    };
    let status = result.status.unwrap_or(types::Status {
        code: code::UNKNOWN,
        message: "no status".into(),
    });
    if status.code != code::OK {
        refused(&status.message);
        return Err(failure_of(status.code));
    }
    let chain = result
        .svid
        .ok_or_else(|| refused(&"the server sent none"))?
        .cert_chain;
    let svid =
        X509Svid::parse(chain.into_iter().map(Into::into).collect()).map_err(|error| refused(&error))?;
    if *svid.id() != order.id {
        return Err(refused(
            &"the server signed another name; the entry changed meanwhile",
        ));
    }
    let own = LocalKey::from_pkcs8(key.expose_secret()).map_err(|error| refused(&error))?;
    if svid.public_key() != muster_pki::Signer::public_key(&own) {
        return Err(refused(&"the server signed another key"));
    }
    Ok(HeldX509 {
        id: order.id.clone(),
        chain: Bytes::from(svid.chain_der_concat()),
        key,
        received: now,
        expires: svid.not_after(),
        version: result.x509_version,
    })
}

/// The token of a response, if it is what was asked for. Whose it is, the cache checks.
pub(super) fn token(order: &JwtOrder, response: node::JwtResponse) -> Result<Arc<JwtSvid>, SignFailure> {
    let refused = |why: &dyn std::fmt::Display| {
        warn!(entry_id = %order.entry_id, %why, "no token was signed");
        SignFailure::Refused
    };
    let status = response.status.unwrap_or(types::Status {
        code: code::UNKNOWN,
        message: "no status".into(),
    });
    if status.code != code::OK {
        refused(&status.message);
        return Err(failure_of(status.code));
    }
    let token = response
        .svid
        .ok_or_else(|| refused(&"the server sent none"))?
        .token;
    let svid = JwtSvid::parse_unverified(token).map_err(|error| refused(&error))?;
    if svid.audience() != &*order.audience {
        return Err(refused(&"the server signed another audience"));
    }
    Ok(Arc::new(svid))
}

pub(super) fn failure_of(status: i32) -> SignFailure {
    match status {
        code::CANCELLED
        | code::UNKNOWN
        | code::DEADLINE_EXCEEDED
        | code::RESOURCE_EXHAUSTED
        | code::ABORTED
        | code::INTERNAL
        | code::UNAVAILABLE => SignFailure::Unreachable,
        _ => SignFailure::Refused,
    }
}
