//! A process behind a connection that does what a test says.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use muster_plugin_api::Pinned;
use muster_transport::{Cgroups, Changed, Evidence, FileId, GroupsHash, Ids, Look, Refusal, Standing};
use tokio::sync::watch;

use super::Witness;

/// Clones are handles to one process.
#[derive(Clone)]
pub(crate) struct FakeWitness(Arc<Inner>);

struct Inner {
    now: Mutex<Arc<Evidence>>,
    proven: Mutex<Option<Arc<Evidence>>>,
    refusal: Mutex<Option<Refusal>>,
    proofs: AtomicUsize,
    ended: watch::Sender<bool>,
    /// Somebody looked, and saw another program: how often.
    noticed: watch::Sender<usize>,
}

impl FakeWitness {
    pub(crate) fn new() -> Self {
        let ids = Ids {
            real: 1000,
            effective: 1000,
            saved: 1000,
        };
        let evidence = Evidence {
            standing: Standing::Native,
            executable: Some(FileId { dev: 1, ino: 1 }),
            start_time: 1,
            uids: ids,
            gids: ids,
            groups: GroupsHash::of(b""),
            cgroups: Cgroups {
                unified: Some(1),
                text: Arc::from(&b"0::/\n"[..]),
            },
            user_ns: None,
            pid_ns: None,
        };
        Self(Arc::new(Inner {
            now: Mutex::new(Arc::new(evidence)),
            proven: Mutex::default(),
            refusal: Mutex::default(),
            proofs: AtomicUsize::new(0),
            ended: watch::Sender::new(false),
            noticed: watch::Sender::new(0),
        }))
    }

    /// It runs another program.
    pub(crate) fn exec(&self, ino: u64) {
        let mut now = self.0.now.lock().unwrap();
        *now = Arc::new(Evidence {
            executable: Some(FileId { dev: 1, ino }),
            ..(**now).clone()
        });
    }

    /// From now on its presence is refused.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        *self.0.refusal.lock().unwrap() = Some(refusal);
    }

    /// The process ends.
    pub(crate) fn end(&self) {
        self.refuse(Refusal::Ended { pid: 4711 });
        self.0.ended.send_replace(true);
    }

    /// How often it has proven its presence.
    pub(crate) fn proofs(&self) -> usize {
        self.0.proofs.load(Ordering::Acquire)
    }

    pub(crate) fn looks_that_saw_another(&self) -> usize {
        *self.0.noticed.borrow()
    }

    fn refused(&self) -> Result<(), Refusal> {
        self.0.refusal.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    fn now(&self) -> Arc<Evidence> {
        Arc::clone(&self.0.now.lock().unwrap())
    }
}

#[async_trait]
impl Witness for FakeWitness {
    fn process(&self) -> Arc<dyn Pinned> {
        struct Fake(FakeWitness);
        impl Pinned for Fake {
            fn pid(&self) -> u32 {
                4711
            }
            fn proc_dir(&self) -> std::os::fd::BorrowedFd<'_> {
                unreachable!("fake attestors read no files")
            }
            fn is_alive(&self) -> bool {
                !*self.0.0.ended.borrow()
            }
        }
        Arc::new(Fake(self.clone()))
    }

    fn evidence(&self) -> Result<Arc<Evidence>, Refusal> {
        self.refused()?;
        Ok(self
            .0
            .proven
            .lock()
            .unwrap()
            .clone()
            .unwrap_or_else(|| self.now()))
    }

    async fn proven(&self) -> Result<Arc<Evidence>, Refusal> {
        self.refused()?;
        let mut proven = self.0.proven.lock().unwrap();
        if proven.is_none() {
            self.0.proofs.fetch_add(1, Ordering::AcqRel);
        }
        Ok(Arc::clone(proven.get_or_insert_with(|| self.now())))
    }

    fn still(&self, evidence: &Evidence, _: Look) -> Result<(), Refusal> {
        self.refused()?;
        let changed = |changed| Err(Refusal::Changed { pid: 4711, changed });
        match &*self.0.proven.lock().unwrap() {
            Some(proven) if **proven == *evidence => {}
            _ => return changed(Changed::Proof),
        }
        if *self.now() == *evidence {
            Ok(())
        } else {
            self.0.noticed.send_modify(|times| *times += 1);
            changed(Changed::Executable)
        }
    }

    async fn voided(&self, evidence: &Evidence) -> Refusal {
        let (mut ended, mut noticed) = (self.0.ended.subscribe(), self.0.noticed.subscribe());
        tokio::select! {
            _ = ended.wait_for(|ended| *ended) => {}
            _ = noticed.wait_for(|times| *times > 0) => {}
        }
        self.still(evidence, Look::Light)
            .expect_err("it ended or is another")
    }

    async fn renew(&self) -> Result<Arc<Evidence>, Refusal> {
        self.0.noticed.send_replace(0);
        *self.0.proven.lock().unwrap() = None;
        self.proven().await
    }
}
