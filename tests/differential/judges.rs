//! Who is asked, and what they say.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use muster_identity::{TrustDomain, UnixTime};
use muster_pki::{
    PublicKey,
    jwt::{JwtAuthority, JwtBundleSource, verify_jwt_svid},
    x509::{CertificateDer, X509Authority, X509BundleSource, verify_x509_svid},
};
use muster_tests::client;
use serde_json::{Value, json};

use crate::{certificates::Chain, tokens::Token};

/// What one verifier says of one case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Opinion {
    /// It is this one.
    Accepts(String),
    /// It is nobody, because.
    Refuses(String),
}

struct X509(BTreeMap<TrustDomain, Vec<X509Authority>>);

impl X509BundleSource for X509 {
    fn x509_authorities(&self, trust_domain: &TrustDomain) -> Option<&[X509Authority]> {
        self.0.get(trust_domain).map(Vec::as_slice)
    }
}

struct Jwt(BTreeMap<TrustDomain, Vec<JwtAuthority>>);

impl JwtBundleSource for Jwt {
    fn jwt_authorities(&self, trust_domain: &TrustDomain) -> Option<&[JwtAuthority]> {
        self.0.get(trust_domain).map(Vec::as_slice)
    }
}

pub(crate) fn ours_of_chain(chain: &Chain) -> Opinion {
    let ders: Vec<_> = chain
        .ders
        .iter()
        .map(|der| CertificateDer::from(der.clone()))
        .collect();
    let bundles = chain.roots.iter().map(|(name, roots)| {
        let roots = roots.iter().filter_map(|der| X509Authority::from_der(der).ok());
        (name.parse().unwrap(), roots.collect())
    });
    match verify_x509_svid(&ders, &X509(bundles.collect()), UnixTime::from_secs(chain.at)) {
        Ok(svid) => Opinion::Accepts(svid.id().to_string()),
        Err(error) => Opinion::Refuses(format!("{error:?}")),
    }
}

pub(crate) fn ours_of_token(token: &Token, now: UnixTime) -> Opinion {
    let bundles = token.keys.iter().map(|(name, keys)| {
        let keys = keys.iter().map(|(kid, spki)| {
            JwtAuthority::new(kid.parse().unwrap(), PublicKey::from_spki_der(spki).unwrap())
        });
        (name.parse().unwrap(), keys.collect())
    });
    match verify_jwt_svid(&token.text, &Jwt(bundles.collect()), &token.audience, now) {
        Ok(svid) => Opinion::Accepts(svid.id().to_string()),
        Err(error) => Opinion::Refuses(format!("{error:?}")),
    }
}

/// What go-spiffe says, one process for all cases.
pub(crate) fn go(questions: &[Value]) -> Vec<Opinion> {
    let mut judge = Command::new(client("go-client").unwrap())
        .arg("judge")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = judge.stdin.take().unwrap();
    let output = BufReader::new(judge.stdout.take().unwrap());
    let answers: Vec<Value> = thread::scope(|scope| {
        // Both ends at once: a pipe holds less than all of it.
        scope.spawn(move || {
            for question in questions {
                writeln!(input, "{question}").unwrap();
            }
        });
        output
            .lines()
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
            .collect()
    });
    assert!(judge.wait().unwrap().success());
    assert_eq!(answers.len(), questions.len());
    answers
        .iter()
        .map(|answer| match answer["error"].as_str() {
            Some(error) => Opinion::Refuses(error.to_owned()),
            None => Opinion::Accepts(answer["id"].as_str().unwrap().to_owned()),
        })
        .collect()
}

pub(crate) fn question_of_chain(chain: &Chain) -> Value {
    let encode = |ders: &[Vec<u8>]| -> Vec<String> { ders.iter().map(|der| STANDARD.encode(der)).collect() };
    let roots: BTreeMap<_, _> = chain
        .roots
        .iter()
        .map(|(name, roots)| (name, encode(roots)))
        .collect();
    json!({"chain": encode(&chain.ders), "roots": roots, "at": chain.at})
}

