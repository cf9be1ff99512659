use http_body_util::BodyExt as _;
use muster_identity::{StoreId, TrustDomain, UnixTime};
use muster_runtime::{ManualClock, Tasks};

use super::*;
use crate::bundles::bundle_to_bytes;
use crate::registry::{Change, Expect, Registry, Tree};
use crate::store::Memory;

struct Server {
    registry: Registry,
    bundles: Bundles,
    statuses: Statuses,
    desk: Arc<Desk>,
    _tasks: Tasks,
}

fn own() -> TrustDomain {
    "example.org".parse().unwrap()
}

async fn server() -> Server {
    let store = Arc::new(Memory::new(StoreId::from_bytes([7; 16])));
    let (registry, committer) = Registry::open(store, own(), Vec::new()).unwrap();
    let tasks = Tasks::new(Stop::new());
    tasks.spawner().spawn("registry", committer.run(tasks.stop()));
    let bundles = Bundles::read(own(), &registry.view()).unwrap();
    let statuses = Statuses::default();
    let clock = Arc::new(ManualClock::new(UnixTime::from_secs(1_000)));
    let mut desk = Desk::new(bundles.clone(), statuses.clone(), clock, Stop::new());
    desk.hold = Duration::from_secs(2);
    let server = Server {
        registry,
        bundles,
        statuses,
        desk: Arc::new(desk),
        _tasks: tasks,
    };
    server.publish(1).await;
    server
}

impl Server {
    async fn publish(&self, sequence: u64) {
        let mut bundle = Bundle::new(own());
        bundle.set_sequence(Some(sequence));
        let put = Change::put(
            Tree::Bundles,
            "example.org",
            bundle_to_bytes(&bundle),
            Expect::Any,
        );
        self.registry.commit(vec![put]).await.unwrap();
        self.bundles.refresh(&self.registry.view()).unwrap();
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String, Option<String>) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.desk.answer(&request.body(()).unwrap()).await;
        let tag = answer
            .headers()
            .get(ETAG)
            .map(|tag| tag.to_str().unwrap().to_owned());
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap(), tag)
    }
}

#[tokio::test]
async fn there_is_one_document_and_one_way_to_it() {
    let server = server().await;
    let (status, body, tag) = server
        .ask("GET", "/", &[("authorization", "Bearer x"), ("cookie", "a=b")])
        .await;
    assert_eq!(status, 200);
    assert_eq!(
        Bundle::from_document(own(), body.as_bytes())
            .unwrap()
            .bundle
            .sequence(),
        Some(1)
    );
    assert!(tag.is_some());
    assert_eq!(server.ask("GET", "/?x=1", &[]).await.0, 200);
    for path in ["/bundle", "/bundle.json", "//", "/./"] {
        assert_eq!(server.ask("GET", path, &[]).await.0, 404, "{path}");
    }
    for method in ["HEAD", "POST", "PUT", "DELETE", "OPTIONS"] {
        assert_eq!(server.ask(method, "/", &[]).await.0, 405, "{method}");
    }
}

#[tokio::test]
async fn who_shows_what_he_holds_waits_for_something_newer_and_not_for_ever() {
    let server = server().await;
    let (_, _, tag) = server.ask("GET", "/", &[("prefer", "wait=50")]).await;
    let tag = tag.unwrap();
    let headers = [("prefer", "wait=50"), ("if-none-match", tag.as_str())];
    let waiting = server.ask("GET", "/", &headers);
    let (answer, ()) = tokio::join!(waiting, async {
        tokio::task::yield_now().await;
        server.publish(2).await;
    });
    assert!(answer.0 == 200 && answer.1.contains("2"), "{answer:?}");
    let newer = answer.2.unwrap();
    assert_ne!(newer, tag);
    // Nothing new: no longer than we say, however long he would.
    let headers = [("prefer", "wait=100000"), ("if-none-match", newer.as_str())];
    assert_eq!(server.ask("GET", "/", &headers).await.0, 304);
    // Without the wish to wait it is an answer at once.
    assert_eq!(
        server
            .ask("GET", "/", &[("if-none-match", newer.as_str())])
            .await
            .0,
        304
    );
}

#[tokio::test]
async fn who_asks_is_noted_only_when_it_is_a_peer() {
    let server = server().await;
    let known: TrustDomain = "b.example".parse().unwrap();
    server.statuses.change(&known, |_| {});
    for name in ["b.example", "stranger.example", "No Name"] {
        server.ask("GET", "/", &[("muster-peer", name)]).await;
    }
    assert_eq!(server.statuses.all().len(), 1);
    assert_eq!(
        server.statuses.get(&known).asked_us,
        Some((UnixTime::from_secs(1_000), false))
    );
}

#[test]
fn preferences_are_read_among_others() {
    let seconds = |text| wait(text).map(|wait| wait.as_secs());
    assert_eq!(seconds("wait=5"), Some(5));
    assert_eq!(seconds("respond-async, wait=10; foo"), Some(10));
    assert_eq!(seconds("wait=-1"), None);
    assert_eq!(seconds("waits=1"), None);
}
