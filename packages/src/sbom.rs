//! What a program is made of, as a CycloneDX 1.5 document: itself and every crate that is linked into it, with where it came from,
//! its licence and its checksum in the lock file.
//!
//! Made of `cargo metadata`, for what depends on what, and of `cargo tree`, for what is built at all: the former also names what an
//! optional dependency would bring that no feature of this build asks for. Crates that only build or test are not in it. It holds no
//! time and no random number, so that the same build gives the same document.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
};

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
}

#[derive(Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
struct Node {
    id: String,
    deps: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    pkg: String,
    dep_kinds: Vec<Kind>,
}

#[derive(Deserialize)]
struct Kind {
    kind: Option<String>,
}

/// Reads `cargo metadata`'s JSON and writes the document of `program`; `built` is what `cargo tree --prefix none` prints.
///
/// # Errors
/// When the JSON is not `cargo metadata`'s, or no package makes the program.
pub(crate) fn write(
    program: &str,
    metadata: impl Read,
    lock: &str,
    built: &str,
    to: impl Write,
) -> anyhow::Result<()> {
    let metadata: Metadata =
        serde_json::from_reader(metadata).context("this is not what cargo metadata prints")?;
    let packages: BTreeMap<&str, &Package> = metadata
        .packages
        .iter()
        .map(|package| (package.id.as_str(), package))
        .collect();
    let main = metadata
        .packages
        .iter()
        .find(|package| package.makes(program))
        .with_context(|| format!("no package makes {program}"))?;
    let edges: BTreeMap<&str, Vec<&str>> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| (node.id.as_str(), node.linked().collect()))
        .collect();
    let checksums = Checksums::of(lock);

    let built = Built::of(built);
    let linked: BTreeSet<&str> = reachable(&main.id, &edges)
        .into_iter()
        .filter(|id| packages.get(id).is_some_and(|package| built.has(package)))
        .collect();
    let components: Vec<Value> = linked
        .iter()
        .filter(|id| **id != main.id)
        .filter_map(|id| packages.get(id))
        .map(|package| package.component("library", &checksums))
        .collect();
    let dependencies: Vec<Value> = linked
        .iter()
        .filter_map(|id| {
            let package = packages.get(id)?;
            let on: BTreeSet<String> = edges
                .get(id)?
                .iter()
                .filter(|id| linked.contains(*id))
                .filter_map(|id| packages.get(id))
                .map(|package| package.reference())
                .collect();
            Some(json!({"ref": package.reference(), "dependsOn": on}))
        })
        .collect();
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": main.component("application", &checksums)},
        "components": components,
        "dependencies": dependencies,
    });
    serde_json::to_writer_pretty(to, &document).context("writing")
}

impl Package {
    fn makes(&self, program: &str) -> bool {
        self.targets
            .iter()
            .any(|target| target.name == program && target.kind.iter().any(|kind| kind == "bin"))
    }

    /// Its package URL, which is also its name inside the document.
    fn reference(&self) -> String {
        format!("pkg:cargo/{}@{}", self.name, self.version)
    }

    fn component(&self, kind: &str, checksums: &Checksums<'_>) -> Value {
        let mut component = json!({
            "type": kind,
            "bom-ref": self.reference(),
            "name": self.name,
            "version": self.version,
            "licenses": self.license.iter().map(|expression| json!({"expression": expression})).collect::<Vec<_>>(),
        });
        // Our own crates are in no registry: a package URL would send a scanner to somebody else's crate of that name.
        if self.source.is_some() {
            component["purl"] = json!(self.reference());
        }
        if let Some(checksum) = checksums.0.get(&(self.name.as_str(), self.version.as_str())) {
            component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
        }
        component
    }
}

impl Node {
    /// What is linked into whatever this is linked into: not what only builds or tests it.
    fn linked(&self) -> impl Iterator<Item = &str> {
        self.deps
            .iter()
            .filter(|dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none()))
            .map(|dependency| dependency.pkg.as_str())
    }
}

fn reachable<'a>(from: &'a str, edges: &BTreeMap<&'a str, Vec<&'a str>>) -> BTreeSet<&'a str> {
    let (mut found, mut next) = (BTreeSet::from([from]), vec![from]);
    while let Some(id) = next.pop() {
        for dependency in edges.get(id).into_iter().flatten() {
            if found.insert(dependency) {
                next.push(dependency);
            }
        }
    }
    found
}

/// The crates of a build, by name and version.
struct Built<'a>(BTreeSet<(&'a str, &'a str)>);

impl<'a> Built<'a> {
    /// A line is `name vVERSION`, and what more there may be.
    fn of(tree: &'a str) -> Self {
        let crates = tree.lines().filter_map(|line| {
            let (name, rest) = line.split_once(" v")?;
            Some((name, rest.split(' ').next().unwrap_or(rest)))
        });
        Self(crates.collect())
    }

    fn has(&self, package: &Package) -> bool {
        self.0
            .contains(&(package.name.as_str(), package.version.as_str()))
    }
}

/// The checksums of the lock file, by name and version.
struct Checksums<'a>(BTreeMap<(&'a str, &'a str), &'a str>);

impl<'a> Checksums<'a> {
    /// Cargo writes one key a line, the checksum after name and version.
    fn of(lock: &'a str) -> Self {
        let value =
            |line: &'a str, key: &str| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"');
        let (mut checksums, mut name, mut version) = (BTreeMap::new(), "", "");
        for line in lock.lines() {
            if let Some(found) = value(line, "name") {
                name = found;
            } else if let Some(found) = value(line, "version") {
                version = found;
            } else if let Some(found) = value(line, "checksum") {
                checksums.insert((name, version), found);
            }
        }
        Self(checksums)
    }
}

#[cfg(test)]
mod tests;
