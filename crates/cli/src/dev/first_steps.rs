//! What somebody would type first: let the node in, register himself.

use muster_identity::{SpiffeId, TrustDomain};
use muster_proto::{
    convert::{check_status, spiffe_id_to_wire},
    spire::{
        server::{
            agent::{CreateJoinTokenRequest, agent_client::AgentClient},
            entry::{BatchCreateEntryRequest, entry_client::EntryClient},
        },
        types::{self, Entry},
    },
};
use nix::unistd::{Uid, User, getuid};
use tonic::{Code, transport::Channel};
use zeroize::Zeroizing;

use super::folder::{Folder, SERVER_SOCKET};
use crate::{
    connect::{Daemon, connect},
    failure::Failure,
};

/// The path of the node's second name, by which entries have it as their parent.
const NODE: &str = "/dev-node";
/// The agent uses its token within milliseconds.
const TOKEN_SECONDS: i32 = 60;

/// Calls to the server on its admin socket, as an operator makes them.
pub(super) struct FirstSteps {
    server: Channel,
    node: SpiffeId,
}

impl FirstSteps {
    pub(super) async fn new(folder: &Folder, trust_domain: &TrustDomain) -> Result<Self, Failure> {
        let server = connect(&folder.path(SERVER_SOCKET), Daemon::Server).await?;
        let node = id(trust_domain, NODE)?;
        Ok(Self { server, node })
    }

    /// A token that lets our node in under its second name.
    pub(super) async fn join_token(&self) -> Result<Zeroizing<String>, Failure> {
        let request = CreateJoinTokenRequest {
            ttl: TOKEN_SECONDS,
            token: String::new(),
            agent_id: Some(spiffe_id_to_wire(&self.node)),
        };
        let token = AgentClient::new(self.server.clone())
            .create_join_token(request)
            .await
            .map_err(|status| Failure::status("could not make a join token for the node", &status))?;
        Ok(Zeroizing::new(token.into_inner().value))
    }

    /// An identity for whoever runs this. It is still there at the next start.
    pub(super) async fn register_user(&self) -> Result<SpiffeId, Failure> {
        let uid = getuid();
        let user = user_id(self.node.trust_domain(), uid)?;
        let what = format!("could not create the entry for {user}");
        let entry = Entry {
            spiffe_id: Some(spiffe_id_to_wire(&user)),
            parent_id: Some(spiffe_id_to_wire(&self.node)),
            selectors: vec![types::Selector {
                r#type: "unix".to_owned(),
                value: format!("uid:{uid}"),
            }],
            ..Entry::default()
        };
        let answer = EntryClient::new(self.server.clone())
            .batch_create_entry(BatchCreateEntryRequest {
                entries: vec![entry],
                output_mask: None,
            })
            .await
            .map_err(|status| Failure::status(&what, &status))?;
        let result = answer.into_inner().results.pop().unwrap_or_default();
        match check_status(result.status.as_ref()) {
            Err(status) if status.code() != Code::AlreadyExists => Err(Failure::status(what, &status)),
            _ => Ok(user),
        }
    }

    pub(super) fn node(&self) -> &SpiffeId {
        &self.node
    }
}

/// By name where the name fits into an ID, else by number.
fn user_id(trust_domain: &TrustDomain, uid: Uid) -> Result<SpiffeId, Failure> {
    let name = User::from_uid(uid)
        .ok()
        .flatten()
        .map(|user| format!("/user/{}", user.name));
    match name.and_then(|path| id(trust_domain, &path).ok()) {
        Some(id) => Ok(id),
        None => id(trust_domain, &format!("/user/uid-{uid}")),
    }
}

fn id(trust_domain: &TrustDomain, path: &str) -> Result<SpiffeId, Failure> {
    format!("spiffe://{trust_domain}{path}")
        .parse()
        .map_err(|error| Failure::usage(format!("could not name {path} in {trust_domain}"), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_a_name_is_named_by_number() {
        let trust_domain = "example.org".parse().unwrap();
        let root = user_id(&trust_domain, Uid::from_raw(0)).unwrap();
        assert_eq!(root.to_string(), "spiffe://example.org/user/root");
        let nobody_knows = user_id(&trust_domain, Uid::from_raw(3_999_999_999)).unwrap();
        assert_eq!(
            nobody_knows.to_string(),
            "spiffe://example.org/user/uid-3999999999"
        );
    }
}
