//! HashiCorp Vault's PKI secrets engine, or whoever speaks its API.
//!
//! ```text
//! login (token | AppRole | certificate | Kubernetes) ─token→ POST /v1/<mount>/root/sign-intermediate ─→ certificate, chain ─→ revoke the token
//! ```
//!
//! A token is fetched for each signature and given back after it: signatures are rare, and what is not held can't be stolen. Only a token that was configured is kept
//! by its owner, and renewed here, because nobody else would.

mod answer;
mod auth;
mod client;

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use muster_pki::jwt::JwtAuthority;
use muster_pki::x509::{Csr, NameAttribute};
use muster_plugin_api::{
    AuthorityRequest, SignedAuthority, UpstreamAuthority, UpstreamBundle, UpstreamError,
};
use serde_json::json;
use tokio::sync::watch;
use tracing::warn;

use self::client::{Client, Token};

/// What is named as the system's own authorities where no file is: Debian's and its kin's.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";
/// How long to wait when a token could not be renewed.
const RENEW_AGAIN: Duration = Duration::from_secs(30);

/// Where Vault is, and who we are there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VaultConfig {
    /// `host:port`; spoken to over HTTPS only.
    pub server: String,
    /// Where the PKI secrets engine is mounted.
    pub pki_mount: String,
    /// The namespace, in editions that have them.
    pub namespace: Option<String>,
    /// The authorities that vouch for its TLS certificate, PEM; without it the system's.
    pub ca_cert: Option<PathBuf>,
    /// How we prove who we are.
    pub auth: VaultAuth,
}

/// How we prove who we are to Vault. Secrets are read from their files at each use.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum VaultAuth {
    /// A token.
    Token {
        /// The file that holds it.
        file: PathBuf,
    },
    /// A role and its secret.
    AppRole {
        /// Where the method is mounted.
        mount: String,
        /// The role.
        role_id: String,
        /// The file that holds the secret.
        secret_id: PathBuf,
    },
    /// A TLS certificate.
    Cert {
        /// Where the method is mounted.
        mount: String,
        /// The role; without it, whichever the certificate fits.
        role: Option<String>,
        /// The certificate, PEM; those between it and its root may follow.
        cert: PathBuf,
        /// Its key, PEM.
        key: PathBuf,
    },
    /// The token of a Kubernetes service account.
    Kubernetes {
        /// Where the method is mounted.
        mount: String,
        /// The role.
        role: String,
        /// The file that holds the token.
        token: PathBuf,
    },
}

/// Vault above us.
#[derive(Debug)]
pub struct Vault {
    config: VaultConfig,
    /// The roots as the last signature told them.
    known: watch::Sender<Option<UpstreamBundle>>,
}

impl Vault {
    /// The Vault that `config` names.
    pub fn new(config: VaultConfig) -> Self {
        Self {
            config,
            known: watch::Sender::new(None),
        }
    }

    async fn sign(
        &self,
        client: &Client,
        token: &Token,
        request: &AuthorityRequest,
    ) -> Result<SignedAuthority, UpstreamError> {
        let body = asked(request)?;
        let path = format!("/v1/{}/root/sign-intermediate", self.config.pki_mount);
        let answer = client
            .post("signing an authority", &path, Some(token), &body)
            .await?;
        answer::signed(&answer).map_err(|why| client.unusable("the signed authority", why))
    }

    /// Keeps a configured token alive, for as long as somebody waits.
    async fn keep_token(&self) -> std::convert::Infallible {
        if !matches!(self.config.auth, VaultAuth::Token { .. }) {
            return std::future::pending().await;
        }
        loop {
            let pause = match self.renew_token().await {
                Ok(Some(lives)) => lives / 2,
                // It does not end, or can't be renewed: then its owner replaces the file.
                Ok(None) => RENEW_AGAIN * 10,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    warn!(error, "the token for Vault was not renewed");
                    RENEW_AGAIN
                }
            };
            tokio::time::sleep(pause.max(Duration::from_secs(1))).await;
        }
    }

    async fn renew_token(&self) -> Result<Option<Duration>, UpstreamError> {
        let client = Client::open(&self.config)?;
        let token = auth::login(&client, &self.config.auth).await?;
        let about = client
            .get("looking at the token", "/v1/auth/token/lookup-self", &token)
            .await?;
        if !answer::is_renewable(&about) {
            return Ok(None);
        }
        let renewed = client
            .post(
                "renewing the token",
                "/v1/auth/token/renew-self",
                Some(&token),
                &json!({}),
            )
            .await?;
        Ok(answer::lease(&renewed))
    }
}

#[async_trait]
impl UpstreamAuthority for Vault {
    fn name(&self) -> &'static str {
        "vault"
    }

    fn takes_jwt_keys(&self) -> bool {
        false
    }

    async fn sign_authority(&self, request: &AuthorityRequest) -> Result<SignedAuthority, UpstreamError> {
        let client = Client::open(&self.config)?;
        let token = auth::login(&client, &self.config.auth).await?;
        let signed = self.sign(&client, &token, request).await;
        auth::give_back(&client, &self.config.auth, &token).await;
        let signed = signed?;
        self.known.send_replace(Some(UpstreamBundle {
            x509_authorities: signed.roots.clone(),
            ..UpstreamBundle::default()
        }));
        Ok(signed)
    }

    async fn publish_jwt_key(&self, _: &JwtAuthority) -> Result<Vec<JwtAuthority>, UpstreamError> {
        Err(UpstreamError::Unsupported)
    }

    async fn changed(&self, seen: &UpstreamBundle) -> Result<UpstreamBundle, UpstreamError> {
        let mut known = self.known.subscribe();
        let differs = known.wait_for(|known| known.as_ref().is_some_and(|known| known != seen));
        let known = tokio::select! {
            known = differs => known,
            never = self.keep_token() => match never {},
        };
        let gone = |error| UpstreamError::unavailable("waiting for a signature", error);
        Ok(known.map_err(gone)?.clone().unwrap_or_default())
    }
}

/// What Vault is asked: it names the certificate by the fields here and takes only the key of the request.
fn asked(request: &AuthorityRequest) -> Result<serde_json::Value, UpstreamError> {
    let wrong = |error: Box<dyn std::error::Error + Send + Sync>| {
        UpstreamError::unusable("reading the request for an authority", error)
    };
    let csr = Csr::parse(&request.csr).map_err(|error| wrong(error.into()))?;
    let subject = csr.subject().map_err(|error| wrong(error.into()))?;
    let named = |attribute| subject.value(attribute).unwrap_or_default();
    Ok(json!({
        "csr": answer::pem("CERTIFICATE REQUEST", &request.csr),
        "format": "pem",
        "common_name": named(NameAttribute::CommonName),
        "exclude_cn_from_sans": true,
        "country": named(NameAttribute::Country),
        "province": named(NameAttribute::State),
        "locality": named(NameAttribute::Locality),
        "organization": named(NameAttribute::Organization),
        "ou": named(NameAttribute::OrganizationalUnit),
        "serial_number": named(NameAttribute::SerialNumber),
        "uri_sans": csr.uris().join(","),
        "ttl": format!("{}s", request.lifetime.as_secs()),
    }))
}

#[cfg(test)]
mod test_server;
#[cfg(test)]
mod tests;
