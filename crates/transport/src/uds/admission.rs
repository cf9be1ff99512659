//! How many connections one caller, and all callers together, may hold.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The bounds of a Unix door. Past them new connections are closed at once: clients see Unavailable.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UdsLimits {
    /// Connections of one uid in one control group: a service that leaks connections harms only itself.
    pub per_caller: usize,
    /// Connections of one uid in all its control groups: whoever may make groups (a user's systemd, rootless
    /// containers) has as many accounts of the kind above as it likes.
    pub per_user: usize,
    /// Connections in all. Each costs three descriptors, one more where there are several cgroup hierarchies, and some
    /// kilobytes. An eighth of them is kept for uids that
    /// hold few: several users together do not shut out another.
    pub total: usize,
    /// How long a client may take to say that it speaks HTTP/2.
    pub preface: Duration,
}

/// The part of all connections that is kept for users who hold few.
const RESERVE: usize = 8;

/// How many are few.
const FEW: usize = 16;

impl Default for UdsLimits {
    fn default() -> Self {
        Self {
            per_caller: 256,
            per_user: 2_048,
            total: 4_096,
            preface: Duration::from_secs(2),
        }
    }
}

/// Whose connections are counted together.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    /// `/proc/PID/cgroup`, which names the group in every hierarchy.
    pub(crate) cgroup: Arc<[u8]>,
}

/// Counts connections; each [`Permit`] is one.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: UdsLimits,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    by_user: HashMap<u32, usize>,
    by_account: HashMap<Account, usize>,
}

/// Why a connection was not admitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Full {
    #[error("this user holds as many connections in its control group as one may")]
    Account,
    #[error("this user holds as many connections as one may")]
    User,
    #[error("the door holds as many connections as it may")]
    Door,
    #[error("what is left of the door is for users who hold few connections")]
    Reserved,
}

/// One admitted connection; dropping it makes room.
#[derive(Debug)]
pub(crate) struct Permit {
    admission: Arc<Admission>,
    account: Account,
}

impl Admission {
    pub(crate) fn new(limits: UdsLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            held: Mutex::default(),
        })
    }

    pub(super) fn limits(&self) -> UdsLimits {
        self.limits
    }

    /// Whether nobody with this uid comes in: asked first, before anything is spent on a caller.
    pub(crate) fn is_full_for(&self, uid: u32) -> Result<(), Full> {
        self.held().judge(uid, &self.limits)
    }

    pub(crate) fn admit(self: &Arc<Self>, account: Account) -> Result<Permit, Full> {
        let mut held = self.held();
        held.judge(account.uid, &self.limits)?;
        let count = held.by_account.get(&account).copied().unwrap_or(0);
        if count >= self.limits.per_caller {
            return Err(Full::Account);
        }
        held.by_account.insert(account.clone(), count + 1);
        *held.by_user.entry(account.uid).or_default() += 1;
        held.total += 1;
        Ok(Permit {
            admission: Arc::clone(self),
            account,
        })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn judge(&self, uid: u32, limits: &UdsLimits) -> Result<(), Full> {
        if self.total >= limits.total {
            return Err(Full::Door);
        }
        let count = self.by_user.get(&uid).copied().unwrap_or(0);
        if count >= limits.per_user {
            return Err(Full::User);
        }
        if count >= FEW && self.total >= limits.total - limits.total / RESERVE {
            return Err(Full::Reserved);
        }
        Ok(())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut held = self.admission.held();
        held.total -= 1;
        less(held.by_user.entry(self.account.uid));
        less(held.by_account.entry(self.account.clone()));
    }
}

/// Counts one less, and keeps no zeroes.
fn less<K>(entry: Entry<'_, K, usize>) {
    if let Entry::Occupied(mut entry) = entry {
        *entry.get_mut() -= 1;
        if *entry.get() == 0 {
            entry.remove();
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
        assert_eq!(admission.is_full_for(0), Err(Full::Door));
        assert_eq!(admission.admit(account(1002, "0::/a")).unwrap_err(), Full::Door);
    }

    #[test]
    fn a_user_who_makes_control_groups_is_bounded_over_all_of_them() {
        let admission = Admission::new(UdsLimits {
            per_caller: 2,
            per_user: 5,
            total: 100,
            ..UdsLimits::default()
        });
        let admit = |uid, group: usize| admission.admit(account(uid, &format!("0::/{group}")));
        let _held: Vec<_> = (0..5).map(|group| admit(1000, group).unwrap()).collect();
        assert_eq!(admit(1000, 6).unwrap_err(), Full::User);
        assert_eq!(admission.is_full_for(1000), Err(Full::User));
        admit(1001, 0).unwrap();
    }

    #[test]
    fn users_who_fill_the_door_together_leave_room_for_one_who_holds_little() {
        let admission = Admission::new(UdsLimits {
            per_caller: 50,
            per_user: 50,
            total: 80,
            ..UdsLimits::default()
        });
        let crowd: Vec<_> = (0..200)
            .filter_map(|n| admission.admit(account(1000 + n % 3, "0::/")).ok())
            .collect();
        assert_eq!(crowd.len(), 70, "an eighth is kept");
        assert_eq!(admission.is_full_for(1001), Err(Full::Reserved));
        let few: Vec<_> = (0..10)
            .map(|_| admission.admit(account(2000, "0::/")).unwrap())
            .collect();
        assert_eq!(admission.is_full_for(2001), Err(Full::Door));
        drop(few);
        admission.admit(account(2001, "0::/")).unwrap();
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
        assert_eq!((held.total, held.by_user.len(), held.by_account.len()), (0, 0, 0));
    }
}
