//! A node that is shut out gets nothing more, whatever was under way for it (I4); and what one node may have under way is bounded (I10).

use muster_pki::x509::create_csr;
use muster_proto::{
    convert::{Reason, denial_reason},
    delivery::{FollowRequest, delivery_client::DeliveryClient},
    node::{
        self, EntryVersion, Have, Hello, IssueRequest, IssueResponse, Plan, SyncRequest, SyncResponse,
        X509Item, X509Request, issue_request, issue_response, node_client::NodeClient, sync_request,
        sync_response,
    },
    spire::{
        server::{
            agent::{BanAgentRequest, agent_client::AgentClient},
            entry::{
                BatchCreateEntryRequest, BatchDeleteEntryRequest, SyncAuthorizedEntriesRequest,
                entry_client::EntryClient,
            },
            svid::{BatchNewX509svidRequest, NewX509svidParams, svid_client::SvidClient},
        },
        types,
    },
};
use muster_tests::{Cluster, Identity, Settings, TRUST_DOMAIN, tcp_channel};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

/// A node that a story plays itself.
struct Node {
    identity: Identity,
    channel: Channel,
}

/// A Sync stream whose node says what the story wants.
struct Sync {
    say: mpsc::Sender<SyncRequest>,
    heard: Streaming<SyncResponse>,
}

impl Node {
    async fn joined(cluster: &Cluster) -> Self {
        let identity = Identity::joined(cluster).await;
        let channel = tcp_channel(cluster, Some(&identity)).await;
        Self { identity, channel }
    }

    fn id(&self) -> types::Spiffeid {
        member(self.identity.svid.id().path().as_str())
    }

    /// An entry below this node, as large as `padding` makes it.
    fn entry(&self, path: &str, padding: usize) -> types::Entry {
        let selector = |value: String| types::Selector {
            r#type: "unix".into(),
            value,
        };
        let padding = (0..padding).map(|number| selector(format!("user:{number:0200}")));
        types::Entry {
            spiffe_id: Some(member(path)),
            parent_id: Some(self.id()),
            selectors: padding.chain([selector("uid:1".into())]).collect(),
            ..Default::default()
        }
    }

    async fn sync(&self) -> Sync {
        let (say, said) = mpsc::channel(1_000);
        let heard = NodeClient::new(self.channel.clone())
            .max_decoding_message_size(4 << 20)
            .sync(ReceiverStream::new(said))
            .await
            .unwrap()
            .into_inner();
        Sync { say, heard }
    }

    async fn issue(&self) -> (mpsc::Sender<IssueRequest>, Streaming<IssueResponse>) {
        let (ask, asked) = mpsc::channel(10);
        let answers = NodeClient::new(self.channel.clone())
            .issue(ReceiverStream::new(asked))
            .await
            .unwrap()
            .into_inner();
        (ask, answers)
    }

    async fn ban(&self, cluster: &Cluster) {
        let request = BanAgentRequest { id: Some(self.id()) };
        AgentClient::new(cluster.channel().await)
            .ban_agent(request)
            .await
            .unwrap();
    }
}

impl Sync {
    async fn hello(&self, position: Option<node::Position>) {
        let hello = Hello {
            wire_version: node::WIRE_VERSION,
            agent_version: "story".into(),
            position,
            ..Default::default()
        };
        self.say(sync_request::Message::Hello(hello)).await;
    }

    /// Says hello as a node that has been away, and is asked what it holds.
    async fn is_asked(&mut self) {
        let away = node::Position {
            store: vec![1; 16],
            revision: 1,
        };
        self.hello(Some(away)).await;
        let sync_response::Message::Welcome(welcome) = self.next().await.unwrap() else {
            panic!("no welcome");
        };
        assert_eq!(welcome.plan(), Plan::Compare);
        assert!(matches!(
            self.next().await.unwrap(),
            sync_response::Message::Bundles(_)
        ));
    }

    async fn holds(&self, ids: impl Iterator<Item = String>, last: bool) {
        let entries = ids.map(|id| EntryVersion { id, version: 1 }).collect();
        self.say(sync_request::Message::Have(Have { entries, last }))
            .await;
    }

