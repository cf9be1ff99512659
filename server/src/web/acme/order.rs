//! One order: account, proof of the name, certificate.

use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, ChallengeType, Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::{Acme, OrderError};

/// How long the certificate authority may take to look at the proof, and again to issue.
const PATIENCE: Duration = Duration::from_secs(90);

impl Acme {
    /// The chain and its key, in PEM.
    pub(super) async fn order(&mut self) -> Result<(String, String), OrderError> {
        let account = self.account().await?;
        let identifiers = [Identifier::Dns(self.config.domain.clone())];
        let mut order = account.new_order(&NewOrder::new(&identifiers)).await?;
        let retries = RetryPolicy::new().timeout(PATIENCE);
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization = authorization?;
            if authorization.status == AuthorizationStatus::Valid {
                continue;
            }
            let challenge = authorization.challenge(ChallengeType::TlsAlpn01);
            let mut challenge = challenge.ok_or(OrderError::NoChallenge)?;
            let proof = proof(
                &self.config.domain,
                challenge.key_authorization().digest().as_ref(),
            )?;
            self.shown.prove(Some(proof));
            challenge.set_ready().await?;
        }
        let ready = order.poll_ready(&retries).await;
        self.shown.prove(None);
        match ready? {
            OrderStatus::Ready | OrderStatus::Valid => {}
            other => return Err(OrderError::Order(format!("{other:?}").to_lowercase())),
        }
        let key = order.finalize().await?;
        let chain = order.poll_certificate(&retries).await?;
        Ok((chain, key))
    }

    /// The account, made at the first order.
    async fn account(&mut self) -> Result<Account, OrderError> {
        let builder = Account::builder_with_http(Box::new(self.http.clone()));
        let kept = self
            .kept
            .account
            .as_deref()
            .and_then(|kept| serde_json::from_str(kept).ok());
        if let Some(credentials) = kept {
            return Ok(builder.from_credentials(credentials).await?);
        }
        let contact = self.config.email.as_ref().map(|email| format!("mailto:{email}"));
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        let new = NewAccount {
            contact: &contact,
            // The configuration is refused without the operator's word on it.
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let (account, credentials) = builder
            .create(&new, self.config.directory.to_string(), None)
            .await?;
        self.kept.account = serde_json::to_string(&credentials).ok();
        self.write()?;
        Ok(account)
    }
}

/// The certificate that proves the name (RFC 8737 3). It is shown to nobody else.
fn proof(domain: &str, digest: &[u8]) -> Result<CertifiedKey, OrderError> {
    let mut params = CertificateParams::new(vec![domain.to_owned()])?;
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = params.self_signed(&key)?;
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    Ok(CertifiedKey::new(
        vec![certificate.der().clone()],
        any_supported_type(&private)?,
    ))
}
