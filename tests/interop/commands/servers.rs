//! `spire-server` on SPIRE's server and on ours.

use std::path::Path;

use muster_tests::{Cluster, Home, Settings, SpireServer, SpireSettings, Tool, spire_is_here};

use super::{
    compared::Difference,
    fixtures::Fixtures,
    listed,
    script::{self, Command, Step},
    side::Side,
};

/// What all servers are asked.
const SCRIPTS: &[&str] = &[
    include_str!("server.txt"),
    include_str!("authorities.txt"),
    include_str!("federation.txt"),
];

#[test]
fn what_spire_servers_commands_say_of_us_is_what_they_say_of_spire_or_is_listed() {
    if !spire_is_here() {
        return;
    }
    let spire = SpireServer::start(&SpireSettings {
        server: "ratelimit { attestation = false }",
        ..SpireSettings::default()
    });
    let muster = Cluster::start_server_only(&Settings {
        server: "[limits]\nattestation = false\n",
        ..Settings::default()
    });
    let homes = [spire.home(), muster.home()];
    let files = Fixtures::new();
    let mut sides =
        [(spire.path(), &homes[0]), (muster.path(), &homes[1])].map(|(path, home)| side(&files, path, home));
    let mut found = vec![];
    for step in SCRIPTS.iter().flat_map(|script| script::parse(script)) {
        match step {
            Step::Command(command) => {
                let [spire, muster] = sides.each_mut().map(|side| side.run(&command));
                found.extend(Difference::between(&command.line, &spire, &muster));
            }
            Step::Do(verb, words) => match (verb.as_str(), words.as_slice()) {
                ("join", [name]) => {
                    for (side, home) in sides.iter_mut().zip(&homes) {
                        let node = muster.block_on(home.join(None));
                        side.known.insert(name.clone(), node.svid.id().to_string());
                    }
                }
                other => panic!("nobody knows how to do {other:?}"),
            },
        }
    }
    listed::hold("spire-server", &found);
}

fn side(files: &Fixtures, folder: &Path, home: &Home) -> Side {
    let folder = folder.join("files");
    files.write(&folder);
    let tool = |side: &Side, _: &Command| Tool::server(side.sockets[0].clone());
    Side::new(folder, vec![home.admin.clone()], tool)
}
