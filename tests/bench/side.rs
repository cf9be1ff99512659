//! One side of the comparison: a server and a node agent that speak SPIRE's server API and the SPIFFE Workload API.
//! Everything is asked over these two, by the same code on both sides.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use muster_proto::{
    spire::{
        server::entry::{
            BatchCreateEntryRequest, BatchDeleteEntryRequest, CountEntriesRequest, entry_client::EntryClient,
        },
        types,
    },
    workload::{X509svidRequest, X509svidResponse, spiffe_workload_api_client::SpiffeWorkloadApiClient},
};
use muster_tests::TRUST_DOMAIN;
use tokio::{net::UnixStream, time::timeout};
use tonic::{
    Request, Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::daemon::Daemon;

/// A server and a node agent.
pub(crate) struct Side {
    pub(crate) name: &'static str,
    pub(crate) server: Daemon,
    pub(crate) agent: Daemon,
    /// The server's admin socket.
    pub(crate) admin: PathBuf,
    /// The Workload API's socket.
    pub(crate) workload: PathBuf,
    /// The path of the node's SPIFFE ID: the parent of what its workloads get.
    pub(crate) node: String,
    /// Ids of the entries that give the one who measures an identity.
    pub(crate) known: Vec<String>,
}

impl Side {
    /// A new connection to the server's admin socket.
    pub(crate) async fn admin(&self) -> Channel {
        dial(self.admin.clone()).await.unwrap()
    }

    /// A new connection of a workload.
    pub(crate) async fn dial(&self) -> Channel {
        dial(self.workload.clone()).await.unwrap()
    }

    /// An entry below this node.
    pub(crate) fn entry(&self, path: &str, selectors: &[String]) -> types::Entry {
        let member = |path: &str| types::Spiffeid {
            trust_domain: TRUST_DOMAIN.into(),
            path: path.into(),
        };
        types::Entry {
            spiffe_id: Some(member(path)),
            parent_id: Some(member(&self.node)),
            selectors: selectors
                .iter()
                .map(|selector| selector.split_once(':').expect("type:value"))
                .map(|(kind, value)| types::Selector {
                    r#type: kind.into(),
                    value: value.into(),
                })
                .collect(),
            ..Default::default()
        }
    }

    /// Creates entries, all of which must be new; returns their ids.
    pub(crate) async fn create(&self, channel: &Channel, entries: Vec<types::Entry>) -> Vec<String> {
        let wanted = entries.len();
        let request = BatchCreateEntryRequest {
            entries,
            output_mask: None,
        };
        let answer = EntryClient::new(channel.clone())
            .max_decoding_message_size(64 << 20)
            .batch_create_entry(request)
            .await
            .unwrap();
        let ids: Vec<String> = answer
            .into_inner()
            .results
            .into_iter()
            .filter_map(|result| Some(result.entry?.id))
            .collect();
        assert_eq!(ids.len(), wanted, "{}: not every entry was created", self.name);
        ids
    }

    /// Gives the one who measures an identity by its user id.
    pub(crate) async fn know_us(&mut self) {
        let entry = self.entry("/bench", &[our_selector()]);
        self.known = self.create(&self.admin().await, vec![entry]).await;
    }

    /// Takes what [`Side::know_us`] gave.
    pub(crate) async fn forget_us(&mut self) {
        let ids = std::mem::take(&mut self.known);
        self.delete(&self.admin().await, ids).await;
    }

    pub(crate) async fn delete(&self, channel: &Channel, ids: Vec<String>) {
        EntryClient::new(channel.clone())
            .batch_delete_entry(BatchDeleteEntryRequest { ids })
            .await
            .unwrap();
    }

    /// Waits until the server answers on its admin socket.
    pub(crate) async fn server_answers(&self) {
        let began = Instant::now();
        loop {
            if let Ok(channel) = dial(self.admin.clone()).await {
                let mut client = EntryClient::new(channel);
                let asked = client.count_entries(CountEntriesRequest::default());
                if let Ok(Ok(_)) = timeout(Duration::from_secs(5), asked).await {
                    return;
                }
            }
            assert!(
                began.elapsed() < Duration::from_secs(120),
                "{}: the server does not answer",
                self.name
            );
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until a workload gets an SVID; false when `patience` runs out first.
    pub(crate) async fn serves(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        while Instant::now() < end {
            if let Ok(channel) = dial(self.workload.clone()).await
                && let Ok(Ok((_, first))) = timeout(Duration::from_secs(1), watch(channel)).await
                && !first.svids.is_empty()
            {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        false
    }

    /// Starts the node agent and waits until a workload gets an SVID.
    pub(crate) async fn start_agent(&mut self) {
        self.agent.start();
        assert!(
            self.serves(Duration::from_secs(60)).await,
            "{}: the agent serves nobody",
            self.name
        );
    }
}

/// A new connection to a Unix socket.
pub(crate) async fn dial(path: PathBuf) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        }))
        .await
}

/// A request as SPIFFE libraries send it.
pub(crate) fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

/// Opens a stream and waits for what comes first.
pub(crate) async fn watch(
    channel: Channel,
) -> Result<(Streaming<X509svidResponse>, X509svidResponse), Status> {
    let mut client = SpiffeWorkloadApiClient::new(channel);
    let mut stream = client
        .fetch_x509svid(request(X509svidRequest {}))
        .await?
        .into_inner();
    let first = stream
        .message()
        .await?
        .ok_or_else(|| Status::unknown("the stream ended"))?;
    Ok((stream, first))
}

/// What the one who measures is to every attestor.
pub(crate) fn our_selector() -> String {
    format!("unix:uid:{}", nix::unistd::getuid())
}
