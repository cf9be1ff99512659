//! Which bundles one node is told: our own, and those of the trust domains that its entries federate with. No other: what a node does not need it can't give away.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_identity::{EntryId, TrustDomain};
use muster_pki::bundle::{Bundle, BundleSet, Scope};

use crate::registry::{Delta, Registered};

/// What a node's entries federate with, and what the node was told.
#[derive(Debug, Default)]
pub(super) struct Federated {
    /// The entries that federate with anybody.
    entries: BTreeMap<EntryId, Arc<[TrustDomain]>>,
    /// How many of them name each trust domain.
    wanted: BTreeMap<TrustDomain, usize>,
    own: Option<Arc<Bundle>>,
    told: BTreeMap<TrustDomain, (Arc<Bundle>, Scope)>,
}

/// What a node must be told.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Bundles that are new or changed; our own comes first.
    pub(super) bundles: Vec<(Arc<Bundle>, Scope)>,
    /// Trust domains that the node has nothing to do with any more, or that have no bundle any more.
    pub(super) removed: Vec<TrustDomain>,
}

impl Federated {
    /// The node is entitled to exactly these.
    pub(super) fn entitled(&mut self, set: &[Arc<Registered>]) {
        self.entries.clear();
        self.wanted.clear();
        set.iter().for_each(|registered| self.put(registered));
    }

    /// What the node is entitled to has changed.
    pub(super) fn changed(&mut self, delta: &Delta) {
        for id in &delta.removals {
            self.remove(id);
        }
        for registered in &delta.upserts {
            self.put(registered);
        }
    }

    /// What the node must be told now that `set` is what there is. It counts as told.
    pub(super) fn news(&mut self, set: &BundleSet) -> Option<News> {
        let mut news = News::default();
        if self.own.as_ref() != Some(set.own()) {
            self.own = Some(Arc::clone(set.own()));
            news.bundles.push((Arc::clone(set.own()), Scope::all()));
        }
        for name in self.wanted.keys() {
            let Some(bundle) = set.get(name).filter(|_| name != set.own().trust_domain()) else {
                continue;
            };
            let held = (Arc::clone(bundle), set.scope(name).cloned().unwrap_or_default());
            if self.told.get(name) != Some(&held) {
                self.told.insert(name.clone(), held.clone());
                news.bundles.push(held);
            }
        }
        let wanted = &self.wanted;
        self.told.retain(|name, _| {
            let stays = wanted.contains_key(name) && set.get(name).is_some();
            if !stays {
                news.removed.push(name.clone());
            }
            stays
        });
        (!news.bundles.is_empty() || !news.removed.is_empty()).then_some(news)
    }

    fn put(&mut self, registered: &Registered) {
        let id = &registered.entry.id;
        self.remove(id);
        let names = &registered.entry.spec.federates_with;
        if names.is_empty() {
            return;
        }
        for name in names.iter() {
            *self.wanted.entry(name.clone()).or_default() += 1;
        }
        self.entries.insert(id.clone(), Arc::clone(names));
    }

    fn remove(&mut self, id: &EntryId) {
        for name in self.entries.remove(id).iter().flat_map(|names| names.iter()) {
            if let Some(count) = self.wanted.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.wanted.remove(name);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use muster_identity::{Attributes, Entry, EntrySpec, Revision, UnixTime};

    use super::*;

    fn registered(id: &str, federates_with: &[&str]) -> Arc<Registered> {
        let names: Vec<TrustDomain> = federates_with.iter().map(|name| name.parse().unwrap()).collect();
        let spec = EntrySpec {
            spiffe_id: "spiffe://example.org/a".parse().unwrap(),
            parent_id: "spiffe://example.org/node".parse().unwrap(),
            selectors: ["unix:uid:1".parse().unwrap()].into_iter().collect(),
            x509_svid_ttl: None,
            jwt_svid_ttl: None,
            federates_with: names.into(),
            dns_names: [].into(),
            admin: false,
            downstream: false,
            store_svid: false,
            expires_at: None,
            hint: None,
            attributes: Attributes::default(),
        };
        Arc::new(Registered {
            entry: Entry {
                id: id.parse().unwrap(),
                spec,
                revision_number: 0,
                created_at: UnixTime::from_secs(0),
            },
            version: Revision(1),
            x509_version: Revision(1),
            made_by: None,
        })
    }

    fn bundle(name: &str, sequence: u64) -> Arc<Bundle> {
        let mut bundle = Bundle::new(name.parse().unwrap());
        bundle.set_sequence(Some(sequence));
        Arc::new(bundle)
    }

    fn names(news: Option<News>) -> (Vec<String>, Vec<String>) {
        let news = news.unwrap_or_default();
        let told = news.bundles.iter();
        (
            told.map(|(bundle, _)| bundle.trust_domain().to_string())
                .collect(),
            news.removed.iter().map(ToString::to_string).collect(),
        )
    }

    #[test]
    fn a_node_is_told_exactly_the_bundles_that_its_entries_federate_with() {
        let mut set = BundleSet::new(bundle("example.org", 1));
        set.put_federated(bundle("b.example", 1)).unwrap();
        set.put_federated(bundle("c.example", 1)).unwrap();
        let mut node = Federated::default();
        node.entitled(&[registered("1", &["b.example"]), registered("2", &[])]);
        assert_eq!(
            names(node.news(&set)),
            (vec!["example.org".into(), "b.example".into()], vec![])
        );
        assert!(node.news(&set).is_none());

        // Of two entries that name it the last one takes it away.
        let both = Delta {
            upserts: vec![registered("2", &["b.example", "c.example"])],
            removals: vec![],
        };
        node.changed(&both);
        assert_eq!(names(node.news(&set)), (vec!["c.example".into()], vec![]));
        let gone = |id: &str| Delta {
            upserts: vec![],
            removals: vec![id.parse().unwrap()],
        };
        node.changed(&gone("1"));
        assert!(node.news(&set).is_none());
        node.changed(&gone("2"));
        let (told, mut removed) = names(node.news(&set));
        removed.sort();
        assert_eq!(
            (told, removed),
            (vec![], vec!["b.example".into(), "c.example".into()])
        );
    }

    #[test]
    fn a_bundle_that_changes_is_narrowed_or_goes_is_told() {
        let mut set = BundleSet::new(bundle("example.org", 1));
        set.put_federated(bundle("b.example", 1)).unwrap();
        let mut node = Federated::default();
        node.entitled(&[registered("1", &["b.example", "unknown.example"])]);
        node.news(&set).unwrap();
        set.put_federated(bundle("b.example", 2)).unwrap();
        assert_eq!(names(node.news(&set)), (vec!["b.example".into()], vec![]));
        let narrow = Scope::new(vec!["/pay".parse().unwrap()]).unwrap();
        set.put_scoped(bundle("b.example", 2), narrow.clone()).unwrap();
        assert_eq!(node.news(&set).unwrap().bundles[0].1, narrow);
        set.remove_federated(&"b.example".parse().unwrap());
        assert_eq!(names(node.news(&set)), (vec![], vec!["b.example".into()]));
        assert!(node.news(&set).is_none());
    }
}
