//! What somebody may command beside what time does, by SPIRE's rules and in its words, which its tools print.

use std::time::Duration;

use muster_identity::UnixTime;

use super::{Authority, Order, Stage, active, prepared};
use crate::ca::Kind;

/// How many authorities of one kind may be held before nobody may command another: each stands in every bundle that is sent. By time there are five at most.
const MOST: usize = 16;

/// What somebody wants. Each names the authority that it is about, except the one that makes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Command {
    /// Make one that is to sign next, in the place of one that was.
    Prepare,
    /// Let the prepared one sign.
    Activate(String),
    /// Have everything made again that this old one signed.
    Taint(String),
    /// Trust this tainted one no more.
    Revoke(String),
}

impl Command {
    /// Whether it is about what signed, and not about what is to sign.
    pub fn judges(&self) -> bool {
        matches!(self, Self::Taint(_) | Self::Revoke(_))
    }
}

/// How the bundle has an id that may be of no authority of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Published {
    /// Not at all.
    Absent,
    /// As one that is trusted.
    Trusted,
    /// As one that is tainted.
    Tainted,
}

/// Why a command is not done.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refused {
    /// Nothing signs yet.
    #[error("server is initializing")]
    Initializing,
    /// There are too many already.
    #[error("{MOST} authorities are held; revoke old ones, or wait for their end")]
    TooMany,
    /// No id.
    #[error("no authority ID provided")]
    NoId,
    /// The id is of no authority that the command is for.
    #[error("unexpected authority ID")]
    Unexpected,
    /// It would cut short what it signs (I8).
    #[error("the prepared authority would end before what it is to sign; prepare another")]
    EndsTooSoon,
    /// What signs is not tainted: what it signs next would have to be made again at once.
    #[error("unable to taint current local authority")]
    TaintsActive,
    /// It signed nothing.
    #[error("only Old local authorities can be tainted")]
    TaintsPrepared,
    /// It is tainted.
    #[error("{}", match .0 {
        Kind::X509 => "failed to taint X.509 authority: root CA is already tainted",
        Kind::Jwt => "failed to taint JWT authority: key is already tainted",
    })]
    TaintedAlready(Kind),
    /// What signs is not revoked.
    #[error("unable to use current authority")]
    RevokesActive,
    /// It is to sign.
    #[error("unable to use a prepared key")]
    RevokesPrepared,
    /// It is none that has signed.
    #[error("{}", match .0 {
        Kind::X509 => "only Old local authority can be revoked",
        Kind::Jwt => "no JWT authority found with provided authority ID",
    })]
    NotOld(Kind),
    /// It was not tainted before, so what it signed is in use.
    #[error("{}", match .0 {
        Kind::X509 => "failed to revoke X.509 authority: it is not possible to revoke an untainted root CA",
        Kind::Jwt => "failed to revoke JWT authority: it is not possible to revoke an untainted key",
    })]
    Untainted(Kind),
    /// It is not ours to taint, but the upstream's root.
    #[error("local authority can't be tainted if there is an upstream authority")]
    TaintsBelowUpstream,
    /// It is not in the bundle.
    #[error("local authority can't be revoked if there is an upstream authority")]
    RevokesBelowUpstream,
}

/// What a command comes to. An order to activate is carried out when [`super::due`] gives it: before that the nodes must hold what will sign.
pub fn decide(
    kind: Kind,
    held: &[Authority],
    published: Published,
    command: &Command,
    longest_leaf: Duration,
    now: UnixTime,
) -> Result<Order, Refused> {
    // What signed before can be judged also where nothing is to sign any more.
    if active(held).is_none() && !command.judges() {
        return Err(Refused::Initializing);
    }
    match command {
        Command::Prepare if held.len() >= MOST => Err(Refused::TooMany),
        Command::Prepare => Ok(Order::Prepare),
        Command::Activate(id) => match prepared(held) {
            _ if id.is_empty() => Err(Refused::NoId),
            Some(next) if next.id != *id => Err(Refused::Unexpected),
            None => Err(Refused::Unexpected),
            Some(next) if !next.may_begin(longest_leaf, now) => Err(Refused::EndsTooSoon),
            Some(_) => Ok(Order::Activate(id.clone())),
        },
        Command::Taint(id) if is_below_upstream(held, id) => Err(Refused::TaintsBelowUpstream),
        Command::Taint(id) => match stage(held, id) {
            _ if id.is_empty() => Err(Refused::NoId),
            // A key that another server published: whoever made it may be gone.
            None => match (kind, published) {
                (Kind::Jwt, Published::Trusted) => Ok(Order::Taint(id.clone())),
                (Kind::Jwt, Published::Tainted) => Err(Refused::TaintedAlready(kind)),
                _ => Err(Refused::Unexpected),
            },
            Some(Stage::Active) => Err(Refused::TaintsActive),
            Some(Stage::Prepared) => Err(Refused::TaintsPrepared),
            Some(Stage::Tainted) => Err(Refused::TaintedAlready(kind)),
            Some(Stage::Old) => Ok(Order::Taint(id.clone())),
        },
        Command::Revoke(id) if is_below_upstream(held, id) => Err(Refused::RevokesBelowUpstream),
        Command::Revoke(id) => match (stage(held, id), kind, published) {
            _ if id.is_empty() => Err(Refused::NoId),
            (Some(Stage::Active), ..) => Err(Refused::RevokesActive),
            (Some(Stage::Prepared), Kind::Jwt, _) => Err(Refused::RevokesPrepared),
            (Some(Stage::Prepared), Kind::X509, _) => Err(Refused::NotOld(kind)),
            (Some(Stage::Old), ..) => Err(Refused::Untainted(kind)),
            (Some(Stage::Tainted), ..) => Ok(Order::Revoke(id.clone())),
            // A key that another server published: whoever tainted it may be gone.
            (None, Kind::Jwt, Published::Tainted) => Ok(Order::Revoke(id.clone())),
            (None, Kind::Jwt, Published::Trusted) => Err(Refused::Untainted(kind)),
            (None, ..) => Err(Refused::NotOld(kind)),
        },
    }
}

fn stage(held: &[Authority], id: &str) -> Option<Stage> {
    held.iter()
        .find(|authority| authority.id == id)
        .map(|authority| authority.stage)
}

/// Whether the one of this id stands below an upstream's root, or what signs does if there is none of this id.
fn is_below_upstream(held: &[Authority], id: &str) -> bool {
    let named = held.iter().find(|own| own.id == id).or_else(|| active(held));
    named.is_some_and(|own| own.upstream.is_some())
}
