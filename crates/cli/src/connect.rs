//! Connections over Unix sockets.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::failure::{Failure, chain};

/// Longer than any call of an operator should take, short enough that a hanging daemon is noticed.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What is at the other end of a socket, for messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Daemon {
    Server,
    AgentAdmin,
    WorkloadApi,
}

impl Daemon {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "the server",
            Self::AgentAdmin => "the node agent",
            Self::WorkloadApi => "the Workload API",
        }
    }

    fn setting(self) -> &'static str {
        match self {
            Self::Server => "MUSTER_SERVER_SOCKET",
            Self::AgentAdmin => "MUSTER_AGENT_SOCKET",
            Self::WorkloadApi => "SPIFFE_ENDPOINT_SOCKET",
        }
    }
}

/// Connects now, so that a daemon which isn't there is told from one that refuses.
pub(crate) async fn connect(path: &Path, daemon: Daemon) -> Result<Channel, Failure> {
    // The name is for the :authority header only; nothing is looked up.
    let endpoint = Endpoint::from_static("http://localhost").connect_timeout(CONNECT_TIMEOUT);
    let endpoint = match daemon {
        // Streams of the Workload API stay open for as long as anybody watches.
        Daemon::WorkloadApi => endpoint,
        Daemon::Server | Daemon::AgentAdmin => endpoint.timeout(CALL_TIMEOUT),
    };
    let socket: PathBuf = path.to_owned();
    let connector = service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    endpoint.connect_with_connector(connector).await.map_err(|error| {
        let what = format!("could not reach {} at {}", daemon.name(), path.display());
        match io_kind(&error) {
            Some(io::ErrorKind::PermissionDenied) => Failure::unreachable(what, "permission denied")
                .next("ask for membership in the group that owns the socket, or use sudo"),
            Some(io::ErrorKind::NotFound) => Failure::unreachable(what, "no such socket").next(format!(
                "start the daemon (or `muster dev`), or name its socket with --socket or {}",
                daemon.setting()
            )),
            Some(io::ErrorKind::ConnectionRefused) => {
                Failure::unreachable(what, "nobody listens there any more").next("start the daemon")
            }
            _ => Failure::unreachable(what, chain(&error)).next("look at the daemon's log"),
        }
    })
}

fn io_kind(error: &tonic::transport::Error) -> Option<io::ErrorKind> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

/// Reads `SPIFFE_ENDPOINT_SOCKET` as the Workload Endpoint standard writes it, or a plain path.
pub(crate) fn workload_socket(address: &str) -> Result<PathBuf, Failure> {
    let wrong = |why: &str| {
        Failure::usage(
            format!("could not read the Workload API address {address:?}"),
            why,
        )
        .next("write unix:/run/muster/workload/api.sock, or a path (Workload Endpoint, section 4)")
    };
    let path = match address.strip_prefix("unix:") {
        Some(rest) => match rest.strip_prefix("//") {
            Some(path) if !path.starts_with('/') => return Err(wrong("a unix address has no host")),
            Some(path) => path,
            None => rest,
        },
        None if address.starts_with("tcp:") => {
            return Err(wrong("TCP is not supported, the API is on a Unix socket"));
        }
        None if address.contains("://") => return Err(wrong("it is of another kind than unix")),
        None => address,
    };
    if path.is_empty() || path.contains(['?', '#']) {
        return Err(wrong("it has no path, or a query or fragment"));
    }
    if address.starts_with("unix:") && !path.starts_with('/') {
        return Err(wrong("the path is not absolute"));
    }
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_addresses_are_read_as_the_standard_writes_them() {
        for address in ["unix:/a/b.sock", "unix:///a/b.sock", "/a/b.sock"] {
            assert_eq!(workload_socket(address).unwrap(), Path::new("/a/b.sock"));
        }
        for address in [
            "unix:a.sock",
            "unix://a/b.sock",
            "tcp:127.0.0.1:80",
            "http://127.0.0.1:80",
            "",
            "unix:",
            "unix:/a?b",
        ] {
            assert!(workload_socket(address).is_err(), "{address}");
        }
    }
}
