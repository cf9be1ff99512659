//! Which crates are linked into a program.
//!
//! Made of `cargo metadata`, for what depends on what, and of `cargo tree`, for what is built at all: the former also names what an
//! optional dependency would bring that no feature of this build asks for. Crates that only build or test are not among them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Deserialize;

/// A program's crates.
pub(crate) struct Linked {
    /// The package that makes the program.
    program: String,
    /// All that is linked, the program's package too, by the id that cargo gives it.
    packages: BTreeMap<String, Package>,
    edges: BTreeMap<String, Vec<String>>,
}

/// One crate, as `cargo metadata` describes it.
#[derive(Deserialize)]
pub(crate) struct Package {
    id: String,
    pub(crate) name: String,
    pub(crate) version: String,
    /// The terms that it declares, an SPDX expression.
    pub(crate) license: Option<String>,
    pub(crate) repository: Option<String>,
    source: Option<String>,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    resolve: Resolve,
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

impl Linked {
    /// Reads `cargo metadata`'s JSON; `built` is what `cargo tree --prefix none` prints.
    ///
    /// # Errors
    /// When the JSON is not `cargo metadata`'s, or no package makes the program.
    pub(crate) fn of(program: &str, metadata: impl Read, built: &str) -> anyhow::Result<Self> {
        let metadata: Metadata =
            serde_json::from_reader(metadata).context("this is not what cargo metadata prints")?;
        let program = metadata
            .packages
            .iter()
            .find(|package| package.makes(program))
            .with_context(|| format!("no package makes {program}"))?
            .id
            .clone();
        let edges: BTreeMap<String, Vec<String>> = metadata
            .resolve
            .nodes
            .into_iter()
            .map(|node| (node.id.clone(), node.linked()))
            .collect();
        let (built, reached) = (Built::of(built), reachable(&program, &edges));
        let packages = metadata
            .packages
            .into_iter()
            .filter(|package| package.id == program || reached.contains(&package.id) && built.has(package))
            .map(|package| (package.id.clone(), package))
            .collect();
        Ok(Self {
            program,
            packages,
            edges,
        })
    }

    /// The program's own package.
    pub(crate) fn program(&self) -> &Package {
        &self.packages[&self.program]
    }

    /// Every other, in the order of their ids.
    pub(crate) fn crates(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .values()
            .filter(|package| package.id != self.program)
    }

    /// What `package` itself names, of what is linked.
    pub(crate) fn needed_by(&self, package: &Package) -> impl Iterator<Item = &Package> {
        self.edges
            .get(&package.id)
            .into_iter()
            .flatten()
            .filter_map(|id| self.packages.get(id))
    }
}

impl Package {
    /// Whether others wrote it: our own crates are in no registry.
    pub(crate) fn is_of_others(&self) -> bool {
        self.source.is_some()
    }

    /// Where its files are.
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(&self.manifest_path)
    }

    fn makes(&self, program: &str) -> bool {
        self.targets
            .iter()
            .any(|target| target.name == program && target.kind.iter().any(|kind| kind == "bin"))
    }
}

impl Node {
    /// What is linked into whatever this is linked into: not what only builds or tests it.
    fn linked(self) -> Vec<String> {
        self.deps
            .into_iter()
            .filter(|dependency| dependency.dep_kinds.iter().any(|kind| kind.kind.is_none()))
            .map(|dependency| dependency.pkg)
            .collect()
    }
}

fn reachable(from: &str, edges: &BTreeMap<String, Vec<String>>) -> BTreeSet<String> {
    let (mut found, mut next) = (BTreeSet::from([from.to_owned()]), vec![from]);
    while let Some(id) = next.pop() {
        for dependency in edges.get(id).into_iter().flatten() {
            if found.insert(dependency.clone()) {
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
