//! A caller whose HTTP/2 is right in everything but one: it never answers a PING.

use muster_tests::Cluster;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::net::UnixStream;
use tonic::{Code, transport::Endpoint};

use crate::caller::{HEADER, call};

const PREFACE: usize = 24;
const PING: u8 = 6;
const ACK: u8 = 1;

/// It gets nothing, and is told that this may change.
pub(crate) async fn is_told_to_come_back(cluster: &Cluster) {
    let path = cluster.workload_socket();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move {
            let (ours, filtered) = tokio::io::duplex(1 << 16);
            let task = tokio::spawn(pass_all_but_answers(filtered, UnixStream::connect(path).await?));
            drop(task); // ends with the connection
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(ours))
        }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    let status = call(channel, "/SpiffeWorkloadAPI/FetchX509SVID", &[HEADER])
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
}

async fn pass_all_but_answers(client: DuplexStream, agent: UnixStream) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_agent, mut to_agent) = agent.into_split();
    let forth = async {
        let mut preface = [0; PREFACE];
        from_client.read_exact(&mut preface).await?;
        to_agent.write_all(&preface).await?;
        loop {
            let mut head = [0; 9];
            from_client.read_exact(&mut head).await?;
            let mut frame = head.to_vec();
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            frame.resize(head.len() + usize::try_from(length).expect("24 bits"), 0);
            from_client.read_exact(&mut frame[head.len()..]).await?;
            if (head[3], head[4]) != (PING, ACK) {
                to_agent.write_all(&frame).await?;
            }
        }
    };
    let back = tokio::io::copy(&mut from_agent, &mut to_client);
    tokio::select! {
        ended = forth => ended,
        ended = back => ended.map(drop),
    }
}
