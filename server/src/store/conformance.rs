//! What every store does, whatever is behind it.

use muster_identity::Revision;

use super::{Change, Expect, Store, StoreError, Tree};

fn put(name: &str, value: &str, expect: Expect) -> Change {
    Change::put(Tree::Entries, name, value.into(), expect)
}

async fn one(store: &dyn Store, change: Change) -> Result<Revision, Option<Revision>> {
    let mut committed = store.commit(vec![vec![change]]).await.unwrap();
    match committed.outcomes.remove(0) {
        Ok(_) => Ok(committed.revision),
        Err(conflict) => Err(conflict.found),
    }
}

/// Runs the suite on an empty store.
pub(crate) async fn run(store: &dyn Store) {
    preconditions_are_judged(store).await;
    groups_are_all_or_nothing_and_fail_alone(store).await;
    groups_of_one_commit_see_each_other(store).await;
    sizes_are_bounded(store).await;
    store.close().await;
    assert!(
        one(store, put("after-close", "x", Expect::Absent)).await.is_ok(),
        "close is no end"
    );
}

async fn preconditions_are_judged(store: &dyn Store) {
    let before = store.revision();
    let first = one(store, put("a", "1", Expect::Absent)).await.unwrap();
    assert_eq!(first, before.next());
    assert_eq!(one(store, put("a", "2", Expect::Absent)).await, Err(Some(first)));
    assert_eq!(store.revision(), first, "a conflict makes no revision");
    let second = one(store, put("a", "2", Expect::At(first))).await.unwrap();
    assert_eq!(
        one(store, put("a", "3", Expect::At(first))).await,
        Err(Some(second))
    );
    assert_eq!(
        one(store, Change::delete(Tree::Entries, "a", Expect::At(first))).await,
        Err(Some(second))
    );
    let third = one(store, Change::delete(Tree::Entries, "a", Expect::At(second)))
        .await
        .unwrap();
    assert_eq!(one(store, put("a", "4", Expect::At(second))).await, Err(None));
    let fourth = one(store, put("a", "4", Expect::Absent)).await.unwrap();
    assert!(fourth > third);
    assert!(one(store, put("a", "5", Expect::Any)).await.is_ok());
    assert!(
        one(store, Change::put(Tree::Nodes, "a", b"x".into(), Expect::Absent))
            .await
            .is_ok(),
        "another tree"
    );
}

async fn groups_are_all_or_nothing_and_fail_alone(store: &dyn Store) {
    let good = || vec![put("g1", "x", Expect::Absent), put("g2", "x", Expect::Absent)];
    let half = vec![
        put("g3", "x", Expect::Absent),
        put("g1", "y", Expect::At(Revision(1))),
    ];
    let alone = vec![put("g4", "x", Expect::Absent)];
    let committed = store.commit(vec![good(), half, alone]).await.unwrap();
    let passed: Vec<_> = committed.outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(passed, [true, false, true]);
    assert!(
        one(store, put("g3", "x", Expect::Absent)).await.is_ok(),
        "nothing of the failed group was done"
    );
    assert_eq!(
        one(store, put("g4", "x", Expect::Absent)).await,
        Err(Some(committed.revision))
    );
}

async fn groups_of_one_commit_see_each_other(store: &dyn Store) {
    let twice = || vec![put("same", "x", Expect::Absent)];
    let committed = store.commit(vec![twice(), twice()]).await.unwrap();
    assert!(committed.outcomes[0].is_ok() && committed.outcomes[1].is_err());
    let delete_and_put = vec![
        Change::delete(Tree::Entries, "same", Expect::At(committed.revision)),
        put("same", "y", Expect::Absent),
    ];
    assert!(store.commit(vec![delete_and_put]).await.unwrap().outcomes[0].is_ok());
}

async fn sizes_are_bounded(store: &dyn Store) {
    let large = Change::put(Tree::Entries, "large", vec![7; Change::MAX_VALUE], Expect::Absent);
    assert!(one(store, large.clone()).await.is_ok());
    let larger = Change {
        value: Some(vec![7; Change::MAX_VALUE + 1]),
        ..large.clone()
    };
    assert!(matches!(
        store.commit(vec![vec![larger]]).await,
        Err(StoreError::TooLarge(_))
    ));
    let many = (0..40).map(|_| large.clone()).collect();
    assert!(matches!(
        store.commit(vec![many]).await,
        Err(StoreError::TooLarge(_))
    ));
}

#[tokio::test]
async fn memory_does_what_every_store_does() {
    run(&super::Memory::new(muster_identity::StoreId::from_bytes([1; 16]))).await;
}
