//! ValidateJWTSVID: checks a token with the bundles that the caller may use.

use std::sync::Arc;

use bytes::Bytes;
use muster_pki::jwt::{VerifiedJwtSvid, VerifyJwtError, verify_jwt_svid};
use muster_proto::workload::{ValidateJwtsvidRequest, ValidateJwtsvidResponse};
use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use serde_json::Value as Json;
use tonic::{Code, Status};

use super::call::Call;
use crate::api::status::Refused;
use crate::peer::AttestedCaller;

/// The longest token that is looked at.
const TOKEN_LIMIT: usize = 64 << 10;
/// How deep claims may be nested to be shown; the token's own parser refuses deeper ones.
const DEPTH: usize = 64;
/// What is shown of a foreign trust domain's claims.
const FOREIGN: [&str; 3] = ["sub", "exp", "aud"];

/// Whether the token is valid for the audience, for the bundles of the caller. It needs no identity.
pub(super) async fn validate(call: Call, request: ValidateJwtsvidRequest) -> Result<Bytes, Status> {
    if let Err(refused) = check(&request).and_then(|()| call.admit_validation()) {
        return Err(call.refuse(&refused, None).await);
    }
    let message = call.for_caller(|caller| verify(&call, caller, &request)).await?;
    call.called(Code::Ok);
    Ok(message)
}

async fn verify(
    call: &Call,
    caller: AttestedCaller,
    request: &ValidateJwtsvidRequest,
) -> Result<Bytes, Refused> {
    let view = Arc::clone(&call.desk.parts.identities.subscribe(caller.facts()).borrow());
    let now = call.desk.parts.clock.now();
    let verified = verify_jwt_svid(&request.svid, &*view.bundles, &request.audience, now);
    if let Err(VerifyJwtError::NoKey(trust_domain)) = &verified
        && trust_domain != view.bundles.own().trust_domain()
    {
        call.desk.parts.identities.met_unknown_key(trust_domain);
    }
    let verified = verified.map_err(Refused::Token)?;
    call.still(&caller)?;
    let own = verified.id().trust_domain() == view.bundles.own().trust_domain();
    let shown = |claim: &str| {
        own || FOREIGN.contains(&claim) || call.desk.settings().allowed_foreign_jwt_claims.contains(claim)
    };
    let response = ValidateJwtsvidResponse {
        spiffe_id: verified.id().to_string(),
        claims: Some(claims(&verified, shown)),
    };
    Ok(response.encode_to_vec().into())
}

fn check(request: &ValidateJwtsvidRequest) -> Result<(), Refused> {
    let wrong = |field, reason: &str| {
        Err(Refused::Argument {
            field,
            reason: reason.to_owned(),
        })
    };
    match () {
        () if request.audience.is_empty() => wrong("audience", "must be specified"),
        () if request.svid.is_empty() => wrong("svid", "must be specified"),
        () if request.svid.len() > TOKEN_LIMIT => wrong("svid", "is longer than 64 KiB"),
        () => Ok(()),
    }
}

/// The claims, with `aud` always as a list.
fn claims(verified: &VerifiedJwtSvid, shown: impl Fn(&str) -> bool) -> Struct {
    let all = verified.claims().iter().filter(|(name, _)| shown(name));
    let mut fields: std::collections::BTreeMap<String, Value> = all
        .map(|(name, claim)| (name.clone(), value(claim, DEPTH)))
        .collect();
    let audience = verified
        .audience()
        .iter()
        .map(|name| kind(Kind::StringValue(name.clone())));
    fields.insert(
        "aud".to_owned(),
        kind(Kind::ListValue(ListValue {
            values: audience.collect(),
        })),
    );
    Struct { fields }
}

fn value(json: &Json, depth: usize) -> Value {
    let Some(below) = depth.checked_sub(1) else {
        return kind(Kind::NullValue(0));
    };
    kind(match json {
        Json::Null => Kind::NullValue(0),
        Json::Bool(flag) => Kind::BoolValue(*flag),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(f64::NAN)),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(|item| value(item, below)).collect(),
        }),
        Json::Object(members) => Kind::StructValue(Struct {
            fields: members
                .iter()
                .map(|(name, member)| (name.clone(), value(member, below)))
                .collect(),
        }),
    })
}

fn kind(kind: Kind) -> Value {
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_become_a_struct() {
        let json = serde_json::json!({ "a": [1, "x", null, true], "b": { "c": 1.5 } });
        let Some(Kind::StructValue(shown)) = value(&json, DEPTH).kind else {
            panic!("an object is a struct")
        };
        let Some(Kind::ListValue(list)) = shown.fields["a"].kind.clone() else {
            panic!("an array is a list")
        };
        assert_eq!(list.values.len(), 4);
        assert_eq!(list.values[0], kind(Kind::NumberValue(1.0)));
    }

    #[test]
    fn an_empty_or_huge_request_is_refused() {
        let request = |audience: &str, svid: String| ValidateJwtsvidRequest {
            audience: audience.to_owned(),
            svid,
        };
        assert!(check(&request("a", "x".to_owned())).is_ok());
        for wrong in [
            request("", "x".to_owned()),
            request("a", String::new()),
            request("a", "x".repeat(TOKEN_LIMIT + 1)),
        ] {
            assert!(matches!(check(&wrong), Err(Refused::Argument { .. })));
        }
    }
}
