//! The whole of a forced rotation, on one server or a set whose bundles are one: each step on all of them before the next on any, for nobody may sign with what another's
//! nodes don't know, and nothing may be revoked that anybody's workloads still show.

use std::collections::BTreeSet;
use std::time::Duration;

use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::kind::{Authority, Kind};
use super::server::Server;
use crate::{
    args::ServerSocket,
    duration,
    failure::Failure,
    output::{self, Answer, Style},
};

/// How often the servers are asked how far their nodes are.
const ASK: Duration = Duration::from_millis(250);
/// How long nodes may take to hold a new bundle before it is signed with all the same; the servers wait as long again.
const INFORMED: Duration = Duration::from_secs(10);
/// What nodes that don't say what they hold are given: SPIRE's ask every five seconds and replace a hundred SVIDs each time.
const SILENT: Duration = Duration::from_secs(30);
/// From a node to its workloads.
const HAND_OUT: Duration = Duration::from_secs(2);
/// How far clocks of verifiers may be behind: a token lives so much longer there.
const LEEWAY: Duration = Duration::from_secs(60);

#[derive(clap::Args, Debug)]
pub(crate) struct Rotate {
    /// Only what signs this. [default: both]
    #[arg(value_enum)]
    kind: Option<Kind>,
    /// Revoke the old authorities at the end, when nothing that they signed is in use any more.
    #[arg(long)]
    revoke: bool,
    /// Don't wait for what is still in use: after a theft, being cut off is the lesser evil.
    #[arg(long)]
    now: bool,
    /// How long nodes may take to replace what the old authorities signed.
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "5m")]
    timeout: Duration,
    /// A server of the set, by its admin socket or as HOST:PORT; repeat it for each. [default: the one at --socket]
    #[arg(long = "server", value_name = "SERVER")]
    servers: Vec<String>,
    #[command(flatten)]
    socket: ServerSocket,
    /// The Workload API that gives this command the identity of an administrator, for servers at HOST:PORT.
    #[arg(
        long,
        env = "SPIFFE_ENDPOINT_SOCKET",
        default_value = "/run/muster/workload/api.sock",
        value_name = "ADDRESS",
        hide_env_values = true
    )]
    workload: String,
}

/// One authority's way, on one server.
#[derive(Debug)]
struct Turn {
    server: usize,
    kind: Kind,
    before: Authority,
    after: Option<Authority>,
    stage: &'static str,
}

impl Turn {
    /// Whether what is replaced stands below another server: verifiers know the root above alone, so its authorities are neither tainted nor revoked themselves.
    fn is_below_another(&self) -> bool {
        !self.before.upstream.is_empty()
    }
}

struct Rotation {
    servers: Vec<Server>,
    turns: Vec<Turn>,
    bar: ProgressBar,
}

impl Rotate {
    pub(super) async fn run(self, style: &Style) -> Result<Answer, Failure> {
        let kinds = self.kind.map_or(Kind::ALL.to_vec(), |kind| vec![kind]);
        let mut rotation = Rotation {
            servers: Vec::new(),
            turns: Vec::new(),
            bar: style.progress("reaching the servers"),
        };
        rotation.reach(&self.names(), &self.workload, &kinds).await?;
        let done = rotation.turn_over(&self, &kinds).await;
        rotation.bar.finish_and_clear();
        match done {
            Ok(()) => Ok(rotation.answer(self.revoke)),
            // Where it stands is what the next step depends on.
            Err(failure) => {
                style.print(&rotation.answer(self.revoke))?;
                let next = failure
                    .next
                    .clone()
                    .map_or_else(String::new, |next| format!("{next}; "));
                Err(failure.next(format!(
                    "{next}what was done stands: run the same again, or go on with `muster authority` step by step"
                )))
            }
        }
    }

    fn names(&self) -> Vec<String> {
        if self.servers.is_empty() {
            return vec![self.socket.path.display().to_string()];
        }
        self.servers.clone()
    }
}

