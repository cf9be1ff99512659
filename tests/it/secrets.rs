//! A secret is where its owner put it and nowhere else: not on disk, in a log, a metric, a command line (I5).

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use aws_lc_rs::{
    agreement::{ECDH_P256, PrivateKey},
    encoding::{AsBigEndian as _, EcPrivateKeyBin},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use muster_tests::{Cluster, Settings, Workload, need_programs};
use serde_json::Value;

/// Everything is said that a daemon can say, and both serve metrics.
const TALKATIVE: Settings = Settings {
    server: "[http]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"trace\"\n",
    agent: "[http]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"trace\"\n",
    before: None,
};

#[test]
fn no_secret_of_a_whole_run_is_seen_by_anybody_else() {
    let command_lines = CommandLines::default();
    let (cluster, secrets, metrics) = std::thread::scope(|scope| {
        let watching = scope.spawn(|| command_lines.watch());
        let cluster = Cluster::start(&TALKATIVE);
        let _done = command_lines.until_dropped();
        cluster.register("/canary", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
        let secrets = use_everything(&cluster);
        let metrics = [cluster.server(), cluster.agent()].map(|daemon| get(&http_of(daemon), "/metrics"));
        drop(_done);
        watching.join().unwrap();
        (cluster, secrets, metrics)
    });
    for metrics in &metrics {
        assert!(metrics.contains("# TYPE"), "{metrics}");
        secrets.must_not_be_in("the metrics", metrics.as_bytes());
    }
    let seen = command_lines.seen();
    assert!(seen.iter().any(|line| line.contains("muster-agent")), "{seen:?}");
    for line in &seen {
        secrets.must_not_be_in("a command line", line.as_bytes());
    }
    for said in [cluster.server().said(), cluster.agent().said()] {
        assert!(said.contains(" DEBUG "), "trace is what was asked for");
        secrets.must_not_be_in("a log", said.as_bytes());
    }
    let files = files(cluster.path());
    assert!(files.len() > 8, "{files:?}");
    for file in files {
        secrets.must_not_be_in(&file.display().to_string(), &fs::read(&file).unwrap());
    }
}

/// Has every secret made and used once, rightly and wrongly.
fn use_everything(cluster: &Cluster) -> Secrets {
    let mut secrets = Secrets::default();
    // What goes to their owner lies outside the cluster's folder.
    let taken = tempfile::tempdir().unwrap();
    let at = |name: &str| taken.path().join(name).display().to_string();
    cluster.muster_ok(&["fetch", "x509", "--write", &at("fetched")]);
    cluster.muster_ok(&[
        "mint",
        "x509",
        "spiffe://example.org/minted",
        "--write",
        &at("minted"),
    ]);
    for file in files(taken.path()) {
        let text = fs::read_to_string(file).unwrap();
        if text.contains("PRIVATE KEY") {
            secrets.add_key(&text);
        }
    }
    assert!(secrets.0.len() >= 6, "two keys in three forms");

    let fetched = cluster.muster_ok(&["fetch", "jwt", "--audience", "db", "--output", "json"]);
    let fetched = serde_json::from_str::<Value>(&fetched).unwrap()[0]["token"]
        .as_str()
        .unwrap()
        .to_owned();
    // One that is valid for another audience, and one that is not valid at all.
    let forged = format!("{}AAAA", &fetched[..fetched.len() - 4]);
    for (token, audience) in [(&fetched, "db"), (&fetched, "other"), (&forged, "db")] {
        Workload::Rust
            .start(cluster, &["validate-jwt", audience, token])
            .ended();
    }
    let minted = cluster.muster_ok(&[
        "mint",
        "jwt",
        "spiffe://example.org/minted",
        "--audience",
        "db",
        "--output",
        "json",
    ]);
    secrets.add_token(&fetched);
    secrets.add("a forged token", forged.as_bytes());
    let minted: Value = serde_json::from_str(&minted).unwrap();
    let minted = minted["token"]
        .as_str()
        .or_else(|| minted[0]["token"].as_str())
        .unwrap();
    secrets.add_token(minted);

    // A token that nobody redeems, and one that nobody made: a mistyped one is nearly a right one.
    secrets.add(
        "an unused join token",
        cluster.block_on(cluster.token()).as_bytes(),
    );
    let mistyped = "muster-canary-0123456789abcdef";
    cluster.block_on(async {
        let channel = muster_tests::tcp_channel(cluster, None).await;
        let refused = muster_tests::join(channel, mistyped, &*muster_tests::Identity::key()).await;
        assert!(refused.is_err());
    });
    secrets.add("a mistyped join token", mistyped.as_bytes());
    secrets
}

#[test]
fn no_private_key_lies_on_disk_unsealed() {
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/sealed", &[&format!("unix:uid:{}", nix::unistd::getuid())]);
    let taken = tempfile::tempdir().unwrap();
    cluster.muster_ok(&["fetch", "x509", "--write", taken.path().to_str().unwrap()]);
    Workload::Rust.start(&cluster, &["fetch-jwt", "db"]).event("jwt");
    // A control: were a key there, it would be found.
    let key = PrivateKey::generate(&ECDH_P256).unwrap();
    let scalar: EcPrivateKeyBin<'_> = key.as_be_bytes().unwrap();
    let public = point(scalar.as_ref()).unwrap();
    let mut known = BTreeSet::from([public.clone()]);
    let mut hidden = vec![0x5a; 1000];
    hidden.splice(333..333, scalar.as_ref().to_vec());
    assert_eq!(scalars_of(&known, &hidden), BTreeSet::from([public]));

    // The authorities' keys, the workload's, and each that a file shows.
    let contents: Vec<(PathBuf, Vec<u8>)> = files(cluster.path())
        .into_iter()
        .map(|path| (path.clone(), fs::read(&path).unwrap()))
        .collect();
    known.extend(contents.iter().flat_map(|(_, bytes)| points(bytes)));
    let bundle = cluster.bundle();
    known.extend(
        bundle
            .x509_authorities
            .iter()
            .flat_map(|authority| points(&authority.asn1)),
    );
    known.extend(
        bundle
            .jwt_authorities
            .iter()
            .flat_map(|authority| points(&authority.public_key)),
    );
    let leaf = fs::read_to_string(taken.path().join("svid.0.pem")).unwrap();
    known.extend(points(&muster_tests::from_pem(&leaf)));
    assert!(
        known.len() >= 4,
        "the control, authorities of both kinds, a workload: {}",
        known.len()
    );
    for (path, bytes) in &contents {
        assert_eq!(scalars_of(&known, bytes), BTreeSet::new(), "{}", path.display());
        for form in [
            &b"PRIVATE KEY"[..],
            b"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg",
        ] {
            assert!(!holds(bytes, form), "a private key in {}", path.display());
        }
    }
}

#[test]
fn a_key_is_whole_on_disk_or_not_there() {
    if !need_programs(&["strace"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let config = format!(
        "trust_domain = \"example.org\"\ndata_dir = \"{}\"\nlisten = \"127.0.0.1:0\"\nadmin_socket = \"{}\"\n",
        at("data"),
        at("admin.sock")
    );
    fs::write(at("server.toml"), config).unwrap();
    // -D: it is the server that is our child and gets our signals.
    let mut command = std::process::Command::new("strace");
    command
        .args(["-D", "-f", "-y", "-qq", "-s", "200", "-o", &at("calls"), "-e"])
        .arg("trace=openat,fsync,fdatasync,rename,renameat,renameat2,link,linkat")
        .arg(muster_tests::binary("muster-server"))
        .args(["run", "--config", &at("server.toml")]);
    let server = muster_tests::Process::start("muster-server under strace", &mut command);
    server.line("its readiness", |line| line.ends_with(": ready"));
    server.stop();
    let calls = fs::read_to_string(at("calls")).unwrap();
    let keys: Vec<PathBuf> = files(&dir.path().join("data/keys")).into_iter().collect();
    assert!(
        keys.len() >= 3,
        "the sealing key and those that it seals: {keys:?}"
    );
    for key in keys {
        let name = key.file_name().unwrap().to_str().unwrap().to_owned();
        use std::os::unix::fs::PermissionsExt as _;
        let mode = fs::metadata(&key).unwrap().permissions().mode() & 0o7777;
        assert!(mode & 0o077 == 0, "{name}: {mode:o}");
        let placed = calls
            .lines()
            .position(|call| {
                (call.contains("rename") || call.contains("link"))
                    && call.contains(&format!("{name}\""))
                    && call.ends_with(" = 0")
            })
            .unwrap_or_else(|| panic!("{name} was not put in its place as a whole:\n{calls}"));
        let folder = format!("{}>", key.parent().unwrap().display());
        let synced = |call: &str, what: &str| call.contains("sync(") && call.contains(what);
        let before = calls
            .lines()
            .take(placed)
            .any(|call| synced(call, &format!("{}/", key.parent().unwrap().display())));
        let after = calls.lines().skip(placed).any(|call| synced(call, &folder));
        assert!(before, "{name} was named before its bytes were durable:\n{calls}");
        assert!(after, "{name}: its name was never made durable:\n{calls}");
    }
}

/// What only its owner may have, by what failures call it.
#[derive(Default)]
struct Secrets(Vec<(String, Vec<u8>)>);

impl Secrets {
    fn add(&mut self, what: &str, secret: &[u8]) {
        assert!(secret.len() > 8, "{what} is too short to be looked for");
        self.0.push((what.into(), secret.to_vec()));
    }

    /// A key of PKCS #8 in PEM, in all its forms.
    fn add_key(&mut self, pem: &str) {
        let base64: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let der = STANDARD.decode(&base64).unwrap();
        // PKCS #8 of a P-256 key has the scalar behind 36 bytes of frame.
        self.add("a key's scalar", &der[36..68]);
        self.add("a key", &der);
        self.add("a key in base64", base64.as_bytes());
    }

    fn add_token(&mut self, token: &str) {
        self.add("a token", token.as_bytes());
        self.add(
            "a token's signature",
            token.rsplit_once('.').unwrap().1.as_bytes(),
        );
    }

    fn must_not_be_in(&self, place: &str, bytes: &[u8]) {
        for (what, secret) in &self.0 {
            assert!(!holds(bytes, secret), "{what} is in {place}");
        }
    }
}

/// What `/proc/*/cmdline` showed to everybody while a story ran.
#[derive(Default)]
struct CommandLines {
    seen: std::sync::Mutex<BTreeSet<String>>,
    over: AtomicBool,
}

impl CommandLines {
    fn watch(&self) {
        while !self.over.load(Ordering::Relaxed) {
            for process in fs::read_dir("/proc").unwrap().flatten() {
                // The client of the story is told a token by its command line: what is looked at is what we start.
                let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                if line.contains("muster") && !line.contains("rust-client") {
                    self.seen.lock().unwrap().insert(line);
                }
            }
            std::thread::yield_now();
        }
    }

    /// Ends the watch also when the story fails, which would wait for it for ever.
    fn until_dropped(&self) -> impl Drop + use<'_> {
        struct Over<'a>(&'a AtomicBool);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        Over(&self.over)
    }

    fn seen(&self) -> BTreeSet<String> {
        self.seen.lock().unwrap().clone()
    }
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .filter(|entry| !entry.file_type().unwrap().is_symlink())
        .flat_map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files(&entry.path()),
            false if entry.file_type().unwrap().is_file() => vec![entry.path()],
            false => vec![],
        })
        .collect()
}

