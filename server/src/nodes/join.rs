//! Join tokens: one transaction consumes the token, creates the node and binds it to its key.
//!
//! A token is 128 random bits. Until it is redeemed the log has its hash only; then the node's ID carries it, spent, as
//! SPIRE has it. An answer that was lost is no lost node: the same key may ask again for a minute (T-29).

use std::sync::Arc;
use std::time::Duration;

use muster_identity::{
    Attributes, Entry, EntrySpec, GrantName, Revision, Selector, SelectorSet, SpiffeId, TrustDomain, UnixTime,
};

use crate::registry::{
    Change, Expect, GrantRecord, NodeKey, NodeRecord, NodeSvid, TokenGrant, TokenHash, TokenRecord, Tree,
    View, entries, node_bytes,
};

/// The attestation type, as SPIRE names it.
const JOIN_TOKEN: &str = "join_token";
/// How long the key that redeemed a token may do it again.
const REPEAT: Duration = Duration::from_secs(60);
/// How long after its certificate ended a node may come back with its key.
const GRACE: Duration = Duration::from_secs(7 * 24 * 3600);

/// What an attestation comes to, before a certificate is signed.
#[derive(Debug)]
pub enum Join {
    /// A token that was not redeemed. The hash names it, the version is the one that was looked at.
    Redeem {
        /// Who the node will be.
        id: SpiffeId,
        /// The token.
        token: TokenHash,
        /// The token's place in the log.
        version: Revision,
        /// What the node is called besides.
        agent_id: Option<SpiffeId>,
        /// The grant by which the token was made.
        grant: Option<GrantName>,
        /// The record of an earlier node of this name.
        earlier: Option<Revision>,
    },
    /// A node that is known by its key: a repeated join, or one that comes back.
    Again(Box<NodeRecord>),
    /// A node that a verifier took. Its certificate takes the place of every earlier one.
    Attested {
        /// The node as it will be, but for its certificate.
        node: Box<NodeRecord>,
        /// The record that it replaces.
        earlier: Option<Revision>,
    },
}

/// Why a node does not come in.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum JoinError {
    /// There is no such token, or another key redeemed it.
    #[error("join token does not exist or has already been used")]
    UnknownToken,
    /// The token's time is over.
    #[error("join token expired")]
    ExpiredToken,
    /// The grant by which the token was made lets nobody in any more.
    #[error("the grant {0}, by which the join token was made, has ended; have a new token made")]
    GrantEnded(GrantName),
    /// The grant by which the token was made would not let it be made now.
    #[error("the join token could not be made any more: {0}")]
    NotAllowed(String),
    /// The node of that name is banned.
    #[error("agent is banned")]
    Banned,
    /// The node is not known, or by another key.
    #[error("the node is not known by this key; join it with a new token")]
    UnknownNode,
    /// The node's certificate ended too long ago.
    #[error("the node's certificate ended more than 7 days ago; evict it and join it with a new token")]
    TooLate,
    /// The node's key is not enough: it has a proof that lasts.
    #[error("the node proves itself by {0}, not by its last key")]
    MustReattest(String),
    /// The node's path makes no SPIFFE ID here.
    #[error("the node's name: {0}")]
    NoName(String),
    /// The proof of a known node counts once.
    #[error("the attestation data has already been used to attest an agent; evict it first")]
    Used,
    /// The node is known by another kind of proof.
    #[error("a node of that name was attested by {0}; evict it first")]
    OtherKind(String),
}

/// The ID of the node that redeems `token`, if the token can be part of one.
pub fn node_id(trust_domain: &TrustDomain, token: &str) -> Option<SpiffeId> {
    if token.is_empty() || token.len() > 255 || token.contains('/') {
        return None;
    }
    let path = format!("/spire/agent/{JOIN_TOKEN}/{token}").parse().ok()?;
    trust_domain.member(path).ok()
}

/// A new token: 128 random bits, in hexadecimal.
///
/// # Errors
/// When the system has no random numbers.
pub fn token_text() -> Result<String, aws_lc_rs::error::Unspecified> {
    let mut bits = [0; 16];
    aws_lc_rs::rand::fill(&mut bits)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bits)))
}

/// The change that creates a token, `by` a grant or by an administrator.
pub fn new_token(
    token: &str,
    expires_at: UnixTime,
    agent_id: Option<&SpiffeId>,
    by: Option<&TokenGrant>,
) -> Vec<Change> {
    let value = crate::registry::token_bytes(expires_at, agent_id, by);
    vec![Change::put(
        Tree::Tokens,
        TokenHash::of(token).as_bytes().to_vec(),
        value,
        Expect::Absent,
    )]
}

/// What becomes of a node that shows `token` and proved to have `key`. A token that was made by a grant lets in only as long as that lives, is the same person's,
/// and `allows` the node and its second name, in this view: whatever hangs below them now, the node gets. The turn of those who change by grants has to be held
/// (`api::scope`), so that no token outruns the deletion of its grant.
///
/// # Errors
/// [`JoinError`] says why it does not come in.
pub fn join<E: std::fmt::Display>(
    view: &View,
    token: &str,
    key: NodeKey,
    now: UnixTime,
    allows: impl FnOnce(&Arc<GrantRecord>, &SpiffeId, Option<&SpiffeId>) -> Result<(), E>,
) -> Result<Join, JoinError> {
    let id = node_id(view.trust_domain(), token).ok_or(JoinError::UnknownToken)?;
    let hash = TokenHash::of(token);
    let node = view.node(&id);
    if node.is_some_and(|node| node.is_banned()) {
        return Err(JoinError::Banned);
    }
    match (view.token(&hash), node) {
        (Some(token), _) if token.expires_at <= now => Err(JoinError::ExpiredToken),
        (Some(token), node) => {
            let grant = still_given(view, token, now)?;
            if let Some(grant) = grant {
                allows(grant, &id, token.agent_id.as_ref())
                    .map_err(|error| JoinError::NotAllowed(error.to_string()))?;
            }
            Ok(Join::Redeem {
                id,
                token: hash,
                version: token.version,
                agent_id: token.agent_id.clone(),
                grant: grant.map(|record| record.grant.name.clone()),
                earlier: node.map(|node| node.version),
            })
        }
        (None, Some(node)) if node.has_key(key) && now.since(node.attested_at) <= REPEAT => {
            Ok(Join::Again(Box::new(NodeRecord::clone(node))))
        }
        (None, _) => Err(JoinError::UnknownToken),
    }
}