    async fn say(&self, message: sync_request::Message) {
        // A stream that has ended says so where it is read.
        let _ = self
            .say
            .send(SyncRequest {
                message: Some(message),
            })
            .await;
    }

    async fn next(&mut self) -> Result<sync_response::Message, Status> {
        let message = self.heard.message().await?;
        message
            .and_then(|message| message.message)
            .ok_or_else(|| Status::ok("ended"))
    }

    /// How the stream ends, and how many entries were told until then.
    async fn end(&mut self) -> (Status, usize) {
        let mut told = 0;
        loop {
            match self.next().await {
                Ok(sync_response::Message::Update(update)) => told += update.upserts.len(),
                Ok(_) => {}
                Err(status) => return (status, told),
            }
        }
    }
}

fn member(path: &str) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: TRUST_DOMAIN.into(),
        path: path.into(),
    }
}

async fn register(cluster: &Cluster, entries: Vec<types::Entry>) -> Vec<String> {
    let mut client = EntryClient::new(cluster.channel().await).max_decoding_message_size(64 << 20);
    let mut ids = vec![];
    for entries in entries.chunks(500) {
        let request = BatchCreateEntryRequest {
            entries: entries.to_vec(),
            output_mask: None,
        };
        let results = client
            .batch_create_entry(request)
            .await
            .unwrap()
            .into_inner()
            .results;
        ids.extend(results.into_iter().map(|result| result.entry.unwrap().id));
    }
    ids
}

fn assert_banned(status: &Status) {
    assert_eq!(denial_reason(status), Some(Reason::AgentBanned), "{status}");
}

#[test]
fn a_node_that_is_banned_while_its_greeting_hangs_is_told_no_entry() {
    let cluster = Cluster::start_server_only(&Settings::default());
    cluster.block_on(async {
        let node = Node::joined(&cluster).await;
        register(&cluster, vec![node.entry("/web", 0)]).await;
        let mut sync = node.sync().await;
        sync.is_asked().await;
        node.ban(&cluster).await;
        sync.holds(std::iter::empty(), true).await;
        let (status, told) = sync.end().await;
        assert_banned(&status);
        assert_eq!(told, 0);
    });
}

#[test]
fn a_node_that_reads_nothing_is_cut_when_it_is_banned() {
    let cluster = Cluster::start_server_only(&Settings::default());
    cluster.block_on(async {
        let node = Node::joined(&cluster).await;
        // More than the transport and the server hold for a stream that nobody reads.
        let entries = (0..4_000).map(|number| node.entry(&format!("/web/{number}"), 8));
        register(&cluster, entries.collect()).await;
        let mut sync = node.sync().await;
        sync.hello(None).await;
        cluster
            .server()
            .line("the node's coming", |line| line.contains("node connected"));
        node.ban(&cluster).await;
        cluster
            .server()
            .line("its going", |line| line.contains("node disconnected"));
        let (status, told) = sync.end().await;
        assert_banned(&status);
        assert!(told < 4_000, "{told} entries were told");
    });
}

#[test]
fn what_waits_to_be_signed_for_a_node_is_not_signed_once_it_is_banned() {
    let cluster = Cluster::start_server_only(&Settings::default());
    cluster.block_on(async {
        let node = Node::joined(&cluster).await;
        let web = register(&cluster, vec![node.entry("/web", 0)]).await.remove(0);
        let csr = create_csr(&*node.identity.key, None).unwrap();
        let batch = |entry_id: &str| -> Vec<X509Item> {
            let item = X509Item {
                entry_id: entry_id.into(),
                csr: csr.clone(),
            };
            vec![item; 500]
        };
        let (ask, mut answers) = node.issue().await;
        // The first two use up what is signed in a second and the next; the third waits.
        for (request, entry) in [(1, "none"), (2, "none"), (3, web.as_str())] {
            let what = Some(issue_request::What::X509(X509Request { items: batch(entry) }));
            ask.send(IssueRequest { request, what }).await.unwrap();
        }
        let params = batch(&web).into_iter().map(|item| NewX509svidParams {
            entry_id: item.entry_id,
            csr: item.csr,
        });
        let mut svids = SvidClient::new(node.channel.clone());
        let params = params.collect();
        let unary =
            cluster.spawn(async move { svids.batch_new_x509svid(BatchNewX509svidRequest { params }).await });
        // Whoever is answered is one of the first; then the others are waiting.
        let first = answers.message().await.unwrap().unwrap();
        assert_eq!(first.request, 1);
        node.ban(&cluster).await;
        let status = loop {
            match answers.message().await {
                Ok(answer) => {
                    let what = answer.expect("no quiet end").what;
                    let Some(issue_response::What::X509(batch)) = what else {
                        panic!("{what:?}");
                    };
                    assert!(batch.results.iter().all(|result| result.svid.is_none()));
                }
                Err(status) => break status,
            }
        };
        assert_banned(&status);
        assert_banned(&unary.await.unwrap().unwrap_err());
    });
}

