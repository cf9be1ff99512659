//! The image that holds the programs and nothing else: a real dockerd runs server and node agent from it, and a process of
//! the host gets its identity from them.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command};

use muster_tests::{binary, need_programs, need_root, root, until};

use crate::containers::Docker;

const IMAGE: &str = "muster-from-scratch";

/// Packs the programs under test as they are handed out, and has the daemon take them as an image.
fn import(docker: &Docker, dir: &Path) {
    let programs = binary("muster-server");
    let made = Command::new(root().join("packages/assemble"))
        .args(["--only", "image"])
        .arg(programs.parent().unwrap())
        .arg(dir)
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "packages/assemble: {}",
        String::from_utf8_lossy(&made.stderr)
    );
    let tar = packed(dir);
    let listed = Command::new("tar").args(["-tvf", &tar]).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let has = |mode: &str, path: &str| {
        let line = listed.lines().find(|line| line.ends_with(path));
        assert!(
            line.is_some_and(|line| line.starts_with(mode)),
            "{mode} {path} in\n{listed}"
        );
    };
    has("drwxrwxrwt", " ./tmp/");
    has("drwx------", " ./var/lib/muster/server/");
    for program in ["muster", "muster-server", "muster-agent"] {
        has("-rwxr-xr-x", &format!(" ./usr/bin/{program}"));
        has(
            "-rw-r--r--",
            &format!(" ./usr/share/doc/{program}/THIRD-PARTY-LICENSES.txt"),
        );
        has("-rw-r--r--", &format!(" ./usr/share/doc/{program}/LICENSE"));
    }
    for package in ["libc6", "libgcc-s1"] {
        let copyright = format!("/usr/share/doc/{package}/copyright");
        if Path::new(&copyright).exists() {
            has("-rw-r--r--", &format!(" .{copyright}"));
        }
    }
    docker.run(&["import", &tar, IMAGE]);
}

fn packed(dir: &Path) -> String {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .find(|path| path.ends_with("-image.tar"))
        .expect("packages/assemble names it so")
}

fn folder(path: &Path, mode: u32) -> String {
    fs::create_dir_all(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    path.display().to_string()
}

#[test]
fn host_server_and_agent_run_from_an_image_that_holds_nothing_else() {
    if !need_root() || !need_programs(&["docker", "strip", "readelf"]) {
        return;
    }
    let dir = tempfile::Builder::new()
        .prefix("muster-image-")
        .tempdir()
        .unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let Some(docker) = Docker::start(dir.path()) else {
        return;
    };
    let packed = dir.path().join("packed");
    fs::create_dir(&packed).unwrap();
    import(&docker, &packed);

    let etc = folder(&dir.path().join("etc"), 0o755);
    fs::write(
        format!("{etc}/server.toml"),
        "trust_domain = \"example.org\"\nlisten = \"127.0.0.1:0\"\n",
    )
    .unwrap();
    let config = format!("{etc}/server.toml:/etc/muster/server.toml:ro");
    let server = ["run", "--detach", "--network", "host", "--volume", &config, IMAGE];
    let server = docker.text(
        &[
            &server[..],
            &["muster-server", "run", "--config", "/etc/muster/server.toml"],
        ]
        .concat(),
    );
    let address = logged(&docker, &server, " addr=");
    logged(&docker, &server, ": ready");
    let muster = |args: &[&str]| docker.text(&[&["exec", &server, "muster"], args].concat());
    assert!(muster(&["health"]).contains("healthy"));
    let token = muster(&["token", "create", "--output", "json"]);
    let token: serde_json::Value = serde_json::from_str(&token).unwrap();
    let token = token["token"].as_str().unwrap();
    let bundle = muster(&["bundle", "show"]);
    let fingerprint = bundle.rsplit(' ').next().unwrap();

    // What the node keeps, and the one folder that its workloads see.
    let state = format!(
        "{}:/var/lib/muster/agent",
        folder(&dir.path().join("state"), 0o700)
    );
    let workload = dir.path().join("workload");
    let sockets = format!("{}:/run/muster/workload", folder(&workload, 0o755));
    let join = [
        "run",
        "--rm",
        "--network",
        "host",
        "--volume",
        &state,
        IMAGE,
        "muster-agent",
        "join",
    ];
    docker.run(
        &[
            &join[..],
            &[
                "--server",
                &address,
                "--token",
                token,
                "--bundle-sha256",
                fingerprint,
            ],
        ]
        .concat(),
    );
    // It reads of callers what only who may trace them may read, and sees them by the pids of the host.
    let agent = [
        "run",
        "--detach",
        "--network",
        "host",
        "--pid",
        "host",
        "--cap-add",
        "SYS_PTRACE",
    ];
    let agent = docker.text(
        &[
            &agent[..],
            &[
                "--volume",
                &state,
                "--volume",
                &sockets,
                IMAGE,
                "muster-agent",
                "run",
            ],
        ]
        .concat(),
    );
    logged(&docker, &agent, ": ready");

    let node = format!("spiffe://example.org/spire/agent/join_token/{token}");
    muster(&[
        "entry",
        "create",
        "spiffe://example.org/w",
        "--parent",
        &node,
        "--selector",
        "unix:uid:0",
    ]);
    let socket = format!("unix://{}", workload.join("api.sock").display());
    until("the identity of a process of the host", || {
        let fetched = Command::new(binary("muster"))
            .args(["fetch", "x509"])
            .env("SPIFFE_ENDPOINT_SOCKET", &socket)
            .output()
            .unwrap();
        String::from_utf8_lossy(&fetched.stdout).contains("spiffe://example.org/w")
    });
    docker.run(&["stop", &agent, &server]);
}

/// What follows `mark` in the log of a container, to the next space; waits for the line.
fn logged(docker: &Docker, container: &str, mark: &str) -> String {
    let mut found = None;
    until(&format!("{mark:?} in a container's log"), || {
        let output = docker.run(&["logs", container]);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        found = said
            .split_once(mark)
            .map(|(_, rest)| rest.split_whitespace().next().unwrap_or_default().to_owned());
        found.is_some()
    });
    found.unwrap_or_default()
}
