use muster_identity::{DnsName, Selector, SpiffeId, TrustDomain};

use crate::Target;

pub(super) const SPIFFE_IDS: Target = Target {
    name: "spiffe-ids",
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else {
            return;
        };
        if let Ok(id) = text.parse::<SpiffeId>() {
            assert_eq!(id.to_string(), text, "printed otherwise than read");
            assert!(text.len() <= 2048 && text.is_ascii());
            assert!(!text.contains(['%', '?', '#', '@', ' ', '\\']) && !text.ends_with('/'));
            assert!(id.trust_domain().as_str().parse::<TrustDomain>().is_ok());
        }
    },
    seeds: || {
        vec![
            b"spiffe://example.org/ns/prod/sa/web".to_vec(),
            b"spiffe://a-b_c.9/x".to_vec(),
        ]
    },
    words: &[
        "spiffe://",
        "/",
        "//",
        "/..",
        "/./",
        "%2e",
        "example.org",
        ":8080",
        "@",
        "\u{2025}",
        "SPIFFE",
    ],
};

pub(super) const SELECTORS: Target = Target {
    name: "selectors",
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else {
            return;
        };
        if let Ok(selector) = text.parse::<Selector>() {
            assert_eq!(selector.to_string(), text, "printed otherwise than read");
        }
    },
    seeds: || {
        vec![
            b"unix:uid:1000".to_vec(),
            b"cgroup:unit:web.service".to_vec(),
            b"unix:path:/usr/bin/x y".to_vec(),
        ]
    },
    words: &["unix:", ":", "uid:", "sha256:", "\0", "\n", " "],
};

pub(super) const DNS_NAMES: Target = Target {
    name: "dns-names",
    run: |input| {
        let Ok(text) = std::str::from_utf8(input) else {
            return;
        };
        if let Ok(name) = text.parse::<DnsName>() {
            assert_eq!(name.as_str(), text, "printed otherwise than read");
            let plain = text.strip_prefix("*.").unwrap_or(text);
            assert!(text.len() <= 253 && plain.is_ascii() && !plain.contains(['*', ' ', '/']));
        }
    },
    seeds: || vec![b"web.example.org".to_vec(), b"a-1.b".to_vec()],
    words: &[".", "-", "*.", "xn--", "1.2.3.4", "example"],
};