fn holds(bytes: &[u8], secret: &[u8]) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret)
}

/// The public keys on P-256 that stand in `bytes` as SubjectPublicKeyInfo does: BIT STRING, uncompressed.
fn points(bytes: &[u8]) -> Vec<Vec<u8>> {
    const BEFORE: &[u8] = &[0x03, 0x42, 0x00, 0x04];
    let found = bytes
        .windows(BEFORE.len() + 64)
        .filter(|window| window.starts_with(BEFORE));
    found.map(|window| window[3..].to_vec()).collect()
}

/// Which of the known public keys have their private key somewhere in `bytes`, at any offset.
fn scalars_of(known: &BTreeSet<Vec<u8>>, bytes: &[u8]) -> BTreeSet<Vec<u8>> {
    let candidates = bytes.windows(32).filter(|window| {
        // Padding and text are no keys: 32 random bytes repeat themselves little.
        let mut values = [false; 256];
        window.iter().for_each(|byte| values[usize::from(*byte)] = true);
        values.iter().filter(|value| **value).count() > 20
    });
    let found = candidates.filter_map(point).filter(|point| known.contains(point));
    found.collect()
}

fn point(scalar: &[u8]) -> Option<Vec<u8>> {
    let key = PrivateKey::from_private_key(&ECDH_P256, scalar).ok()?;
    Some(key.compute_public_key().ok()?.as_ref().to_vec())
}

/// Where a daemon says that it serves its metrics.
fn http_of(daemon: &muster_tests::Process) -> String {
    let line = daemon.line("its address for probes", |line| {
        line.contains("listening") && line.contains("http=")
    });
    let (_, rest) = line.split_once("http=").unwrap();
    rest.split_whitespace()
        .next()
        .unwrap()
        .trim_matches('"')
        .to_owned()
}

fn get(address: &str, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut door = std::net::TcpStream::connect(address).unwrap();
    write!(
        door,
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    door.read_to_string(&mut answer).unwrap();
    answer
}