#[test]
fn a_node_has_one_stream_of_a_kind_and_the_newest_counts() {
    let cluster = Cluster::start_server_only(&Settings::default());
    cluster.block_on(async {
        let (node, other) = (Node::joined(&cluster).await, Node::joined(&cluster).await);
        let (mut first, mut others) = (node.sync().await, other.sync().await);
        let (_ask, mut first_answers) = node.issue().await;
        first.hello(None).await;
        others.hello(None).await;
        first.next().await.unwrap();
        let second = node.sync().await;
        assert_eq!(first.end().await.0.code(), Code::Aborted);
        second.hello(None).await;
        let _second = node.issue().await;
        assert_eq!(first_answers.message().await.unwrap_err().code(), Code::Aborted);
        assert!(others.next().await.is_ok(), "another node's stream is its own");
    });
}

#[test]
fn a_node_that_claims_to_hold_what_nobody_can_hold_is_refused() {
    let cluster = Cluster::start_server_only(&Settings::default());
    cluster.block_on(async {
        let node = Node::joined(&cluster).await;
        let mut sync = node.sync().await;
        sync.is_asked().await;
        for part in 0..110 {
            sync.holds((0..2_000).map(|number| format!("stray-{part}-{number}")), false)
                .await;
        }
        let (status, _) = sync.end().await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        // One that was entitled to much and is to nothing any more gets rid of it.
        let mut sync = node.sync().await;
        sync.is_asked().await;
        for part in 0..50 {
            sync.holds(
                (0..2_000).map(|number| format!("old-{part}-{number}")),
                part == 49,
            )
            .await;
        }
        let mut removed = 0;
        loop {
            if let sync_response::Message::Update(update) = sync.next().await.unwrap() {
                removed += update.removals.len();
                if update.last {
                    break;
                }
            }
        }
        assert_eq!(removed, 100_000);
    });
}

#[test]
fn a_spire_agent_that_is_banned_between_two_questions_is_not_answered_the_second() {
    let cluster = Cluster::start_server_only(&Settings::default());
    cluster.block_on(async {
        let node = Node::joined(&cluster).await;
        let entries = (0..600).map(|number| node.entry(&format!("/web/{number}"), 0));
        let ids = register(&cluster, entries.collect()).await;
        let (ask, asked) = mpsc::channel(2);
        let mut answers = EntryClient::new(node.channel.clone())
            .sync_authorized_entries(ReceiverStream::new(asked))
            .await
            .unwrap()
            .into_inner();
        ask.send(SyncAuthorizedEntriesRequest::default()).await.unwrap();
        let mut revisions = 0;
        loop {
            let page = answers.message().await.unwrap().unwrap();
            revisions += page.entry_revisions.len();
            if !page.more {
                break;
            }
        }
        assert_eq!(revisions, 600);
        let by_id = |ids: &[String]| SyncAuthorizedEntriesRequest {
            ids: ids.to_vec(),
            ..Default::default()
        };
        // What was deleted since is not given any more.
        let deleted = ids[..1].to_vec();
        EntryClient::new(cluster.channel().await)
            .batch_delete_entry(BatchDeleteEntryRequest { ids: deleted })
            .await
            .unwrap();
        ask.send(by_id(&ids[..2])).await.unwrap();
        let page = answers.message().await.unwrap().unwrap();
        assert_eq!(
            page.entries.iter().map(|entry| &entry.id).collect::<Vec<_>>(),
            [&ids[1]]
        );
        node.ban(&cluster).await;
        let _ = ask.send(by_id(&ids)).await;
        assert_banned(&answers.message().await.unwrap_err());
    });
}

