//! AWS Signature Version 4, for the one request that is made here: a PUT of an object.

use aws_lc_rs::{digest, hmac};
use muster_identity::UnixTime;
use time::OffsetDateTime;
use time::macros::format_description;
use zeroize::Zeroizing;

/// An access key as its file has it.
pub(super) struct AccessKey<'a> {
    id: &'a str,
    secret: &'a str,
    session: Option<&'a str>,
}

/// What is signed.
pub(super) struct Put<'a> {
    pub(super) host: &'a str,
    /// As it goes over the wire: encoded once.
    pub(super) path: &'a str,
    pub(super) region: &'a str,
    pub(super) media_type: &'a str,
    pub(super) body: &'a [u8],
    pub(super) at: UnixTime,
}

impl<'a> AccessKey<'a> {
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let key = Self {
            id: lines.next()?,
            secret: lines.next()?,
            session: lines.next(),
        };
        lines.next().is_none().then_some(key)
    }
}

/// The headers that a put has beside Host and Content-Type, the signature among them.
pub(super) fn signed_headers(put: &Put<'_>, key: &AccessKey<'_>) -> Vec<(&'static str, Zeroizing<String>)> {
    let (day, instant) = times(put.at);
    let content = hex(digest::digest(&digest::SHA256, put.body).as_ref());
    // In the order of their names, as the canonical form wants them.
    let mut headers = vec![
        ("content-type", put.media_type.to_owned()),
        ("host", put.host.to_owned()),
        ("x-amz-content-sha256", content.clone()),
        ("x-amz-date", instant.clone()),
    ];
    if let Some(session) = key.session {
        headers.push(("x-amz-security-token", session.to_owned()));
    }
    let names: Vec<_> = headers.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}:{value}\n"))
        .collect();
    let canonical = format!("PUT\n{}\n\n{lines}\n{names}\n{content}", put.path);
    let scope = format!("{day}/{}/s3/aws4_request", put.region);
    let hashed = hex(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
    let text = format!("AWS4-HMAC-SHA256\n{instant}\n{scope}\n{hashed}");

    let secret = Zeroizing::new(format!("AWS4{}", key.secret));
    let mut signing = tag(secret.as_bytes(), day.as_bytes());
    for part in [put.region, "s3", "aws4_request"] {
        signing = tag(signing.as_ref(), part.as_bytes());
    }
    let signature = hex(tag(signing.as_ref(), text.as_bytes()).as_ref());
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        key.id
    );
    let own = headers.into_iter().filter(|(name, _)| name.starts_with("x-amz-"));
    own.chain([("authorization", authorization)])
        .map(|(name, value)| (name, Zeroizing::new(value)))
        .collect()
}

/// A path as it goes over the wire and into the signature: all but RFC 3986's unreserved characters and slashes as %XX.
pub(super) fn encode_path(path: &str) -> String {
    let mut encoded = String::new();
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn times(at: UnixTime) -> (String, String) {
    let at = OffsetDateTime::from_unix_timestamp(at.as_secs()).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let day = at.format(format_description!("[year][month][day]"));
    let instant = at.format(format_description!("[year][month][day]T[hour][minute][second]Z"));
    (day.unwrap_or_default(), instant.unwrap_or_default())
}

fn tag(key: &[u8], message: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out by another implementation (the signature of botocore for the same request).
    #[test]
    fn a_put_is_signed_as_others_sign_it() {
        let key = "AKIDEXAMPLE\nwJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY\n";
        let put = Put {
            host: "store.example.org:9000",
            path: &encode_path("/bucket/a b+c/bundle.json"),
            region: "eu-west-1",
            media_type: "application/json",
            body: b"{\"keys\":[]}",
            at: UnixTime::from_secs(1_440_938_160),
        };
        let headers = signed_headers(&put, &AccessKey::parse(key).unwrap());
        let value = |wanted: &str| {
            let found = headers.iter().find(|(name, _)| *name == wanted);
            found.unwrap().1.to_string()
        };
        assert_eq!(value("x-amz-date"), "20150830T123600Z");
        let authorization = value("authorization");
        assert!(
            authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/eu-west-1/s3/aws4_request, SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date, Signature="),
            "{authorization}"
        );
        assert_eq!(
            authorization.rsplit_once('=').unwrap().1,
            "96756156494d91a1a4e6c24437a0eb3beb718c0c1cf25af49791a1515c3457c2"
        );
        assert_eq!(put.path, "/bucket/a%20b%2Bc/bundle.json");
    }

    #[test]
    fn an_access_key_has_two_or_three_lines() {
        assert!(AccessKey::parse("a\nb").unwrap().session.is_none());
        assert_eq!(AccessKey::parse("a\nb\n\nc\n").unwrap().session, Some("c"));
        for text in ["", "a", "a\nb\nc\nd"] {
            assert!(AccessKey::parse(text).is_none(), "{text:?}");
        }
    }
}
