//! Programs that are made so that looking at them takes long: huge ones, and one on a file system that does not answer.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use muster_tests::{
    Cluster, Latency, Process, Settings, as_user, binary, need, need_programs, need_root, until,
};

use super::{attack, earns, won};

/// Larger than what is hashed, and below it.
const HUGE: u64 = 2 << 30;
const LARGE: u64 = 250 << 20;
const USER: u32 = 40_051;
const OTHER_USER: u32 = 40_052;

/// A program as large as is wanted, with a hole at its end.
fn sparse(cluster: &Cluster, name: &str, size: u64) -> PathBuf {
    let path = cluster.path().join(name);
    fs::copy(binary("attacker"), &path).unwrap();
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(size)
        .unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn honest(cluster: &Cluster, program: &Path, uid: u32) -> Command {
    let mut command = as_user(program, uid);
    command.arg("honest").arg(cluster.workload_socket());
    command
}

fn any_hash() -> String {
    format!("unix:sha256:{}", "5a".repeat(32))
}

#[test]
fn host_programs_of_gigabytes_hold_up_nobody_but_their_users() {
    if !need_root() {
        return;
    }
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/user", &[&format!("unix:uid:{USER}")]);
    cluster.register("/other", &[&format!("unix:uid:{OTHER_USER}")]);
    cluster.register("/hashed", &[&any_hash()]);
    cluster.register("/served", &["unix:uid:0"]);
    earns(&cluster, 1);
    let (huge, used, begun) = (
        sparse(&cluster, "huge", HUGE),
        cluster.agent().processor_time(),
        Instant::now(),
    );
    let mut callers: Vec<Process> = (0..100)
        .map(|_| Process::start("huge", &mut honest(&cluster, &huge, USER)))
        .collect();
    // Each another file, that no hash is known of.
    callers.extend((0..16).map(|number| {
        let large = sparse(&cluster, &format!("large-{number}"), LARGE + number);
        Process::start("large", &mut honest(&cluster, &large, OTHER_USER))
    }));
    let others = Latency::of_first_svids(&cluster, 200);
    for caller in callers {
        assert!(won(caller), "its user is a fact all the same");
    }
    let busy = cluster.agent().processor_time() - used;
    let resident = cluster.agent().resident_mib();
    println!(
        "figure: 100 processes of 2 GiB and 16 of 250 MiB: others' first SVID {others}; agent {busy:.1?} of processor in \
         {:.1?}, {resident} MiB",
        begun.elapsed()
    );
    assert!(resident < 128, "{resident} MiB");
}

/// Where the attacker has mounted its file system. Unmounting it ends whoever waits for it.
struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn host_a_program_on_a_file_system_that_never_answers_has_no_hash_and_holds_nobody_up() {
    if !need_root() || !need("/dev/fuse", Path::new("/dev/fuse").exists()) {
        return;
    }
    let cluster = Cluster::start(&Settings::default());
    cluster.register("/user", &[&format!("unix:uid:{USER}")]);
    cluster.register("/by-hash", &[&format!("unix:uid:{OTHER_USER}"), &any_hash()]);
    cluster.register("/served", &["unix:uid:0"]);
    earns(&cluster, 1);
    let frozen = Frozen(cluster.path().join("frozen"));
    fs::create_dir(&frozen.0).unwrap();
    let mut server = Command::new(binary("attacker"));
    server
        .arg("frozen-files")
        .arg(&frozen.0)
        .arg(cluster.agent().pid().to_string());
    let server = Process::start("its file system", &mut server);
    server.event("mounted");
    let program = frozen.0.join("program");
    let callers: Vec<Process> = (0..20)
        .map(|_| Process::start("frozen", &mut honest(&cluster, &program, USER)))
        .collect();
    let by_hash = Process::start("frozen", &mut honest(&cluster, &program, OTHER_USER));
    let others = Latency::of_first_svids(&cluster, 200);
    for caller in callers {
        assert!(won(caller), "its user is a fact all the same");
    }
    assert!(!won(by_hash), "nobody can have read its program");
    // A control: to read it is to wait for ever.
    let pid = cluster.agent().pid();
    assert!(
        !server.said().contains("\"asked\""),
        "the agent {pid} asked the attacker's file system: {}",
        server.said()
    );
    println!(
        "figure: 20 processes of a program on a file system that never answers: others' first SVID {others}; agent {} MiB",
        cluster.agent().resident_mib()
    );
}

#[test]
fn host_a_user_database_that_never_answers_costs_the_names_only() {
    if !need_root() || !need_programs(&["cc", "unshare", "mount"]) {
        return;
    }
    let mut cluster = Cluster::start(&Settings::default());
    cluster.register("/by-number", &["unix:uid:0"]);
    earns(&cluster, 1);
    cluster.take_agent().stop();
    // A source of names as the C library loads them, that keeps whoever asks it.
    let folder = cluster.path().join("names");
    fs::create_dir(&folder).unwrap();
    let (source, library) = (folder.join("hang.c"), folder.join("libnss_hang.so.2"));
    let code = "#include <unistd.h>\n\
                int _nss_hang_getpwuid_r() { for (;;) pause(); }\n\
                int _nss_hang_getgrgid_r() { for (;;) pause(); }\n";
    fs::write(&source, code).unwrap();
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-w", "-o"])
        .args([&library, &source])
        .status();
    assert!(compiled.unwrap().success());
    let switch = folder.join("nsswitch.conf");
    fs::write(&switch, "passwd: hang\ngroup: hang\n").unwrap();
    let script = format!(
        "mount --bind {} /etc/nsswitch.conf && exec env LD_LIBRARY_PATH={} \"$@\"",
        switch.display(),
        folder.display()
    );
    cluster.start_agent_in(&["unshare", "--mount", "sh", "-c", &script, "sh"]);
    cluster.register("/by-name", &["unix:uid:0", "unix:user:root"]);
    let maps = || fs::read_to_string(format!("/proc/{}/maps", cluster.agent().pid())).unwrap();
    let waits = Latency::of_first_svids(&cluster, 20);
    until("its names hang", || maps().contains("libnss_hang"));
    println!("figure: a user database that never answers: first SVID {waits}");
    let mut caller = attack(&cluster, "honest", &[]);
    caller.ended();
    let said = caller.said();
    assert!(said.contains("\"svid\""), "{said}");
    let svid: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert!(
        svid["bytes"].as_u64().unwrap() < 2_500,
        "one identity, not that of the name: {svid}"
    );
}
