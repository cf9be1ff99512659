//! `muster validate id`.

use muster_identity::SpiffeId;

use super::verdict::{invalid, valid};
use crate::output::Answer;

#[derive(clap::Args, Debug)]
pub(crate) struct Id {
    /// The text to check.
    #[arg(value_name = "ID")]
    id: String,
}

impl Id {
    pub(super) fn run(self) -> Answer {
        match self.id.parse::<SpiffeId>() {
            Ok(id) => {
                let fields = vec![
                    ("Trust domain", id.trust_domain().as_str().into()),
                    ("Path", id.path().as_str().into()),
                ];
                valid("SPIFFE ID", fields, &[])
            }
            Err(error) => invalid("SPIFFE ID", &error.to_string(), None),
        }
    }
}
