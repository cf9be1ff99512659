//! Creating, changing and deleting grants.

use muster_identity::{GrantName, SpiffeId, Subject};
use muster_proto::grant::{
    self as wire, CreateRequest, DeleteRequest, GetRequest, UpdateRequest, grant::Subject as WireSubject,
};
use muster_runtime::{Clock, SystemClock};
use serde_json::json;

use super::{
    client,
    fields::{Bound, Fields, checked},
    refused, view,
};
use crate::{args::ServerSocket, failure::Failure, output::Answer};

#[derive(clap::Args, Debug)]
pub(crate) struct Create {
    /// The grant's name.
    #[arg(value_name = "GRANT")]
    name: GrantName,
    #[command(flatten)]
    holder: Holder,
    #[command(flatten)]
    fields: Fields,
    #[command(flatten)]
    socket: ServerSocket,
}

/// Who will hold it.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct Holder {
    /// Who holds it: callers with an X.509-SVID of this ID.
    #[arg(long, value_name = "SPIFFE ID")]
    subject: Option<SpiffeId>,
    /// Who holds it: callers on the server's admin socket under this uid. They are no administrators from then on.
    #[arg(long, value_name = "UID")]
    uid: Option<u32>,
}

impl Create {
    pub(super) async fn run(self) -> Result<Answer, Failure> {
        let what = format!("could not create grant {}", self.name);
        let subject = match (&self.holder.subject, self.holder.uid) {
            (Some(id), _) => Some(WireSubject::SpiffeId(id.to_string())),
            (None, uid) => uid.map(WireSubject::Uid),
        };
        let mut grant = wire::Grant {
            name: self.name.to_string(),
            subject,
            ..wire::Grant::default()
        };
        self.fields.put_into(&mut grant);
        checked(&grant).map_err(|why| Failure::usage(&what, why))?;
        let made = client(&self.socket)
            .await?
            .create(CreateRequest { grant: Some(grant) })
            .await
            .map_err(|status| refused(what, &status))?;
        view::Shown::read(&made.into_inner())?.answer(SystemClock.now())
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Update {
    /// The grant's name.
    #[arg(value_name = "GRANT")]
    name: GrantName,
    #[command(flatten)]
    fields: Fields,
    /// Take a bound away.
    #[arg(long, value_enum, value_name = "BOUND")]
    clear: Vec<Bound>,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Update {
    pub(super) async fn run(self) -> Result<Answer, Failure> {
        let what = format!("could not update grant {}", self.name);
        if self.fields.is_nothing() && self.clear.is_empty() {
            return Err(Failure::usage(what, "nothing to change is given")
                .next("name what is to be changed, as --path /ai"));
        }
        let mut client = client(&self.socket).await?;
        let request = GetRequest {
            name: self.name.to_string(),
        };
        let found = client.get(request).await;
        let mut grant = found
            .map_err(|status| refused(what.clone(), &status))?
            .into_inner();
        let expected_version = grant.version;
        for bound in &self.clear {
            bound.take_from(&mut grant);
        }
        self.fields.put_into(&mut grant);
        checked(&grant).map_err(|why| Failure::usage(&what, why))?;
        let request = UpdateRequest {
            grant: Some(grant),
            expected_version,
        };
        let updated = client
            .update(request)
            .await
            .map_err(|status| refused(what, &status))?;
        view::Shown::read(&updated.into_inner())?.answer(SystemClock.now())
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Delete {
    /// Names of grants.
    #[arg(required = true, value_name = "GRANT")]
    names: Vec<GrantName>,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Delete {
    pub(super) async fn run(self) -> Result<Answer, Failure> {
        let mut client = client(&self.socket).await?;
        let mut lines = Vec::new();
        for name in &self.names {
            let what = || format!("could not delete grant {name}");
            let request = GetRequest {
                name: name.to_string(),
            };
            let found = client.get(request).await;
            let found = found.map_err(|status| refused(what(), &status))?.into_inner();
            let request = DeleteRequest {
                name: name.to_string(),
            };
            let deleted = client.delete(request).await;
            deleted.map_err(|status| refused(what(), &status))?;
            lines.push(match view::Shown::read(&found)?.grant.subject {
                Subject::Uid(uid) => format!(
                    "deleted grant {name}; without another grant, uid {uid} is an administrator again where the socket lets it in"
                ),
                Subject::Id(_) => format!("deleted grant {name}"),
            });
        }
        let names: Vec<_> = self.names.iter().map(GrantName::as_str).collect();
        Ok(Answer::new(lines.join("\n"), json!({ "deleted": names })))
    }
}
