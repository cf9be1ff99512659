//! `muster fetch jwt`.

use muster_identity::SpiffeId;
use muster_pki::jwt::JwtSvid;
use muster_proto::workload::JwtsvidRequest;
use muster_runtime::{Clock, SystemClock};
use serde_json::{Value, json};

use super::{Source, call};
use crate::{
    failure::{Failure, chain, clean},
    output::{self, Answer},
};

#[derive(clap::Args, Debug)]
pub(crate) struct Jwt {
    /// Who is to accept the tokens. Repeat it for several.
    #[arg(long, required = true, value_name = "NAME")]
    audience: Vec<String>,
    /// Only for this one of our identities.
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<SpiffeId>,
    #[command(flatten)]
    source: Source,
}

impl Jwt {
    pub(super) async fn run(self) -> Result<Answer, Failure> {
        let mut client = self.source.client().await?;
        let request = JwtsvidRequest {
            audience: self.audience.clone(),
            spiffe_id: self
                .spiffe_id
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
        };
        let answer = self
            .source
            .first("JWT-SVIDs", client.fetch_jwtsvid(call(request)))
            .await?;
        let now = SystemClock.now();
        let (mut blocks, mut values) = (Vec::new(), Vec::new());
        for (index, wire) in answer.into_inner().svids.into_iter().enumerate() {
            let svid = JwtSvid::parse_unverified(wire.svid).map_err(|error| {
                Failure::refused(
                    format!("could not use token {index} of the agent's answer"),
                    chain(&error),
                )
            })?;
            blocks.push(output::block([
                ("SPIFFE ID", svid.id().to_string()),
                ("Hint", clean(&wire.hint)),
                ("Audience", clean(&svid.audience().join(", "))),
                ("Expires", output::moment(svid.expires_at(), now)),
                ("Token", svid.token().to_owned()),
            ]));
            values.push(json!({
                "spiffe_id": svid.id().to_string(),
                "hint": wire.hint,
                "audience": svid.audience(),
                "expires_at": svid.expires_at().as_secs(),
                "token": svid.token(),
            }));
        }
        Ok(Answer::new(blocks.join("\n\n"), Value::from(values)))
    }
}
