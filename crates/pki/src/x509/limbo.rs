//! Paths and revocation lists against the x509-limbo collection: nothing that it refuses for a reason of either passes here.

use muster_identity::UnixTime;
use rustls_pki_types::{CertificateRevocationListDer, pem::PemObject};
use serde_json::Value;

use super::path::{Path, Profile};
use super::second_opinion::Purpose;
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
    // A caller's own bound on the depth is not an input here.
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

/// The cases that come with revocation lists, and the section that speaks against each. Each has a good path.
const WITH_LISTS: [(&str, Judged); 8] = [
    (
        "crl::revoked-certificate-with-crl",
        Judged::Lists("RFC 5280 6.3.3"),
    ),
    ("crl::crlnumber-missing", Judged::Lists("RFC 5280 5.2.3")),
    ("crl::certificate-not-on-crl", Judged::Passes),
    ("crl::certificate-serial-on-crl-different-issuer", Judged::Passes),
    ("crl::crlnumber-critical", Judged::Lists("RFC 5280 5.2")),
    ("crl::issuer-missing-crlsign", Judged::Lists("RFC 5280 6.3.3 (f)")),
    ("crl::issuer-no-keyusage-extension", Judged::Passes),
    ("crl::issuer-valid-crlsign-and-keycertsign", Judged::Passes),
];

/// What came of a case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Judged {
    NoPath,
    /// There is a path, and its lists speak against it: by which section.
    Lists(&'static str),
    Passes,
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "the folder of vectors is named by the environment"
)]
fn nothing_passes_that_the_collection_refuses() {
    let Some(folder) = std::env::var_os("MUSTER_VECTORS") else {
        println!("left out: x509-limbo: MUSTER_VECTORS is not set");
        return;
    };
    let text = std::fs::read(std::path::Path::new(&folder).join("x509_limbo/limbo_no_bettertls.json"));
    let all: Value = serde_json::from_slice(&text.expect("the collection is there")).expect("JSON");
    let (mut too_kind, mut too_strict, mut with_lists) = (Vec::new(), Vec::new(), Vec::new());
    let (mut cases, mut left_out) = (0, 0);
    for case in all["testcases"].as_array().expect("cases") {
        let id = case["id"].as_str().expect("an id");
        let judged = judge(case);
        let passes = judged == Judged::Passes;
        cases += 1;
        if !list(case, "crls").is_empty() {
            with_lists.push((id, judged));
        }
        match case["expected_result"].as_str() {
            Some("FAILURE") if passes && !NOT_ABOUT_PATHS.iter().any(|start| id.starts_with(start)) => {
                too_kind.push(id);
            }
            Some("SUCCESS") if !passes => too_strict.push(id),
            Some("FAILURE") if passes => left_out += 1,
            _ => {}
        }
    }
    println!(
        "figure: x509-limbo: {cases} cases, {left_out} of them refused by others for what is no matter of paths; {} come with \
         revocation lists, and are judged with them",
        with_lists.len()
    );
    assert!(cases > 190, "{cases}");
    assert!(too_kind.is_empty(), "passes, and should not: {too_kind:#?}");
    assert_eq!(too_strict, STRICTER, "refused without need");
    assert_eq!(with_lists, WITH_LISTS);
}

fn judge(case: &Value) -> Judged {
    let certificate = |pem: &&str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM");
    let authorities: Vec<_> = list(case, "trusted_certs")
        .iter()
        .filter_map(|pem| X509Authority::from_der(&certificate(pem)).ok())
        .collect();
    let mut chain = vec![certificate(&case["peer_certificate"].as_str().expect("PEM"))];
    chain.extend(list(case, "untrusted_intermediates").iter().map(certificate));
    let Ok((leaf, intermediates)) = verify::parse_chain(&chain) else {
        return Judged::NoPath;
    };
    let at = case["validation_time"]
        .as_str()
        .unwrap_or("2024-01-01T00:00:00+00:00");
    let at = time::OffsetDateTime::parse(at, &time::format_description::well_known::Rfc3339).expect("a time");
    let now = UnixTime::from_secs(at.unix_timestamp());
    // Without the second opinion: that one asks for client certificates, and the collection's are servers'.
    let Ok(path) = Path::find(&leaf, &intermediates, &authorities, Profile::Svid, now) else {
        return Judged::NoPath;
    };
    match list(case, "crls").as_slice() {
        [] => Judged::Passes,
        lists => by_lists(lists, &path, now),
    }
}

fn by_lists(lists: &[&str], path: &Path<'_>, now: UnixTime) -> Judged {
    let lists = lists.iter().map(|pem| {
        let der = CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).expect("PEM");
        RevocationList::parse(&der)
    });
    let lists: Vec<_> = match lists.collect::<Result<_, _>>() {
        Ok(lists) => lists,
        Err(error) => return Judged::Lists(error.section()),
    };
    match revocation::check(path, &lists, now) {
        Ok(believed) => {
            second_opinion::confirm(path, Purpose::Any, &believed, now)
                .expect("another library lets it pass too");
            Judged::Passes
        }
        Err(error) => Judged::Lists(error.section()),
    }
}

fn list<'a>(case: &'a Value, key: &str) -> Vec<&'a str> {
    let list = case[key].as_array().expect("a list");
    list.iter().map(|pem| pem.as_str().expect("PEM")).collect()
}