/// The grant by which a token was made, if it was made by one: it must be that very grant, still the same person's, and live.
fn still_given<'v>(
    view: &'v View,
    token: &TokenRecord,
    now: UnixTime,
) -> Result<Option<&'v Arc<GrantRecord>>, JoinError> {
    let Some(by) = &token.made_by else { return Ok(None) };
    view.grant(&by.name)
        .filter(|record| TokenGrant::of(record) == *by && record.grant.is_live(now))
        .map(Some)
        .ok_or_else(|| JoinError::GrantEnded(by.name.clone()))
}

/// What becomes of a node whose certificate ended while it was away, and that proved to have `key`.
///
/// # Errors
/// [`JoinError`] says why it does not come in.
pub fn rejoin(view: &View, id: &SpiffeId, key: NodeKey, now: UnixTime) -> Result<Join, JoinError> {
    let node = view.node(id).ok_or(JoinError::UnknownNode)?;
    if node.is_banned() {
        return Err(JoinError::Banned);
    }
    if !node.has_key(key) {
        return Err(JoinError::UnknownNode);
    }
    // What vouches for it may have been taken away meanwhile; that is seen only by asking again.
    if node.can_reattest {
        return Err(JoinError::MustReattest(node.attestation_type.clone()));
    }
    // A renewed certificate that was never used counts too: the node may have gone away with it.
    let ends = [&node.current, &node.pending]
        .into_iter()
        .flatten()
        .map(|svid| svid.not_after)
        .max();
    if ends.is_none_or(|end| now.since(end) > GRACE) {
        return Err(JoinError::TooLate);
    }
    Ok(Join::Again(Box::new(NodeRecord::clone(node))))
}

impl Join {
    /// Who the node is.
    pub fn id(&self) -> &SpiffeId {
        match self {
            Join::Redeem { id, .. } => id,
            Join::Again(node) | Join::Attested { node, .. } => &node.id,
        }
    }

    /// Whether the node can prove itself again by itself.
    pub fn can_reattest(&self) -> bool {
        matches!(self, Join::Attested { node, .. } if node.can_reattest)
    }

    /// The changes that let the node in with `svid`. They conflict with any other use of the token or of the node.
    pub fn changes(&self, svid: NodeSvid, now: UnixTime) -> Vec<Change> {
        match self {
            Join::Redeem {
                id,
                token,
                version,
                agent_id,
                grant,
                earlier,
            } => {
                let node = NodeRecord {
                    id: id.clone(),
                    attestation_type: JOIN_TOKEN.into(),
                    selectors: SelectorSet::default(),
                    current: Some(svid),
                    pending: None,
                    can_reattest: false,
                    agent_version: String::new(),
                    attested_at: now,
                    version: Revision(0),
                };
                let expect = earlier.map_or(Expect::Absent, Expect::At);
                let mut changes = vec![
                    Change::delete(Tree::Tokens, token.as_bytes().to_vec(), Expect::At(*version)),
                    Change::put(Tree::Nodes, id.to_string(), node_bytes(&node), expect),
                ];
                changes.extend(
                    agent_id
                        .as_ref()
                        .and_then(|alias| alias_entry(id, alias, grant.as_ref(), now))
                        .into_iter()
                        .flatten(),
                );
                changes
            }
            // Beside the one that counts: whichever of the two answers arrived, the node can use it.
            Join::Again(node) => super::renew(node, svid),
            Join::Attested { node, earlier } => {
                let node = NodeRecord {
                    current: Some(svid),
                    pending: None,
                    attested_at: now,
                    ..NodeRecord::clone(node)
                };
                let expect = earlier.map_or(Expect::Absent, Expect::At);
                vec![Change::put(
                    Tree::Nodes,
                    node.id.to_string(),
                    node_bytes(&node),
                    expect,
                )]
            }
        }
    }
}

/// The entry that gives the node a second name, by which other entries can have it as their parent. It is the grant's, like any that is made by one.
fn alias_entry(
    node: &SpiffeId,
    alias: &SpiffeId,
    grant: Option<&GrantName>,
    now: UnixTime,
) -> Option<Vec<Change>> {
    let selector = Selector::new("spiffe_id", &node.to_string()).ok()?;
    let spec = EntrySpec {
        spiffe_id: alias.clone(),
        parent_id: node.clone(),
        selectors: std::iter::once(selector).collect(),
        x509_svid_ttl: None,
        jwt_svid_ttl: None,
        federates_with: [].into(),
        dns_names: [].into(),
        admin: false,
        downstream: false,
        store_svid: false,
        expires_at: None,
        hint: None,
        attributes: Attributes::default(),
    };
    let id = uuid::Uuid::new_v4().to_string().parse().ok()?;
    let entry = Entry {
        id,
        spec,
        revision_number: 0,
        created_at: now,
    };
    Some(entries::create_by(&entry, grant))
}
