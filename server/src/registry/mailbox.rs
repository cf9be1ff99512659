//! Telling the streams of connected nodes what touches them: which entries, not what became of them.
//!
//! A stream looks at the newest view when it gets to it, so a slow one holds a list of names and no queue of states.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use muster_identity::{EntryId, SpiffeId};
use tokio::sync::Notify;

use super::Registered;
use super::view::{Touched, View};

/// Past this many names a stream is better off comparing everything.
const MAX_NAMES: usize = 20_000;

/// What happened since the mailbox was last emptied.
#[derive(Debug, Default)]
pub struct Mail {
    /// Groups of entries that changed; shared between the nodes that they touch.
    pub entries: Vec<Arc<[EntryId]>>,
    /// Too many to name, or the node's own selectors may have changed.
    pub everything: bool,
    /// The node's own record changed: it may be banned, gone or renewed.
    pub node: bool,
    /// A trust bundle changed.
    pub bundles: bool,
    /// The view after the last of it. A newer one may hold changes whose mail is still to come; whoever looked at that
    /// would take them for told.
    pub view: Option<Arc<View>>,
}

/// What a mailbox is told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Interest {
    /// All that touches the node.
    #[default]
    Everything,
    /// The node's own record alone: enough to end a stream of a node that is banned.
    Record,
}

/// Where one stream of one node is told what touches it.
#[derive(Debug, Default)]
pub struct Mailbox {
    interest: Interest,
    mail: Mutex<Mail>,
    arrived: Notify,
}

impl Mailbox {
    /// Waits until there is something, and takes it. Safe to drop half-way.
    pub async fn wait(&self) -> Mail {
        loop {
            let arrived = self.arrived.notified();
            if let Some(mail) = self.take() {
                return mail;
            }
            arrived.await;
        }
    }

    /// Takes what there is.
    pub fn take(&self) -> Option<Mail> {
        let mut mail = self.lock();
        let some = mail.everything || mail.node || mail.bundles || !mail.entries.is_empty();
        some.then(|| std::mem::take(&mut *mail))
    }

    fn put(&self, put: impl FnOnce(&mut Mail)) {
        put(&mut self.lock());
        self.arrived.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mailboxes of all connected nodes.
#[derive(Debug, Default)]
pub(super) struct Mailboxes {
    by_node: Mutex<HashMap<SpiffeId, Vec<Weak<Mailbox>>>>,
}

impl Mailboxes {
    pub(super) fn open(&self, node: &SpiffeId, interest: Interest) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox {
            interest,
            ..Mailbox::default()
        });
        let mut by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        // Mailboxes of streams that ended go when a new one comes: there are never more than were open at once.
        by_node.retain(|_, boxes| {
            boxes.retain(|mailbox| mailbox.strong_count() > 0);
            !boxes.is_empty()
        });
        by_node
            .entry(node.clone())
            .or_default()
            .push(Arc::downgrade(&mailbox));
        mailbox
    }

    pub(super) fn deliver(&self, before: &View, after: &Arc<View>, touched: &Touched) {
        let by_node = self.by_node.lock().unwrap_or_else(PoisonError::into_inner);
        if by_node.is_empty() {
            return;
        }
        let put = |node: &SpiffeId, about: Interest, change: &dyn Fn(&mut Mail)| {
            let mailboxes = by_node.get(node).into_iter().flatten().filter_map(Weak::upgrade);
            let told = mailboxes
                .filter(|mailbox| about == Interest::Record || mailbox.interest == Interest::Everything);
            for mailbox in told {
                mailbox.put(|mail| {
                    change(mail);
                    mail.view = Some(after.clone());
                });
            }
        };
        for (nodes, ids) in group(before, after, touched) {
            for node in &nodes {
                put(node, Interest::Everything, &|mail| {
                    let named: usize = mail.entries.iter().map(|ids| ids.len()).sum();
                    if named + ids.len() > MAX_NAMES {
                        mail.everything = true;
                        mail.entries.clear();
                    } else if !mail.everything {
                        mail.entries.push(ids.clone());
                    }
                });
            }
        }
        for node in &touched.nodes {
            let selectors = |view: &View| view.node(node).map(|node| node.selectors.clone());
            let everything = selectors(before) != selectors(after);
            put(node, Interest::Record, &|mail| {
                mail.node = true;
                mail.everything |= everything;
            });
        }
        if touched.bundles {
            for node in by_node.keys() {
                put(node, Interest::Everything, &|mail| mail.bundles = true);
            }
        }
    }
}

/// The touched entries by where they hang, with the nodes above: a batch under one parent is walked up once.
fn group(before: &View, after: &View, touched: &Touched) -> Vec<(HashSet<SpiffeId>, Arc<[EntryId]>)> {
    // An alias asks for selectors: one whose selectors changed stood, and stands, above other nodes.
    let mut groups: HashMap<_, (&Registered, Vec<EntryId>)> = HashMap::new();
    for registered in touched.entries.iter().flat_map(|(was, is)| [was, is]).flatten() {
        let (entry, spec) = (&registered.entry, &registered.entry.spec);
        let alias = (spec.parent_id == *after.server_id()).then_some(&spec.selectors);
        let (_, ids) = groups
            .entry((&spec.parent_id, alias))
            .or_insert_with(|| (registered, Vec::new()));
        if ids.last() != Some(&entry.id) {
            ids.push(entry.id.clone());
        }
    }
    let told = groups.into_values().map(|(one, ids)| {
        // Up both ways: what led to a node before the commit may not after it, and the other way round.
        let mut nodes = before.nodes_above(one);
        nodes.extend(after.nodes_above(one));
        (nodes, ids.into())
    });
    told.collect()
}
