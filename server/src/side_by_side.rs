//! Work on many things on several processors, for a start, which has little else to do meanwhile.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::thread;

/// The fewest things for which a thread is worth its start.
const LEAST: usize = 1_000;
/// The most threads: what is made there is put together on one, which is the longer part by then.
const MOST: usize = 4;

/// What `work` makes of each, in order.
pub(crate) fn map<T: Sync, R: Send>(things: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    map_on(processors.min(MOST), things, work)
}

fn map_on<T: Sync, R: Send>(threads: usize, things: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let share = things.len().div_ceil(threads).max(LEAST);
    let work = |part: &[T]| part.iter().map(&work).collect::<Vec<_>>();
    thread::scope(|scope| {
        let mut parts = things.chunks(share);
        let own = parts.next().unwrap_or_default();
        let begin = |part| {
            let thread = thread::Builder::new().spawn_scoped(scope, move || work(part));
            (part, thread)
        };
        // All are begun before the first is waited for.
        let begun: Vec<_> = parts.map(begin).collect();
        let mut done = work(own);
        for (part, thread) in begun {
            match thread {
                Ok(thread) => done.extend(thread.join().unwrap_or_else(|panic| resume_unwind(panic))),
                // No thread is to be had: then by this one.
                Err(_) => done.extend(work(part)),
            }
        }
        done
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn all_is_done_in_order_however_much_it_is() {
        for (count, threads, used) in [
            (0, 4, 0),
            (1, 4, 1),
            (LEAST, 4, 1),
            (LEAST + 1, 4, 2),
            (10 * LEAST, 3, 3),
            (2 * LEAST, 1, 1),
        ] {
            let things: Vec<usize> = (0..count).collect();
            let doubled: Vec<usize> = things.iter().map(|thing| 2 * thing).collect();
            let ids = Mutex::new(HashSet::new());
            let work = |thing: &usize| {
                ids.lock().unwrap().insert(thread::current().id());
                2 * thing
            };
            assert_eq!(map_on(threads, &things, work), doubled);
            assert_eq!(ids.into_inner().unwrap().len(), used, "{count} on {threads}");
            assert_eq!(map(&things, |thing| 2 * thing), doubled);
        }
    }
}
