//! Outcomes: of one item of a batch, and of a call that was denied for a reason an agent acts on.

use prost::Message;
use tonic::{Code, Status};

use crate::spire::types::{self, PermissionDeniedDetails, permission_denied_details};

/// Why an agent was turned away; it decides by this whether to attest anew.
pub use permission_denied_details::Reason;

/// `google.rpc.Status`, which carries the details of a gRPC status in its trailer.
#[derive(Clone, PartialEq, prost::Message)]
struct RichStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// The item was done. The text is what SPIRE's tools expect with code 0.
pub fn item_ok() -> types::Status {
    types::Status {
        code: Code::Ok as i32,
        message: "OK".to_owned(),
    }
}

/// The item was not done.
pub fn item_status(code: Code, message: impl Into<String>) -> types::Status {
    types::Status {
        code: code as i32,
        message: message.into(),
    }
}

/// Reads the outcome of an item. An absent status is success: one of SPIRE's calls leaves it out.
///
/// # Errors
/// When the item was not done.
pub fn check_status(status: Option<&types::Status>) -> Result<(), Status> {
    match status {
        None => Ok(()),
        Some(status) if status.code == Code::Ok as i32 => Ok(()),
        Some(status) => Err(Status::new(Code::from_i32(status.code), status.message.clone())),
    }
}

/// PermissionDenied with the reason as a detail, as SPIRE's agents read it.
pub fn denied(message: impl Into<String>, reason: Reason) -> Status {
    let message = message.into();
    let detail = PermissionDeniedDetails {
        reason: reason.into(),
    };
    let rich = RichStatus {
        code: Code::PermissionDenied as i32,
        message: message.clone(),
        details: vec![prost_types::Any {
            type_url: DETAIL_TYPE_URL.to_owned(),
            value: detail.encode_to_vec(),
        }],
    };
    Status::with_details(Code::PermissionDenied, message, rich.encode_to_vec().into())
}

/// The reason that [`denied`] or a SPIRE server put into a status. Nothing when there is none that we know.
pub fn denial_reason(status: &Status) -> Option<Reason> {
    if status.code() != Code::PermissionDenied {
        return None;
    }
    let rich = RichStatus::decode(status.details()).ok()?;
    let detail = rich
        .details
        .iter()
        .find(|detail| detail.type_url == DETAIL_TYPE_URL)?;
    let detail = PermissionDeniedDetails::decode(detail.value.as_slice()).ok()?;
    Reason::try_from(detail.reason).ok()
}

const DETAIL_TYPE_URL: &str = "type.googleapis.com/spire.api.types.PermissionDeniedDetails";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_survives_the_status_trailer() {
        let status = denied("agent is banned", Reason::AgentBanned);
        assert_eq!(denial_reason(&status), Some(Reason::AgentBanned));
        assert_eq!(status.message(), "agent is banned");
    }

    #[test]
    fn details_that_make_no_sense_are_no_reason() {
        for details in [&b""[..], b"\xff\xff", &RichStatus::default().encode_to_vec()] {
            let status = Status::with_details(Code::PermissionDenied, "x", details.to_vec().into());
            assert_eq!(denial_reason(&status), None);
        }
        assert_eq!(denial_reason(&Status::unavailable("x")), None);
    }

    #[test]
    fn an_item_without_status_was_done() {
        assert!(check_status(None).is_ok() && check_status(Some(&item_ok())).is_ok());
        let refused = item_status(Code::NotFound, "entry not found");
        assert_eq!(check_status(Some(&refused)).unwrap_err().code(), Code::NotFound);
    }
}
