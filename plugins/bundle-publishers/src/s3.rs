//! A bucket of an object store that speaks S3.

mod signature;

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{Request, Uri};
use muster_pki::bundle::Bundle;
use muster_plugin_api::{BundleForm, BundlePublisher, PublishError};
use muster_runtime::Clock;
use muster_transport::HttpsTls;

use crate::Place;
use crate::https::{client, read, read_line, send};
use signature::{AccessKey, Put, encode_path, signed_headers};

/// Which object of which bucket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct S3Target {
    /// `https://host[:port]` of the store, or of the bucket where the store names buckets by host.
    pub endpoint: Place,
    /// The bucket; empty when the endpoint is the bucket's own.
    pub bucket: String,
    /// The object's key, without a slash before it.
    pub object: String,
    /// The region that signatures are for.
    pub region: String,
    /// A file of two lines: the access key's id, and its secret. A third line, if there is one, is a session token.
    pub access_key: PathBuf,
    /// The file of the authorities that may vouch for the store.
    pub authorities: PathBuf,
}

/// Puts the bundle into a bucket, with AWS Signature Version 4.
pub struct S3Publisher {
    target: S3Target,
    url: Place,
    path: String,
    form: BundleForm,
    clock: Arc<dyn Clock>,
}

impl S3Publisher {
    /// Puts it to `target`.
    ///
    /// # Errors
    /// When endpoint, bucket and object make no URL.
    pub fn new(target: S3Target, form: BundleForm, clock: Arc<dyn Clock>) -> Result<Self, PublishError> {
        let base = target.endpoint.uri().path().trim_end_matches('/');
        let bucket = match target.bucket.as_str() {
            "" => String::new(),
            bucket => format!("/{bucket}"),
        };
        let path = encode_path(&format!("{base}{bucket}/{}", target.object));
        let authority = target
            .endpoint
            .uri()
            .authority()
            .map_or("", |authority| authority.as_str());
        let url = format!("https://{authority}{path}");
        let url = url.parse::<Uri>().map_err(|source| PublishError::Unusable {
            what: format!(
                "{} is no place for the object {:?}",
                target.endpoint, target.object
            ),
            source: source.into(),
        })?;
        Ok(Self {
            target,
            url: url.into(),
            path,
            form,
            clock,
        })
    }
}

#[async_trait]
impl BundlePublisher for S3Publisher {
    fn name(&self) -> &'static str {
        "s3"
    }

    async fn publish(&self, bundle: &Bundle) -> Result<(), PublishError> {
        let target = &self.target;
        let tls = HttpsTls {
            authorities: read(&target.authorities).await?.to_vec(),
            ..HttpsTls::default()
        };
        let client = client(&self.url, tls)?;
        let text = read_line(&target.access_key).await?;
        let key = AccessKey::parse(&text).ok_or_else(|| PublishError::Unusable {
            what: format!("{} is no access key", target.access_key.display()),
            source: "expected two lines: the key's id and its secret".into(),
        })?;
        let body = Bytes::from(self.form.write(bundle));
        let unusable = |source: http::Error| PublishError::Unusable {
            what: format!("{} can't be put to", self.url),
            source: source.into(),
        };
        let host = client.host().to_str().unwrap_or_default().to_owned();
        let put = Put {
            host: &host,
            path: &self.path,
            region: &target.region,
            media_type: self.form.media_type(),
            body: &body,
            at: self.clock.now(),
        };
        let mut request = Request::put(&*self.path)
            .header(HOST, &host)
            .header(CONTENT_TYPE, put.media_type);
        for (name, value) in signed_headers(&put, &key) {
            request = request.header(name, value.as_str());
        }
        let request = request.body(body.clone()).map_err(unusable)?;
        send(&client, &self.url, request).await
    }
}