pub(crate) fn question_of_token(token: &Token) -> Value {
    let keys: BTreeMap<_, BTreeMap<_, _>> = token
        .keys
        .iter()
        .map(|(name, keys)| {
            (
                name,
                keys.iter()
                    .map(|(kid, spki)| (kid, STANDARD.encode(spki)))
                    .collect(),
            )
        })
        .collect();
    json!({"token": token.text, "keys": keys, "audience": token.audience})
}

/// What a leaf is judged with: intermediates, authorities, time.
type Company = (Vec<Vec<u8>>, Vec<Vec<u8>>, i64);

/// What `openssl verify` says. It knows no SPIFFE IDs, so it is asked about the path alone, with the authorities of the
/// first trust domain. One process takes all leaves that go with the same intermediates, authorities and time.
pub(crate) fn openssl_of_chains(dir: &Path, chains: &[Chain]) -> Vec<Opinion> {
    let mut groups: BTreeMap<Company, Vec<usize>> = BTreeMap::new();
    let mut opinions = vec![Opinion::Refuses("there is no certificate".to_owned()); chains.len()];
    for (at, chain) in chains.iter().enumerate() {
        if let [leaf, others @ ..] = chain.ders.as_slice() {
            fs::write(dir.join(format!("{at}.pem")), pem(std::slice::from_ref(leaf))).unwrap();
            let roots = chain.roots.values().next().cloned().unwrap_or_default();
            groups
                .entry((others.to_vec(), roots, chain.at))
                .or_default()
                .push(at);
        }
    }
    for ((others, roots, time), members) in groups {
        fs::write(dir.join("others.pem"), pem(&others)).unwrap();
        fs::write(dir.join("roots.pem"), pem(&roots)).unwrap();
        for members in members.chunks(500) {
            let mut verify = Command::new("openssl");
            verify.args([
                "verify",
                "-x509_strict",
                "-partial_chain",
                "-purpose",
                "sslclient",
            ]);
            verify
                .args([
                    "-attime",
                    &time.to_string(),
                    "-no-CApath",
                    "-no-CAstore",
                    "-CAfile",
                ])
                .arg("roots.pem");
            if !others.is_empty() {
                verify.args(["-untrusted", "others.pem"]);
            }
            verify.args(members.iter().map(|at| format!("{at}.pem")));
            let output = verify.current_dir(dir).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let complained = String::from_utf8_lossy(&output.stderr);
            for &at in members {
                opinions[at] = if said.lines().any(|line| line == format!("{at}.pem: OK")) {
                    Opinion::Accepts(String::new())
                } else {
                    Opinion::Refuses(complaint(&complained, at))
                };
            }
        }
    }
    opinions
}

/// The lines before the one that names the file.
fn complaint(complained: &str, at: usize) -> String {
    let lines: Vec<&str> = complained.lines().collect();
    let end = lines
        .iter()
        .position(|line| line.starts_with(&format!("error {at}.pem:")));
    end.and_then(|end| lines[..end].iter().rev().find(|line| line.starts_with("error ")))
        .map_or("it cannot be read", |line| line)
        .to_owned()
}

/// Whether `openssl dgst` takes a signature: options, key, message, signature.
pub(crate) fn openssl_signature(
    dir: &Path,
    options: &[&str],
    spki: &[u8],
    message: &str,
    signature: &[u8],
) -> bool {
    let key = format!(
        "-----BEGIN PUBLIC KEY-----\n{}-----END PUBLIC KEY-----\n",
        lines(spki)
    );
    fs::write(dir.join("key.pem"), key).unwrap();
    fs::write(dir.join("message"), message).unwrap();
    fs::write(dir.join("signature"), signature).unwrap();
    let output = Command::new("openssl")
        .arg("dgst")
        .args(options)
        .args(["-verify", "key.pem", "-signature", "signature", "message"])
        .current_dir(dir)
        .output()
        .unwrap();
    output.stdout.starts_with(b"Verified OK")
}

fn pem(ders: &[Vec<u8>]) -> String {
    let blocks = ders.iter().map(|der| {
        format!(
            "-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n",
            lines(der)
        )
    });
    blocks.collect()
}

fn lines(bytes: &[u8]) -> String {
    let encoded = STANDARD.encode(bytes);
    encoded
        .as_bytes()
        .chunks(64)
        .fold(String::new(), |mut text, line| {
            writeln!(text, "{}", String::from_utf8_lossy(line)).unwrap();
            text
        })
}
