//! `[bundle_publishers]`: where the bundle is laid for those who do not ask the server.

use std::path::PathBuf;

use muster_bundle_publishers::{HttpIdentity, Place, S3Target};
use muster_plugin_api::BundleForm;
use muster_runtime::config::Table;

/// The system's authorities, where Debian and most others have them.
const SYSTEM_AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// One publisher.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PublisherConfig {
    /// A file on this machine.
    File {
        /// Where.
        path: PathBuf,
        /// How it is written.
        form: BundleForm,
    },
    /// A server that takes a PUT.
    Http {
        /// Where.
        place: Place,
        /// How it is written.
        form: BundleForm,
        /// Who may vouch for the server.
        authorities: PathBuf,
        /// How it knows us.
        identity: Option<HttpIdentity>,
    },
    /// A bucket.
    S3 {
        /// Where.
        target: S3Target,
        /// How it is written.
        form: BundleForm,
    },
}

/// Reads each table that is there.
pub(super) fn publishers(table: &mut Table) -> Vec<PublisherConfig> {
    let mut found = Vec::new();
    let Some(mut all) = table.optional_table("bundle_publishers") else {
        return found;
    };
    if let Some(mut file) = all.optional_table("file") {
        let (path, form) = (file.required("path"), form(&mut file));
        found.extend(path.map(|path| PublisherConfig::File { path, form }));
    }
    if let Some(mut http) = all.optional_table("http") {
        let (url, form) = (https_url(&mut http, "url"), form(&mut http));
        let authorities = authorities(&mut http);
        let identity = identity(&mut http);
        found.extend(url.map(|url| PublisherConfig::Http {
            place: url.into(),
            form,
            authorities,
            identity,
        }));
    }
    if let Some(mut s3) = all.optional_table("s3") {
        found.extend(bucket(&mut s3));
    }
    found
}

fn https_url(table: &mut Table, key: &'static str) -> Option<http::Uri> {
    let text: String = table.required(key)?;
    let url = text.parse::<http::Uri>().ok();
    let url = url.filter(|url| url.scheme_str() == Some("https") && url.authority().is_some_and(is_bare));
    if url.is_none() {
        let expected = "an https URL without a user, such as \"https://store.example.org/bundle.json\"; credentials are given by file";
        table.refuse(key, &without_secrets(&text), expected);
    }
    url
}

/// Whether it is a host, and a port at most. What is no port, such as one past 65535, the URI type leaves in the text.
fn is_bare(authority: &http::uri::Authority) -> bool {
    match authority.port() {
        Some(_) => !authority.as_str().contains('@'),
        None => authority.as_str() == authority.host(),
    }
}

/// As much of a wrong URL as may be repeated: what stands before an `@` or after a `?` may be a password.
fn without_secrets(text: &str) -> String {
    match text.contains('@') {
        true => "a text with \"@\", not repeated here".to_owned(),
        false => format!("{:?}", text.split('?').next().unwrap_or_default()),
    }
}

fn identity(table: &mut Table) -> Option<HttpIdentity> {
    let authorization = table.optional("authorization_file");
    let (certificate, key) = (table.optional("certificate"), table.optional("key"));
    match (authorization, certificate, key) {
        (None, None, None) => None,
        (Some(file), None, None) => Some(HttpIdentity::Authorization(file)),
        (None, Some(certificate), Some(key)) => Some(HttpIdentity::Certificate { certificate, key }),
        _ => {
            table.refuse(
                "authorization_file",
                &"with others",
                "authorization_file alone, or certificate and key together",
            );
            None
        }
    }
}

fn bucket(table: &mut Table) -> Option<PublisherConfig> {
    let endpoint = https_url(table, "endpoint");
    let (bucket, object) = (table.or("bucket", String::new()), table.required("object"));
    let (region, access_key) = (table.required("region"), table.required("access_key_file"));
    let (form, authorities) = (form(table), authorities(table));
    Some(PublisherConfig::S3 {
        target: S3Target {
            endpoint: endpoint?.into(),
            bucket,
            object: object?,
            region: region?,
            access_key: access_key?,
            authorities,
        },
        form,
    })
}

fn form(table: &mut Table) -> BundleForm {
    table.choice(
        "format",
        BundleForm::Spiffe,
        &[
            ("spiffe", BundleForm::Spiffe),
            ("jwks", BundleForm::Jwks),
            ("pem", BundleForm::Pem),
        ],
    )
}

fn authorities(table: &mut Table) -> PathBuf {
    table.or("ca_file", PathBuf::from(SYSTEM_AUTHORITIES))
}

#[cfg(test)]
mod tests {
    use crate::Config;

    fn read(text: &str) -> Result<Config, String> {
        let text = format!("trust_domain = 'a.org'\n{text}");
        Config::parse("server.toml", &text).map_err(|error| error.to_string())
    }

    #[test]
    fn each_publisher_is_read_and_a_mistake_is_named() {
        let all = "[bundle_publishers.file]\npath = '/a'\n[bundle_publishers.http]\nurl = 'https://b/c'\nformat = 'jwks'\nauthorization_file = '/d'\n\
                   [bundle_publishers.s3]\nendpoint = 'https://e'\nobject = 'f'\nregion = 'g'\naccess_key_file = '/h'";
        assert_eq!(read(all).unwrap().publishers.len(), 3);
        let signed = read("[bundle_publishers.http]\nurl = 'https://b/c?sig=secret'").unwrap();
        let printed = format!("{:?}", signed.publishers);
        assert!(
            printed.contains("https://b/c") && !printed.contains("secret"),
            "{printed}"
        );
        assert!(read("").unwrap().publishers.is_empty());
        for (text, named) in [
            ("file]\nformat = 'der'", "bundle_publishers.file.format"),
            ("file]\npath = 'a'", "bundle_publishers.file.path"),
            (
                "http]\nurl = 'http://b'",
                "bundle_publishers.http.url = \"http://b\"",
            ),
            (
                "http]\nurl = 'https://b'\nkey = '/k'",
                "bundle_publishers.http.authorization_file",
            ),
            ("s3]\nendpoint = 'https://b'", "bundle_publishers.s3.object"),
            ("ftp]\nx = 1", "bundle_publishers.ftp"),
            ("http]\nurl = 'https://me:secret@b/c'", "without a user"),
            ("http]\nurl = 'https://me:se?cret@b/c'", "without a user"),
            (
                "http]\nurl = 'http://b/c?token=secret'",
                "bundle_publishers.http.url = \"http://b/c\"",
            ),
            (
                "s3]\nobject = 'f'\nregion = 'g'\naccess_key_file = '/h'\nendpoint = 'https://me:secret@b'",
                "bundle_publishers.s3.endpoint",
            ),
        ] {
            let error = read(&format!("[bundle_publishers.{text}")).unwrap_err();
            assert!(error.contains(named) && !error.contains("cret"), "{error}");
        }
    }
}
