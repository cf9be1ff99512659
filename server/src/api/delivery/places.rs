use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_identity::Subject;
use tonic::Code;

use crate::api::Refusal;

/// How many calls may follow entries at once. After a commit each of them may look at every node for every entry that it follows.
const IN_ALL: usize = 64;
/// How many of them may be of one caller, over all its connections. One call follows many entries; a second one is for whoever registers meanwhile.
const OF_ONE: usize = 4;

/// Room for those who follow. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Places(Arc<Mutex<HashMap<Subject, usize>>>);

/// A call's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    of: Subject,
}

impl Places {
    /// A place for a call of `caller`, if there is one.
    pub(super) fn take(&self, caller: Subject) -> Result<Place, Refusal> {
        let full = |text: String| Err(Refusal::new(Code::ResourceExhausted, text));
        let mut taken = self.taken();
        if taken.get(&caller).is_some_and(|own| *own >= OF_ONE) {
            return full(format!(
                "{OF_ONE} calls of this caller follow entries, the most that one may have"
            ));
        }
        if taken.values().sum::<usize>() >= IN_ALL {
            return full(format!("{IN_ALL} calls follow entries, the most at once"));
        }
        *taken.entry(caller.clone()).or_default() += 1;
        Ok(Place {
            places: self.clone(),
            of: caller,
        })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Subject, usize>> {
        // Each change is one step: a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(own) = taken.get_mut(&self.of) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_and_all_together_have_so_many_places_and_get_them_back() {
        let places = Places::default();
        let take = |uid| places.take(Subject::Uid(uid));
        let mut own: Vec<Place> = (0..OF_ONE).map(|_| take(1).unwrap()).collect();
        let refused = take(1).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(
            refused.message(),
            "4 calls of this caller follow entries, the most that one may have"
        );
        // Others are not kept out by it.
        let other = take(2).unwrap();
        own.pop();
        own.push(take(1).unwrap());
        drop((own, other));
        assert!(places.taken().is_empty(), "who went leaves nothing behind");

        let uids = (0..).flat_map(|uid| [uid; OF_ONE]);
        let mut all: Vec<Place> = uids.take(IN_ALL).map(|uid| take(uid).unwrap()).collect();
        let refused = take(u32::MAX).unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(refused.message(), "64 calls follow entries, the most at once");
        all.pop();
        take(u32::MAX).unwrap();
    }
}
