//! Which process has had which identity before: the first hand-out is recorded and awaited, later ones on the same evidence are not (I9).

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muster_identity::EntryId;
use muster_transport::Evidence;

/// How many processes are remembered. One that is forgotten is recorded again, which does no harm.
const PROCESSES: usize = 16_384;

/// The form in which an identity is handed out.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Form {
    X509,
    Jwt,
}

/// The hand-outs of this node agent since its start.
#[derive(Debug, Default)]
pub(super) struct HandOuts {
    processes: Mutex<HashMap<u32, Process>>,
}

#[derive(Debug)]
struct Process {
    evidence: Arc<Evidence>,
    had: BTreeSet<(Form, EntryId)>,
}

impl HandOuts {
    /// Those of `entries` that process `pid` has not had in this form under this evidence.
    pub(super) fn new_to<'a>(
        &self,
        pid: u32,
        evidence: &Evidence,
        form: Form,
        entries: impl Iterator<Item = &'a EntryId>,
    ) -> Vec<EntryId> {
        let processes = self.processes();
        let had = processes
            .get(&pid)
            .filter(|process| *process.evidence == *evidence)
            .map(|process| &process.had);
        entries
            .filter(|entry| !had.is_some_and(|had| had.contains(&(form, (*entry).clone()))))
            .cloned()
            .collect()
    }

    /// They were recorded and may leave.
    pub(super) fn recorded(&self, pid: u32, evidence: &Arc<Evidence>, form: Form, entries: Vec<EntryId>) {
        let mut processes = self.processes();
        if processes.len() >= PROCESSES && !processes.contains_key(&pid) {
            // Rare, and cheaper than keeping an order at every call.
            let some: Vec<u32> = processes.keys().take(PROCESSES / 8).copied().collect();
            processes.retain(|pid, _| !some.contains(pid));
        }
        let new = || Process {
            evidence: Arc::clone(evidence),
            had: BTreeSet::new(),
        };
        let process = processes.entry(pid).or_insert_with(new);
        if *process.evidence != **evidence {
            // Another program, or another process with the same number.
            *process = new();
        }
        process.had.extend(entries.into_iter().map(|entry| (form, entry)));
    }

    fn processes(&self) -> MutexGuard<'_, HashMap<u32, Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Witness;
    use crate::peer::fake::FakeWitness;

    fn id(name: &str) -> EntryId {
        name.parse().unwrap()
    }

    #[test]
    fn an_identity_is_new_once_for_each_process_form_and_evidence() {
        let (outs, witness) = (HandOuts::default(), FakeWitness::new());
        let evidence = witness.evidence().unwrap();
        let entries = [id("a"), id("b")];
        let new = |evidence: &Evidence, form| outs.new_to(1, evidence, form, entries.iter());
        assert_eq!(new(&evidence, Form::X509), entries);
        outs.recorded(1, &evidence, Form::X509, vec![id("a")]);
        assert_eq!(new(&evidence, Form::X509), [id("b")]);
        assert_eq!(new(&evidence, Form::Jwt), entries);
        witness.exec(2);
        let other = witness.evidence().unwrap();
        assert_eq!(new(&other, Form::X509), entries);
        outs.recorded(1, &other, Form::X509, vec![id("b")]);
        assert_eq!(new(&other, Form::X509), [id("a")]);
    }
}
