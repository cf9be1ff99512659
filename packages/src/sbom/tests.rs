use super::*;

const LOCK: &str = "version = 4\n\n[[package]]\nname = \"linked\"\nversion = \"1.2.3\"\nsource = \"registry\"\nchecksum = \"ab12\"\n";

/// `optional` is in the lock file for the sake of a feature that nobody asks for.
const BUILT: &str =
    "daemon v0.1.0 (/checkout/daemon)\nours v0.1.0 (/checkout/ours)\nlinked v1.2.3\nlinked v1.2.3 (*)\n";

fn document(program: &str) -> anyhow::Result<Value> {
    let package = |name: &str, version: &str, source: Option<&str>, bin: &str| {
        json!({
            "id": name, "name": name, "version": version, "license": "MIT", "source": source,
            "manifest_path": format!("/sources/{name}/Cargo.toml"),
            "targets": [{"name": bin, "kind": ["bin"]}],
        })
    };
    let on = |pkg: &str, kind: Option<&str>| json!({"pkg": pkg, "dep_kinds": [{"kind": kind}]});
    let metadata = json!({
        "packages": [
            package("daemon", "0.1.0", None, "muster-daemon"),
            package("ours", "0.1.0", None, "x"),
            package("linked", "1.2.3", Some("registry"), "x"),
            package("optional", "1.0.0", Some("registry"), "x"),
            package("builder", "9.0.0", Some("registry"), "x"),
            package("tester", "9.0.0", Some("registry"), "x"),
        ],
        "resolve": {"nodes": [
            {"id": "daemon", "deps": [on("ours", None), on("tester", Some("dev"))]},
            {"id": "ours", "deps": [on("linked", None), on("builder", Some("build"))]},
            {"id": "linked", "deps": [on("optional", None)]},
            {"id": "optional", "deps": []},
            {"id": "builder", "deps": []},
            {"id": "tester", "deps": []},
        ]},
    });
    let linked = Linked::of(program, metadata.to_string().as_bytes(), BUILT)?;
    let mut written = Vec::new();
    write(&linked, LOCK, &mut written)?;
    Ok(serde_json::from_slice(&written)?)
}

#[test]
fn everything_that_is_linked_is_named_and_nothing_else() {
    let document = document("muster-daemon").unwrap();
    let names: Vec<&str> = document["components"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|component| component["name"].as_str())
        .collect();
    assert_eq!(names, ["linked", "ours"]);
    assert_eq!(document["metadata"]["component"]["name"], "daemon");
    assert_eq!(document["dependencies"].as_array().unwrap().len(), 3);
}

#[test]
fn a_crate_of_the_registry_has_its_address_and_its_checksum_and_ours_have_none() {
    let document = document("muster-daemon").unwrap();
    assert_eq!(document["components"][0]["purl"], "pkg:cargo/linked@1.2.3");
    assert_eq!(document["components"][0]["hashes"][0]["content"], "ab12");
    assert_eq!(document["components"][1]["purl"], Value::Null);
}

#[test]
fn a_program_that_nobody_makes_is_an_error() {
    assert!(document("muster-nothing").is_err());
}
