//! `muster dev`, and the other commands against it, as a person uses them: the binary, its sockets, its output.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// A running `muster dev`. Killed when a test fails half-way.
struct Dev {
    process: Child,
    says: BufReader<ChildStdout>,
    ready: Value,
}

impl Dev {
    /// Starts it; returns when it says that it is ready.
    fn start(folder: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_muster"))
            .env_clear()
            .args(["--output", "json", "dev", "--dir"])
            .arg(folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut says = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        says.read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap();
        Self { process, says, ready }
    }

    fn said(&self, name: &str) -> &str {
        self.ready[name].as_str().unwrap()
    }

    /// Runs a command with this one's sockets.
    fn muster(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_muster"))
            .env_clear()
            .env("MUSTER_SERVER_SOCKET", self.said("server_socket"))
            .env("MUSTER_AGENT_SOCKET", self.said("agent_admin_socket"))
            .env("SPIFFE_ENDPOINT_SOCKET", self.said("workload_api"))
            .args(["--output", "json"])
            .args(args)
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed, and reads what it prints.
    fn answer(&self, args: &[&str]) -> Value {
        let output = self.muster(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Ctrl-C.
    fn stop(mut self) {
        kill(
            Pid::from_raw(self.process.id().try_into().unwrap()),
            Signal::SIGINT,
        )
        .unwrap();
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        assert_eq!(line, "{\"stopped\":true}\n");
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The identities that this process gets.
fn identities(dev: &Dev) -> Vec<String> {
    let answer = dev.answer(&["fetch", "x509"]);
    let svids = answer["svids"].as_array().unwrap();
    svids
        .iter()
        .map(|svid| svid["spiffe_id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_person_gets_an_identity_and_another_and_loses_it_and_keeps_the_first_over_a_restart() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("dev");
    let dev = Dev::start(&folder);
    for file in [
        "server.sock",
        "agent.sock",
        "agent-admin.sock",
        "server.addr",
        "bundle.pem",
    ] {
        assert!(folder.join(file).exists(), "{file}");
    }
    let mode = |file: &str| std::fs::metadata(folder.join(file)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("server.sock"), mode("agent-admin.sock"), mode("agent.sock")),
        (0o600, 0o600, 0o777)
    );
    let me = dev.said("user").to_owned();
    assert_eq!(identities(&dev), [me.as_str()]);
    assert_eq!(dev.said("parent"), "spiffe://example.org/dev-node");

    let uid = format!("unix:uid:{}", nix::unistd::getuid());
    let second = "spiffe://example.org/second";
    let parent = dev.said("parent").to_owned();
    let create = [
        "entry",
        "create",
        second,
        "--parent",
        &parent,
        "--selector",
        &uid,
        "--id",
        "second",
        "--wait",
    ];
    assert_eq!(dev.answer(&create)["spiffe_id"], second);
    let mut both = identities(&dev);
    both.sort();
    assert_eq!(both, [second, me.as_str()]);
    let again = dev.muster(&create[..create.len() - 3]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("muster entry show second"));

    assert_eq!(
        dev.answer(&["entry", "update", "second", "--hint", "two"])["hint"],
        "two"
    );
    assert_eq!(dev.answer(&["entry", "count", "--hint", "two"])["count"], 1);
    assert_eq!(dev.answer(&["entry", "delete", "second"])["deleted"][0], "second");
    dev.stop();

    let dev = Dev::start(&folder);
    assert_eq!(identities(&dev), [me.as_str()]);
    assert_eq!(dev.answer(&["node", "count"])["count"], 1);
    dev.stop();
    assert!(!folder.join("agent.sock").exists());
}

#[test]
fn what_is_fetched_and_minted_is_valid_by_the_bundle_that_is_shown() {
    let temporary = tempfile::tempdir().unwrap();
    let path = |name: &str| temporary.path().join(name).display().to_string();
    let dev = Dev::start(&temporary.path().join("dev"));

    std::fs::write(
        path("bundle"),
        dev.answer(&["bundle", "show"])["document"].to_string(),
    )
    .unwrap();
    let bundle = format!("example.org={}", path("bundle"));
    dev.answer(&["fetch", "x509", "--write", &path("fetched")]);
    let key = std::fs::metadata(path("fetched/svid.0.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    dev.answer(&[
        "mint",
        "x509",
        "spiffe://example.org/minted",
        "--dns",
        "a.example.org",
        "--write",
        &path("minted"),
    ]);
    for (chain, id) in [
        (path("fetched/svid.0.pem"), dev.said("user")),
        (path("minted/svid.pem"), "spiffe://example.org/minted"),
    ] {
        let verdict = dev.answer(&["validate", "x509", &chain, "--bundle", &bundle]);
        assert_eq!(
            (&verdict["valid"], verdict["spiffe_id"].as_str()),
            (&Value::Bool(true), Some(id))
        );
    }

    let fetched = dev.answer(&["fetch", "jwt", "--audience", "billing"]);
    let minted = dev.answer(&[
        "mint",
        "jwt",
        "spiffe://example.org/minted",
        "--audience",
        "billing",
    ]);
    let bundles = dev.answer(&["fetch", "bundles", "--write", &path("fetched")]);
    // What a workload is handed says of no key what it is for; it serves as well.
    let keys = format!("example.org={}", path("fetched/bundle.0.jwks.json"));
    for token in [&fetched[0]["token"], &minted["token"]] {
        std::fs::write(path("token"), token.as_str().unwrap()).unwrap();
        for bundle in [&bundle, &keys] {
            let args = [
                "validate",
                "jwt",
                &path("token"),
                "--bundle",
                bundle,
                "--audience",
                "billing",
            ];
            assert_eq!(dev.answer(&args)["valid"], true, "{bundle}");
        }
    }
    assert!(
        bundles["example.org"]["x509"]
            .as_str()
            .unwrap()
            .starts_with("-----BEGIN CERTIFICATE-----\n")
    );
    dev.stop();
}

#[test]
fn both_daemons_answer_their_operator() {
    let temporary = tempfile::tempdir().unwrap();
    let dev = Dev::start(&temporary.path().join("dev"));
    for daemon in [&[][..], &["--agent"]] {
        assert_eq!(dev.answer(&[&["health"], daemon].concat())["healthy"], true);
        assert_eq!(
            dev.answer(&[&["log", "level", "error"], daemon].concat())["level"],
            "error"
        );
        let reset = dev.answer(&[&["log", "level", "reset"], daemon].concat());
        assert_eq!(
            (&reset["level"], &reset["at_start"]),
            (&"warn".into(), &"warn".into())
        );
    }
    assert_eq!(dev.answer(&["node", "list"])[0]["attestation_type"], "join_token");
    assert!(
        dev.answer(&["token", "create", "--ttl", "1m"])["token"]
            .as_str()
            .unwrap()
            .len()
            >= 16
    );
    assert_eq!(dev.answer(&["bundle", "count"])["count"], 1);
    let wrong = dev.muster(&[
        "entry",
        "create",
        "spiffe://other.org/a",
        "--parent",
        dev.said("parent"),
        "--selector",
        "a:b",
    ]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("spiffe_id: "));
    let missing = dev.muster(&["entry", "show", "missing"]);
    assert_eq!(missing.status.code(), Some(1));
    let folder = temporary.path().join("dev").display().to_string();
    let second = dev.muster(&["dev", "--dir", &folder]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("in use by another server"));
    dev.stop();
}
