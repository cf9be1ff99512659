//! A cluster's API server: three questions and their answers.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use muster_transport::{HttpsClient, HttpsError, HttpsTls};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::kube_config::{Credentials, Endpoint, KubeConfigError};
use super::objects::{Object, Review, ReviewSpec, ReviewStatus, Reviewed};

/// How long one answer may take, with its connection.
const WITHIN: Duration = Duration::from_secs(5);
/// The longest answer. A machine's object names all images on it, and is still far smaller.
const LONGEST_ANSWER: usize = 8 << 20;

/// An API server, as it was configured at this moment.
pub(super) struct ApiServer {
    client: HttpsClient,
    /// Of the address: where several clusters stand behind one name.
    prefix: String,
    authorization: Option<HeaderValue>,
}

/// Why an API server did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// What is configured can't be used.
    #[error(transparent)]
    Config(#[from] KubeConfigError),
    #[error("the address of the API server is not https://host:port")]
    Address,
    #[error("the token for the API server can't be sent")]
    Token,
    #[error("asking the API server for {asked}")]
    Https { asked: &'static str, source: HttpsError },
    #[error("the API server answered {status} to {asked}")]
    Status { status: StatusCode, asked: &'static str },
    #[error("the API server's answer to {asked} is not what it should be")]
    Answer {
        asked: &'static str,
        source: serde_json::Error,
    },
}

impl ApiServer {
    /// The API server at `endpoint`. Nothing is asked yet.
    pub(super) fn new(endpoint: Endpoint) -> Result<Self, ApiError> {
        let address: Uri = endpoint.server.parse().map_err(|_| ApiError::Address)?;
        let (identity, authorization) = match endpoint.credentials {
            Credentials::Token(token) => {
                let text = Zeroizing::new(format!("Bearer {}", token.as_str()));
                let mut header = HeaderValue::from_str(&text).map_err(|_| ApiError::Token)?;
                header.set_sensitive(true);
                (None, Some(header))
            }
            Credentials::Certificate { certificate, key } => (Some((certificate, key)), None),
        };
        let tls = HttpsTls {
            authorities: endpoint.ca,
            identity,
            server_name: endpoint.server_name,
        };
        let client = HttpsClient::new(&address, tls, WITHIN, LONGEST_ANSWER);
        Ok(Self {
            client: client.map_err(|source| ApiError::Https {
                asked: "anything",
                source,
            })?,
            prefix: address.path().trim_end_matches('/').to_owned(),
            authorization,
        })
    }

    /// What the cluster says of a token.
    pub(super) async fn review(&self, token: &str, audiences: &[String]) -> Result<ReviewStatus, ApiError> {
        const ASKED: &str = "a TokenReview";
        let review = Review {
            api_version: "authentication.k8s.io/v1",
            kind: "TokenReview",
            spec: ReviewSpec { token, audiences },
        };
        let body = serde_json::to_vec(&review).map_err(|source| ApiError::Answer { asked: ASKED, source })?;
        let path = "/apis/authentication.k8s.io/v1/tokenreviews";
        let reviewed: Reviewed = self.ask(Method::POST, path, body, ASKED).await?;
        Ok(reviewed.status)
    }

    /// A pod. Both names were checked to be names.
    pub(super) async fn pod(&self, namespace: &str, name: &str) -> Result<Object, ApiError> {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        self.ask(Method::GET, &path, Vec::new(), "the agent's pod").await
    }

    /// A machine of the cluster. Its name was checked to be one.
    pub(super) async fn node(&self, name: &str) -> Result<Object, ApiError> {
        let path = format!("/api/v1/nodes/{name}");
        self.ask(Method::GET, &path, Vec::new(), "the pod's node").await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
        asked: &'static str,
    ) -> Result<T, ApiError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.prefix))
            .header(ACCEPT, "application/json");
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let request = request.body(Bytes::from(body)).map_err(|_| ApiError::Address)?;
        let answer = self.client.send(request).await;
        let answer = answer.map_err(|source| ApiError::Https { asked, source })?;
        let status = answer.status();
        if !status.is_success() {
            return Err(ApiError::Status { status, asked });
        }
        serde_json::from_slice(answer.body()).map_err(|source| ApiError::Answer { asked, source })
    }
}

impl ApiError {
    /// Whether our own account was not let in, or may not ask.
    pub(super) fn is_forbidden(&self) -> bool {
        matches!(self, Self::Status { status, .. } if [StatusCode::FORBIDDEN, StatusCode::UNAUTHORIZED].contains(status))
    }
}

impl fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiServer")
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}
