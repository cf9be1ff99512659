//! Messages that no honest client sends, for every method of the server: made from the contracts, sent at both doors by whoever may call. Each is answered, by SPIRE's
//! code or a stricter one; none ends the daemon or makes it say that something panicked (I12).
//!
//! `MUSTER_SEED` repeats a run, `MUSTER_ROUNDS` makes it longer.

mod codec;
mod message;
mod random;

use std::{collections::BTreeMap, time::Duration};

use muster_proto::spire::server::entry::{CountEntriesRequest, entry_client::EntryClient};
use muster_tests::{Cluster, Identity, Settings, rounds, tcp_channel};
use tonic::{Code, Request, Status, transport::Channel};

use self::{
    codec::Raw,
    message::{Contracts, Method},
    random::Random,
};

/// How often each method is called in each role in the short form.
const SHORT: u64 = 16;
/// How long an answer is waited for that may never come: a stream that has nothing to say stays open.
const SILENCE: Duration = Duration::from_secs(3);

/// Their messages say nothing, and each call makes a key and publishes it.
const LEFT_OUT: &[&str] = &["PrepareX509Authority", "PrepareJWTAuthority"];

#[test]
fn no_message_on_any_method_ends_the_server_or_is_left_without_a_plain_answer() {
    let seed = random::seed();
    println!("MUSTER_SEED={seed} repeats this run");
    let cluster = Cluster::start_server_only(&Settings {
        server: "admin_ids = [\"spiffe://example.org/admin\"]\n[limits]\nattestation = false\nsigning = false\n",
        ..Settings::default()
    });
    let contracts = Contracts::of_the_server();
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    cluster.block_on(async {
        let admin = Identity::minted(&cluster, "spiffe://example.org/admin", 3_600).await;
        let node = Identity::joined(&cluster).await;
        let roles = [
            ("on the admin socket", cluster.channel().await),
            ("an administrator", tcp_channel(&cluster, Some(&admin)).await),
            ("a node", tcp_channel(&cluster, Some(&node)).await),
            ("nobody", tcp_channel(&cluster, None).await),
        ];
        let mut random = Random::new(seed);
        for (role, channel) in &roles {
            for method in contracts.methods() {
                if LEFT_OUT.iter().any(|name| method.path.ends_with(name)) {
                    continue;
                }
                // Who is refused at the door is refused whatever he sends, and each refusal is a record.
                if is_denied(&call(channel, method, vec![vec![]]).await) {
                    *answers.entry("denied at the door".to_owned()).or_default() += 1;
                    continue;
                }
                for round in 0..rounds(SHORT) {
                    let messages: Vec<_> = (0..random.below(3) + 1)
                        .map(|_| contracts.message(&method.input, &mut random))
                        .collect();
                    let about = format!("{} by {role}, round {round} of seed {seed}", method.path);
                    let answer = call(channel, method, messages).await;
                    let name = judged(&about, answer);
                    *answers.entry(name).or_default() += 1;
                }
            }
        }
        let counted = EntryClient::new(cluster.channel().await)
            .count_entries(CountEntriesRequest::default())
            .await;
        counted.expect("it serves as before");
    });
    println!("figure: answers to hostile messages by code: {answers:?}");
    assert!(
        answers.values().sum::<usize>() > 1_000,
        "it was called too seldom: {answers:?}"
    );
    // In a library's thread, a panic would end a call and not the process.
    let said = cluster.server().said();
    assert!(!said.contains("panicked"), "{said}");
    // What got in by chance reads back after a start.
    let mut cluster = cluster;
    assert!(cluster.take_server().stop().success());
    cluster.start_server();
}

/// The name of the answer's code, if it is one that a caller may be told.
fn judged(about: &str, answer: Option<Result<(), Status>>) -> String {
    let status = match answer {
        None => return "silence on a stream".to_owned(),
        Some(Ok(())) => return "Ok".to_owned(),
        Some(Err(status)) => status,
    };
    let text = status.message();
    let plain = match status.code() {
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unimplemented
        | Code::Aborted
        | Code::OutOfRange
        | Code::ResourceExhausted
        | Code::DeadlineExceeded => true,
        // What is no message of the method at all: gRPC's own answer.
        Code::Internal => text.contains("decode") || text.contains("Protobuf"),
        _ => false,
    };
    assert!(plain, "{about}: {status:?}");
    format!("{:?}", status.code())
}

fn is_denied(answer: &Option<Result<(), Status>>) -> bool {
    matches!(answer, Some(Err(status)) if status.message().contains("authorization denied for method"))
}

/// Sends messages to any method, and waits for the first answer; none when a stream stays silent.
async fn call(channel: &Channel, method: &Method, messages: Vec<Vec<u8>>) -> Option<Result<(), Status>> {
    let messages = match method.takes_many {
        true => messages,
        false => messages.into_iter().take(1).collect(),
    };
    let answered = async {
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready()
            .await
            .map_err(|error| Status::new(Code::Unknown, error.to_string()))?;
        let request = Request::new(tokio_stream::iter(messages));
        let path = method.path.parse().expect("a path");
        let answers = grpc.streaming(request, path, Raw).await?;
        answers.into_inner().message().await.map(drop)
    };
    match tokio::time::timeout(SILENCE, answered).await {
        Ok(answer) => Some(answer),
        Err(_) => {
            assert!(method.is_stream(), "{}: a call without an answer", method.path);
            None
        }
    }
}
