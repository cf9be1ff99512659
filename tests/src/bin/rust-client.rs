//! A workload that knows nothing of Muster: the `spiffe` crate, unchanged. It prints one JSON object per event.
//!
//! `rust-client fetch-x509 | watch-x509 | fetch-bundles | fetch-jwt AUDIENCE… | fetch-jwt-bundles |
//! validate-jwt AUDIENCE TOKEN | hammer N`; the Workload API is the one that `SPIFFE_ENDPOINT_SOCKET` names.

use std::{collections::BTreeMap, process::ExitCode};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};
use spiffe::{WorkloadApiClient, WorkloadApiError, X509Context, X509Svid};
use tokio_stream::StreamExt as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match run(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let code = error
                .downcast_ref::<WorkloadApiError>()
                .map_or("Unknown", code_of);
            event("error", json!({ "code": code, "message": format!("{error:#}") }));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &[String]) -> anyhow::Result<()> {
    let (command, rest) = args.split_first().context("which command?")?;
    if command == "hammer" {
        return hammer(rest.first().context("how often?")?.parse()?).await;
    }
    let client = WorkloadApiClient::connect_env().await?;
    match (command.as_str(), rest) {
        ("fetch-x509", []) => show(&client.fetch_x509_context().await?),
        ("watch-x509", []) => {
            let mut updates = std::pin::pin!(client.stream_x509_contexts().await?);
            while let Some(update) = updates.next().await {
                show(&update?);
            }
        }
        ("fetch-bundles", []) => {
            let set = client.fetch_x509_bundles().await?;
            let bundles: Vec<Value> = set
                .iter()
                .map(|(td, bundle)| json!({ "trust_domain": td.to_string(), "authorities": bundle.authorities().len() }))
                .collect();
            event("bundles", json!({ "bundles": bundles }));
        }
        ("fetch-jwt", [_, ..]) => {
            let svids: Vec<Value> = client
                .fetch_all_jwt_svids(rest, None)
                .await?
                .iter()
                .map(|svid| {
                    json!({ "id": svid.spiffe_id().to_string(), "hint": svid.hint().unwrap_or(""), "token": svid.token(),
                            "audience": svid.audience(), "not_after": svid.expiry().unix_timestamp() })
                })
                .collect();
            event("jwt", json!({ "svids": svids }));
        }
        ("fetch-jwt-bundles", []) => {
            let set = client.fetch_jwt_bundles().await?;
            let bundles: Vec<Value> = set
                .iter()
                .map(|(td, bundle)| json!({ "trust_domain": td.to_string(), "authorities": bundle.jwt_authorities().count() }))
                .collect();
            event("jwt-bundles", json!({ "bundles": bundles }));
        }
        ("validate-jwt", [audience, token]) => {
            let svid = client.validate_jwt_token(audience, token).await?;
            event("valid", json!({ "id": svid.spiffe_id().to_string() }));
        }
        _ => bail!("unknown command {command:?} or wrong arguments"),
    }
    Ok(())
}

async fn hammer(rounds: u32) -> anyhow::Result<()> {
    let mut failures = BTreeMap::<String, u32>::new();
    let mut served = 0;
    for _ in 0..rounds {
        let answer = match WorkloadApiClient::connect_env().await {
            Ok(client) => client.fetch_x509_svid().await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(_) => served += 1,
            Err(error) => *failures.entry(error.to_string()).or_default() += 1,
        }
    }
    event(
        "hammered",
        json!({ "ok": served, "failed": rounds - served, "errors": failures }),
    );
    Ok(())
}

fn show(update: &X509Context) {
    let svids: Vec<Value> = update.svids().iter().map(|svid| describe(svid)).collect();
    let bundles: Vec<Value> = update
        .bundle_set()
        .iter()
        .map(|(td, bundle)| json!({ "trust_domain": td.to_string(), "authorities": bundle.authorities().len() }))
        .collect();
    event("x509", json!({ "svids": svids, "bundles": bundles }));
}

fn describe(svid: &X509Svid) -> Value {
    let leaf =
        muster_pki::x509::Certificate::parse(svid.leaf().as_bytes()).expect("the library parsed it before");
    json!({
        "id": svid.spiffe_id().to_string(), "hint": svid.hint().unwrap_or(""), "serial": leaf.serial().to_string(),
        "not_before": leaf.validity().not_before.as_secs(), "not_after": leaf.validity().not_after.as_secs(), "chain": svid.cert_chain().len(),
    })
}

fn event(name: &str, mut fields: Value) {
    fields["event"] = name.into();
    println!("{fields}");
}

fn code_of(error: &WorkloadApiError) -> &'static str {
    match error {
        WorkloadApiError::NoIdentityIssued | WorkloadApiError::PermissionDenied(_) => "PermissionDenied",
        WorkloadApiError::Transport(_) if error.is_invalid_argument() => "InvalidArgument",
        _ => "Unknown",
    }
}
