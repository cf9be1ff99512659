use muster_identity::{ParseIdError, SpiffeId, UnixTime};
use serde_json::{Map, Value};

use crate::json::{self, JsonError};

/// The claims of a JWT-SVID: read once, and after the signature was found good used as they are (I13).
#[derive(Clone, Debug)]
pub(super) struct Claims {
    pub(super) id: SpiffeId,
    pub(super) audience: Vec<String>,
    pub(super) expires_at: UnixTime,
    pub(super) not_before: Option<UnixTime>,
    pub(super) issued_at: Option<UnixTime>,
    pub(super) issuer: Option<String>,
    pub(super) token_id: Option<String>,
    pub(super) all: Map<String, Value>,
}

/// Why a payload holds no claims of a JWT-SVID.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ClaimsError {
    /// No strict JSON object.
    #[error("the payload is not a JSON object with each member once (RFC 7519 4, 7.2)")]
    Json(#[source] JsonError),
    /// No subject.
    #[error("there is no sub, or it is not text (JWT-SVID 3.1)")]
    Subject,
    /// A subject that is no SPIFFE ID.
    #[error("the sub is not a SPIFFE ID (JWT-SVID 3.1)")]
    SubjectId(#[source] ParseIdError),
    /// A trust domain's own ID names no workload.
    #[error("the sub has no path: a trust domain is not a workload (JWT-SVID 3.1)")]
    SubjectPath,
    /// No audience, or one of the wrong type.
    #[error("there is no aud, or it is neither text nor a list of texts (JWT-SVID 3.2, RFC 7519 4.1.3)")]
    Audience,
    /// No end. A token without one would be for ever.
    #[error("there is no exp, or it is not a number (JWT-SVID 3.3)")]
    Expiry,
    /// A time that no calendar has.
    #[error("the {0} is not a time before the year 10000 (RFC 7519 2)")]
    Time(&'static str),
    /// A claim of the wrong type.
    #[error("the {0} is of the wrong type (RFC 7519 4.1)")]
    Type(&'static str),
}

impl Claims {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, ClaimsError> {
        let all = json::object(payload).map_err(ClaimsError::Json)?;
        let id: SpiffeId = all
            .get("sub")
            .and_then(Value::as_str)
            .ok_or(ClaimsError::Subject)?
            .parse()
            .map_err(ClaimsError::SubjectId)?;
        if id.is_trust_domain_id() {
            return Err(ClaimsError::SubjectPath);
        }
        let expires_at = match all.get("exp") {
            Some(Value::Number(_)) => time(&all, "exp", Fraction::Cut)?.ok_or(ClaimsError::Expiry)?,
            _ => return Err(ClaimsError::Expiry),
        };
        Ok(Self {
            id,
            audience: audience(all.get("aud"))?,
            expires_at,
            not_before: time(&all, "nbf", Fraction::RoundUp)?,
            issued_at: time(&all, "iat", Fraction::Cut)?,
            issuer: text(&all, "iss")?,
            token_id: text(&all, "jti")?,
            all,
        })
    }
}

/// What becomes of a part of a second: always what makes the token's life shorter.
#[derive(Clone, Copy)]
enum Fraction {
    Cut,
    RoundUp,
}

/// A NumericDate (RFC 7519 2).
fn time(
    claims: &Map<String, Value>,
    name: &'static str,
    fraction: Fraction,
) -> Result<Option<UnixTime>, ClaimsError> {
    let number = match claims.get(name) {
        None => return Ok(None),
        Some(Value::Number(number)) => number,
        Some(_) => return Err(ClaimsError::Type(name)),
    };
    let latest = UnixTime::MAX.as_secs();
    let seconds = match (number.as_i64(), number.as_f64()) {
        (Some(seconds), _) => seconds,
        // In this range each whole number has an exact f64, so that the conversion changes nothing.
        (None, Some(seconds)) if seconds.abs() <= latest as f64 => match fraction {
            Fraction::Cut => seconds.floor() as i64,
            Fraction::RoundUp => seconds.ceil() as i64,
        },
        _ => return Err(ClaimsError::Time(name)),
    };
    if seconds > latest {
        return Err(ClaimsError::Time(name));
    }
    Ok(Some(UnixTime::from_secs(seconds)))
}

fn text(claims: &Map<String, Value>, name: &'static str) -> Result<Option<String>, ClaimsError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(ClaimsError::Type(name)),
    }
}

fn audience(claim: Option<&Value>) -> Result<Vec<String>, ClaimsError> {
    let one = |value: &Value| value.as_str().map(str::to_owned).ok_or(ClaimsError::Audience);
    match claim {
        Some(value @ Value::String(_)) => Ok(vec![one(value)?]),
        Some(Value::Array(names)) if !names.is_empty() => names.iter().map(one).collect(),
        _ => Err(ClaimsError::Audience),
    }
}
