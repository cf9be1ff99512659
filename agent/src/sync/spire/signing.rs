//! The calls for SVIDs.

use std::sync::Arc;
use std::time::Duration;

use muster_identity::{EntryId, UnixTime};
use muster_pki::jwt::JwtSvid;
use muster_proto::convert;
use muster_proto::node;
use muster_proto::spire::server::svid::svid_client::SvidClient;
use muster_proto::spire::server::svid::{
    BatchNewX509svidRequest, NewJwtsvidRequest, NewX509svidParams, batch_new_x509svid_response,
};
use tonic::transport::Channel;

use super::call::{CallError, MOST_BYTES, within};
use crate::cache::{HeldX509, JwtOrder, SignFailure};
use crate::sync::issuing::{Prepared, failure_of, svid, token};

/// How long a call may take. The server lets calls wait that are over its rate, so this is more than signing needs.
const WITHIN: Duration = Duration::from_secs(20);

/// What became of a batch, for each entry of it.
pub(super) type Signed = Vec<(EntryId, Result<HeldX509, SignFailure>)>;

/// Asks for a certificate for each of `batch`.
pub(super) async fn x509_svids(
    channel: Channel,
    batch: Vec<Prepared>,
    now: impl Fn() -> UnixTime,
) -> Result<Signed, CallError> {
    let mut client = SvidClient::new(channel).max_decoding_message_size(MOST_BYTES);
    let params = batch.iter().map(|prepared| NewX509svidParams {
        entry_id: prepared.order.entry_id.to_string(),
        csr: prepared.csr.clone(),
    });
    let request = BatchNewX509svidRequest {
        params: params.collect(),
    };
    let call = client.batch_new_x509svid(request);
    let answer = within(WITHIN, "BatchNewX509SVID", call).await?;
    let mut results = answer.results.into_iter();
    let signed = batch.into_iter().map(|prepared| {
        // A result that lacks is a failure that may heal; one too many is nobody's.
        let Some(result) = results.next() else {
            return (prepared.order.entry_id, Err(SignFailure::Unreachable));
        };
        let Prepared { order, key, .. } = prepared;
        let signed = svid(&order, key, in_our_words(result, order.x509_version), now());
        (order.entry_id, signed)
    });
    Ok(signed.collect())
}

/// Asks for a token.
pub(super) async fn jwt_svid(
    channel: Channel,
    order: &JwtOrder,
) -> Result<Result<Arc<JwtSvid>, SignFailure>, CallError> {
    let mut client = SvidClient::new(channel).max_decoding_message_size(MOST_BYTES);
    let request = NewJwtsvidRequest {
        entry_id: order.entry_id.to_string(),
        audience: order.audience.to_vec(),
    };
    let answer = within(WITHIN, "NewJWTSVID", client.new_jwtsvid(request)).await?;
    let answer = node::JwtResponse {
        status: Some(convert::item_ok()),
        svid: answer.svid,
    };
    Ok(token(order, answer))
}

/// What a failed call means for what was ordered by it.
pub(super) fn failure(error: &CallError) -> SignFailure {
    match error.status() {
        Some(status) if !error.too_large() => failure_of(status.code() as i32),
        _ => SignFailure::Unreachable,
    }
}

/// A result as a Muster server gives it. An absent status beside an SVID is success: one of SPIRE's calls leaves it out. The version is the one that the entry had
/// here when it was asked: if the server was ahead, the SVID is made once more.
fn in_our_words(result: batch_new_x509svid_response::Result, x509_version: u64) -> node::X509Result {
    let success = result.svid.is_some().then(convert::item_ok);
    node::X509Result {
        status: result.status.or(success),
        svid: result.svid,
        x509_version,
    }
}