#[test]
fn an_administrator_whose_entry_is_deleted_follows_no_longer() {
    let cluster = Cluster::start_server_only(&Settings::default());
    cluster.block_on(async {
        let node = Node::joined(&cluster).await;
        let mut admin = node.entry("/entry-admin", 0);
        admin.admin = true;
        let ids = register(&cluster, vec![node.entry("/web", 0), admin]).await;
        // A node that acknowledges nothing: there is always something to wait for.
        let mut sync = node.sync().await;
        sync.hello(None).await;
        sync.next().await.unwrap();
        let admin = Identity::minted(&cluster, "spiffe://example.org/entry-admin", 600).await;
        let mut progress = DeliveryClient::new(tcp_channel(&cluster, Some(&admin)).await)
            .follow(FollowRequest {
                entry_ids: ids[..1].to_vec(),
            })
            .await
            .unwrap()
            .into_inner();
        assert!(!progress.message().await.unwrap().unwrap().done);
        EntryClient::new(cluster.channel().await)
            .batch_delete_entry(BatchDeleteEntryRequest {
                ids: ids[1..].to_vec(),
            })
            .await
            .unwrap();
        let ended = progress.message().await.unwrap_err();
        assert_eq!(ended.code(), Code::PermissionDenied, "{ended}");
    });
}

#[test]
fn one_caller_follows_by_four_calls_and_keeps_no_other_out() {
    let cluster = Cluster::start_server_only(&Settings::default());
    let (node, _sync, mut own) = cluster.block_on(async {
        let node = Node::joined(&cluster).await;
        let mut admin = node.entry("/entry-admin", 0);
        admin.admin = true;
        let id = register(&cluster, vec![node.entry("/web", 0), admin])
            .await
            .remove(0);
        // A node that acknowledges nothing: there is always something to wait for.
        let mut sync = node.sync().await;
        sync.hello(None).await;
        sync.next().await.unwrap();
        let admin = Identity::minted(&cluster, "spiffe://example.org/entry-admin", 600).await;
        let follow = async |channel: Channel| {
            let request = FollowRequest {
                entry_ids: vec![id.clone()],
            };
            let followed = DeliveryClient::new(channel).follow(request).await;
            followed.map(tonic::Response::into_inner)
        };
        // Whatever connection they come by.
        let mut own = vec![];
        for _ in 0..4 {
            let mut progress = follow(cluster.channel().await).await.unwrap();
            assert!(!progress.message().await.unwrap().unwrap().done);
            own.push(progress);
        }
        let refused = follow(cluster.channel().await).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        let other = follow(tcp_channel(&cluster, Some(&admin)).await).await;
        assert!(!other.unwrap().message().await.unwrap().unwrap().done);
        (node, sync, own)
    });
    let parent = node.identity.svid.id().to_string();
    let create = |id: &'static str, wait: &'static str| {
        let spiffe_id = format!("spiffe://example.org/{id}");
        let fields = ["--parent", &parent, "--selector", "unix:uid:1", "--id", id, wait];
        cluster.muster(&[&["entry", "create", &spiffe_id][..], &fields].concat())
    };
    let refused = create("late", "--wait=1");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    for part in [
        "entry late was created, but could not be followed",
        "4 calls of this caller follow entries",
        "do not create it once more",
    ] {
        assert!(said.contains(part), "{said}");
    }
    // A place that is given back counts for the next one, which then waits for the node.
    own.pop();
    let waited = create("later", "--wait=2");
    let said = String::from_utf8_lossy(&waited.stderr);
    assert!(said.contains("not on all nodes after 2 s"), "{said}");
}
