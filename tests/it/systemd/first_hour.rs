//! docs/first-hour.md, typed line by line on two machines, its output compared with what the page shows.

use std::{collections::HashMap, fs};

use muster_tests::{Machine, Network, Packages, root, until};

use super::page::{Step, fits, steps, values};

/// The commands that the page shows being refused, by how they begin. Every other must end well.
const REFUSED: [&str; 3] = [
    "muster fetch x509",
    "runuser -u client -- openssl s_client -brief -ign_eof",
    "ls /var/lib/muster ",
];

#[test]
fn host_systemd_first_hour_goes_as_the_page_says() {
    if !Machine::is_possible() {
        return;
    }
    let network = Network::between([("server", "10.77.0.1/24"), ("node", "10.77.0.2/24")]);
    let names = ["server", "node"];
    let machines = names.map(|name| {
        let machine = Machine::boot_in(&network, name);
        machine.sh("printf '10.77.0.1 server.example.org\\n10.77.0.2 node.example.org\\n' >>/etc/hosts");
        let packages = Packages::of_this_build();
        machine.carry(&packages.first());
        machine.carry(&packages.second());
        (name, machine)
    });
    let machines = HashMap::from(machines);
    let page = fs::read_to_string(root().join("docs/first-hour.md")).unwrap();
    let steps = steps(&page);
    assert!(steps.len() > 20, "the page was not understood");
    for refused in REFUSED {
        let shown = steps.iter().filter(|step| step.command.starts_with(refused));
        assert_eq!(shown.count(), 1, "{refused}");
    }
    let mut typed = Reader::default();
    for step in &steps {
        typed.take(&machines[step.machine.as_str()], step);
    }
    println!(
        "figure: {} commands of docs/first-hour.md went as it says",
        steps.len()
    );
}

/// Somebody who follows the page: where it shows a value of its own, he has another, and types that from then on.
#[derive(Default)]
struct Reader {
    /// The page's value and ours.
    values: HashMap<String, String>,
}

impl Reader {
    fn take(&mut self, machine: &Machine, step: &Step) {
        let mut command = step.command.clone();
        for (theirs, ours) in &self.values {
            command = command.replace(theirs, ours);
        }
        let (mut said, mut well) = (String::new(), false);
        // What was started in the line before may take a moment until it listens.
        until(&command, || {
            let did = machine.attempt(&format!("cd /root\n( {command} ) 2>&1"));
            (said, well) = (did.out, did.well);
            !said.contains("Connection refused")
        });
        let pairs = fits(&step.output, &said).unwrap_or_else(|why| {
            panic!(
                "on {}: {command}\n{why}\nthe page shows:\n{}\nit was:\n{said}",
                step.machine,
                step.output.join("\n")
            )
        });
        let refused = REFUSED.iter().any(|start| step.command.starts_with(start));
        assert_eq!(
            well, !refused,
            "on {}: {command}\nwhether it ended well; it was:\n{said}",
            step.machine
        );
        for (shown, was) in pairs {
            for (theirs, ours) in values(&shown).into_iter().zip(values(&was)) {
                let known = self.values.entry(theirs.clone()).or_insert_with(|| ours.clone());
                assert_eq!(
                    *known, ours,
                    "on {}: {command}\nthe page shows the same twice: {theirs}",
                    step.machine
                );
            }
        }
    }
}
