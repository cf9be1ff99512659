//! What both HTTPS publishers do: read their files, send one request, and judge the answer.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use muster_plugin_api::PublishError;
use muster_runtime::file;
use muster_transport::{HttpsClient, HttpsTls};
use zeroize::Zeroizing;

use crate::Place;

/// How long one publication may take, with its connection.
const WITHIN: Duration = Duration::from_secs(20);
/// What a server says to a PUT is short, or of no interest.
const MOST_SAID: usize = 64 << 10;
/// How much of what a server says against a bundle is passed on.
const MOST_REASON: usize = 300;
/// The longest file that is read: all authorities of a system.
const LONGEST_FILE: usize = 4 << 20;

/// Reads a file whose size is bounded. It may hold a secret.
pub(crate) async fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, PublishError> {
    let read = file::read_aside(path, LONGEST_FILE).await;
    read.map(Zeroizing::new).map_err(|source| PublishError::Unusable {
        what: format!("reading {}", path.display()),
        source: source.into(),
    })
}

/// The text of a file, without the line's end that editors leave.
pub(crate) async fn read_line(path: &Path) -> Result<Zeroizing<String>, PublishError> {
    let bytes = read(path).await?;
    let text = std::str::from_utf8(&bytes).map_err(|source| PublishError::Unusable {
        what: format!("{} is no text", path.display()),
        source: source.into(),
    })?;
    Ok(Zeroizing::new(text.trim().to_owned()))
}

/// A client of the server at `place`.
pub(crate) fn client(place: &Place, tls: HttpsTls) -> Result<HttpsClient, PublishError> {
    HttpsClient::new(place.uri(), tls, WITHIN, MOST_SAID).map_err(|source| PublishError::Unusable {
        what: format!("{place} can't be spoken to"),
        source: source.into(),
    })
}

/// Sends it. Only a success is one: a redirect is not followed, because whoever gets the bundle must be whom the configuration names.
pub(crate) async fn send(
    client: &HttpsClient,
    place: &Place,
    request: Request<Bytes>,
) -> Result<(), PublishError> {
    let doing = || format!("putting the bundle to {place}");
    let answer = client
        .send(request)
        .await
        .map_err(|source| PublishError::Unavailable {
            what: doing(),
            source: source.into(),
        })?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(answer.body());
    let said: String = said
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MOST_REASON)
        .collect();
    let reason = format!("status {}: {}", status.as_u16(), said.trim());
    let later = [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
    if status.is_server_error() || later {
        return Err(PublishError::Unavailable {
            what: doing(),
            source: reason.into(),
        });
    }
    Err(PublishError::Refused {
        place: place.to_string(),
        reason,
    })
}
