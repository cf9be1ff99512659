//! From who we are to a token.

use muster_plugin_api::UpstreamError;
use serde_json::{Value, json};
use tracing::warn;
use zeroize::Zeroizing;

use super::VaultAuth;
use super::client::{Client, Token};
use crate::file;

/// A token for the next calls.
pub(super) async fn login(client: &Client, auth: &VaultAuth) -> Result<Token, UpstreamError> {
    let (mount, body) = match auth {
        VaultAuth::Token { file } => return Ok(Token(file::read_token(file)?)),
        VaultAuth::AppRole {
            mount,
            role_id,
            secret_id,
        } => {
            let secret = file::read_token(secret_id)?;
            (mount, json!({"role_id": role_id, "secret_id": secret.as_str()}))
        }
        VaultAuth::Cert { mount, role, .. } => match role {
            Some(role) => (mount, json!({"name": role})),
            None => (mount, json!({})),
        },
        VaultAuth::Kubernetes { mount, role, token } => {
            let token = file::read_token(token)?;
            (mount, json!({"role": role, "jwt": token.as_str()}))
        }
    };
    let path = format!("/v1/auth/{mount}/login");
    let mut answer = client.post("logging in", &path, None, &body).await?;
    let token = answer
        .get_mut("auth")
        .and_then(|auth| auth.get_mut("client_token"));
    match token.map(Value::take) {
        Some(Value::String(token)) if !token.is_empty() => Ok(Token(Zeroizing::new(token))),
        _ => Err(client.unusable("the answer to a login", "there is no token in it")),
    }
}

/// Gives a token back that was made for us. One that was configured is its owner's.
pub(super) async fn give_back(client: &Client, auth: &VaultAuth, token: &Token) {
    if matches!(auth, VaultAuth::Token { .. }) {
        return;
    }
    let path = "/v1/auth/token/revoke-self";
    let revoked = client
        .post("giving the token back", path, Some(token), &json!({}))
        .await;
    if let Err(error) = revoked {
        // It ends by itself.
        warn!(
            error = &error as &dyn std::error::Error,
            "a token of Vault was not given back"
        );
    }
}
