//! Looking at grants.

use muster_identity::GrantName;
use muster_proto::grant::{GetRequest, ListRequest};
use muster_runtime::{Clock, SystemClock};
use serde_json::Value;

use super::{client, refused, view};
use crate::{
    args::ServerSocket,
    failure::Failure,
    output::{Answer, Style},
    pages,
};

#[derive(clap::Args, Debug)]
pub(crate) struct List {
    /// Grants of this subject alone: a SPIFFE ID, or uid:1000.
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    #[command(flatten)]
    socket: ServerSocket,
}

impl List {
    pub(super) async fn run(self, style: &Style) -> Result<Answer, Failure> {
        let client = client(&self.socket).await?;
        let found = pages::all("grants", style, |page_token| {
            let mut client = client.clone();
            let request = ListRequest {
                page_size: pages::PAGE,
                page_token,
                subject: self.subject.clone().unwrap_or_default(),
            };
            async move {
                let page = client.list(request).await?.into_inner();
                Ok((page.grants, page.next_page_token))
            }
        })
        .await?;
        let grants = found
            .iter()
            .map(view::Shown::read)
            .collect::<Result<Vec<_>, _>>()?;
        let table = view::table(&grants, SystemClock.now());
        Ok(Answer::new(
            table,
            grants.iter().map(view::Shown::json).collect::<Value>(),
        ))
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Show {
    /// The grant's name.
    #[arg(value_name = "GRANT")]
    name: GrantName,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Show {
    pub(super) async fn run(self) -> Result<Answer, Failure> {
        let request = GetRequest {
            name: self.name.to_string(),
        };
        let found = client(&self.socket)
            .await?
            .get(request)
            .await
            .map_err(|status| refused(format!("could not show grant {}", self.name), &status))?;
        view::Shown::read(&found.into_inner())?.answer(SystemClock.now())
    }
}
