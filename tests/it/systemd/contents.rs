//! What is in the packages: programs that are hard to bend, and a true list of what they are made of.

use std::{collections::BTreeSet, fs, process::Command};

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

#[test]
fn host_systemd_the_packages_bring_the_terms_of_what_is_linked_and_say_what_their_units_need() {
    if !Machine::is_possible() {
        return;
    }
    for deb in Packages::of_this_build().first() {
        let dir = tempfile::tempdir().unwrap();
        let said = |args: &[&str]| {
            let mut command = Command::new("dpkg-deb");
            let output = command
                .args(&args[..1])
                .arg(&deb)
                .args(&args[1..])
                .output()
                .unwrap();
            assert!(output.status.success(), "{command:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        said(&["-x", dir.path().to_str().unwrap()]);
        let program = said(&["-f", "Package"]).trim().to_owned();
        let doc = dir.path().join("usr/share/doc").join(&program);
        let terms = fs::read_to_string(doc.join("THIRD-PARTY-LICENSES.txt")).unwrap();
        let sbom = fs::read(doc.join(format!("{program}.cdx.json"))).unwrap();
        let sbom: Value = serde_json::from_slice(&sbom).unwrap();
        for component in sbom["components"].as_array().unwrap() {
            // Our own crates have no address, and LICENSE for their terms.
            if component["purl"].is_null() {
                continue;
            }
            let of = |key: &str| component[key].as_str().unwrap_or_default();
            let title = format!("\n{} {}", of("name"), of("version"));
            assert!(terms.contains(&title), "{program}: nothing of{title}");
        }
        // Also what a crate took over from others, in a folder below; and no folder of whoever built it.
        assert!(terms.contains("UNICODE, INC. LICENSE AGREEMENT"), "{program}");
        assert!(!terms.contains("/registry/src/"), "{program}");

        let units = dir.path().join("usr/lib/systemd/system");
        if units.is_dir() {
            let unit = fs::read_to_string(units.join(format!("{program}.service"))).unwrap();
            assert!(unit.contains("\nExecReload=/bin/kill "));
            let needs = said(&["-f", "Depends"]);
            assert!(
                needs.contains("procps"),
                "{program} has no kill to reload with: {needs}"
            );
        }
    }
}

#[test]
fn host_systemd_the_archive_holds_what_the_packages_hold_and_the_sums_are_right() {
    if !Machine::is_possible() {
        return;
    }
    let packages = Packages::of_this_build();
    // `tar` lists files with their modes and folders with a slash at their end; folders are left to whoever unpacks.
    let files = |listed: Vec<u8>, below: usize| -> BTreeSet<String> {
        let listed = String::from_utf8(listed).unwrap();
        let files = listed.lines().filter(|path| !path.ends_with('/'));
        files
            .map(|path| path.split('/').skip(below).collect::<Vec<_>>().join("/"))
            .collect()
    };
    let mut packed = BTreeSet::new();
    for deb in packages.first() {
        let tree = Command::new("dpkg-deb")
            .arg("--fsys-tarfile")
            .arg(&deb)
            .output()
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let tar = dir.path().join("tar");
        fs::write(&tar, tree.stdout).unwrap();
        packed.extend(files(
            Command::new("tar").arg("-tf").arg(&tar).output().unwrap().stdout,
            1,
        ));
    }
    let archive = fs::read_dir(packages.folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.to_string_lossy().ends_with(".tar.gz"))
        .unwrap();
    let listed = Command::new("tar")
        .arg("-tzf")
        .arg(&archive)
        .output()
        .unwrap()
        .stdout;
    packed.extend(["CHANGELOG.md", "LICENSE", "README.md"].map(str::to_owned));
    assert_eq!(files(listed, 1), packed);
    assert!(packed.contains("usr/bin/muster-agent"), "{packed:?}");

    let checked = Command::new("sha256sum")
        .args(["--check", "--strict", "SHA256SUMS"])
        .current_dir(packages.folder())
        .output()
        .unwrap();
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(checked.status.success(), "{said}");
    // Three packages, three lists of parts, the archive and the image.
    assert_eq!(
        said.lines().filter(|line| line.ends_with(": OK")).count(),
        8,
        "{said}"
    );
}
