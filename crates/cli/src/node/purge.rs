//! `muster node purge`: nodes that will not come back under the same name.

use std::time::Duration;

use muster_runtime::{Clock, SystemClock};
use serde_json::json;

use super::{Filter, client, evict, find, view};
use crate::{
    args::ServerSocket,
    duration,
    failure::Failure,
    output::{self, Answer, Style},
};

#[derive(clap::Args, Debug)]
pub(crate) struct Purge {
    /// How long ago their certificates must have ended.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "30d")]
    expired_for: Duration,
    /// Only say which nodes that would be.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Purge {
    pub(super) async fn run(self, style: &Style) -> Result<Answer, Failure> {
        let mut client = client(&self.socket).await?;
        let limit = SystemClock.now().saturating_sub(self.expired_for);
        let filter = Filter {
            can_reattest: Some(true),
            banned: Some(false),
            expires_before: Some(limit),
            ..Filter::default()
        };
        let mut nodes = find(&client, filter.to_wire(), style).await?;
        // Looked at again here: a server that knows a filter less would have us evict nodes that are alive.
        nodes.retain(|node| node.can_reattest && !node.banned && node.expires_at < limit);

        let (mut gone, mut kept) = (Vec::new(), Vec::new());
        if !self.dry_run {
            let progress = style.progress("evicting");
            for view::Node { id, .. } in &nodes {
                match evict(&mut client, id).await {
                    Ok(()) => gone.push(id.to_string()),
                    Err(failure) => kept.push((id.to_string(), failure.why)),
                }
                progress.inc(1);
            }
            progress.finish_and_clear();
        }
        let ids: Vec<String> = nodes.iter().map(|node| node.id.to_string()).collect();
        let mut text = match (ids.len(), self.dry_run) {
            (0, _) => "no nodes to purge".to_owned(),
            (number, true) => {
                format!(
                    "{} would be purged:\n{}",
                    output::count(number, "node", "nodes"),
                    ids.join("\n")
                )
            }
            (_, false) => format!("purged {}", output::count(gone.len(), "node", "nodes")),
        };
        for line in gone
            .iter()
            .cloned()
            .chain(kept.iter().map(|(id, why)| format!("not purged: {id}: {why}")))
        {
            text.push('\n');
            text.push_str(&line);
        }
        let refused: Vec<_> = kept
            .iter()
            .map(|(id, why)| json!({ "id": id, "why": why }))
            .collect();
        let candidates = if self.dry_run { ids } else { Vec::new() };
        let json = json!({ "purged": gone, "refused": refused, "would_purge": candidates });
        Ok(Answer::new(text, json).incomplete(!kept.is_empty()))
    }
}
