//! The HTTP client of ACME: the same connections as for bundles, with the same rules on addresses, time and size.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use muster_identity::TrustDomain;

use crate::federation::{AddressRule, Authentication, EndpointUrl, Fetcher};
use crate::web::WebRoots;

/// How long one request may take.
const LONGEST: Duration = Duration::from_secs(30);
/// The largest answer: a chain of certificates.
const LARGEST: usize = 1 << 20;
/// The largest head of an answer.
const HEAD: usize = 32 << 10;

/// Speaks to the certificate authority.
#[derive(Clone, Debug)]
pub(super) struct Http {
    fetcher: Fetcher,
}

impl Http {
    pub(super) fn new(rule: AddressRule, roots: WebRoots, own: TrustDomain) -> Self {
        Self {
            fetcher: Fetcher::new(rule, roots, own),
        }
    }

    async fn ask(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        let other = |error: Box<dyn std::error::Error + Send + Sync>| Error::Other(error);
        // The directory names the other URLs: they keep the rules of a bundle endpoint's.
        let url: EndpointUrl = request
            .uri()
            .to_string()
            .parse()
            .map_err(|error| other(Box::new(error)))?;
        let stream = self.fetcher.connect(&url, &Authentication::Web).await;
        let stream = stream.map_err(|error| other(Box::new(error)))?;
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| other(Box::new(error)))?;
        let (mut head, body) = request.into_parts();
        head.uri = url.target().clone().into();
        let host = HeaderValue::from_str(&url.authority()).map_err(|error| other(Box::new(error)))?;
        head.headers.insert(HOST, host);
        let exchange = async {
            let response = sender.send_request(Request::from_parts(head, body)).await;
            let (head, body) = response.map_err(|error| other(Box::new(error)))?.into_parts();
            let body = Limited::new(body, LARGEST).collect().await.map_err(other)?;
            let whole = http_body_util::Full::new(body.to_bytes());
            Ok(BytesResponse::from(Response::from_parts(head, whole)))
        };
        tokio::pin!(exchange);
        tokio::pin!(connection);
        let mut open = true;
        loop {
            tokio::select! {
                answer = &mut exchange => return answer,
                _ = &mut connection, if open => open = false,
            }
        }
    }
}

impl HttpClient for Http {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let asking = self.clone().ask(request);
        Box::pin(async move {
            match tokio::time::timeout(LONGEST, asking).await {
                Ok(answer) => answer,
                Err(_) => Err(Error::Str("an answer within 30 s")),
            }
        })
    }
}
