//! Programs that are led by whoever starts them: a script's interpreter, a preloaded library, a debugger. Such a program is
//! still itself to the kernel, so it gets what it and its user get; nobody gets what is another user's by it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use muster_tests::{
    Cluster, Process, Settings, Workload, as_user, binary, need_programs, need_root, rounds, until,
};
use serde_json::Value;

const OWNER: u32 = 40_061;
const STRANGER: u32 = 40_062;

fn answer(process: &Process) -> Value {
    process.event_where("an answer", |event| {
        event["event"] == "x509" || event["event"] == "error"
    })
}

fn ids(answer: &Value) -> Vec<&str> {
    let svids = answer["svids"].as_array().into_iter().flatten();
    svids.map(|svid| svid["id"].as_str().unwrap()).collect()
}

/// A copy of the Rust client where every user can run it.
fn staged(cluster: &Cluster) -> PathBuf {
    let path = cluster.path().join("program");
    fs::copy(binary("rust-client"), &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn two_scripts_of_one_interpreter_are_one_program_and_no_script_is_a_fact() {
    if !Workload::Python.is_here() {
        return;
    }
    let cluster = Cluster::start(&Settings::default());
    let interpreter = Workload::Python.executable().unwrap();
    cluster.register("/interpreter", &[&format!("unix:path:{}", interpreter.display())]);
    // Neither the script's path nor its name is a fact about the process: argv is its own memory.
    let script = muster_tests::root().join("tests/clients/python/client.py");
    for claimed in [script.as_path(), Path::new("client.py")] {
        cluster.register("/script", &[&format!("unix:path:{}", claimed.display())]);
    }
    until("the interpreter is known", || {
        let python = Workload::Python.start(&cluster, &["fetch-x509"]);
        ids(&answer(&python)) == ["spiffe://example.org/interpreter"]
    });
    // Another script in the same interpreter, from its command line: still the same program.
    let text = fs::read_to_string(&script).unwrap();
    let rounds = rounds(5);
    for _ in 0..rounds {
        let one = Workload::Python.start(&cluster, &["fetch-x509"]);
        let mut other = Command::new(muster_tests::client("python/bin/python").unwrap());
        other
            .args(["-W", "ignore", "-c", &text, "fetch-x509"])
            .env("SPIFFE_ENDPOINT_SOCKET", cluster.endpoint());
        let other = Process::start("another script", &mut other);
        for script in [one, other] {
            assert_eq!(ids(&answer(&script)), ["spiffe://example.org/interpreter"]);
        }
    }
    println!(
        "figure: T-05: {} starts of two scripts, 0 told apart from their interpreter",
        2 * rounds
    );
}

#[test]
fn host_a_preloaded_or_traced_program_gets_nothing_of_another_user() {
    if !need_root() || !need_programs(&["cc", "strace"]) {
        return;
    }
    let cluster = Cluster::start(&Settings::default());
    let program = staged(&cluster);
    let path = format!("unix:path:{}", program.display());
    cluster.register("/owned", &[&path, &format!("unix:uid:{OWNER}")]);
    let library = cluster.path().join("lead.so");
    let code = cluster.path().join("lead.c");
    fs::write(
        &code,
        "#include <unistd.h>\n\
         __attribute__((constructor)) static void lead() { write(1, \"{\\\"event\\\":\\\"led\\\"}\\n\", 16); }\n",
    )
    .unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-w", "-o"])
        .args([&library, &code])
        .status();
    assert!(compiled.unwrap().success());
    let fetch = |uid: u32, with: &[&str]| {
        let mut words = with.iter().map(PathBuf::from).chain([program.clone()]);
        let mut command = as_user(&words.next().unwrap(), uid);
        command
            .args(words)
            .arg("fetch-x509")
            .env("SPIFFE_ENDPOINT_SOCKET", cluster.endpoint());
        Process::start("led client", &mut command)
    };
    until("the entry has reached the agent", || {
        ids(&answer(&fetch(OWNER, &[]))) == ["spiffe://example.org/owned"]
    });
    let preload = format!("LD_PRELOAD={}", library.display());
    let rounds = rounds(5);
    for (what, with) in [
        ("preloaded", &["env", &preload][..]),
        ("traced", &["strace", "-f", "-o", "/dev/null"]),
    ] {
        for _ in 0..rounds {
            let owned = fetch(OWNER, with);
            if what == "preloaded" {
                owned.event("led");
            }
            // Its user leads his own program: to the kernel it is that program.
            assert_eq!(ids(&answer(&owned)), ["spiffe://example.org/owned"], "{what}");
            let strange = answer(&fetch(STRANGER, with));
            assert_eq!(strange["code"], "PermissionDenied", "{what}: {strange}");
        }
    }
    println!(
        "figure: T-06: {} programs led by a stranger, 0 got their owner's identity",
        2 * rounds
    );
}
