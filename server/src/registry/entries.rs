//! Entries as changes: what must be unique, and what a new version of an entry is.

use aws_lc_rs::digest::{Context, SHA256};
use muster_identity::{Entry, EntrySpec, GrantName};

use super::records::entry_bytes;
use super::{Change, Conflict, Expect, Registered, Tree, View};

/// The changes that create `entry`. They conflict with an entry of the same id, and with a similar one.
pub fn create(entry: &Entry) -> Vec<Change> {
    create_by(entry, None)
}

/// The same for an entry that counts towards what a grant may make, for as long as it is there.
pub fn create_by(entry: &Entry, made_by: Option<&GrantName>) -> Vec<Change> {
    let id = entry.id.as_str();
    let value = entry_bytes(entry, None, made_by);
    vec![
        Change::put(Tree::Similar, similar_key(&entry.spec), id.into(), Expect::Absent),
        Change::put(Tree::Entries, id, value, Expect::Absent),
    ]
}

/// The changes that put `spec` in the place of what `current` says, and the entry as it will be. They conflict with
/// any other change of the entry since `current`, and with another entry that is similar to the new one.
pub fn update(current: &Registered, spec: EntrySpec) -> (Entry, Vec<Change>) {
    let before = &current.entry;
    let (old_key, new_key) = (similar_key(&before.spec), similar_key(&spec));
    let same_certificate = before.spec.spiffe_id == spec.spiffe_id
        && before.spec.dns_names == spec.dns_names
        && before.spec.x509_svid_ttl == spec.x509_svid_ttl;
    let entry = Entry {
        spec,
        revision_number: before.revision_number.saturating_add(1),
        ..before.clone()
    };
    let id = entry.id.as_str();
    let x509_version = same_certificate.then_some(current.x509_version);
    let mut changes = Vec::with_capacity(3);
    if old_key != new_key {
        changes.push(Change::put(Tree::Similar, new_key, id.into(), Expect::Absent));
        changes.push(Change::delete(Tree::Similar, old_key, Expect::Any));
    }
    let value = entry_bytes(&entry, x509_version, current.made_by.as_ref());
    changes.push(Change::put(Tree::Entries, id, value, Expect::At(current.version)));
    (entry, changes)
}

/// The changes that delete `current`. They conflict with any other change of it since.
pub fn delete(current: &Registered) -> Vec<Change> {
    vec![
        Change::delete(Tree::Similar, similar_key(&current.entry.spec), Expect::Any),
        Change::delete(
            Tree::Entries,
            current.entry.id.as_str(),
            Expect::At(current.version),
        ),
    ]
}

/// Whether a conflict says that a similar entry exists.
pub fn is_similar(conflict: &Conflict) -> bool {
    conflict.key.tree == Tree::Similar
}

/// The entry that is similar to `spec`, if there is one.
pub fn similar<'a>(view: &'a View, spec: &EntrySpec) -> Option<&'a Registered> {
    view.entries_of_id(&spec.spiffe_id)
        .map(|found| &**found)
        .find(|found| found.entry.spec.is_similar_to(spec))
}

/// SPIFFE ID, parent and selectors as one name: equal exactly for similar entries. Each part is preceded by its
/// length, so that no two triples share bytes.
fn similar_key(spec: &EntrySpec) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    let mut add = |text: &str| {
        context.update(&(text.len() as u64).to_le_bytes());
        context.update(text.as_bytes());
    };
    add(&spec.spiffe_id.to_string());
    add(&spec.parent_id.to_string());
    spec.selectors.iter().for_each(|selector| add(selector.as_str()));
    context.finish().as_ref().to_vec()
}
