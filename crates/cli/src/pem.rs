//! PEM (RFC 7468), as files of certificates and keys have it.

use base64::{Engine, engine::general_purpose::STANDARD};
use muster_pki::x509::CertificateDer;
use zeroize::Zeroizing;

/// Certificates, one block each.
pub(crate) fn certificates(chain: &[CertificateDer<'_>]) -> String {
    chain
        .iter()
        .map(|certificate| block("CERTIFICATE", certificate).as_str().to_owned())
        .collect()
}

/// A private key in PKCS #8.
pub(crate) fn private_key(pkcs8: &[u8]) -> Zeroizing<String> {
    block("PRIVATE KEY", pkcs8)
}

fn block(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    // All at once: a string that grows leaves copies of a key behind.
    let mut text = Zeroizing::new(String::with_capacity(
        base64.len() + base64.len() / 64 + 2 * label.len() + 40,
    ));
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, following) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = following;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_64_characters() {
        let expected = format!(
            "-----BEGIN PRIVATE KEY-----\n{}\nAA==\n-----END PRIVATE KEY-----\n",
            "A".repeat(64)
        );
        assert_eq!(private_key(&[0; 49]).as_str(), expected);
    }
}
