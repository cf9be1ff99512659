//! `spire-agent` on SPIRE's agent, which is on SPIRE's server, and on ours, which is on ours.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::Stdio,
};

use muster_tests::{
    Cluster, Home, Said, Settings, SpireAgent, SpireServer, SpireSettings, Tool, spire_is_here, until,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    compared::Difference,
    fixtures::Fixtures,
    listed, normal,
    script::{self, Step},
    side::Side,
};

#[test]
fn what_spire_agents_commands_say_of_us_is_what_they_say_of_spire_or_is_listed() {
    if !spire_is_here() {
        return;
    }
    let spire = SpireServer::start(&SpireSettings::default());
    let mut spire_agent = SpireAgent::install(spire.path(), "agent", &spire.home());
    let spire_node = spire_agent.join(&spire.home(), None);
    let muster = Cluster::start(&Settings::default());
    let homes = [spire.home(), muster.home()];
    let nodes = [spire_node, muster.node().to_owned()];
    let mut sides = [
        side(
            spire.path(),
            &spire_agent.workload_socket(),
            &spire_agent.admin_socket(),
        ),
        side(muster.path(), &muster.workload_socket(), &muster.agent_socket()),
    ];
    let mut found = vec![];
    for step in script::parse(include_str!("agent.txt")) {
        match step {
            Step::Command(command) => {
                let [spire, muster] = sides.each_mut().map(|side| side.run(&command));
                found.extend(Difference::between(&command.line, &spire, &muster));
            }
            Step::Do(verb, words) => match (verb.as_str(), words.as_slice()) {
                ("register", [path, more @ ..]) => {
                    for (home, node) in homes.iter().zip(&nodes) {
                        register(home, node, path, more);
                    }
                }
                ("wait", [count]) => {
                    let count: usize = count.parse().unwrap();
                    for side in &sides {
                        until("the identities", || identities(side) == count);
                    }
                }
                ("watch", []) => {
                    let [spire, muster] = sides.each_ref().map(watch);
                    found.extend(Difference::between("api watch", &spire, &muster));
                }
                other => panic!("nobody knows how to do {other:?}"),
            },
        }
    }
    listed::hold("spire-agent", &found);
}

fn side(folder: &Path, workload: &Path, admin: &Path) -> Side {
    let folder = folder.join("files");
    Fixtures::new().write(&folder);
    Side::new(folder, vec![workload.into(), admin.into()], |side, command| {
        let operators = ["debug", "logger"].contains(&command.words[0].as_str());
        Tool::agent(side.sockets[usize::from(operators)].clone())
    })
}

fn register(home: &Home, node: &str, path: &str, more: &[String]) {
    let uid = crate::spire_agent::uid_selector();
    let id = format!("spiffe://example.org{path}");
    let mut args = vec![
        "entry",
        "create",
        "-parentID",
        node,
        "-spiffeID",
        &id,
        "-selector",
        &uid,
    ];
    args.extend(more.iter().map(String::as_str));
    home.tool().ok(&args);
}

/// How many identities a caller gets now.
fn identities(side: &Side) -> usize {
    let said = Tool::agent(side.sockets[0].clone()).run(&["api", "fetch", "x509"]);
    let ids = said.out.lines().filter(|line| line.starts_with("SPIFFE ID"));
    ids.count()
}

/// What `api watch` prints of the first update. It would go on until it is interrupted.
fn watch(side: &Side) -> Vec<String> {
    let mut child = Tool::agent(side.sockets[0].clone())
        .command(&["api", "watch"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = String::new();
    let mut lines = BufReader::new(child.stdout.take().expect("piped above"));
    while !out.contains("CA #1 Valid Until") {
        let read = lines.read_line(&mut out).unwrap();
        assert!(read > 0, "it ended by itself: {out}");
    }
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    // Nothing may follow but the blank line that ends an update.
    lines.read_to_string(&mut out).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = Said {
        status: output.status.code(),
        out,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    };
    normal::lines(&said, &side.folder.display().to_string())
}
