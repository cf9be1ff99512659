//! What an operator registers, over the server's admin socket.

use std::path::PathBuf;

use hyper_util::rt::TokioIo;
use muster_proto::spire::{
    server::{
        bundle::{GetBundleRequest, bundle_client::BundleClient},
        entry::{BatchCreateEntryRequest, BatchDeleteEntryRequest, entry_client::EntryClient},
    },
    types,
};
use tonic::transport::{Channel, Endpoint};

use super::Cluster;

impl Cluster {
    /// Registers `path` for callers of which all `selectors` hold; returns the entry's id.
    pub fn register(&self, path: &str, selectors: &[&str]) -> String {
        self.register_entry(self.entry(path, selectors))
    }

    /// An entry below this node, for a story that wants to add to it before [`Cluster::register_entry`].
    pub fn entry(&self, path: &str, selectors: &[&str]) -> types::Entry {
        let member = |path: &str| types::Spiffeid {
            trust_domain: self.trust_domain().into(),
            path: path.into(),
        };
        types::Entry {
            spiffe_id: Some(member(path)),
            parent_id: Some(member(
                self.node
                    .strip_prefix(&format!("spiffe://{}", self.trust_domain()))
                    .unwrap_or_default(),
            )),
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

    /// Registers an entry, which must succeed; returns its id.
    pub fn register_entry(&self, entry: types::Entry) -> String {
        self.block_on(async {
            let request = BatchCreateEntryRequest {
                entries: vec![entry],
                output_mask: None,
            };
            let answer = EntryClient::new(self.channel().await)
                .batch_create_entry(request)
                .await
                .unwrap()
                .into_inner();
            let result = answer.results.into_iter().next().unwrap();
            assert_eq!(result.status.unwrap().code, 0, "registering failed");
            result.entry.unwrap().id
        })
    }

    /// Deletes an entry, which must be there.
    pub fn unregister(&self, id: &str) {
        self.block_on(async {
            let request = BatchDeleteEntryRequest { ids: vec![id.into()] };
            let answer = EntryClient::new(self.channel().await)
                .batch_delete_entry(request)
                .await
                .unwrap()
                .into_inner();
            assert_eq!(
                answer.results[0].status.as_ref().unwrap().code,
                0,
                "deleting failed"
            );
        });
    }

    /// The server's bundle.
    pub fn bundle(&self) -> types::Bundle {
        self.block_on(async {
            let request = GetBundleRequest { output_mask: None };
            BundleClient::new(self.channel().await)
                .get_bundle(request)
                .await
                .unwrap()
                .into_inner()
        })
    }

    /// A connection to the server's admin socket.
    pub async fn channel(&self) -> Channel {
        unix_channel(self.server_socket()).await
    }
}

/// A plaintext connection over a Unix socket, as operators' tools have one.
pub async fn unix_channel(path: PathBuf) -> Channel {
    Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(tokio::net::UnixStream::connect(path).await?)) }
        }))
        .await
        .unwrap()
}
