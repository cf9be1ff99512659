//! Part 8: federation, on running servers and an endpoint that says what a case wants said.

mod asked;
mod redirects;
mod rotations;

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::PathBuf,
};

use muster_pki::bundle::Bundle;
use muster_tests::{Cluster, Reply, ScriptedEndpoint, Settings, Web};
use serde_json::{Value, json};
use tempfile::TempDir;

use self::asked::{Asked, ask};
use crate::book::Book;

const OTHER: &str = "other.example";
const ENDPOINT: &str =
    "[federation]\nallow_loopback = true\n[federation.endpoint]\nlisten = \"127.0.0.1:0\"\n";

/// A server under test, a peer of another trust domain, and a Web PKI of the cases' own.
struct Stage {
    ours: Cluster,
    theirs: Cluster,
    web: Web,
    /// A bundle document of the peer that verifies its endpoint.
    theirs_file: PathBuf,
    _folder: TempDir,
}

pub(crate) fn judge(book: &mut Book) {
    let stage = Stage::new();
    book.case("FD-01", || stage.nothing_is_inferred());
    book.case("FD-02", || stage.only_https_urls());
    book.case("FD-03", || stage.unknown_web_authority());
    book.case("FD-04", || stage.web_host("other.example"));
    book.case("FD-05", || stage.no_endpoint_id());
    book.case("FD-06", || stage.another_spiffe_id());
    book.case("FD-08", || stage.not_self_serving());
    book.case("FD-09", || stage.no_falling_back());
    book.case("FD-10", || stage.redirect(302));
    book.case("FD-11", || {
        [301, 308].into_iter().for_each(|status| stage.redirect(status));
    });
    book.case("FD-12", || stage.wrong_redirects());
    book.case("FD-13", || stage.redirect_to_another_id());
    book.case("FD-14", || stage.who_asks());
    book.case("FD-15", || stage.our_answer());
    book.case("FD-16", || stage.old_tls());
    book.case("FD-17", intervals);
    book.case("FD-18", || stage.after_a_failure());
    book.case("FD-19", || stage.older_sequence());
    book.case("FD-20", || stage.same_sequence());
    book.case("FD-21", || stage.empty_bundle());
    book.case("FD-22", || stage.shared_authority());
    book.case("FD-23", || stage.own_trust_domain());
    book.case("FD-24", || stage.deleted());
    book.case("FD-26", || stage.bounds());
    book.case("FD-25", || stage.new_key_is_published_first());
    book.case("FD-07", || stage.over_a_rotation());
}

impl Stage {
    fn new() -> Self {
        let (web, folder) = (Web::new(), tempfile::tempdir().unwrap());
        let config = format!(
            "[federation]\nallow_loopback = true\nca_file = \"{}\"\n[federation.endpoint]\nlisten = \"127.0.0.1:0\"\n",
            web.ca_file().display()
        );
        let config = Settings {
            server: Box::leak(config.into_boxed_str()),
            ..Settings::default()
        };
        let ours = Cluster::start_server_only(&config);
        let theirs = Settings {
            server: ENDPOINT,
            ..Settings::default()
        };
        let theirs = Cluster::start_server_of(OTHER, &theirs);
        let theirs_file = folder.path().join("theirs.json");
        fs::write(&theirs_file, document(&theirs).to_string()).unwrap();
        Self {
            ours,
            theirs,
            web,
            theirs_file,
            _folder: folder,
        }
    }

