//! An HTTPS server that takes a PUT.

use std::path::PathBuf;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request};
use muster_pki::SecretBytes;
use muster_pki::bundle::Bundle;
use muster_plugin_api::{BundleForm, BundlePublisher, PublishError};
use muster_transport::HttpsTls;

use crate::Place;
use crate::https::{client, read, read_line, send};

/// Puts the bundle to a URL.
#[derive(Clone, Debug)]
pub struct HttpPublisher {
    place: Place,
    form: BundleForm,
    authorities: PathBuf,
    identity: Option<HttpIdentity>,
}

/// How the server knows that it is we.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum HttpIdentity {
    /// A file with the value of the Authorization header, such as `Bearer …`.
    Authorization(PathBuf),
    /// A certificate chain and its key, PEM.
    Certificate {
        /// The chain, leaf first.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
    },
}

impl HttpPublisher {
    /// Puts it to `place`; `authorities` is the file of those that may vouch for the server.
    pub fn new(place: Place, form: BundleForm, authorities: PathBuf, identity: Option<HttpIdentity>) -> Self {
        Self {
            place,
            form,
            authorities,
            identity,
        }
    }
}

#[async_trait]
impl BundlePublisher for HttpPublisher {
    fn name(&self) -> &'static str {
        "http"
    }

    async fn publish(&self, bundle: &Bundle) -> Result<(), PublishError> {
        let unusable = |source: http::Error| PublishError::Unusable {
            what: format!("{} is no place to put a bundle to", self.place),
            source: source.into(),
        };
        let mut tls = HttpsTls {
            authorities: read(&self.authorities).await?.to_vec(),
            ..HttpsTls::default()
        };
        let path = self
            .place
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str());
        let mut request = Request::put(path).header(CONTENT_TYPE, self.form.media_type());
        match &self.identity {
            None => {}
            Some(HttpIdentity::Authorization(file)) => {
                let value = read_line(file).await?;
                let mut value = HeaderValue::from_str(&value).map_err(|error| unusable(error.into()))?;
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
            Some(HttpIdentity::Certificate { certificate, key }) => {
                let key = SecretBytes::new(read(key).await?.to_vec());
                tls.identity = Some((read(certificate).await?.to_vec(), key));
            }
        }
        let request = request
            .body(Bytes::from(self.form.write(bundle)))
            .map_err(unusable)?;
        send(&client(&self.place, tls)?, &self.place, request).await
    }
}
