//! What Vault answers, taken apart.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use muster_pki::x509::{AuthorityError, CertificateDer, MAX_CHAIN, X509Authority};
use muster_plugin_api::SignedAuthority;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;

/// What is wrong with an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error("{0} is missing or no PEM certificate")]
    Certificate(&'static str),
    #[error("the chain has more than {MAX_CHAIN} certificates")]
    Long,
    #[error("the root can't be used")]
    Root(#[from] AuthorityError),
}

/// The answer of `sign-intermediate`. Its `ca_chain` ends with the root; where there is none, the issuer is the root. Newer versions repeat the certificate in it.
pub(super) fn signed(answer: &Value) -> Result<SignedAuthority, AnswerError> {
    let data = answer.get("data").unwrap_or(&Value::Null);
    let certificate = one(data.get("certificate"), "certificate")?;
    let issuer = one(data.get("issuing_ca"), "issuing_ca")?;
    let above = data.get("ca_chain").and_then(Value::as_array);
    let above = above.map_or(&[][..], Vec::as_slice);
    if above.len() > MAX_CHAIN {
        return Err(AnswerError::Long);
    }
    let mut chain = vec![certificate];
    for text in above {
        let next = one(Some(text), "ca_chain")?;
        if !chain.contains(&next) {
            chain.push(next);
        }
    }
    let root = if chain.len() > 1 { chain.pop() } else { None };
    let root = X509Authority::from_der(&root.unwrap_or(issuer))?;
    Ok(SignedAuthority {
        chain,
        roots: vec![root],
    })
}

/// Whether a token that was looked up ends and can be renewed before.
pub(super) fn is_renewable(about: &Value) -> bool {
    let data = about.get("data").unwrap_or(&Value::Null);
    let ends = data.get("ttl").and_then(Value::as_u64).is_some_and(|ttl| ttl > 0);
    ends && data.get("renewable").and_then(Value::as_bool) == Some(true)
}

/// How long a token lives from now on.
pub(super) fn lease(renewed: &Value) -> Option<Duration> {
    let seconds = renewed.get("auth")?.get("lease_duration")?.as_u64()?;
    (seconds > 0).then_some(Duration::from_secs(seconds))
}

/// One block of PEM (RFC 7468).
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let body = lines.collect::<Vec<_>>().join("\n");
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

fn one(text: Option<&Value>, field: &'static str) -> Result<CertificateDer<'static>, AnswerError> {
    text.and_then(Value::as_str)
        .and_then(|text| CertificateDer::from_pem_slice(text.as_bytes()).ok())
        .ok_or(AnswerError::Certificate(field))
}
