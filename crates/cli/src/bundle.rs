//! `muster bundle`: the keys by which SVIDs are verified.

use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use muster_identity::TrustDomain;
use muster_pki::{bundle::Bundle, x509::X509Authority};
use muster_proto::{
    convert,
    spire::server::bundle::{
        BatchDeleteFederatedBundleRequest, BatchSetFederatedBundleRequest, CountBundlesRequest,
        GetBundleRequest, GetFederatedBundleRequest, ListFederatedBundlesRequest,
        batch_delete_federated_bundle_request, bundle_client::BundleClient,
    },
    spire::types,
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::{
    args::ServerSocket,
    connect::{Daemon, connect},
    failure::Failure,
    fingerprint,
    output::{self, Answer, Style},
    pages,
};

#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Show the server's own bundle, or that of another trust domain.
    Show(Show),
    /// List the own and the federated bundles.
    List(Plain),
    /// Count bundles, the own one too.
    Count(Plain),
    /// Set the bundle of another trust domain, in the place of one that is held.
    Set(Set),
    /// Delete the bundle of another trust domain.
    Delete(Delete),
}

impl BundleCommand {
    pub(crate) async fn run(self, style: &Style) -> Result<Answer, Failure> {
        match self {
            Self::Show(command) => command.run().await,
            Self::List(command) => command.list(style).await,
            Self::Count(command) => command.count().await,
            Self::Set(command) => command.run().await,
            Self::Delete(command) => command.run().await,
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Format {
    /// The X.509 authorities as certificates.
    Pem,
    /// The SPIFFE bundle document, with the keys for tokens too.
    Spiffe,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Show {
    /// The other trust domain. [default: the server's own]
    #[arg(value_name = "TRUST DOMAIN")]
    trust_domain: Option<TrustDomain>,
    /// Print the bundle itself in this form, for a file. [default: a summary]
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Show {
    async fn run(self) -> Result<Answer, Failure> {
        let mut client = client(&self.socket).await?;
        let bundle = match &self.trust_domain {
            None => own(&mut client).await?,
            Some(other) => foreign(&mut client, other).await?,
        };
        let text = match self.format {
            None => summary(&bundle),
            Some(Format::Pem) => bundle.x509_pem(),
            Some(Format::Spiffe) => bundle.to_document(),
        };
        Ok(Answer::new(text, json(&bundle)))
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Plain {
    #[command(flatten)]
    socket: ServerSocket,
}

impl Plain {
    async fn list(self, style: &Style) -> Result<Answer, Failure> {
        let mut client = client(&self.socket).await?;
        let mut bundles = vec![own(&mut client).await?];
        let federated = pages::all("bundles", style, |page_token| {
            let mut client = client.clone();
            let request = ListFederatedBundlesRequest {
                output_mask: None,
                page_size: pages::PAGE,
                page_token,
            };
            async move {
                let page = client.list_federated_bundles(request).await?.into_inner();
                Ok((page.bundles, page.next_page_token))
            }
        })
        .await?;
        for wire in &federated {
            bundles.push(read(wire)?);
        }
        let rows = bundles.iter().map(|bundle| {
            [
                bundle.trust_domain().to_string(),
                bundle.x509_authorities().len().to_string(),
                bundle.jwt_authorities().len().to_string(),
                bundle
                    .sequence()
                    .map(|sequence| sequence.to_string())
                    .unwrap_or_default(),
            ]
        });
        let text = output::table(
            ["TRUST DOMAIN", "X.509 AUTHORITIES", "JWT KEYS", "SEQUENCE"],
            rows,
        );
        Ok(Answer::new(text, bundles.iter().map(json).collect::<Value>()))
    }

    async fn count(self) -> Result<Answer, Failure> {
        let answer = client(&self.socket)
            .await?
            .count_bundles(CountBundlesRequest {})
            .await
            .map_err(|status| Failure::status("could not count bundles", &status))?;
        let count = usize::try_from(answer.into_inner().count).unwrap_or(0);
        Ok(Answer::new(
            output::count(count, "bundle", "bundles"),
            json!({ "count": count }),
        ))
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Set {
    /// The other trust domain.
    #[arg(value_name = "TRUST DOMAIN")]
    trust_domain: TrustDomain,
    /// Its bundle: a SPIFFE bundle document, PEM or DER.
    file: PathBuf,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Set {
    async fn run(self) -> Result<Answer, Failure> {
        let bundle = from_file(&self.trust_domain, &self.file)?;
        let request = BatchSetFederatedBundleRequest {
            bundle: vec![convert::bundle_to_wire(&bundle, None)],
            output_mask: None,
        };
        let what = "could not set the bundle";
        let answer = client(&self.socket)
            .await?
            .batch_set_federated_bundle(request)
            .await;
        let results = answer
            .map_err(|status| Failure::status(what, &status))?
            .into_inner()
            .results;
        convert::check_status(results.first().and_then(|result| result.status.as_ref()))
            .map_err(|status| Failure::status(what, &status))?;
        Ok(Answer::new(summary(&bundle), json(&bundle)))
    }
}

/// What becomes of entries that federate with the trust domain.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
enum Mode {
    /// Refuse while there are any.
    #[default]
    Restrict,
    /// Keep them, without the federation.
    Dissociate,
    /// Delete them.
    Delete,
}

#[derive(clap::Args, Debug)]
pub(crate) struct Delete {
    /// The other trust domain.
    #[arg(value_name = "TRUST DOMAIN")]
    trust_domain: TrustDomain,
    /// What becomes of entries that federate with it.
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Delete {
    async fn run(self) -> Result<Answer, Failure> {
        use batch_delete_federated_bundle_request::Mode as Wire;
        let mode = match self.mode {
            Mode::Restrict => Wire::Restrict,
            Mode::Dissociate => Wire::Dissociate,
            Mode::Delete => Wire::Delete,
        };
        let request = BatchDeleteFederatedBundleRequest {
            trust_domains: vec![self.trust_domain.to_string()],
            mode: mode.into(),
        };
        let what = "could not delete the bundle";
        let answer = client(&self.socket)
            .await?
            .batch_delete_federated_bundle(request)
            .await;
        let results = answer
            .map_err(|status| Failure::status(what, &status))?
            .into_inner()
            .results;
        convert::check_status(results.first().and_then(|result| result.status.as_ref()))
            .map_err(|status| Failure::status(what, &status))?;
        let text = format!("The bundle of {} is deleted", self.trust_domain);
        Ok(Answer::new(
            text,
            json!({ "deleted": self.trust_domain.as_str() }),
        ))
    }
}

/// Reads a bundle that somebody put into a file.
pub(crate) fn from_file(trust_domain: &TrustDomain, file: &Path) -> Result<Bundle, Failure> {
    let what = || format!("could not read the bundle {}", file.display());
    let bytes = std::fs::read(file).map_err(|error| Failure::usage(what(), error))?;
    let parsed = Bundle::from_file_bytes(trust_domain.clone(), &bytes);
    let parsed = parsed.map_err(|error| {
        Failure::usage(what(), crate::failure::chain(&error))
            .next("muster validate bundle tells more about it")
    })?;
    Ok(parsed.bundle)
}

async fn foreign(client: &mut BundleClient<Channel>, name: &TrustDomain) -> Result<Bundle, Failure> {
    let request = GetFederatedBundleRequest {
        trust_domain: name.to_string(),
        output_mask: None,
    };
    let answer = client.get_federated_bundle(request).await;
    read(
        &answer
            .map_err(|status| Failure::status("could not read the bundle", &status))?
            .into_inner(),
    )
}

async fn client(socket: &ServerSocket) -> Result<BundleClient<Channel>, Failure> {
    Ok(BundleClient::new(connect(&socket.path, Daemon::Server).await?))
}

/// The server's own bundle.
pub(crate) async fn own(client: &mut BundleClient<Channel>) -> Result<Bundle, Failure> {
    let answer = client
        .get_bundle(GetBundleRequest { output_mask: None })
        .await
        .map_err(|status| Failure::status("could not read the bundle", &status))?;
    read(&answer.into_inner())
}

fn read(wire: &types::Bundle) -> Result<Bundle, Failure> {
    convert::bundle(wire).map_err(|error| Failure::refused("could not read the server's answer", error))
}

fn summary(bundle: &Bundle) -> String {
    let head = output::block([
        ("Trust domain", bundle.trust_domain().to_string()),
        (
            "Sequence",
            bundle
                .sequence()
                .map(|sequence| sequence.to_string())
                .unwrap_or_default(),
        ),
        (
            "Refresh hint",
            bundle
                .refresh_hint()
                .map(|seconds| format!("{seconds}s"))
                .unwrap_or_default(),
        ),
    ]);
    let x509 = bundle.x509_authorities().iter().map(|authority| {
        [
            "X.509".to_owned(),
            authority.id().to_string(),
            ends(authority),
            taint(authority.tainted()),
        ]
    });
    let jwt = bundle.jwt_authorities().iter().map(|authority| {
        let ends = authority
            .expires_at()
            .map(|at| at.to_string())
            .unwrap_or_default();
        [
            "JWT".to_owned(),
            authority.key_id().to_string(),
            ends,
            taint(authority.tainted()),
        ]
    });
    let table = output::table(["KIND", "AUTHORITY", "ENDS", "STATE"], x509.chain(jwt));
    // What `muster-agent join --bundle-sha256` takes; the same that openssl prints.
    let pins = bundle.x509_authorities().iter().map(|authority| {
        format!(
            "SHA-256 of {}: {}",
            authority.id(),
            fingerprint::sha256(authority.der())
        )
    });
    format!("{head}\n\n{table}\n\n{}", pins.collect::<Vec<_>>().join("\n"))
}

fn ends(authority: &X509Authority) -> String {
    authority.validity().not_after.to_string()
}

fn taint(tainted: bool) -> String {
    if tainted { "tainted" } else { "" }.to_owned()
}

fn json(bundle: &Bundle) -> Value {
    json!({
        "trust_domain": bundle.trust_domain().as_str(),
        "sequence": bundle.sequence(),
        "refresh_hint": bundle.refresh_hint(),
        "x509_authorities": bundle.x509_authorities().iter().map(|authority| json!({
            "id": authority.id().as_str(),
            "ends": authority.validity().not_after.as_secs(),
            "tainted": authority.tainted(),
            "sha256": fingerprint::sha256(authority.der()),
        })).collect::<Vec<_>>(),
        "jwt_authorities": bundle.jwt_authorities().iter().map(|authority| json!({
            "key_id": authority.key_id().as_str(),
            "ends": authority.expires_at().map(|at| at.as_secs()),
            "tainted": authority.tainted(),
        })).collect::<Vec<_>>(),
        "document": serde_json::from_str::<Value>(&bundle.to_document()).unwrap_or(Value::Null),
    })
}
