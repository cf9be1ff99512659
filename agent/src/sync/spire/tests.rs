//! What the calls make of a server's answers.

use std::sync::Arc;

use muster_identity::{EntryId, UnixTime};
use muster_pki::KeyAlgorithm;
use muster_pki::bundle::Bundle;
use muster_proto::spire::types;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::call::CallError;
use super::fake::{FakeSpire, SystemNow, entry, own};
use super::poll::Memory;
use super::signing;
use crate::cache::{Cache, SignFailure, SignOrder};
use crate::rotate::Jitter;
use crate::sync::issuing::prepare;

/// A cache, a server, and what is remembered between polls.
struct Polling {
    server: FakeSpire,
    channel: Channel,
    memory: Memory,
    cache: Cache,
    now: UnixTime,
}

impl Polling {
    async fn begin() -> Self {
        let now = SystemNow::now();
        let server = FakeSpire::new(now);
        let address = server.serve().await;
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        Self {
            channel: endpoint.connect().await.unwrap(),
            memory: Memory::new(own()),
            cache: Cache::new(Arc::new(server.bundle()), 0, Jitter::seeded(1)),
            server,
            now,
        }
    }

    async fn poll(&mut self) -> Result<(), CallError> {
        let polled = self.memory.poll(&self.cache, self.channel.clone()).await?;
        self.memory
            .install(polled, &mut self.cache, self.now)
            .expect("positions only grow");
        Ok(())
    }

    fn ids(&self) -> Vec<&str> {
        self.cache.entries().map(|entry| entry.id.as_str()).collect()
    }

    fn asked(&self) -> Vec<usize> {
        std::mem::take(&mut self.server.state().asked)
    }

    /// Asks for certificates for `ids`, which need not be held.
    async fn sign(&self, ids: &[&str]) -> Result<signing::Signed, CallError> {
        let order = |id: &&str| SignOrder {
            entry_id: id.parse().unwrap(),
            id: format!("spiffe://example.org/{id}").parse().unwrap(),
            x509_version: 7,
        };
        let keys = prepare(ids.iter().map(order).collect(), KeyAlgorithm::EcP256);
        let batch = keys.into_iter().map(Result::unwrap).collect();
        signing::x509_svids(self.channel.clone(), batch, || self.now).await
    }
}

fn numbered(count: usize, padding: usize) -> Vec<types::Entry> {
    (0..count)
        .map(|number| entry(&format!("e{number:05}"), 0, padding))
        .collect()
}

#[tokio::test]
async fn more_than_a_page_is_asked_for_once_and_then_only_what_changed() {
    let mut polling = Polling::begin().await;
    polling.server.state().entries = numbered(1_200, 0);
    polling.poll().await.unwrap();
    assert_eq!(
        (polling.ids().len(), polling.asked()),
        (1_200, vec![500, 500, 200])
    );
    let first = polling.cache.position().unwrap();
    polling.poll().await.unwrap();
    assert_eq!((polling.cache.position(), polling.asked()), (Some(first), vec![]));
    polling.server.state().entries[700].revision_number = 1;
    polling.server.state().entries.remove(3);
    polling.poll().await.unwrap();
    assert_eq!((polling.ids().len(), polling.asked()), (1_199, vec![1]));
    let second = polling.cache.position().unwrap();
    assert!(second.store == first.store && second.revision > first.revision);
    let changed = polling
        .cache
        .entries()
        .find(|entry| entry.id.as_str() == "e00700");
    assert_eq!(changed.unwrap().x509_version, second.revision.0);
}

#[tokio::test]
async fn a_server_without_the_stream_is_asked_for_all_at_once() {
    let mut polling = Polling::begin().await;
    polling.server.state().streams = false;
    polling.server.state().entries = vec![entry("a", 0, 0)];
    polling.poll().await.unwrap();
    polling.server.state().entries = vec![entry("a", 0, 0), entry("b", 0, 0)];
    polling.poll().await.unwrap();
    assert_eq!(polling.ids(), ["a", "b"]);
    let calls = polling.server.state().calls.clone();
    assert_eq!(
        calls[..3],
        ["SyncAuthorizedEntries", "GetAuthorizedEntries", "GetBundle"]
    );
    assert_eq!(calls[3..], ["GetAuthorizedEntries", "GetBundle"]);
}

#[tokio::test]
async fn a_page_that_does_not_fit_into_a_message_is_asked_for_in_parts() {
    let mut polling = Polling::begin().await;
    // 600 entries of 20 KB: a page of them has 10 MB.
    polling.server.state().entries = numbered(600, 95);
    polling.poll().await.unwrap();
    assert_eq!(polling.ids().len(), 600);
    let asked = polling.asked();
    assert_eq!(asked[..2], [500, 250]);
    // It is remembered how much fits.
    polling
        .server
        .state()
        .entries
        .iter_mut()
        .for_each(|entry| entry.revision_number = 1);
    polling.poll().await.unwrap();
    assert!(polling.asked().iter().all(|asked| *asked <= 125));
}

#[tokio::test]
async fn an_answer_that_can_not_be_smaller_takes_nothing_away() {
    let mut polling = Polling::begin().await;
    polling.server.state().entries = numbered(3, 0);
    polling.poll().await.unwrap();
    polling.server.state().entries = numbered(300, 95);
    let error = polling.poll().await.unwrap_err();
    assert!(
        error.too_large() && !error.broke() && !error.turns_away(),
        "{error:?}"
    );
    assert_eq!(polling.ids().len(), 3);
}

