//! Hashes executables: few at once, none twice at once, each with a deadline.

mod queue;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};
use muster_plugin_api::Hope;
use tokio::sync::watch;
use tracing::warn;

use self::queue::{Job, Next, Queue};
use super::HashSettings;
use super::executable::by_descriptor;
use super::hash_cache::HashCache;
use crate::kernel::{Version, file_state};

/// How much is read between two looks at the clock.
const CHUNK: usize = 256 << 10;

/// Why there is no hash.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Unhashed {
    pub(super) hope: Hope,
    pub(super) reason: String,
}

impl Unhashed {
    pub(super) fn for_good(reason: impl Into<String>) -> Self {
        Self {
            hope: Hope::Final,
            reason: reason.into(),
        }
    }

    fn for_now(reason: impl Into<String>) -> Self {
        Self {
            hope: Hope::MayHeal,
            reason: reason.into(),
        }
    }
}

type Outcome = Result<Arc<str>, Unhashed>;

/// Hashes files on threads of its own.
pub(super) struct Hasher {
    shared: Arc<Shared>,
}

struct Shared {
    settings: HashSettings,
    hashes: Mutex<Hashes>,
    queue: Queue,
}

struct Hashes {
    cache: HashCache,
    /// What is being hashed: whoever wants the same waits for the one answer.
    flights: HashMap<Version, watch::Receiver<Option<Outcome>>>,
}

impl Hasher {
    pub(super) fn start(settings: HashSettings) -> io::Result<Self> {
        let hashes = Mutex::new(Hashes {
            cache: HashCache::new(settings.remembered),
            flights: HashMap::new(),
        });
        let shared = Arc::new(Shared {
            settings,
            hashes,
            queue: Queue::default(),
        });
        for _ in 0..settings.hashers.max(1) {
            work(&shared)?;
        }
        Ok(Self { shared })
    }

    /// The hash of this version of a file, if it is remembered.
    pub(super) fn remembered(&self, version: &Version) -> Option<Arc<str>> {
        self.shared.hashes().cache.find(version)
    }

    /// The hash of `file`, in lower-case hex. `uid` is who runs it: nobody may keep all hashers busy for himself.
    pub(super) async fn hash(&self, uid: u32, file: OwnedFd, version: Version) -> Outcome {
        let HashSettings {
            max_size, deadline, ..
        } = self.shared.settings;
        if version.size > max_size {
            return Err(Unhashed::for_good(format!(
                "it has {} bytes, more than the limit of {max_size}",
                version.size
            )));
        }
        let mut flight = match self.board(uid, file, version) {
            Ok(outcome) => return outcome,
            Err(flight) => flight,
        };
        let late = || Unhashed::for_now(format!("it was not hashed within {deadline:?}"));
        match tokio::time::timeout(deadline, flight.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => outcome.clone().unwrap_or_else(|| Err(late())),
            Ok(Err(_)) | Err(_) => Err(late()),
        }
    }

    /// The answer if it is there, or the flight that brings it.
    fn board(
        &self,
        uid: u32,
        file: OwnedFd,
        version: Version,
    ) -> Result<Outcome, watch::Receiver<Option<Outcome>>> {
        let shared = &self.shared;
        let mut hashes = shared.hashes();
        if let Some(digest) = hashes.cache.find(&version) {
            return Ok(Ok(digest));
        }
        if let Some(flight) = hashes.flights.get(&version) {
            return Err(flight.clone());
        }
        let (answer, flight) = watch::channel(None);
        let job = Job {
            uid,
            file,
            version,
            until: Instant::now() + shared.settings.deadline,
            answer,
        };
        if shared.queue.push(job).is_err() {
            return Ok(Err(Unhashed::for_now(
                "too many executables are waiting to be hashed",
            )));
        }
        hashes.flights.insert(version, flight.clone());
        drop(hashes);
        // A hasher that hangs in a file system we thought to be local is given up and replaced, a bounded number of times.
        if shared.queue.give_up_stuck(shared.settings.deadline * 2)
            && let Err(error) = work(shared)
        {
            warn!(
                error = &error as &dyn std::error::Error,
                "a hasher hangs and could not be replaced"
            );
        }
        Err(flight)
    }
}

impl Drop for Hasher {
    fn drop(&mut self) {
        self.shared.queue.close();
    }
}

impl Shared {
    fn hashes(&self) -> MutexGuard<'_, Hashes> {
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finish(&self, version: Version, answer: &watch::Sender<Option<Outcome>>, outcome: Outcome) {
        let mut hashes = self.hashes();
        if let Ok(digest) = &outcome {
            hashes
                .cache
                .remember(version, Arc::clone(digest), since_the_epoch());
        }
        hashes.flights.remove(&version);
        drop(hashes);
        answer.send_replace(Some(outcome));
    }
}

/// Starts a hasher. It ends when the queue is closed or when it was given up.
fn work(shared: &Arc<Shared>) -> io::Result<()> {
    let shared = Arc::clone(shared);
    let run = move || {
        while let Next::Job(
            Job {
                uid: _,
                file,
                version,
                until,
                answer,
            },
            ticket,
        ) = shared.queue.pop()
        {
            let outcome = digest(&file, &version, until);
            shared.finish(version, &answer, outcome);
            if !shared.queue.done(ticket) {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("hasher".to_owned())
        .spawn(run)
        .map(drop)
}

fn digest(file: &OwnedFd, version: &Version, until: Instant) -> Outcome {
    let failed = |what: &str, error: &io::Error| match error.kind() {
        io::ErrorKind::PermissionDenied => Unhashed::for_good("it may not be read by the node agent"),
        _ => Unhashed::for_now(format!("{what}: {error}")),
    };
    let mut content = File::open(by_descriptor(file)).map_err(|error| failed("opening it", &error))?;
    let mut context = Context::new(&SHA256);
    let mut chunk = vec![0; CHUNK];
    let mut left = version.size;
    loop {
        if Instant::now() >= until {
            return Err(Unhashed::for_now("hashing it took too long"));
        }
        let read = content
            .read(&mut chunk)
            .map_err(|error| failed("reading it", &error))?;
        let Some(rest) = left.checked_sub(u64::try_from(read).unwrap_or(u64::MAX)) else {
            break;
        };
        if read == 0 {
            break;
        }
        left = rest;
        context.update(&chunk[..read]);
    }
    // What was read is the version that was asked for only if it is still that one and all of it was read.
    let now = file_state(file.as_fd()).map_err(|error| failed("looking at it", &error))?;
    if left != 0 || now.version != *version {
        return Err(Unhashed::for_now("it changed while it was hashed"));
    }
    let hex: String = context
        .finish()
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(hex.into())
}

fn since_the_epoch() -> Duration {
    #[expect(
        clippy::disallowed_methods,
        reason = "compared with the ctimes of files, which are of the kernel's wall clock"
    )]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests;
