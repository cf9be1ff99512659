//! Single steps, on one server.

use muster_identity::UnixTime;
use muster_proto::spire::server::localauthority::local_authority_client::LocalAuthorityClient;
use muster_runtime::{Clock, SystemClock};
use serde_json::{Map, Value, json};
use tonic::{Code, transport::Channel};

use super::kind::{Authority, Judged, Kind};
use crate::{
    args::ServerSocket,
    connect::{Daemon, connect},
    failure::Failure,
    output::{self, Answer},
};

#[derive(clap::Args, Debug)]
pub(crate) struct Show {
    /// Only those that sign this.
    #[arg(value_enum)]
    kind: Option<Kind>,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Show {
    pub(super) async fn run(self) -> Result<Answer, Failure> {
        let mut client = client(&self.socket).await?;
        let now = SystemClock.now();
        let (mut rows, mut json) = (Vec::new(), Map::new());
        for kind in self.kind.map_or(Kind::ALL.to_vec(), |kind| vec![kind]) {
            let standing = match kind.standing(&mut client).await {
                Ok(standing) => standing,
                // A server that signs no tokens has no authorities for them.
                Err(status) if self.kind.is_none() && status.code() == Code::Unimplemented => {
                    json.insert(kind.name().to_owned(), Value::Null);
                    continue;
                }
                Err(status) => return Err(Failure::status("could not read the authorities", &status)),
            };
            let stages = [
                ("active", standing.active),
                ("prepared", standing.prepared),
                ("old", standing.old),
            ];
            let mut of_kind = Map::new();
            for (stage, authority) in stages {
                of_kind.insert(
                    stage.to_owned(),
                    authority.as_ref().map_or(Value::Null, Authority::json),
                );
                if let Some(authority) = authority {
                    let ends = ends(authority.ends, now);
                    let (id, upstream) = (authority.id, authority.upstream);
                    rows.push([kind.label().to_owned(), stage.to_owned(), id, ends, upstream]);
                }
            }
            json.insert(kind.name().to_owned(), of_kind.into());
        }
        // The column of the roots above is for those who have any.
        let header = ["KIND", "STAGE", "AUTHORITY", "ENDS", "UPSTREAM"];
        let text = if rows.iter().any(|[.., upstream]| !upstream.is_empty()) {
            output::table(header, rows)
        } else {
            let [kind, stage, id, ends, _] = header;
            let rows = rows
                .into_iter()
                .map(|[kind, stage, id, ends, _]| [kind, stage, id, ends]);
            output::table([kind, stage, id, ends], rows)
        };
        Ok(Answer::new(text, json.into()))
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Prepare {
    /// What it is to sign.
    #[arg(value_enum)]
    kind: Kind,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Prepare {
    pub(super) async fn run(self) -> Result<Answer, Failure> {
        let done = self.kind.prepare(&mut client(&self.socket).await?).await;
        let done = done.map_err(|status| Failure::status("could not prepare an authority", &status))?;
        Ok(answer("Prepared", (self.kind.name(), self.kind.label()), &done))
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Activate {
    /// What it signs.
    #[arg(value_enum)]
    kind: Kind,
    /// Its id. [default: the one that is prepared]
    authority: Option<String>,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Activate {
    pub(super) async fn run(self) -> Result<Answer, Failure> {
        let mut client = client(&self.socket).await?;
        let id = match self.authority {
            Some(id) => id,
            None => {
                let standing = self.kind.standing(&mut client).await;
                let standing =
                    standing.map_err(|status| Failure::status("could not read the authorities", &status))?;
                let prepared = standing.prepared.ok_or_else(|| {
                    Failure::refused("could not activate an authority", "none is prepared")
                        .next(format!("muster authority prepare {}", self.kind.name()))
                })?;
                prepared.id
            }
        };
        let done = self.kind.activate(&mut client, id).await;
        let done = done.map_err(|status| Failure::status("could not activate the authority", &status))?;
        Ok(answer("Active", (self.kind.name(), self.kind.label()), &done))
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Taint {
    /// What it signed.
    #[arg(value_enum)]
    what: Judged,
    /// Its id, as `muster authority show` has it; of an upstream authority the subject key id.
    authority: String,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Taint {
    pub(super) async fn run(self) -> Result<Answer, Failure> {
        let mut client = client(&self.socket).await?;
        let done = self.what.taint(&mut client, self.authority).await;
        let done = done.map_err(|status| {
            let next = match self.what {
                Judged::X509 | Judged::Jwt => {
                    "only an old authority can be tainted: prepare and activate another first"
                }
                Judged::Upstream => {
                    "only a root can be tainted below which nothing signs any more: prepare and activate an authority below another first"
                }
            };
            Failure::status("could not taint the authority", &status).next(next)
        })?;
        Ok(answer("Tainted", (self.what.name(), self.what.label()), &done))
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Revoke {
    /// What it signed.
    #[arg(value_enum)]
    what: Judged,
    /// Its id, as `muster authority show` has it; of an upstream authority the subject key id.
    authority: String,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Revoke {
    pub(super) async fn run(self) -> Result<Answer, Failure> {
        let mut client = client(&self.socket).await?;
        let done = self.what.revoke(&mut client, self.authority).await;
        let done = done.map_err(|status| {
            Failure::status("could not revoke the authority", &status).next(format!(
                "only a tainted authority can be revoked: muster authority taint {}",
                self.what.name()
            ))
        })?;
        Ok(answer("Revoked", (self.what.name(), self.what.label()), &done))
    }
}

async fn client(socket: &ServerSocket) -> Result<LocalAuthorityClient<Channel>, Failure> {
    Ok(LocalAuthorityClient::new(
        connect(&socket.path, Daemon::Server).await?,
    ))
}

fn answer(stage: &'static str, (kind, label): (&str, &str), authority: &Authority) -> Answer {
    let text = output::block([
        (stage, format!("{label} authority {}", authority.id)),
        ("Ends", ends(authority.ends, SystemClock.now())),
    ]);
    let json = json!({ "kind": kind, "stage": stage.to_lowercase(), "authority": authority.json() });
    Answer::new(text, json)
}

fn ends(at: Option<UnixTime>, now: UnixTime) -> String {
    at.map_or_else(String::new, |at| output::moment(at, now))
}
