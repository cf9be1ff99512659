//! Which file is hashed next.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::Outcome;
use crate::kernel::Version;

/// How many files may wait, in all and for one user. Whoever starts more different programs at once comes back later.
const WAITING: usize = 256;
const WAITING_FOR_ONE: usize = 32;
/// How many hashers may be given up. Beyond that hashing stops, and everything else goes on.
const GIVEN_UP: usize = 4;

/// A file to be hashed.
pub(super) struct Job {
    pub(super) uid: u32,
    pub(super) file: OwnedFd,
    pub(super) version: Version,
    pub(super) until: Instant,
    pub(super) answer: watch::Sender<Option<Outcome>>,
}

/// What a hasher does now.
pub(super) enum Next {
    Job(Job, Ticket),
    End,
}

/// Names a job that is under way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Ticket(u64);

/// Jobs in order, but only one at a time for each user: a user with slow files waits for himself.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    running: Vec<Running>,
    tickets: u64,
    closed: bool,
}

struct Running {
    ticket: Ticket,
    uid: u32,
    since: Instant,
    given_up: bool,
}

impl Queue {
    /// Queues a job, or gives it back if there are too many.
    pub(super) fn push(&self, job: Job) -> Result<(), Box<Job>> {
        let mut state = self.state();
        let of_one = state.waiting.iter().filter(|other| other.uid == job.uid).count();
        if state.waiting.len() >= WAITING || of_one >= WAITING_FOR_ONE {
            return Err(Box::new(job));
        }
        state.waiting.push_back(job);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Waits for a job of a user who has none under way.
    pub(super) fn pop(&self) -> Next {
        let mut state = self.state();
        loop {
            if state.closed {
                return Next::End;
            }
            let free = |job: &Job| !state.running.iter().any(|running| running.uid == job.uid);
            let next = state.waiting.iter().position(free);
            if let Some(job) = next.and_then(|next| state.waiting.remove(next)) {
                state.tickets += 1;
                let ticket = Ticket(state.tickets);
                state.running.push(Running {
                    ticket,
                    uid: job.uid,
                    since: Instant::now(),
                    given_up: false,
                });
                return Next::Job(job, ticket);
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// A job is over. `false` if its hasher was given up meanwhile and has a successor.
    pub(super) fn done(&self, ticket: Ticket) -> bool {
        let mut state = self.state();
        let given_up = state
            .running
            .iter()
            .any(|running| running.ticket == ticket && running.given_up);
        state.running.retain(|running| running.ticket != ticket);
        drop(state);
        self.changed.notify_one();
        !given_up
    }

    /// Gives up one hasher that has been at one file for `longer`, if any may be given up. `true` means: start another.
    pub(super) fn give_up_stuck(&self, longer: Duration) -> bool {
        let mut state = self.state();
        if state.running.iter().filter(|running| running.given_up).count() >= GIVEN_UP {
            return false;
        }
        let stuck = state
            .running
            .iter_mut()
            .find(|running| !running.given_up && running.since.elapsed() >= longer);
        stuck.map(|running| running.given_up = true).is_some()
    }

    /// Hashers end as soon as they are free.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use muster_plugin_api::FileId;

    use super::*;

    fn job(uid: u32, inode: u64) -> Job {
        let id = FileId { device: 1, inode };
        Job {
            uid,
            file: tempfile::tempfile().unwrap().into(),
            version: Version {
                id,
                size: 0,
                modified: (0, 0),
                changed: (0, 0),
            },
            until: Instant::now(),
            answer: watch::channel(None).0,
        }
    }

    fn pop(queue: &Queue) -> (u64, Ticket) {
        match queue.pop() {
            Next::Job(job, ticket) => (job.version.id.inode, ticket),
            Next::End => panic!("the queue is open"),
        }
    }

    #[test]
    fn a_user_has_one_job_under_way_at_most() {
        let queue = Queue::default();
        for (uid, inode) in [(1, 10), (1, 11), (2, 20)] {
            queue.push(job(uid, inode)).ok().unwrap();
        }
        let (first, ticket) = pop(&queue);
        assert_eq!((first, pop(&queue).0), (10, 20));
        assert!(queue.done(ticket));
        assert_eq!(pop(&queue).0, 11);
    }

    #[test]
    fn too_many_files_of_one_user_are_refused_and_those_of_others_are_not() {
        let queue = Queue::default();
        for inode in 0..WAITING_FOR_ONE {
            queue.push(job(1, u64::try_from(inode).unwrap())).ok().unwrap();
        }
        assert!(queue.push(job(1, 1000)).is_err());
        assert!(queue.push(job(2, 1000)).is_ok());
    }

    #[test]
    fn hashers_that_hang_are_replaced_a_bounded_number_of_times() {
        let queue = Queue::default();
        assert!(!queue.give_up_stuck(Duration::ZERO));
        let mut tickets = Vec::new();
        for uid in 0..u32::try_from(GIVEN_UP).unwrap() + 1 {
            queue.push(job(uid, 1)).ok().unwrap();
            tickets.push(pop(&queue).1);
        }
        assert!((0..GIVEN_UP).all(|_| queue.give_up_stuck(Duration::ZERO)));
        assert!(!queue.give_up_stuck(Duration::ZERO));
        assert!(
            !queue.done(tickets[0]),
            "a hasher that was given up ends when it comes back"
        );
        assert!(queue.give_up_stuck(Duration::ZERO), "and its place is free again");
    }

    #[test]
    fn a_closed_queue_ends_its_hashers() {
        let queue = Queue::default();
        queue.close();
        assert!(matches!(queue.pop(), Next::End));
    }
}
