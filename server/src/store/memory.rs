use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use muster_identity::{Revision, StoreId};

use super::index::Index;
use super::{Change, Committed, Store, StoreError};

/// A store that forgets: for tests, and for a server that is meant to begin anew at each start.
#[derive(Debug)]
pub struct Memory {
    id: StoreId,
    state: Mutex<(Index, Revision)>,
}

impl Memory {
    /// An empty store.
    pub fn new(id: StoreId) -> Self {
        Self {
            id,
            state: Mutex::default(),
        }
    }
}

#[async_trait]
impl Store for Memory {
    fn id(&self) -> StoreId {
        self.id
    }

    fn revision(&self) -> Revision {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    async fn commit(&self, groups: Vec<Vec<Change>>) -> Result<Committed, StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        super::size::check(&groups)?;
        let outcomes = state.0.judge(&groups);
        let next = state.1.next();
        let mut changed = false;
        let outcomes = groups
            .into_iter()
            .zip(outcomes)
            .map(|(group, outcome)| {
                outcome?;
                for change in &group {
                    state.0.apply(&change.key, change.value.as_deref(), next);
                    changed = true;
                }
                Ok(group)
            })
            .collect();
        if changed {
            state.1 = next;
        }
        Ok(Committed {
            revision: state.1,
            outcomes,
        })
    }

    async fn close(&self) {}
}
