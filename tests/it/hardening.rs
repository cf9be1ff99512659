//! Keys are nobody else's: not through a file's mode, not through the memory of the process that has them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use muster_tests::{Cluster, Process, Settings, binary, need_programs, need_root};
use nix::sys::signal::Signal;

/// Starts a daemon that is to refuse.
fn run(daemon: &str, config: &Path) -> Output {
    Command::new(binary(daemon))
        .args(["run", "--config"])
        .arg(config)
        .output()
        .unwrap()
}

#[test]
fn a_daemon_whose_sealing_key_others_may_read_does_not_start() {
    let mut cluster = Cluster::start(&Settings::default());
    cluster.take_agent().stop();
    cluster.take_server().stop();
    for (daemon, config, key) in [
        ("muster-server", "server.toml", "server/data/keys/sealing.key"),
        ("muster-agent", "agent.toml", "agent/data/seal.key"),
    ] {
        let (config, key) = (cluster.path().join(config), cluster.path().join(key));
        for mode in [0o444, 0o440, 0o620, 0o602] {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
            let output = run(daemon, &config);
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{daemon} with {mode:o}: {said}");
            assert!(
                said.contains(&format!("{mode:04o}")) && said.contains(key.to_str().unwrap()),
                "{said}"
            );
        }
        // Neither may a link stand there: whoever owns the link would choose the key.
        fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
        let aside = key.with_extension("aside");
        fs::rename(&key, &aside).unwrap();
        std::os::unix::fs::symlink(&aside, &key).unwrap();
        let output = run(daemon, &config);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{daemon}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        fs::remove_file(&key).unwrap();
        fs::rename(&aside, &key).unwrap();
    }
    cluster.start_server();
    cluster.start_agent();
}

#[test]
fn a_daemon_whose_folder_others_may_enter_does_not_start() {
    let mut cluster = Cluster::start(&Settings::default());
    cluster.take_agent().stop();
    cluster.take_server().stop();
    for (daemon, config, folder) in [
        ("muster-server", "server.toml", "server/data"),
        ("muster-agent", "agent.toml", "agent/data"),
    ] {
        let folder = cluster.path().join(folder);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let output = run(daemon, &cluster.path().join(config));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{daemon}: {said}");
        assert!(
            said.contains(folder.to_str().unwrap()) && said.contains("755"),
            "{said}"
        );
    }
}

#[test]
fn host_nobody_of_the_same_user_reads_a_daemons_memory() {
    if !need_root() || !need_programs(&["setpriv", "sh"]) {
        return;
    }
    // What the processes of a service's user are to each other: one user, and no power over others.
    let powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let mut cluster = Cluster::start(&Settings::default());
    cluster.take_agent().stop();
    cluster.take_server().stop();
    cluster.start_server_in(&powerless);
    cluster.start_agent_in(&powerless);
    let look = |pid: i32, what: &str| {
        let script = format!(": < /proc/{pid}/{what}");
        let mut looking = Command::new(powerless[0]);
        looking.args(&powerless[1..]).args(["sh", "-c", &script]);
        looking.output().unwrap().status.success()
    };
    let control = Process::start(
        "sleep",
        Command::new(powerless[0])
            .args(&powerless[1..])
            .args(["sleep", "60"]),
    );
    muster_tests::until("it sleeps", || {
        fs::read_to_string(format!("/proc/{}/comm", control.pid())).is_ok_and(|name| name == "sleep\n")
    });
    for what in ["mem", "maps", "environ", "auxv", "fd/0"] {
        assert!(
            look(control.pid(), what),
            "an ordinary process shows its {what}, or this proves nothing"
        );
        for daemon in [cluster.server(), cluster.agent()] {
            assert!(!look(daemon.pid(), what), "{what} was opened");
        }
    }
}

#[test]
fn host_nobody_of_the_same_user_attaches_to_a_daemon() {
    if !need_root() || !need_programs(&["setpriv", "strace", "sleep"]) {
        return;
    }
    let powerless = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let mut cluster = Cluster::start(&Settings::default());
    cluster.take_agent().stop();
    cluster.take_server().stop();
    cluster.start_server_in(&powerless);
    cluster.start_agent_in(&powerless);
    // What a debugger and gcore begin with. It says how it ended: attached, or not allowed.
    let attach = |pid: i32| {
        let mut attaching = Command::new(powerless[0]);
        attaching
            .args(&powerless[1..])
            .args(["strace", "-p", &pid.to_string()]);
        let attaching = Process::start("strace", &mut attaching);
        let line = attaching.line("what comes of it", |line| line.contains("attach"));
        !line.contains("not permitted")
    };
    let mut control = Command::new(powerless[0]);
    let control = Process::start("sleep", control.args(&powerless[1..]).args(["sleep", "60"]));
    muster_tests::until("it sleeps", || {
        fs::read_to_string(format!("/proc/{}/comm", control.pid())).is_ok_and(|name| name == "sleep\n")
    });
    assert!(
        attach(control.pid()),
        "an ordinary process can be attached to, or this proves nothing"
    );
    for daemon in [cluster.server(), cluster.agent()] {
        assert!(!attach(daemon.pid()), "{} was attached to", daemon.pid());
    }
}

#[test]
fn a_daemon_that_crashes_leaves_no_core() {
    if !need_programs(&["prlimit"]) {
        return;
    }
    let mut cluster = Cluster::start_server_only(&Settings::default());
    cluster.take_server().stop();
    let folder = cluster.path().join("cores");
    fs::create_dir(&folder).unwrap();
    // A service manager or shell that allows any core.
    let mut command = Command::new("prlimit");
    command
        .arg("--core=unlimited")
        .arg(binary("muster-server"))
        .args(["run", "--config"]);
    command
        .arg(cluster.path().join("server.toml"))
        .current_dir(&folder);
    let mut server = Process::start("muster-server", &mut command);
    server.line("its readiness", |line| line.ends_with(": ready"));
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let cores = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(
        cores.split_whitespace().filter(|word| *word == "0").count(),
        2,
        "{cores}"
    );
    server.signal(Signal::SIGABRT);
    let status = server.ended();
    use std::os::unix::process::ExitStatusExt as _;
    assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{status}");
    assert!(!status.core_dumped(), "{status}");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}
