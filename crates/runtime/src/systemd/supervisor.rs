//! The conversation with systemd, from the start to the stop.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info};

use super::notify::{Notifier, reloading};
use super::{Environment, Reloaded};
use crate::logging::shown;
use crate::{Readiness, Standing, Stop};

/// How often a daemon that is not ready yet asks for more time, and for how much. It may wait for its server as long as that takes: a start that systemd gave up
/// would only begin to wait anew.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// How many signs of life fit into the time that systemd allows between two: one may be lost or late.
const SIGNS: u32 = 3;

/// What a daemon lends to whoever supervises it.
pub trait Supervised: Send + Sync + 'static {
    /// Reads the configuration again and takes over what can be changed in a running daemon. After an error everything is as it was.
    fn reload(&self) -> Result<Reloaded, String>;

    /// Returns when the daemon's inner parts have moved; never, when they are stuck. It runs as a task of the daemon's own runtime.
    fn pulse(&self) -> impl Future<Output = ()> + Send;
}

/// Speaks with systemd for a daemon, and reloads it.
#[derive(Debug)]
pub struct Supervisor {
    notifier: Notifier,
    watchdog: Option<Duration>,
    hangups: Signal,
}

impl Supervisor {
    /// From now on SIGHUP does not end the process: a reload that comes while the daemon is being built waits for [`Supervisor::run`].
    pub fn new(environment: &Environment) -> io::Result<Self> {
        Ok(Self {
            notifier: Notifier::new(environment.notify_socket.as_deref()),
            watchdog: environment.watchdog,
            hangups: signal(SignalKind::hangup())?,
        })
    }

    /// Tells systemd what happens to the daemon, and reloads it at each SIGHUP, until `stop`.
    ///
    /// `READY=1` follows the last readiness guard. Later comings and goings of readiness are shown in the unit's status and change nothing else.
    pub async fn run(mut self, readiness: Readiness, stop: Stop, daemon: impl Supervised) {
        let daemon = Arc::new(daemon);
        let (notifier, hangups) = (&self.notifier, &mut self.hangups);
        let told = tell(notifier, hangups, &readiness, &stop, &*daemon);
        let alive = watchdog(notifier, self.watchdog, &daemon);
        tokio::select! {
            () = told => {}
            () = alive => {}
        }
        self.notifier.say("STOPPING=1\nSTATUS=stopping").await;
    }
}

async fn tell(
    notifier: &Notifier,
    hangups: &mut Signal,
    readiness: &Readiness,
    stop: &Stop,
    daemon: &impl Supervised,
) {
    let mut changes = readiness.watch();
    // Whether READY=1 was said: it is said once for the start, and once for each reload.
    let mut started = false;
    loop {
        // The reload whose outcome is the status.
        let mut last = None;
        let ready = *changes.borrow_and_update();
        let status = status(&readiness.standing());
        let head = if ready && !started {
            "READY=1\n".to_owned()
        } else if started {
            String::new()
        } else {
            format!("EXTEND_TIMEOUT_USEC={}\n", PATIENCE.1.as_micros())
        };
        started |= ready;
        notifier.say(&format!("{head}STATUS={status}")).await;
        loop {
            tokio::select! {
                () = stop.ordered() => return,
                // Readiness lives as long as this function; so does its channel.
                _ = changes.changed() => break,
                () = tokio::time::sleep(PATIENCE.0), if !started => break,
                // Its outcome stays the status until readiness changes, or a reload has something else to say.
                _ = hangups.recv() => reload(notifier, started, daemon, &mut last).await,
            }
        }
    }
}

async fn reload(notifier: &Notifier, started: bool, daemon: &impl Supervised, last: &mut Option<Reloaded>) {
    if started {
        match reloading() {
            Ok(words) => notifier.say(&words).await,
            Err(error) => error!(%error, "no monotonic time; systemd does not hear of the reload"),
        }
    }
    let status = match daemon.reload() {
        Ok(now) => {
            info!(what = %now, "reloaded");
            let said = match last.take() {
                Some(before) if now.adds_nothing_to(&before) => before,
                _ => now,
            };
            format!("reloaded: {}", last.insert(said))
        }
        Err(why) => {
            *last = None;
            error!(
                why,
                "not reloaded; everything is as it was before, and the file must be repaired"
            );
            format!("not reloaded: {}", shown(&why))
        }
    };
    // The protocol has no word for a reload that failed: it is over, and the status says how.
    if started {
        notifier.say(&format!("READY=1\nSTATUS={status}")).await;
    }
}

/// Shows systemd that the daemon lives, as long as it does.
async fn watchdog<D: Supervised>(notifier: &Notifier, every: Option<Duration>, daemon: &Arc<D>) {
    let Some(every) = every else {
        return std::future::pending().await;
    };
    loop {
        let daemon = Arc::clone(daemon);
        // On the workers, which serve the callers: this function runs on the main thread, which does not.
        #[expect(
            clippy::disallowed_methods,
            reason = "a probe of the runtime, awaited in the next line"
        )]
        let moved = tokio::spawn(async move { daemon.pulse().await });
        // A probe that panics is no sign of life.
        if moved.await.is_ok() {
            notifier.say("WATCHDOG=1").await;
        }
        tokio::time::sleep(every / SIGNS).await;
    }
}

/// One line for `systemctl status`.
fn status(standing: &Standing) -> String {
    if !standing.starting.is_empty() {
        return format!("starting: waiting for {}", standing.starting.join(", "));
    }
    let failing: Vec<String> = standing
        .failing
        .iter()
        .map(|(name, why)| format!("{name}: {}", shown(why)))
        .collect();
    if failing.is_empty() {
        "ready".to_owned()
    } else {
        format!("not ready: {}", failing.join("; "))
    }
}

#[cfg(test)]
mod tests;
