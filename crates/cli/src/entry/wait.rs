//! `--wait`: until the entry is where it counts.

use std::time::Duration;

use muster_identity::EntryId;
use muster_proto::delivery::{FollowRequest, FollowResponse, delivery_client::DeliveryClient};
use tonic::{Code, Status};

use crate::{
    args::ServerSocket,
    connect::{Daemon, connect},
    failure::Failure,
    output::Style,
};

/// When a server that has no room for one more that follows is asked again.
const AGAIN: Duration = Duration::from_millis(500);

#[derive(clap::Args, Debug)]
pub(super) struct Wait {
    /// Wait until each connected node that is entitled has installed it; at most so many seconds.
    #[arg(long = "wait", value_name = "SECONDS", num_args = 0..=1, default_missing_value = "30")]
    seconds: Option<u32>,
}

impl Wait {
    /// Returns at once when no waiting was asked for.
    pub(super) async fn until_delivered(
        &self,
        socket: &ServerSocket,
        id: &EntryId,
        style: &Style,
    ) -> Result<(), Failure> {
        let Some(seconds) = self.seconds else {
            return Ok(());
        };
        let what = format!("entry {id} was created, but could not be followed to the nodes");
        let mut full = None;
        let following = follow(socket, id, style, &what, &mut full);
        let followed = tokio::time::timeout(Duration::from_secs(seconds.into()), following).await;
        match (followed, full) {
            (Ok(outcome), _) => outcome,
            (Err(_), Some(refused)) => {
                Err(Failure::status(what, &refused)
                    .next("it arrives unwatched too; do not create it once more"))
            }
            (Err(_), None) => Err(
                Failure::refused(what, format!("not on all nodes after {seconds} s"))
                    .next("`muster node list` shows the nodes; it arrives when they answer again"),
            ),
        }
    }
}

/// Follows the entry until it is everywhere. `full` is the server's word while it has no room for one more that follows.
async fn follow(
    socket: &ServerSocket,
    id: &EntryId,
    style: &Style,
    what: &str,
    full: &mut Option<Status>,
) -> Result<(), Failure> {
    let status = |status: Status| Failure::status(what, &status);
    let mut client = DeliveryClient::new(connect(&socket.path, Daemon::Server).await?);
    let request = FollowRequest {
        entry_ids: vec![id.to_string()],
    };
    let mut answers = loop {
        match client.follow(request.clone()).await {
            Err(refused) if refused.code() == Code::ResourceExhausted => {
                *full = Some(refused);
                tokio::time::sleep(AGAIN).await;
            }
            followed => break followed.map_err(status)?.into_inner(),
        }
    };
    *full = None;
    let progress = style.progress("nodes that have it:");
    while let Some(FollowResponse {
        entitled,
        installed,
        done,
    }) = answers.message().await.map_err(status)?
    {
        progress.set_length(entitled.into());
        progress.set_position(installed.into());
        if done {
            progress.finish_and_clear();
            return Ok(());
        }
    }
    Err(Failure::refused(what, "the server ended the answer early").next("look at the server's log"))
}
