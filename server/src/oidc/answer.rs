//! What a request gets. No IO: a request's parts in, an answer out.

use http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH,
};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use muster_pki::bundle::Bundle;

use super::document::{keys, metadata};
use super::issuer::Issuer;

/// Where the metadata is below an issuer (OpenID Connect Discovery 1.0, 4).
const METADATA: &str = "/.well-known/openid-configuration";
/// Where the keys are below an issuer.
pub(super) const KEYS: &str = "/keys";

/// Answers one request with what `bundle` has.
///
/// Whatever is stored must be asked for again before it is used (`no-cache`, RFC 9111 5.2.2.4), which a tag makes cheap: a key that was revoked is gone from
/// every cache that keeps the rule at its next use, and not when some age has run out.
pub(super) fn answer(request: &Parts, issuer: &Issuer, bundle: &Bundle) -> Response<String> {
    if !named_host(request).is_some_and(|host| issuer.is_host(host)) {
        // Whoever makes a browser or a proxy ask under a name of his own learns nothing here.
        return refused(StatusCode::BAD_REQUEST, "this host is not served here\n");
    }
    let path = issuer.below(request.uri.path());
    if !matches!(path, Some(METADATA | KEYS)) {
        return refused(
            StatusCode::NOT_FOUND,
            "there are /.well-known/openid-configuration and /keys\n",
        );
    }
    if request.method != Method::GET && request.method != Method::HEAD {
        let mut response = refused(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are served\n");
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let document = match path {
        Some(METADATA) => Some(metadata(issuer.url(), issuer.keys_url())),
        _ => keys(bundle),
    };
    match document {
        Some(document) => told(request, document),
        None => refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "there is no key yet; try again in a minute\n",
        ),
    }
}

fn told(request: &Parts, document: String) -> Response<String> {
    let tag = tag_of(&document);
    let known = request.headers.get_all(IF_NONE_MATCH).iter();
    let is_known = known
        .filter_map(|header| header.to_str().ok())
        .flat_map(|header| header.split(','))
        .any(|one| one.trim().trim_start_matches("W/") == tag || one.trim() == "*");
    let (status, body) = match is_known {
        true => (StatusCode::NOT_MODIFIED, String::new()),
        false => (StatusCode::OK, document),
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    // Public keys, for anybody's page to read.
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        headers.insert(ETAG, tag);
    }
    response
}

fn tag_of(document: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, document.as_bytes());
    let hex: String = digest.as_ref()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("\"{hex}\"")
}

/// The host that was asked for: in the target of HTTP/2, in a header of HTTP/1.1.
fn named_host(request: &Parts) -> Option<&str> {
    request
        .uri
        .authority()
        .map(http::uri::Authority::as_str)
        .or_else(|| request.headers.get(HOST)?.to_str().ok())
}

pub(super) fn refused(status: StatusCode, why: &'static str) -> Response<String> {
    let mut response = Response::new(why.to_owned());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use http::Request;
    use muster_pki::jwt::JwtAuthority;
    use muster_pki::{KeyAlgorithm, LocalKey, Signer};
    use serde_json::Value;

    use super::*;

    fn bundle() -> Bundle {
        let mut bundle = Bundle::new("example.org".parse().unwrap());
        for (kid, algorithm) in [("one", KeyAlgorithm::EcP256), ("two", KeyAlgorithm::Rsa2048)] {
            let key = LocalKey::generate(algorithm).unwrap();
            let authority = JwtAuthority::new(kid.parse().unwrap(), key.public_key().clone());
            bundle.put_jwt_authority(authority).unwrap();
        }
        bundle
    }

    fn issuer() -> Issuer {
        let hosts = vec!["internal.example.org".to_owned()];
        Issuer::new("https://oidc.example.org/tenant", hosts, None).unwrap()
    }

    fn asked(method: &str, host: &str, path: &str, tag: Option<&str>, bundle: &Bundle) -> Response<String> {
        let mut request = Request::builder().method(method).uri(path).header(HOST, host);
        if let Some(tag) = tag {
            request = request.header(IF_NONE_MATCH, tag);
        }
        answer(&request.body(()).unwrap().into_parts().0, &issuer(), bundle)
    }

    #[test]
    fn a_relying_party_finds_the_issuer_and_its_keys() {
        let bundle = bundle();
        for host in [
            "oidc.example.org",
            "OIDC.example.org:8443",
            "internal.example.org",
        ] {
            let response = asked(
                "GET",
                host,
                "/tenant/.well-known/openid-configuration",
                None,
                &bundle,
            );
            assert_eq!(response.status(), StatusCode::OK, "{host}");
            let metadata: Value = serde_json::from_str(response.body()).unwrap();
            assert_eq!(metadata["issuer"], "https://oidc.example.org/tenant");
            assert_eq!(metadata["jwks_uri"], "https://oidc.example.org/tenant/keys");
        }
        let response = asked("GET", "oidc.example.org", "/tenant/keys", None, &bundle);
        let keys: Value = serde_json::from_str(response.body()).unwrap();
        let told: Vec<_> = keys["keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| (key["kid"].as_str().unwrap(), key["alg"].as_str().unwrap()))
            .collect();
        assert_eq!(told, [("one", "ES256"), ("two", "RS256")]);
        assert!(
            keys["keys"]
                .as_array()
                .unwrap()
                .iter()
                .all(|key| key["use"] == "sig")
        );
    }

    #[test]
    fn what_is_stored_must_be_asked_for_again_and_a_revoked_key_changes_the_tag() {
        let mut bundle = bundle();
        let first = asked("GET", "oidc.example.org", "/tenant/keys", None, &bundle);
        assert_eq!(first.headers()[CACHE_CONTROL], "no-cache");
        let tag = first.headers()[ETAG].to_str().unwrap();
        let again = asked("GET", "oidc.example.org", "/tenant/keys", Some(tag), &bundle);
        assert_eq!(
            (again.status(), again.body().as_str()),
            (StatusCode::NOT_MODIFIED, "")
        );
        bundle.retain_jwt_authorities(|authority| authority.key_id().as_str() != "one");
        let changed = asked("GET", "oidc.example.org", "/tenant/keys", Some(tag), &bundle);
        assert_eq!(changed.status(), StatusCode::OK);
        assert!(!changed.body().contains("\"one\""));
    }

    #[test]
    fn other_hosts_paths_and_methods_get_nothing_and_no_key_is_no_empty_set() {
        let bundle = bundle();
        let status = |method, host, path| asked(method, host, path, None, &bundle).status();
        assert_eq!(
            status("GET", "evil.example", "/tenant/keys"),
            StatusCode::BAD_REQUEST
        );
        assert_eq!(status("GET", "oidc.example.org", "/keys"), StatusCode::NOT_FOUND);
        assert_eq!(
            status("GET", "oidc.example.org", "/tenant/keys/"),
            StatusCode::NOT_FOUND
        );
        assert_eq!(
            status("GET", "oidc.example.org", "/tenantkeys"),
            StatusCode::NOT_FOUND
        );
        assert_eq!(
            status("POST", "oidc.example.org", "/tenant/keys"),
            StatusCode::METHOD_NOT_ALLOWED
        );
        let empty = Bundle::new("example.org".parse().unwrap());
        let response = asked("GET", "oidc.example.org", "/tenant/keys", None, &empty);
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    }
}
