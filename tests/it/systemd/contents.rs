//! What is in the packages: programs that are hard to bend, and a true list of what they are made of.

use std::{fs, process::Command};

use muster_tests::{Machine, Packages, need_programs, root};
use serde_json::Value;

const PROGRAMS: [&str; 3] = ["muster", "muster-agent", "muster-server"];

#[test]
fn host_systemd_packaged_programs_are_hardened_and_their_bill_of_materials_is_the_lock_files() {
    if !Machine::is_possible() || !need_programs(&["readelf"]) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    for deb in Packages::of_this_build().first() {
        let unpacked = Command::new("dpkg-deb")
            .arg("-x")
            .arg(deb)
            .arg(dir.path())
            .status();
        assert!(unpacked.unwrap().success());
    }
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for program in PROGRAMS {
        let file = dir.path().join("usr/bin").join(program);
        let said = Command::new("readelf")
            .args(["-hlWd"])
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let line = |part: &str| {
            said.lines()
                .find(|line| line.contains(part))
                .unwrap_or_else(|| panic!("{program} has no {part}:\n{said}"))
        };
        // Loaded at an address that nobody knows, every address of others resolved and made read-only before main, no stack
        // that may be run, and no folder of the builder's in which libraries would be looked for.
        assert!(line("Type:").contains("DYN (Position-Independent Executable file)"));
        line("GNU_RELRO");
        assert!(line("(FLAGS) ").contains("BIND_NOW"));
        assert!(!line("GNU_STACK").contains("RWE"));
        assert!(!said.contains("(RPATH)") && !said.contains("(RUNPATH)"), "{said}");

        let sbom = dir
            .path()
            .join(format!("usr/share/doc/{program}/{program}.cdx.json"));
        let sbom: Value = serde_json::from_slice(&fs::read(sbom).unwrap()).unwrap();
        let components = sbom["components"].as_array().unwrap();
        assert!(components.len() > 50, "{program}: {}", components.len());
        for component in components {
            let of = |key: &str| component[key].as_str().unwrap_or_default();
            let locked = format!("name = \"{}\"\nversion = \"{}\"\n", of("name"), of("version"));
            let (_, after) = lock
                .split_once(&locked)
                .unwrap_or_else(|| panic!("{program}: not in Cargo.lock: {locked}"));
            if let Some(hash) = component["hashes"][0]["content"].as_str() {
                let entry = after
                    .split("[[package]]")
                    .next()
                    .expect("split gives one at least");
                assert!(entry.contains(hash), "{program}: {locked} is of another checksum");
            }
        }
        let has = |name: &str| components.iter().any(|component| component["name"] == name);
        assert!(has("rustls") && has("aws-lc-rs"), "{program} speaks TLS");
        assert!(!has("ring") && !has("openssl"), "{program}: one crypto library");
        assert!(
            !has("proptest") && !has("protox"),
            "{program}: what only tests or builds"
        );
    }
}
