//! One request and its answer.

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_ENCODING, ETAG, HOST, IF_NONE_MATCH, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use muster_identity::TrustDomain;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::{FetchError, Fetched, LARGEST, Patience};
use crate::federation::url::EndpointUrl;
use crate::federation::{PEER, PREFER, PREFERENCE_APPLIED};

/// The largest head of an answer.
const HEAD: usize = 32 << 10;
/// The longest tag that is kept.
const LONGEST_TAG: usize = 128;

/// What came of one request.
pub(super) enum Answer {
    Fetched(Fetched),
    Moved(String),
}

/// Asks for the document. Each connection is for one request.
pub(super) async fn get(
    stream: TlsStream<TcpStream>,
    url: &EndpointUrl,
    own: &TrustDomain,
    patience: &Patience,
) -> Result<Answer, FetchError> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD)
        .handshake(TokioIo::new(stream))
        .await?;
    let exchange = async {
        let response = sender.send_request(request(url, own, patience)).await?;
        read(response, patience).await
    };
    tokio::pin!(exchange);
    tokio::pin!(connection);
    let mut open = true;
    loop {
        tokio::select! {
            answer = &mut exchange => return answer,
            // Its end ends the exchange too, with the better error.
            _ = &mut connection, if open => open = false,
        }
    }
}

fn request(url: &EndpointUrl, own: &TrustDomain, patience: &Patience) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = url.target().clone().into();
    let headers = request.headers_mut();
    let mut set = |name: HeaderName, value: &str| {
        // A value that no header can carry is one that is not sent.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    set(HOST, &url.authority());
    set(ACCEPT, "application/json");
    set(USER_AGENT, concat!("muster/", env!("CARGO_PKG_VERSION")));
    set(PEER, own.as_str());
    if let Some(hold) = patience.hold {
        set(PREFER, &format!("wait={}", hold.as_secs()));
        if let Some(tag) = &patience.tag {
            set(IF_NONE_MATCH, tag);
        }
    }
    request
}

async fn read(response: Response<Incoming>, patience: &Patience) -> Result<Answer, FetchError> {
    let (head, body) = response.into_parts();
    match head.status {
        StatusCode::OK => {}
        // Only as the answer to a tag that we showed.
        StatusCode::NOT_MODIFIED if patience.hold.is_some() && patience.tag.is_some() => {
            return Ok(Answer::Fetched(Fetched::Unchanged));
        }
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => {
            let location = text(&head.headers, LOCATION).ok_or(FetchError::NoTarget)?;
            return Ok(Answer::Moved(location));
        }
        other => return Err(FetchError::Status(other.as_u16())),
    }
    if text(&head.headers, CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
        return Err(FetchError::Encoded);
    }
    let body = Limited::new(body, LARGEST).collect().await;
    let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
        Ok(error) => FetchError::Http(*error),
        Err(error) if error.is::<LengthLimitError>() => FetchError::TooLarge,
        Err(_) => FetchError::TooLarge,
    })?;
    let tag = text(&head.headers, ETAG).filter(|tag| tag.len() <= LONGEST_TAG);
    let pushes = tag.is_some()
        && text(&head.headers, PREFERENCE_APPLIED).is_some_and(|applied| applied.starts_with("wait="));
    Ok(Answer::Fetched(Fetched::Document {
        body: body.to_bytes(),
        tag,
        pushes,
    }))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}