#[tokio::test]
async fn entries_that_are_announced_and_not_sent_come_with_a_later_poll() {
    let mut polling = Polling::begin().await;
    polling.server.state().entries = numbered(600, 0);
    polling.server.state().forgets = true;
    polling.poll().await.unwrap();
    assert_eq!(polling.ids().len(), 300);
    polling.server.state().forgets = false;
    polling.poll().await.unwrap();
    assert_eq!(polling.ids().len(), 600);
}

#[tokio::test]
async fn bundles_of_other_trust_domains_come_with_their_entries_and_go_with_them() {
    let mut polling = Polling::begin().await;
    let names = ["absent.org", "other.org", "wrong.org"];
    let mut federated = entry("a", 0, 0);
    federated.federates_with = names.iter().map(ToString::to_string).collect();
    let bundle = |name: &str, sequence_number| types::Bundle {
        trust_domain: name.into(),
        sequence_number,
        ..types::Bundle::default()
    };
    polling.server.state().entries = vec![federated];
    polling.server.state().federated = vec![bundle("other.org", 4), bundle("wrong.org", 1)];
    polling.poll().await.unwrap();
    let held = |polling: &Polling| -> Vec<(String, Option<u64>)> {
        let told = |bundle: &Arc<Bundle>| (bundle.trust_domain().to_string(), bundle.sequence());
        polling.cache.federated().map(told).collect()
    };
    let both = [
        ("other.org".to_owned(), Some(4)),
        ("wrong.org".to_owned(), Some(1)),
    ];
    assert_eq!(held(&polling), both);

    // An older one is kept out, until it is clear that the server stands by it; one that can't be read changes nothing.
    polling.server.state().federated[0].sequence_number = 2;
    polling.server.state().federated[1].x509_authorities = vec![types::X509Certificate::default(); 1_025];
    for _ in 0..2 {
        polling.poll().await.unwrap();
        assert_eq!(held(&polling), both);
    }
    polling.poll().await.unwrap();
    assert_eq!(held(&polling)[0].1, Some(2));
    polling.server.state().federated.remove(1);
    polling.poll().await.unwrap();
    assert_eq!(held(&polling).len(), 1);
    polling.server.state().entries.clear();
    polling.poll().await.unwrap();
    assert!(held(&polling).is_empty());
}

#[tokio::test]
async fn a_bundle_that_was_restored_lets_in_no_older_one_of_another_trust_domain() {
    let mut polling = Polling::begin().await;
    let mut federated = entry("a", 0, 0);
    federated.federates_with = vec!["other.org".into()];
    let other = types::Bundle {
        trust_domain: "other.org".into(),
        sequence_number: 9,
        ..types::Bundle::default()
    };
    {
        let mut state = polling.server.state();
        (state.entries, state.federated, state.sequence) = (vec![federated], vec![other], 5);
    }
    polling.poll().await.unwrap();
    polling.server.state().federated[0].sequence_number = 2;
    polling.poll().await.unwrap();
    polling.poll().await.unwrap();
    // The third time, when it is believed, a server answers that lags behind with the own one.
    polling.server.state().sequence = 4;
    polling.poll().await.unwrap();
    let other = polling.cache.federated().next().map(|bundle| bundle.sequence());
    let held = (polling.cache.own_bundle().sequence(), other);
    assert_eq!(held, (Some(5), Some(Some(2))));
}

#[tokio::test]
async fn an_authority_that_can_not_be_used_does_not_hide_the_others() {
    let mut polling = Polling::begin().await;
    polling.server.state().more_authorities = vec![types::X509Certificate {
        asn1: b"none".to_vec(),
        tainted: false,
    }];
    polling.server.state().sequence = 2;
    polling.poll().await.unwrap();
    let own = polling.cache.own_bundle();
    assert_eq!((own.x509_authorities().len(), own.sequence()), (1, Some(2)));
}

#[tokio::test]
async fn a_result_without_a_status_is_a_success_and_one_that_lacks_may_come_later() {
    let polling = Polling::begin().await;
    polling.server.state().entries = numbered(3, 0);
    polling.server.state().statusless = true;
    polling.server.state().results = 2;
    let signed = polling.sign(&["e00000", "unknown", "e00001"]).await.unwrap();
    let outcome = |id: &str| {
        let id: EntryId = id.parse().unwrap();
        &signed.iter().find(|(entry, _)| *entry == id).unwrap().1
    };
    assert!(outcome("e00000").as_ref().is_ok_and(|svid| svid.version == 7));
    assert!(matches!(outcome("unknown"), Err(SignFailure::Refused)));
    assert!(matches!(outcome("e00001"), Err(SignFailure::Unreachable)));
}

#[tokio::test]
async fn certificates_that_do_not_fit_into_a_message_are_told_from_other_failures() {
    let polling = Polling::begin().await;
    polling.server.state().entries = numbered(5, 0);
    polling.server.state().padding = 1 << 20;
    let error = polling
        .sign(&["e00000", "e00001", "e00002", "e00003", "e00004"])
        .await;
    assert!(error.is_err_and(|error| error.too_large()));
    assert!(
        polling
            .sign(&["e00000"])
            .await
            .is_ok_and(|signed| signed[0].1.is_ok())
    );
    polling.server.state().refuses = Some(Status::resource_exhausted("rate"));
    let error = polling.sign(&["e00000"]).await.unwrap_err();
    assert!(!error.too_large());
    assert_eq!(signing::failure(&error), SignFailure::Unreachable);
}
