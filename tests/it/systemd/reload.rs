//! `systemctl reload`: what it takes over, what it does not, and that a mistake changes nothing.

use muster_tests::{Machine, until};

use super::{as_workload, node, possible, served};

#[test]
fn host_systemd_a_reload_takes_over_what_the_pages_say_and_a_mistake_changes_nothing() {
    if !possible() {
        return;
    }
    let machine = node("reload");
    let watcher = machine.start("watcher", &as_workload("watch-x509"));
    served(&watcher);
    for (unit, file) in [("muster-agent", "agent"), ("muster-server", "server")] {
        let before = machine.main_pid(unit);
        let file = format!("/etc/muster/{file}.toml");
        machine.sh(&format!(
            "printf '[log]\\nlevel = \"debug\"\\n' >>{file} && systemctl reload {unit}"
        ));
        status(&machine, unit, "reloaded: took over log.level");

        machine.sh(&format!(
            "cp {file} /root/kept; echo 'no toml' >>{file}; systemctl reload {unit}"
        ));
        status(&machine, unit, "not reloaded: ");

        machine.sh(&format!("cp /root/kept {file}; systemctl reload {unit}"));
        status(&machine, unit, "reloaded: nothing to take over");
        assert_eq!(
            machine.main_pid(unit),
            before,
            "{unit} was restarted, not reloaded"
        );
    }
    // A key that is bound at the start is named, and stays as it was until a restart.
    let http = "printf '[http]\\nlisten = \"127.0.0.1:9000\"\\n' >>/etc/muster/agent.toml";
    machine.sh(&format!("{http}; systemctl reload muster-agent"));
    status(&machine, "muster-agent", "a restart is needed for http");
    machine.sh(&as_workload("hammer 1"));
    assert_eq!(
        watcher.said().lines().count(),
        1,
        "nobody was told anything: {}",
        watcher.said()
    );
}

fn status(machine: &Machine, unit: &str, wanted: &str) {
    until(&format!("{unit}: {wanted}"), || {
        machine.property(unit, "StatusText").contains(wanted)
    });
}
