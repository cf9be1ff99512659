use std::{path::PathBuf, process::Command};

/// Two machines on one cable: a network namespace each, and a pair of interfaces. It reaches neither this machine's network
/// nor any other.
pub struct Network {
    ends: [(&'static str, &'static str); 2],
}

impl Network {
    /// Lays the cable between two machines, each `(name, address/length)`.
    pub fn between(ends: [(&'static str, &'static str); 2]) -> Self {
        let network = Self { ends };
        network.cut();
        for (name, _) in ends {
            ip(&["netns", "add", &space(name)]);
        }
        let [(one, _), (other, _)] = ends;
        ip(&[
            "link",
            "add",
            "eth0",
            "netns",
            &space(one),
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &space(other),
        ]);
        for (name, address) in ends {
            let space = space(name);
            ip(&["-n", &space, "address", "add", address, "dev", "eth0"]);
            ip(&["-n", &space, "link", "set", "eth0", "up"]);
            ip(&["-n", &space, "link", "set", "lo", "up"]);
        }
        network
    }

    /// The namespace of one of its machines.
    pub(super) fn namespace(&self, name: &str) -> PathBuf {
        assert!(
            self.ends.iter().any(|(end, _)| *end == name),
            "{name} is not on the cable"
        );
        PathBuf::from("/run/netns").join(space(name))
    }

    /// A namespace of that name is ours: an earlier run of this very process id left it.
    fn cut(&self) {
        for (name, _) in self.ends {
            let _ = Command::new("ip").args(["netns", "del", &space(name)]).output();
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.cut();
    }
}

fn space(name: &str) -> String {
    format!("muster-{name}-{}", std::process::id())
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().unwrap();
    assert!(
        output.status.success(),
        "ip {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