impl Rotation {
    /// All are reached, and sign, before anything is changed on one.
    async fn reach(&mut self, names: &[String], workload: &str, kinds: &[Kind]) -> Result<(), Failure> {
        for (at, name) in names.iter().enumerate() {
            let mut server = Server::connect(name, workload, &[]).await?;
            for kind in kinds {
                let mut client = server.authorities.clone();
                let standing = server.within("could not read the authorities", kind.standing(&mut client));
                let before = standing.await?.active.ok_or_else(|| {
                    Failure::refused(format!("could not rotate on {name}"), "nothing signs there yet")
                })?;
                self.turns.push(Turn {
                    server: at,
                    kind: *kind,
                    before,
                    after: None,
                    stage: "",
                });
            }
            server.progress().await?;
            self.servers.push(server);
        }
        Ok(())
    }

    async fn turn_over(&mut self, how: &Rotate, kinds: &[Kind]) -> Result<(), Failure> {
        self.bar.set_message("preparing");
        for turn in &mut self.turns {
            let server = &self.servers[turn.server];
            let mut client = server.authorities.clone();
            let prepared = server.within("could not prepare an authority", turn.kind.prepare(&mut client));
            (turn.after, turn.stage) = (Some(prepared.await?), "prepared");
            self.bar.inc(1);
        }
        self.bar
            .set_message("waiting until the nodes know what will sign");
        let prepared = Instant::now();
        // A node that hangs holds nobody up: past that the servers go on by themselves.
        let left = self.wait(INFORMED, |left| left.uninformed == 0).await?;
        if left.silent > 0 && !how.now {
            // No server waits for those that say nothing, and they ask every five seconds.
            tokio::time::sleep_until(prepared + INFORMED).await;
        }
        self.bar.set_message("activating");
        for turn in &mut self.turns {
            let server = &self.servers[turn.server];
            let mut client = server.authorities.clone();
            let next = turn
                .after
                .as_ref()
                .map(|next| next.id.clone())
                .unwrap_or_default();
            let active = server.within(
                "could not activate the authority",
                turn.kind.activate(&mut client, next),
            );
            (turn.after, turn.stage) = (Some(active.await?), "active");
            self.bar.inc(1);
        }
        let activated = Instant::now();
        self.bar.set_message("tainting");
        for turn in self.turns.iter_mut().filter(|turn| !turn.is_below_another()) {
            let server = &self.servers[turn.server];
            let mut client = server.authorities.clone();
            let tainted = turn.kind.taint(&mut client, turn.before.id.clone());
            server
                .within("could not taint the old authority", tainted)
                .await?;
            turn.stage = "tainted";
            self.bar.inc(1);
        }
        if !how.now {
            self.wait_until_replaced(how, kinds, activated).await?;
        }
        if !how.revoke {
            return Ok(());
        }
        self.bar.set_message("revoking");
        let leaving: Vec<String> = self.turns.iter().map(|turn| turn.before.id.clone()).collect();
        for server in &mut self.servers {
            server.come_again(&how.workload, &leaving).await?;
        }
        for turn in self.turns.iter_mut().filter(|turn| !turn.is_below_another()) {
            let server = &self.servers[turn.server];
            let mut client = server.authorities.clone();
            let revoked = turn.kind.revoke(&mut client, turn.before.id.clone());
            server
                .within("could not revoke the old authority", revoked)
                .await?;
            turn.stage = "revoked";
            self.bar.inc(1);
        }
        Ok(())
    }

