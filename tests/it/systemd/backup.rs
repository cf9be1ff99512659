//! The server's state, kept and put back as docs/operations.md says.

use muster_tests::until;

use super::{ID, as_workload, node, possible};

#[test]
fn host_systemd_a_server_goes_on_from_its_backup_and_its_node_follows() {
    if !possible() {
        return;
    }
    let machine = node("backup");
    let late = as_workload("fetch-x509").replace("1001", "1002");
    machine.sh("systemctl stop muster-server
         tar -C /var/lib/muster -cf /root/server.tar server
         systemctl start muster-server");
    // What comes after the backup, and goes with it.
    machine.register("/late", 1002);
    until("the new entry", || machine.attempt(&late).out.contains("/late"));

    machine.sh("systemctl stop muster-server
         rm -rf /var/lib/muster/server
         tar -C /var/lib/muster -xf /root/server.tar
         systemctl start muster-server");
    // A node never goes back to an older view (I3): it serves what it holds, and says why.
    until("the node's refusal", || {
        let log = machine.attempt("journalctl --no-pager --unit muster-agent").out;
        log.contains("is older than ours")
    });
    let fetched = machine.sh(&as_workload("fetch-x509"));
    assert!(fetched.contains(ID), "{fetched}");

    // Once the server has made as many changes as were lost the node compares, entry by entry, and follows.
    machine.register("/again", 1002);
    machine.register("/other", 1003);
    until("what is registered now, without what was later", || {
        let held = machine.attempt(&late).out;
        held.contains("/again") && !held.contains("/late")
    });
    let fetched = machine.sh(&as_workload("fetch-x509"));
    assert!(fetched.contains(ID), "{fetched}");
}
