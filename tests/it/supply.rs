//! What the programs are made of: where unsafe code stands, what runs while they are built, and that nothing is fetched that
//! the lock file does not pin.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use muster_tests::root;
use serde_json::Value;

/// The files that may hold unsafe code. Another one is argued where it is added here.
const UNSAFE: &[&str] = &[
    // Options of sockets and the owner of a namespace, which have no safe wrapper.
    "crates/transport/src/kernel/linux.rs",
    // statx that does not ask a file server.
    "plugins/workload-attestors/src/kernel.rs",
    // An allocator that zeroes what is freed.
    "crates/runtime/src/wiping.rs",
    // Attackers and children of tests: fork, and what is done before exec.
    "crates/transport/tests/doors/attacks/attacker.rs",
    "tests/src/bin/attacker/impostors.rs",
    // One that shows another program than it runs: mappings moved, and a child that shares its memory.
    "tests/src/bin/attacker/forger.rs",
    "tests/it/attacks/host_cgroups.rs",
    // The counters that a fuzzed program is compiled with.
    "fuzz/src/coverage.rs",
];

/// Our packages that run a program while they are built: the protocol files become types.
const BUILT_BY_A_PROGRAM: &[&str] = &["muster-proto"];

#[test]
fn unsafe_code_stands_only_where_it_is_argued_for() {
    let mut blocks = 0;
    let mut found = BTreeSet::new();
    for path in sources(root()) {
        let text = fs::read_to_string(&path).unwrap();
        let count = text.lines().filter(|line| is_unsafe(line)).count();
        if count > 0 {
            blocks += count;
            found.insert(path.strip_prefix(root()).unwrap().display().to_string());
        }
    }
    let allowed: BTreeSet<String> = UNSAFE.iter().map(ToString::to_string).collect();
    println!("figure: unsafe code: {blocks} blocks in {} files", found.len());
    assert_eq!(found, allowed);
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    assert!(manifest.contains("unsafe_code = \"deny\""), "the lint is on");
}

#[test]
fn every_package_obeys_the_lints_of_the_workspace() {
    for manifest in manifests() {
        let text = fs::read_to_string(&manifest).unwrap();
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{}",
            manifest.display()
        );
    }
}

#[test]
fn only_known_packages_of_ours_run_code_while_they_are_built_and_none_of_it_speaks_to_anybody() {
    let metadata = metadata();
    let workspace: BTreeSet<&str> = metadata["workspace_members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_str().unwrap())
        .collect();
    let mut built = vec![];
    for package in metadata["packages"].as_array().unwrap() {
        let script = package["targets"]
            .as_array()
            .unwrap()
            .iter()
            .find(|target| target["kind"][0] == "custom-build");
        let Some(script) = script else { continue };
        if !workspace.contains(package["id"].as_str().unwrap()) {
            continue;
        }
        built.push(package["name"].as_str().unwrap().to_owned());
        let source = fs::read_to_string(script["src_path"].as_str().unwrap()).unwrap();
        for word in ["std::net", "TcpStream", "Command", "http://", "https://"] {
            assert!(
                !source.contains(word),
                "{} builds with {word}",
                built.last().unwrap()
            );
        }
    }
    assert_eq!(built, BUILT_BY_A_PROGRAM);
}

#[test]
fn every_dependency_is_pinned_by_its_checksum_to_one_registry() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let mut registries = BTreeSet::new();
    let mut pinned = 0;
    for package in lock.split("[[package]]").skip(1) {
        let field = |name: &str| {
            package
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{name} = \"")))
                .map(|value| value.trim_end_matches('"'))
        };
        let name = field("name").unwrap();
        let Some(source) = field("source") else {
            assert!(name.starts_with("muster"), "{name} comes from a folder");
            continue;
        };
        assert!(source.starts_with("registry+"), "{name} comes from {source}");
        assert!(
            field("checksum").is_some_and(|sum| sum.len() == 64),
            "{name} has no checksum"
        );
        registries.insert(source.to_owned());
        pinned += 1;
    }
    assert_eq!(registries.len(), 1, "{registries:?}");
    println!("figure: {pinned} packages pinned by checksum");
}

/// Whether a line of code opens an unsafe block, function or implementation.
fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    let words: Vec<&str> = code
        .split(|character: char| !(character.is_alphanumeric() || character == '_' || character == '{'))
        .collect();
    // Not this file's own words in quotes.
    !code.contains('"')
        && words
            .windows(2)
            .any(|pair| pair[0] == "unsafe" && matches!(pair[1], "{" | "fn" | "impl" | "extern" | ""))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![];
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() {
            all.extend(sources(&path));
        } else if name.ends_with(".rs") {
            all.push(path);
        }
    }
    all
}

fn manifests() -> Vec<PathBuf> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages
        .filter(|package| package["source"].is_null())
        .map(|package| package["manifest_path"].as_str().unwrap().into())
        .collect()
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--no-deps",
            "--offline",
            "--locked",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}