    /// Until nothing that the old authorities signed is in use, as far as anybody can say.
    async fn wait_until_replaced(
        &mut self,
        how: &Rotate,
        kinds: &[Kind],
        activated: Instant,
    ) -> Result<(), Failure> {
        self.bar
            .set_message("waiting until the nodes have replaced what the old authorities signed");
        let left = self
            .wait(how.timeout, |left| left.uninformed == 0 && left.outdated == 0)
            .await?;
        if left.uninformed > 0 || left.outdated > 0 {
            return Err(Failure::refused(
                "could not see everything replaced",
                format!(
                    "after {} {} SVIDs of the old authorities are held still, and {} nodes have not said that they know",
                    humantime::format_duration(how.timeout),
                    left.outdated,
                    left.uninformed
                ),
            )
            .next("look at the nodes' logs; --now does not wait"));
        }
        if !how.revoke {
            return Ok(());
        }
        if left.silent > 0 {
            self.bar
                .set_message("giving nodes time that don't say what they hold");
            sleep(SILENT).await;
        }
        sleep(HAND_OUT).await;
        if kinds.contains(&Kind::Jwt) {
            self.bar
                .set_message("waiting until the tokens of the old authorities have ended");
            tokio::time::sleep_until(activated + left.longest_token + LEEWAY).await;
        }
        Ok(())
    }

    /// Asks until `done`, or until the time is over; answers what was left last.
    async fn wait(&mut self, most: Duration, done: impl Fn(&Left) -> bool) -> Result<Left, Failure> {
        let until = Instant::now() + most;
        loop {
            let mut left = Left::default();
            for server in &mut self.servers {
                match server.progress().await? {
                    Some(progress) => {
                        left.uninformed += u64::from(progress.connected.saturating_sub(progress.informed));
                        left.outdated += progress.outdated;
                        left.silent += u64::from(progress.silent);
                        let longest = Duration::from_secs(progress.longest_jwt_svid_seconds.into());
                        left.longest_token = left.longest_token.max(longest);
                    }
                    // A server of SPIRE's says nothing; its tokens live as long as their entries let them.
                    None => left.silent += 1,
                }
            }
            if done(&left) || Instant::now() >= until {
                return Ok(left);
            }
            sleep(ASK).await;
        }
    }

    /// Roots of upstream authorities that were above an old authority and are above no new one.
    fn roots_left(&self) -> BTreeSet<&str> {
        let new = |root: &str| {
            let mut after = self.turns.iter().filter_map(|turn| turn.after.as_ref());
            after.any(|after| after.upstream == root)
        };
        let left = self
            .turns
            .iter()
            .filter(|turn| turn.is_below_another() && turn.stage == "active");
        let roots = left.map(|turn| turn.before.upstream.as_str());
        roots.filter(|root| !new(root)).collect()
    }

    fn answer(&self, revoke: bool) -> Answer {
        let rows = self.turns.iter().map(|turn| {
            [
                self.servers[turn.server].name.clone(),
                turn.kind.label().to_owned(),
                turn.after
                    .as_ref()
                    .map(|after| after.id.clone())
                    .unwrap_or_default(),
                turn.before.id.clone(),
                turn.stage.to_owned(),
            ]
        });
        let mut text = output::table(["SERVER", "KIND", "NEW", "OLD", "REACHED"], rows);
        let is_trusted_still = |turn: &Turn| !turn.is_below_another() && turn.stage != "revoked";
        if !revoke && self.turns.iter().any(is_trusted_still) {
            text.push_str("\n\nThe old authorities are trusted still. To end that: muster authority revoke KIND AUTHORITY");
        }
        for root in self.roots_left() {
            text.push_str(&format!(
                "\n\nNothing new is signed below the upstream authority {root}. To end the trust in it: muster authority taint upstream {root}, and later revoke"
            ));
        }
        let json: Value = self
            .turns
            .iter()
            .map(|turn| {
                json!({
                    "server": self.servers[turn.server].name,
                    "kind": turn.kind.name(),
                    "new": turn.after.as_ref().map(Authority::json),
                    "old": turn.before.json(),
                    "reached": turn.stage,
                })
            })
            .collect();
        Answer::new(text, json!({ "turns": json }))
    }
}

/// What is left to do, on all servers together.
#[derive(Clone, Copy, Debug, Default)]
struct Left {
    uninformed: u64,
    outdated: u64,
    silent: u64,
    longest_token: Duration,
}