    /// What a command says when it fails, and that it fails.
    fn refused(&self, args: &[&str]) -> String {
        let output = self.ours.muster(args);
        assert!(!output.status.success(), "{args:?} was done");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// A relationship with an endpoint of the Web PKI that shows `tls`, while `with` runs.
    fn with_web<T>(&self, reply: Reply, with: impl FnOnce(&ScriptedEndpoint) -> T) -> T {
        let endpoint = ScriptedEndpoint::start(Some(self.web.server("127.0.0.1", false, |_| {})), reply);
        self.related(&["--url", &endpoint.url(), "--profile", "https_web"], || {
            with(&endpoint)
        })
    }

    fn related<T>(&self, more: &[&str], with: impl FnOnce() -> T) -> T {
        let mut args = vec!["federation", "create", OTHER];
        args.extend(more);
        self.ours.muster_ok(&args);
        let came = std::panic::catch_unwind(std::panic::AssertUnwindSafe(with));
        self.ours.muster_ok(&["federation", "delete", OTHER]);
        came.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    fn refresh_ok(&self) {
        self.ours.muster_ok(&["federation", "refresh", OTHER]);
    }

    fn refresh_fails(&self, because: &str) {
        let said = self.refused(&["federation", "refresh", OTHER]);
        assert!(said.contains(because), "{because}: {said}");
    }

    fn peer(&self) -> Value {
        let shown = self
            .ours
            .muster_ok(&["federation", "show", OTHER, "--output", "json"]);
        serde_json::from_str(&shown).unwrap()
    }

    fn nothing_is_inferred(&self) {
        let url = ["--url", "https://other.example/"];
        let profile = ["--profile", "https_web"];
        self.refused(&[&["federation", "create"][..], &url, &profile].concat());
        self.refused(&[&["federation", "create", OTHER][..], &profile].concat());
        self.refused(&[&["federation", "create", OTHER][..], &url].concat());
    }

    fn only_https_urls(&self) {
        for url in [
            "http://other.example/",
            "https://user@other.example/",
            "https://u:p@other.example/",
            "other.example",
            "file:///x",
        ] {
            self.refused(&[
                "federation",
                "create",
                OTHER,
                "--url",
                url,
                "--profile",
                "https_web",
            ]);
        }
    }

    fn unknown_web_authority(&self) {
        self.with_web(Reply::Document(published(7).to_string()), |endpoint| {
            self.refresh_ok();
            endpoint.show(Some(Web::new().server("127.0.0.1", false, |_| {})));
            self.refresh_fails("handshake");
            assert_eq!(self.peer()["sequence"], 7);
        });
    }

    fn web_host(&self, name: &str) {
        self.with_web(Reply::Document(published(7).to_string()), |endpoint| {
            endpoint.show(Some(self.web.server(name, false, |_| {})));
            self.refresh_fails("handshake");
        });
    }

    fn no_endpoint_id(&self) {
        self.refused(&[
            "federation",
            "create",
            OTHER,
            "--url",
            "https://other.example/",
            "--profile",
            "https_spiffe",
        ]);
    }

    fn spiffe<'a>(&'a self, url: &'a str, id: &'a str, file: &'a str) -> [&'a str; 8] {
        [
            "--url",
            url,
            "--profile",
            "https_spiffe",
            "--endpoint-id",
            id,
            "--bundle",
            file,
        ]
    }

    fn their_url(&self) -> String {
        format!("https://{}/", self.theirs.bundle_endpoint())
    }

    fn another_spiffe_id(&self) {
        let (url, file) = (self.their_url(), self.their_bundle());
        self.related(
            &self.spiffe(&url, "spiffe://other.example/another", &file),
            || {
                self.refresh_fails("handshake");
            },
        );
        self.related(
            &self.spiffe(&url, "spiffe://other.example/spire/server", &file),
            || self.refresh_ok(),
        );
    }

    /// Their bundle of now, in a file.
    fn their_bundle(&self) -> String {
        fs::write(&self.theirs_file, document(&self.theirs).to_string()).unwrap();
        self.theirs_file.display().to_string()
    }

    fn not_self_serving(&self) {
        // What their endpoint serves is taken for a third trust domain's bundle, verified by theirs.
        let (url, file) = (self.their_url(), self.their_bundle());
        let third = [
            "federation",
            "create",
            "third.example",
            "--url",
            &url,
            "--profile",
            "https_spiffe",
            "--endpoint-id",
            "spiffe://other.example/spire/server",
        ];
        self.ours.muster_ok(&third);
        let said = self.refused(&["federation", "refresh", "third.example"]);
        assert!(said.contains("no bundle of other.example"), "{said}");
        self.ours.muster_ok(&["bundle", "set", OTHER, &file]);
        self.ours.muster_ok(&["federation", "refresh", "third.example"]);
        self.ours.muster_ok(&["federation", "delete", "third.example"]);
        self.ours.muster_ok(&["bundle", "delete", OTHER]);
    }

    fn no_falling_back(&self) {
        let (url, file) = (self.their_url(), self.their_bundle());
        self.related(&["--url", &url, "--profile", "https_web"], || {
            self.refresh_fails("handshake");
        });
        let endpoint = ScriptedEndpoint::start(
            Some(self.web.server("127.0.0.1", false, |_| {})),
            Reply::Document(published(7).to_string()),
        );
        let url = endpoint.url();
        self.related(
            &self.spiffe(&url, "spiffe://other.example/spire/server", &file),
            || {
                self.refresh_fails("handshake");
            },
        );
        assert!(endpoint.requests().is_empty());
    }

    fn who_asks(&self) {
        let endpoint = ScriptedEndpoint::start(
            Some(self.web.server("127.0.0.1", true, |_| {})),
            Reply::Document(published(7).to_string()),
        );
        self.related(&["--url", &endpoint.url(), "--profile", "https_web"], || {
            self.refresh_fails("asks for a client certificate");
        });
        assert!(endpoint.requests().is_empty());
        self.with_web(
            Reply::Raw("HTTP/1.1 401 No\r\ncontent-length: 0\r\n\r\n".into()),
            |_| {
                self.refresh_fails("asks for credentials");
            },
        );
    }

    fn our_answer(&self) {
        let held = bundle(&self.ours, &document(&self.ours));
        let asked = |more| ask(&self.ours, &held, more).unwrap();
        let Asked { head, body } = asked("");
        assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
        assert!(
            head.to_lowercase().contains("content-type: application/json"),
            "{head}"
        );
        let name = "example.org".parse().unwrap();
        Bundle::from_document(name, body.as_bytes()).unwrap();
        assert_eq!(asked("authorization: Basic eDp5\r\n").body, body);
    }

    fn old_tls(&self) {
        // A hello of TLS 1.1: record and handshake version 3.2, one suite.
        let mut hello = vec![3, 2];
        hello.extend([7; 32]);
        hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
        let length = u8::try_from(hello.len()).unwrap();
        let mut record = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
        record.extend(hello);
        let mut stream = TcpStream::connect(self.ours.bundle_endpoint()).unwrap();
        stream.write_all(&record).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        // An alert, or nothing; never a handshake.
        assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    }

    fn after_a_failure(&self) {
        self.with_web(Reply::Document(published(7).to_string()), |endpoint| {
            self.refresh_ok();
            endpoint.say(Reply::Raw("HTTP/1.1 503 X\r\ncontent-length: 0\r\n\r\n".into()));
            endpoint.requests();
            self.refresh_fails("503");
            assert_eq!(endpoint.requests().len(), 1);
            // The next one is the peer's interval away, which its document does not say: minutes.
            assert_eq!(self.peer()["interval"], 300);
            assert_eq!(self.peer()["failures"], 1);
        });
    }

    fn older_sequence(&self) {
        self.with_web(Reply::Document(published(7).to_string()), |endpoint| {
            self.refresh_ok();
            endpoint.say(Reply::Document(published(6).to_string()));
            self.refresh_fails("older than 7");
            assert_eq!(self.peer()["sequence"], 7);
        });
    }

    fn same_sequence(&self) {
        self.with_web(Reply::Document(published(7).to_string()), |endpoint| {
            self.refresh_ok();
            let mut other = document(&self.ours);
            other["spiffe_sequence"] = 7.into();
            endpoint.say(Reply::Document(other.to_string()));
            self.refresh_ok();
            assert!(self.peer()["jwt_authorities"].as_u64().unwrap() > 0);
            self.ours
                .server()
                .line("a word on it", |line| line.contains("under the same sequence"));
        });
    }

    fn empty_bundle(&self) {
        let mut full = document(&self.theirs);
        full["spiffe_sequence"] = 7.into();
        self.with_web(Reply::Document(full.to_string()), |endpoint| {
            self.refresh_ok();
            assert_eq!(self.peer()["state"], "ok");
            endpoint.say(Reply::Document(
                json!({"keys": [], "spiffe_sequence": 8}).to_string(),
            ));
            self.refresh_ok();
            assert_eq!(self.peer()["state"], "empty bundle");
        });
    }

    fn shared_authority(&self) {
        let mut ours = document(&self.ours);
        ours["spiffe_sequence"] = 7.into();
        let own_before = document(&self.ours);
        self.with_web(Reply::Document(ours.to_string()), |_| {
            self.refresh_ok();
            assert_eq!(self.peer()["shares_keys_with"], json!(["example.org"]));
            assert_eq!(document(&self.ours), own_before);
        });
    }

    fn own_trust_domain(&self) {
        let said = self.refused(&[
            "federation",
            "create",
            "example.org",
            "--url",
            "https://x.example/",
            "--profile",
            "https_web",
        ]);
        assert!(said.contains("server trust domain"), "{said}");
        let own_before = document(&self.ours);
        self.with_web(Reply::Document(published(9).to_string()), |_| self.refresh_ok());
        assert_eq!(document(&self.ours), own_before);
    }

    fn deleted(&self) {
        let endpoint = self.with_web(Reply::Document(published(7).to_string()), |endpoint| {
            self.refresh_ok();
            assert_eq!(self.ours.muster_ok(&["bundle", "count"]).trim(), "2 bundles");
            endpoint.connections()
        });
        assert!(endpoint > 0);
        assert_eq!(self.ours.muster_ok(&["bundle", "count"]).trim(), "1 bundle");
        let said = self.refused(&["federation", "refresh", OTHER]);
        assert!(said.contains("no relationship"), "{said}");
    }

    fn bounds(&self) {
        let keys = vec![json!({"kty": "x"}); 100_000];
        let mut many = published(8);
        many["keys"] = keys.into();
        let good = published(8).to_string();
        let replies = [
            (
                Reply::Endless("HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n"),
                "larger than 4 MiB",
            ),
            (
                Reply::Raw("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}".into()),
                "encoded",
            ),
            (Reply::Document(many.to_string()), "keys"),
            (
                Reply::Raw(format!(
                    "HTTP/1.1 500 X\r\ncontent-length: {}\r\n\r\n{good}",
                    good.len()
                )),
                "500",
            ),
            (
                Reply::Drip("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"),
                "longer than 30 s",
            ),
        ];
        self.with_web(Reply::Document(published(7).to_string()), |endpoint| {
            self.refresh_ok();
            for (reply, because) in replies {
                endpoint.say(reply);
                self.refresh_fails(because);
                assert_eq!(self.peer()["sequence"], 7);
            }
            assert!(self.ours.server().resident_mib() < 64);
        });
    }
}

/// How often a peer is asked, by its bundle.
fn intervals() {
    for (hint, seconds) in [
        (None, 300),
        (Some(0), 60),
        (Some(3), 60),
        (Some(600), 600),
        (Some(u64::MAX), 86_400),
    ] {
        let mut bundle = Bundle::new(OTHER.parse().unwrap());
        bundle.set_refresh_hint(hint);
        assert_eq!(bundle.refresh_interval().as_secs(), seconds, "{hint:?}");
    }
}

/// A document of the other trust domain with this sequence, and no hint.
fn published(sequence: u64) -> Value {
    json!({"keys": [], "spiffe_sequence": sequence})
}

fn document(cluster: &Cluster) -> Value {
    serde_json::from_str(&cluster.muster_ok(&["bundle", "show", "--format", "spiffe"])).unwrap()
}

/// What a document means for the trust domain of `cluster`.
fn bundle(cluster: &Cluster, document: &Value) -> Bundle {
    let name = cluster.trust_domain().parse().unwrap();
    Bundle::from_document(name, document.to_string().as_bytes())
        .unwrap()
        .bundle
}
