//! What a program is made of, as a CycloneDX 1.5 document: itself and every crate that is linked into it, with where it came from,
//! its licence and its checksum in the lock file. It holds no time and no random number, so that the same build gives the same
//! document.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    iter,
};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::linked::{Linked, Package};

/// Writes the document of a program; `lock` is the lock file's text.
///
/// # Errors
/// When it can't be written.
pub(crate) fn write(linked: &Linked, lock: &str, to: impl Write) -> anyhow::Result<()> {
    let checksums = Checksums::of(lock);
    let components: Vec<Value> = linked
        .crates()
        .map(|package| component(package, "library", &checksums))
        .collect();
    let dependencies: Vec<Value> = iter::once(linked.program())
        .chain(linked.crates())
        .map(|package| {
            let on: BTreeSet<String> = linked.needed_by(package).map(reference).collect();
            json!({"ref": reference(package), "dependsOn": on})
        })
        .collect();
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(linked.program(), "application", &checksums)},
        "components": components,
        "dependencies": dependencies,
    });
    serde_json::to_writer_pretty(to, &document).context("writing")
}

/// A crate's package URL, which is also its name inside the document.
fn reference(package: &Package) -> String {
    format!("pkg:cargo/{}@{}", package.name, package.version)
}

fn component(package: &Package, kind: &str, checksums: &Checksums<'_>) -> Value {
    let licenses: Vec<Value> = package
        .license
        .iter()
        .map(|expression| json!({"expression": expression}))
        .collect();
    let mut component = json!({
        "type": kind,
        "bom-ref": reference(package),
        "name": package.name,
        "version": package.version,
        "licenses": licenses,
    });
    // Our own crates are in no registry: a package URL would send a scanner to somebody else's crate of that name.
    if package.is_of_others() {
        component["purl"] = json!(reference(package));
    }
    if let Some(checksum) = checksums
        .0
        .get(&(package.name.as_str(), package.version.as_str()))
    {
        component["hashes"] = json!([{"alg": "SHA-256", "content": checksum}]);
    }
    component
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
