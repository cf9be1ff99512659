//! FetchJWTSVID: tokens for an audience.

use bytes::Bytes;
use muster_identity::SpiffeId;
use muster_pki::jwt::Audience;
use muster_proto::workload::{Jwtsvid, JwtsvidRequest, JwtsvidResponse};
use prost::Message;
use tonic::{Code, Status};

use super::call::Call;
use super::hand_outs::Form;
use super::x509::UNHEARD;
use crate::api::status::Refused;
use crate::cache::JwtFetchError;
use crate::peer::AttestedCaller;

/// One token for each identity of the caller, or for the one that it names.
pub(super) async fn fetch(call: Call, request: JwtsvidRequest) -> Result<Bytes, Status> {
    let (audience, id) = match parse(request) {
        Ok(parsed) => parsed,
        Err(refused) => return Err(call.refuse(&refused, None).await),
    };
    let (audience, id) = (&audience, id.as_ref());
    let message = call
        .for_caller(|caller| issue(&call, caller, audience, id))
        .await?;
    call.called(Code::Ok);
    Ok(message)
}

fn parse(request: JwtsvidRequest) -> Result<(Vec<String>, Option<SpiffeId>), Refused> {
    let wrong = |field, reason: String| Refused::Argument { field, reason };
    let audience = Audience::new(request.audience).map_err(|error| wrong("audience", error.to_string()))?;
    let id = match request.spiffe_id.as_str() {
        "" => None,
        text => Some(
            text.parse()
                .map_err(|error: muster_identity::ParseIdError| wrong("spiffe_id", error.to_string()))?,
        ),
    };
    Ok((audience.names().to_vec(), id))
}

async fn issue(
    call: &Call,
    caller: AttestedCaller,
    audience: &[String],
    id: Option<&SpiffeId>,
) -> Result<Bytes, Refused> {
    let held = match call
        .desk
        .parts
        .identities
        .jwt_svids(caller.facts(), id, audience.to_vec())
        .await
    {
        Ok(held) if held.is_empty() => return Err(call.no_identity(&caller, id.cloned())),
        Ok(held) => held,
        Err(JwtFetchError::NotEntitled) => return Err(call.no_identity(&caller, id.cloned())),
        Err(JwtFetchError::NotReady) => return Err(Refused::NotReady(UNHEARD)),
        Err(error) => return Err(Refused::Jwt(error)),
    };
    let identities: Vec<_> = held.iter().map(|held| (&held.entry_id, &held.id)).collect();
    call.record_hand_out(&caller, Form::Jwt, &identities).await?;
    // Signing may have taken a while: the caller must still be what it was.
    call.still(&caller)?;
    let svids = held.iter().map(|held| Jwtsvid {
        spiffe_id: held.id.to_string(),
        svid: held.svid.token().to_owned(),
        hint: held.hint.as_ref().map(ToString::to_string).unwrap_or_default(),
    });
    Ok(JwtsvidResponse {
        svids: svids.collect(),
    }
    .encode_to_vec()
    .into())
}
