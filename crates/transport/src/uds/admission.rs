//! How many connections one caller, and all callers together, may hold.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The bounds of a Unix door. Past the first two, new connections are closed at once: clients see Unavailable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UdsLimits {
    /// Connections of one uid in one control group: a service that leaks connections harms only itself.
    pub per_caller: usize,
    /// Connections in all. Each costs three descriptors and some kilobytes.
    pub total: usize,
    /// How long a client may take to say that it speaks HTTP/2.
    pub preface: Duration,
}

impl Default for UdsLimits {
    fn default() -> Self {
        Self {
            per_caller: 256,
            total: 4_096,
            preface: Duration::from_secs(2),
        }
    }
}

/// Whose connections are counted together.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Account {
    pub(super) uid: u32,
    /// `/proc/PID/cgroup`, which names the group in every hierarchy.
    pub(super) cgroup: Arc<[u8]>,
}

/// Counts connections; each [`Permit`] is one.
#[derive(Debug)]
pub(super) struct Admission {
    limits: UdsLimits,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    by_account: HashMap<Account, usize>,
}

/// Why a connection was not admitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Full {
    #[error("this user holds as many connections in its control group as one may")]
    Account,
    #[error("the door holds as many connections as it may")]
    Door,
}

/// One admitted connection; dropping it makes room.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    account: Account,
}

impl Admission {
    pub(super) fn new(limits: UdsLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            held: Mutex::default(),
        })
    }

    pub(super) fn limits(&self) -> UdsLimits {
        self.limits
    }

    /// Whether the door is full for everybody: asked first, before anything is spent on a caller.
    pub(super) fn is_full(&self) -> bool {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).total >= self.limits.total
    }

    pub(super) fn admit(self: &Arc<Self>, account: Account) -> Result<Permit, Full> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.total >= self.limits.total {
            return Err(Full::Door);
        }
        let count = held.by_account.get(&account).copied().unwrap_or(0);
        if count >= self.limits.per_caller {
            return Err(Full::Account);
        }
        held.by_account.insert(account.clone(), count + 1);
        held.total += 1;
        Ok(Permit {
            admission: Arc::clone(self),
            account,
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.admission.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.total -= 1;
        if let Entry::Occupied(mut entry) = held.by_account.entry(self.account.clone()) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(uid: u32, cgroup: &str) -> Account {
        Account {
            uid,
            cgroup: cgroup.as_bytes().into(),
        }
    }

    #[test]
    fn one_caller_is_bounded_and_others_are_not_touched() {
        let admission = Admission::new(UdsLimits {
            per_caller: 2,
            total: 4,
            ..UdsLimits::default()
        });
        let _held: Vec<_> = (0..2)
            .map(|_| admission.admit(account(1000, "0::/a")).unwrap())
            .collect();
        assert_eq!(
            admission.admit(account(1000, "0::/a")).unwrap_err(),
            Full::Account
        );
        let _other_group = admission.admit(account(1000, "0::/b")).unwrap();
        let _other_user = admission.admit(account(1001, "0::/a")).unwrap();
        assert!(admission.is_full());
        assert_eq!(admission.admit(account(1002, "0::/a")).unwrap_err(), Full::Door);
    }

    #[test]
    fn a_closed_connection_makes_room_and_leaves_nothing_behind() {
        let admission = Admission::new(UdsLimits {
            per_caller: 1,
            total: 1,
            ..UdsLimits::default()
        });
        for _ in 0..3 {
            drop(admission.admit(account(1000, "0::/a")).unwrap());
        }
        let held = admission.held.lock().unwrap();
        assert_eq!((held.total, held.by_account.len()), (0, 0));
    }
}
