//! The packages: installed, upgraded under what runs, removed, purged.

use muster_tests::{Machine, Packages};

use super::{ID, as_workload, hammered, node, only_told_to_come_back, possible, served};

/// What the programs write while they run; a removal keeps it.
const STATE: &str =
    "/var/lib/muster/server/keys/sealing.key /var/lib/muster/agent/node /etc/muster/server.toml";

#[test]
fn host_systemd_the_packages_install_and_remove_keeping_state_and_purge_it() {
    if !possible() {
        return;
    }
    let machine = node("packages");
    machine.sh("test -f /usr/share/man/man1/muster-entry-create.1 -o -f /usr/share/man/man1/muster-entry-create.1.gz");
    for program in ["muster", "muster-agent", "muster-server"] {
        machine.sh(&format!(
            "{program} --version
             bash -n /usr/share/bash-completion/completions/{program}
             grep -q '^#compdef {program}' /usr/share/zsh/vendor-completions/_{program}
             grep -q 'complete -c {program}' /usr/share/fish/vendor_completions.d/{program}.fish
             grep -q '\"bomFormat\": \"CycloneDX\"' /usr/share/doc/{program}/{program}.cdx.json
             grep -q '^rustls ' /usr/share/doc/{program}/THIRD-PARTY-LICENSES.txt"
        ));
    }
    for program in ["agent", "server"] {
        // The example is a configuration that is right.
        machine.sh(&format!(
            "muster-{program} config check --config /usr/share/doc/muster-{program}/examples/{program}.toml"
        ));
    }
    let users = machine.sh("getent passwd muster-agent muster-server");

    machine.sh("dpkg --remove muster-server muster-agent muster");
    machine.sh(&format!(
        "ls -d {STATE}
         test \"$(systemctl is-active muster-server muster-agent.service muster-agent.socket | sort -u)\" = inactive"
    ));
    gone(
        &machine,
        "/run/muster/workload/api.sock /etc/systemd/system/*.wants/muster-* /usr/bin/muster*",
    );

    // Installed again they go on where they were: same authorities, same node, same entries.
    machine.install(&Packages::of_this_build().first());
    machine.sh("systemctl enable --now muster-server muster-agent");
    let fetched = machine.sh(&as_workload("fetch-x509"));
    assert!(fetched.contains(ID), "{fetched}");

    machine.sh("dpkg --purge muster-server muster-agent muster");
    gone(
        &machine,
        "/var/lib/muster /etc/muster /run/muster /usr/share/doc/muster*",
    );
    gone(
        &machine,
        "/usr/lib/systemd/system/muster-* /etc/systemd/system/*.wants/muster-*",
    );
    // A number that owned keys is not given to another user.
    assert_eq!(machine.sh("getent passwd muster-agent muster-server"), users);
}

#[test]
fn host_systemd_an_upgrade_under_running_workloads_loses_no_identity_and_no_handshake() {
    if !possible() {
        return;
    }
    let machine = node("upgrade");
    let watcher = machine.start("watcher", &as_workload("watch-x509"));
    let first = served(&watcher);
    let peer = machine.start("peer", &as_workload(&format!("serve 127.0.0.1:9443 {ID}")));
    peer.event("listening");
    let mut dialler = machine.start(
        "dialler",
        &as_workload(&format!("dial 127.0.0.1:9443 {ID} 100000000")),
    );
    let hammer = machine.start("hammer", &as_workload("hammer 1000"));

    let before = executables(&machine);
    machine.install(&Packages::of_this_build().second());
    let after = executables(&machine);
    for (old, new) in before.iter().zip(&after) {
        // Another process, of the file that now lies there.
        assert_ne!(old, new);
        assert!(!new.contains("deleted"), "{new}");
    }
    let versions = machine.sh("dpkg-query -W -f '${Version}\\n' muster muster-agent muster-server");
    assert!(
        versions.lines().all(|version| version.ends_with("-2")),
        "{versions}"
    );

    // It is told again by the new agent, of the certificate that it had; nothing was signed anew, nothing taken away.
    assert_eq!(served(&watcher), first);
    assert!(!watcher.said().contains("\"svids\":[]"), "{}", watcher.said());
    // New callers were served throughout; the one call that the old agent had begun may have been told to come back.
    let (ok, failed, errors) = hammered(&hammer);
    assert!(ok >= 999 && ok + failed == 1000, "{errors}");
    only_told_to_come_back(&errors);
    dialler.close_input();
    let dialled = dialler.event("dialed");
    println!(
        "figure: {} mTLS handshakes during the upgrade, {} failed",
        dialled["ok"], dialled["failed"]
    );
    assert_eq!(dialled["failed"], 0, "{dialled}");
    assert!(dialled["ok"].as_u64().unwrap() > 0, "{dialled}");
}

fn gone(machine: &Machine, files: &str) {
    let left = machine.sh(&format!("ls -d {files} 2>/dev/null || true"));
    assert_eq!(left, "", "left behind");
}

/// The process and the file of each daemon.
fn executables(machine: &Machine) -> Vec<String> {
    ["muster-server", "muster-agent"]
        .map(|unit| {
            let pid = machine.main_pid(unit);
            machine.sh(&format!("echo {pid} $(readlink /proc/{pid}/exe)"))
        })
        .to_vec()
}
