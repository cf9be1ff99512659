//! A page of a list of grants, in the order of names.

use muster_identity::{GrantName, Subject};
use muster_proto::{convert, grant as wire};

use super::to_wire;
use crate::{
    api::{Refusal, pages::Size},
    registry::View,
};

/// Which part of a list is asked for.
pub(super) struct Page {
    size: Size,
    after: Option<GrantName>,
    subject: Option<Subject>,
}

impl Page {
    pub(super) fn asked(request: &wire::ListRequest) -> Result<Self, Refusal> {
        let size = Size::asked(request.page_size)?;
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|_| {
                Refusal::invalid("page_token: could not parse token; send what the page before gave")
            })?),
        };
        let subject = match request.subject.as_str() {
            "" => None,
            subject => Some(convert::subject("subject", subject)?),
        };
        Ok(Self { size, after, subject })
    }

    /// The grants of the page, and the token of the next one.
    pub(super) fn of(&self, view: &View) -> (Vec<wire::Grant>, String) {
        let meant = view.grants_after(self.after.as_ref()).filter(|found| {
            self.subject
                .as_ref()
                .is_none_or(|subject| found.grant.subject == *subject)
        });
        self.size.fill(
            meant,
            |found| to_wire(view, found),
            |found| found.grant.name.to_string(),
        )
    }
}
