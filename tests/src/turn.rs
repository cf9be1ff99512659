use std::{
    collections::HashMap,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, ThreadId},
};

/// A story's leave to run. Stories run side by side; one whose measure is the machine's promptness (leaves that live for
/// seconds, a caller that must not be held up) would only measure its neighbours then, and runs alone.
#[derive(Debug)]
pub struct Turn {
    story: ThreadId,
}

#[derive(Default)]
struct Stories {
    /// How many turns each story holds: it may have two clusters.
    running: HashMap<ThreadId, usize>,
    /// Stories that wait to be alone. New ones wait behind them, or they would wait for ever.
    waiting: usize,
    alone: bool,
}

static STORIES: Mutex<Option<Stories>> = Mutex::new(None);
static CHANGED: Condvar = Condvar::new();

impl Turn {
    /// Waits until no story wants to be alone.
    pub(crate) fn beside_others() -> Self {
        let story = thread::current().id();
        let mut held = stories();
        while !of(&mut held).running.contains_key(&story)
            && (of(&mut held).alone || of(&mut held).waiting > 0)
        {
            held = CHANGED.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        *of(&mut held).running.entry(story).or_default() += 1;
        Self { story }
    }

    /// Waits until every other story has ended, and keeps new ones waiting until this is dropped. Taken before the story's
    /// first cluster is started.
    pub fn alone() -> Self {
        let story = thread::current().id();
        let mut held = stories();
        of(&mut held).waiting += 1;
        while of(&mut held).alone || !of(&mut held).running.is_empty() {
            held = CHANGED.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        let stories = of(&mut held);
        stories.waiting -= 1;
        stories.alone = true;
        stories.running.insert(story, 1);
        Self { story }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut held = stories();
        let stories = of(&mut held);
        if let Some(turns) = stories.running.get_mut(&self.story) {
            *turns -= 1;
            if *turns == 0 {
                stories.running.remove(&self.story);
            }
        }
        stories.alone &= !stories.running.is_empty();
        CHANGED.notify_all();
    }
}

fn stories() -> MutexGuard<'static, Option<Stories>> {
    // A story that failed leaves nothing half done here.
    STORIES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn of<'a>(held: &'a mut MutexGuard<'static, Option<Stories>>) -> &'a mut Stories {
    held.get_or_insert_default()
}
