use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use muster_identity::TrustDomain;

use super::*;

#[derive(Debug)]
struct Sample {
    trust_domain: TrustDomain,
    listen: SocketAddr,
    folder: PathBuf,
    every: Duration,
}

fn read(table: &mut Table) -> Option<Sample> {
    let trust_domain = table.required("trust_domain");
    let listen = table.or("listen", SocketAddr::from(([0, 0, 0, 0], 8081)));
    let folder = table.required("folder");
    let mut tls = table.table("tls");
    let every = tls.or_checked("every", Duration::from_secs(60), "a duration up to 1h", |every| {
        *every <= Duration::from_secs(3600)
    });
    tls.choice("kind", 1, &[("one", 1), ("two", 2)]);
    Some(Sample {
        trust_domain: trust_domain?,
        listen,
        folder: folder?,
        every,
    })
}

#[test]
fn a_right_file_is_read_into_domain_types() {
    let sample = parse(
        "t",
        "trust_domain = 'a.org'\nfolder = '/x'\n[tls]\nevery = '2m'",
        read,
    )
    .unwrap();
    assert_eq!(sample.trust_domain.to_string(), "a.org");
    assert_eq!(sample.listen.port(), 8081);
    assert_eq!(sample.folder, PathBuf::from("/x"));
    assert_eq!(sample.every, Duration::from_secs(120));
}

#[test]
fn every_mistake_is_reported_at_once_with_key_value_and_expectation() {
    let text = "trust_domain = 'Example'\nlisten = 'here'\ncolour = 3\n[tls]\nevery = '2h'\nkind = 'three'\nevry = 1";
    let error = parse("server.toml", text, read).unwrap_err();
    let expected = "\
server.toml: 7 mistakes
  trust_domain = \"Example\": expected a trust domain name in lower case, such as \"example.org\"
  listen = \"here\": expected an address with a port, such as \"0.0.0.0:8081\" or \"[::1]:8081\"
  folder is missing: expected an absolute path
  tls.every = \"2h\": expected a duration up to 1h
  tls.kind = \"three\": expected one of \"one\", \"two\"
  tls.evry = 1: expected no such key; known here: every, kind
  colour = 3: expected no such key; known here: trust_domain, listen, folder, tls";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn text_that_is_no_toml_is_shown_with_its_place() {
    let error = parse("server.toml", "a = = 2", read).unwrap_err().to_string();
    assert!(
        error.starts_with("server.toml: ") && error.contains("line 1"),
        "{error}"
    );
}

#[test]
fn a_value_with_control_characters_is_shown_escaped() {
    let error = parse(
        "t",
        "trust_domain = \"a\\u001b[31m\\u2028b\"\nfolder = '/x'",
        read,
    )
    .unwrap_err();
    assert!(!error.to_string().contains(['\u{1b}', '\u{2028}']), "{error}");
}

#[test]
fn hosts_and_ports_are_split_and_checked() {
    assert_eq!(
        host_and_port("muster.example:8081"),
        Some(("muster.example", 8081))
    );
    assert_eq!(host_and_port("[::1]:1"), Some(("::1", 1)));
    for wrong in [
        "",
        "host",
        ":1",
        "host:",
        "host:70000",
        "ho st:1",
        "[::1:1",
        "::1:1",
        "host:+1",
        "[x]:1",
    ] {
        assert_eq!(host_and_port(wrong), None, "{wrong}");
    }
}
