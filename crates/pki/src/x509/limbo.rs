//! Paths against the x509-limbo collection: nothing that it refuses for a reason of paths may get one from us.

use rustls_pki_types::pem::PemObject;
use serde_json::Value;

use super::path::Path;
use super::*;

/// Beginnings of the names of cases that the collection refuses for what is no matter of paths.
const NOT_ABOUT_PATHS: &[&str] = &[
    // Host names, and purposes of web servers: peers here are known by their SPIFFE ID.
    "webpki::cn::",
    "webpki::san::",
    "webpki::eku::",
    "rfc5280::eku::ee-wrong-eku",
    "rfc5280::san::underscore-dns",
    "rfc5280::san::ip-in-dns",
    "rfc5280::nc::invalid-dnsname-leading-period",
    // Leaves that the SPIFFE rules refuse before any path is looked for.
    "rfc5280::leaf-ku-keycertsign",
    "rfc5280::ca-as-leaf",
    "webpki::ca-as-leaf",
    "webpki::ee-basicconstraints-ca",
    "rfc5280::unknown-critical-extension-ee",
    "rfc5280::ee-critical-aia-invalid",
    "rfc5280::san::noncritical-with-empty-subject",
    "rfc5280::nc::not-allowed-in-ee",
    // What issuers must write, and the reader may do without.
    "rfc5280::aki::",
    "rfc5280::ski::",
    "webpki::aki::",
    "rfc5280::serial::zero",
    "rfc5280::pc::ica-noncritical-pc",
    "rfc5280::nc::permitted-dns-match-noncritical",
    "rfc5280::root-non-critical-basic-constraints",
    "rfc5280::ca-empty-subject",
    "webpki::malformed-aia",
    "webpki::forbidden-rsa",
    // Revocation lists are not an input of this function, and neither is a caller's own bound on the depth.
    "crl::",
    "pathlen::max-chain-depth-",
];

/// Good paths that we refuse on purpose: constraints on names that are not evaluated here, and chains over our bound.
const STRICTER: [&str; 8] = [
    "cve::cve-2024-0567",
    "rfc5280::nc::permitted-dn-match",
    "rfc5280::nc::nc-permits-email-exact",
    "rfc5280::nc::nc-permits-email-domain",
    "rfc5280::nc::nc-permits-email-literal-asterisk-exact-match",
    "rfc5280::nc::nc-permits-email-literal-double-asterisk",
    "rfc5280::nc::nc-permits-email-literal-mid-asterisk",
    "rfc5280::nc::nc-forbids-othername-noop",
];

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the folder of vectors is named by the environment"
)]
fn no_path_is_found_where_the_collection_finds_none() {
    let Some(folder) = std::env::var_os("MUSTER_VECTORS") else {
        println!("left out: x509-limbo: MUSTER_VECTORS is not set");
        return;
    };
    let text = std::fs::read(std::path::Path::new(&folder).join("x509_limbo/limbo_no_bettertls.json"));
    let all: Value = serde_json::from_slice(&text.expect("the collection is there")).expect("JSON");
    let mut too_kind = Vec::new();
    let mut too_strict = Vec::new();
    let (mut cases, mut left_out, mut with_lists) = (0, 0, 0);
    for case in all["testcases"].as_array().expect("cases") {
        let id = case["id"].as_str().expect("an id");
        let found = path_found(case);
        cases += 1;
        with_lists += usize::from(id.starts_with("crl::"));
        match case["expected_result"].as_str() {
            Some("FAILURE") if found && !NOT_ABOUT_PATHS.iter().any(|start| id.starts_with(start)) => {
                too_kind.push(id);
            }
            Some("SUCCESS") if !found => too_strict.push(id),
            Some("FAILURE") if found => left_out += 1,
            _ => {}
        }
    }
    println!(
        "figure: x509-limbo: {cases} cases, {left_out} of them refused by others for what is no matter of paths; {with_lists} come with \
         revocation lists, which no verifier of ours reads: their paths alone are judged"
    );
    assert!(cases > 190, "{cases}");
    assert!(too_kind.is_empty(), "a path where there is none: {too_kind:#?}");
    assert_eq!(too_strict, STRICTER, "refused without need");
}

fn path_found(case: &Value) -> bool {
    let der =
        |pem: &Value| CertificateDer::from_pem_slice(pem.as_str().expect("PEM").as_bytes()).expect("PEM");
    let list = |key: &str| {
        case[key]
            .as_array()
            .expect("a list")
            .iter()
            .map(der)
            .collect::<Vec<_>>()
    };
    let authorities: Vec<_> = list("trusted_certs")
        .iter()
        .filter_map(|der| X509Authority::from_der(der).ok())
        .collect();
    let mut chain = vec![der(&case["peer_certificate"])];
    chain.extend(list("untrusted_intermediates"));
    let Ok((leaf, intermediates)) = verify::parse_chain(&chain) else {
        return false;
    };
    let at = case["validation_time"]
        .as_str()
        .unwrap_or("2024-01-01T00:00:00+00:00");
    let at = time::OffsetDateTime::parse(at, &time::format_description::well_known::Rfc3339).expect("a time");
    let now = muster_identity::UnixTime::from_secs(at.unix_timestamp());
    // Without the second opinion: that one asks for client certificates, and the collection's are servers'.
    Path::find(
        &leaf,
        &intermediates,
        &authorities,
        super::path::Profile::Svid,
        now,
    )
    .is_ok()
}
