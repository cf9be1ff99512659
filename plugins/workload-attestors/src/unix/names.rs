//! The names behind uids and gids, from the host's user database.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::{Gid, Group, Uid, User};
use tokio::sync::oneshot;

/// How long a caller waits for names.
const DEADLINE: Duration = Duration::from_millis(500);
/// How long a name is believed: accounts are renamed rarely, and numbers are the authority anyway.
const FRESH: Duration = Duration::from_secs(60);
/// The names remembered.
const REMEMBERED: usize = 4096;
/// The questions that may wait for an answer. When the database hangs, the queue fills and callers go on without names at once.
const WAITING: usize = 512;
/// The user database may be a network service: one slow answer must not hold up all others.
const THREADS: usize = 2;

/// A name that was not known in time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Late;

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum NameKind {
    User,
    Group,
}

impl fmt::Display for NameKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => "user",
            Self::Group => "group",
        })
    }
}

type Key = (NameKind, u32);
type Name = Option<Arc<str>>;

/// Asks the user database on threads of its own: the C library's calls block, and nothing can cancel them.
pub(super) struct Names {
    known: Arc<Mutex<HashMap<Key, (Name, Instant)>>>,
    questions: SyncSender<Question>,
}

struct Question {
    key: Key,
    answer: oneshot::Sender<Result<Name, Late>>,
}

impl Names {
    /// Starts the threads. They end with this value, as soon as the database lets them.
    pub(super) fn start() -> io::Result<Self> {
        Self::over(ask_the_database)
    }

    fn over(database: fn(Key) -> Result<Name, Late>) -> io::Result<Self> {
        let (questions, asked) = sync_channel(WAITING);
        let asked = Arc::new(Mutex::new(asked));
        let known = Arc::default();
        for _ in 0..THREADS {
            let (asked, known) = (Arc::clone(&asked), Arc::clone(&known));
            std::thread::Builder::new()
                .name("user-database".to_owned())
                .spawn(move || answer_all(&asked, &known, database))?;
        }
        Ok(Self { known, questions })
    }

    /// The names of all `ids`, in order; those that do not come in time are [`Late`].
    pub(super) async fn look_up(&self, ids: Vec<Key>) -> Vec<Result<Name, Late>> {
        let mut names = Vec::with_capacity(ids.len());
        let until = tokio::time::Instant::now() + DEADLINE;
        let waiting: Vec<_> = ids.into_iter().map(|key| self.ask(key)).collect();
        for name in waiting {
            names.push(match name {
                Ok(known) => Ok(known),
                Err(answer) => match tokio::time::timeout_at(until, answer).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(_)) | Err(_) => Err(Late),
                },
            });
        }
        names
    }

    /// What is known, or where the answer will come.
    fn ask(&self, key: Key) -> Result<Name, oneshot::Receiver<Result<Name, Late>>> {
        if let Some((name, when)) = lock(&self.known).get(&key)
            && when.elapsed() < FRESH
        {
            return Ok(name.clone());
        }
        let (answer, answered) = oneshot::channel();
        // With a full queue the question is dropped, and its receiver says so at once.
        self.questions.try_send(Question { key, answer }).ok();
        Err(answered)
    }
}

fn answer_all(
    asked: &Mutex<Receiver<Question>>,
    known: &Mutex<HashMap<Key, (Name, Instant)>>,
    database: fn(Key) -> Result<Name, Late>,
) {
    loop {
        let question = asked.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Question { key, answer }) = question else {
            return;
        };
        if answer.is_closed() {
            continue;
        }
        let earlier = lock(known)
            .get(&key)
            .filter(|(_, when)| when.elapsed() < FRESH)
            .map(|(name, _)| name.clone());
        let name = match earlier {
            // Somebody asked the same meanwhile.
            Some(name) => Ok(name),
            None => database(key),
        };
        if let Ok(name) = &name {
            let mut known = lock(known);
            if known.len() >= REMEMBERED {
                known.retain(|_, (_, when)| when.elapsed() < FRESH);
                if known.len() >= REMEMBERED {
                    known.clear();
                }
            }
            known.insert(key, (name.clone(), Instant::now()));
        }
        answer.send(name).ok();
    }
}

fn ask_the_database((kind, id): Key) -> Result<Name, Late> {
    let name = match kind {
        NameKind::User => User::from_uid(Uid::from_raw(id)).map(|user| user.map(|user| user.name)),
        NameKind::Group => Group::from_gid(Gid::from_raw(id)).map(|group| group.map(|group| group.name)),
    };
    // A database that fails has not said that there is no such name.
    name.map(|name| name.map(Arc::from)).map_err(|_| Late)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_host_names_root_and_does_not_name_strangers() {
        let names = Names::start().unwrap();
        let ids = vec![
            (NameKind::User, 0),
            (NameKind::Group, 0),
            (NameKind::User, 3_999_999_999),
        ];
        let answers = names.look_up(ids.clone()).await;
        assert_eq!(
            answers,
            [Ok(Some("root".into())), Ok(Some("root".into())), Ok(None)]
        );
        assert_eq!(lock(&names.known).len(), 3);
        assert_eq!(names.look_up(ids).await, answers);
    }

    #[tokio::test(start_paused = true)]
    async fn a_database_that_hangs_costs_the_names_and_nothing_else() {
        let names = Names::over(|_| {
            loop {
                std::thread::park();
            }
        })
        .unwrap();
        for id in 0..u32::try_from(WAITING).unwrap() + 10 {
            names.ask((NameKind::User, id)).ok();
        }
        assert_eq!(
            names
                .look_up(vec![(NameKind::User, 0), (NameKind::Group, 0)])
                .await,
            [Err(Late), Err(Late)]
        );
    }
}
