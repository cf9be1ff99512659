//! Roles that use the Workload API as it is meant, only far too often.

use std::{collections::BTreeMap, io, path::PathBuf};

use hyper_util::rt::TokioIo;
use muster_proto::workload::{
    JwtsvidRequest, ValidateJwtsvidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient,
};
use tokio::task::JoinSet;
use tonic::{
    Code, Request,
    transport::{Channel, Endpoint},
};

/// Calls at once, on this many connections.
const ABREAST: usize = 1_600;
const CONNECTIONS: usize = 16;

type Client = SpiffeWorkloadApiClient<Channel>;

pub(crate) fn play(role: &str, socket: &str, count: usize) -> Option<io::Result<()>> {
    Some(match role {
        "bad-tokens" => flood(socket, count, |mut client, number| async move {
            let request = ValidateJwtsvidRequest {
                audience: "db".into(),
                svid: format!("{}{number}", forged()),
            };
            client.validate_jwtsvid(asked(request)).await.map(drop)
        }),
        "audiences" => flood(socket, count, |mut client, number| async move {
            let request = JwtsvidRequest {
                audience: vec![format!("audience-{number}")],
                ..JwtsvidRequest::default()
            };
            client.fetch_jwtsvid(asked(request)).await.map(drop)
        }),
        _ => return None,
    })
}

/// Makes `count` calls as fast as they are answered, and says how they ended.
fn flood<F>(socket: &str, count: usize, call: impl Fn(Client, usize) -> F) -> io::Result<()>
where
    F: Future<Output = Result<(), tonic::Status>> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(connect(socket.into()).await.map_err(io::Error::other)?);
        }
        println!("{}", serde_json::json!({ "event": "flooding" }));
        let mut ended = BTreeMap::<String, u64>::new();
        let mut calls = JoinSet::new();
        for number in 0..count {
            if calls.len() >= ABREAST {
                count_in(&mut ended, calls.join_next().await);
            }
            calls.spawn(call(clients[number % CONNECTIONS].clone(), number));
        }
        while let Some(done) = calls.join_next().await {
            count_in(&mut ended, Some(done));
        }
        println!("{}", serde_json::json!({ "event": "flooded", "ended": ended }));
        Ok(())
    })
}

fn count_in(
    ended: &mut BTreeMap<String, u64>,
    done: Option<Result<Result<(), tonic::Status>, tokio::task::JoinError>>,
) {
    let code = match done {
        Some(Ok(Ok(()))) => Code::Ok,
        Some(Ok(Err(status))) => status.code(),
        _ => Code::Unknown,
    };
    *ended.entry(format!("{code:?}")).or_default() += 1;
}

async fn connect(socket: PathBuf) -> Result<Client, tonic::transport::Error> {
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(tokio::net::UnixStream::connect(socket).await?)) }
        }))
        .await?;
    Ok(Client::new(channel))
}

fn asked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

/// Well formed up to its signature, so that as much as possible is done for it.
fn forged() -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let [header, claims] = [
        r#"{"alg":"ES256","kid":"none-of-yours","typ":"JWT"}"#,
        r#"{"sub":"spiffe://example.org/x","aud":["db"],"exp":4102444800}"#,
    ]
    .map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{header}.{claims}.{}", "A".repeat(80))
}
