//! `muster fetch x509`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use muster_identity::{SpiffeId, TrustDomain, UnixTime};
use muster_pki::{LocalKey, SecretBytes, Signer, bundle::Bundle, x509::X509Svid};
use muster_proto::workload::{X509svidRequest, X509svidResponse};
use muster_runtime::{Backoff, Clock, SystemClock};
use serde_json::{Value, json};
use tonic::{Code, Streaming};

use super::{Source, call, refused};
use crate::{
    failure::{Failure, chain, clean},
    files::{Folder, Readers},
    output::{self, Answer, Style},
    pem,
};

#[derive(clap::Args, Debug)]
pub(crate) struct X509 {
    /// Write svid.N.pem, svid.N.key, bundle.N.pem and federated_bundle.N.M.pem into this folder.
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
    /// Stay, and print (and write) again whenever something changes, and remove what is no more; ends when the identity is taken away, and leaves its files.
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    source: Source,
}

const WHAT: &str = "X.509-SVIDs";

/// How long a watcher waits for an agent that went away: it is back in a moment, and nobody else waits for this.
const AGAIN_FIRST: Duration = Duration::from_millis(100);
const AGAIN_LAST: Duration = Duration::from_secs(5);

impl X509 {
    pub(super) async fn run(self, style: &Style) -> Result<Answer, Failure> {
        let folder = self.write.as_deref().map(Folder::open).transpose()?;
        let (mut message, mut stream) = self.open().await?;
        let mut written = Vec::new();
        loop {
            let update = Update::read(message)?;
            let answer = update.answer(folder.as_ref(), &mut written)?;
            if !self.watch {
                return Ok(answer);
            }
            style.print(&answer.headed(&format!("--- {}", SystemClock.now())))?;
            message = match stream.message().await {
                Ok(Some(message)) => message,
                Err(status) if status.code() == Code::PermissionDenied => return Err(refused(WHAT, &status)),
                // The agent is restarted, or its service is: what was fetched stays valid meanwhile, and it will be back.
                Ok(None) | Err(_) => {
                    let (first, again) = self.open_again().await?;
                    stream = again;
                    first
                }
            };
        }
    }

    async fn open(&self) -> Result<(X509svidResponse, Streaming<X509svidResponse>), Failure> {
        let mut client = self.source.client().await?;
        let request = client.fetch_x509svid(call(X509svidRequest {}));
        self.source.first_of(WHAT, request).await
    }

    /// Until the agent answers again. A refusal is an answer.
    async fn open_again(&self) -> Result<(X509svidResponse, Streaming<X509svidResponse>), Failure> {
        let mut backoff = Backoff::new(AGAIN_FIRST, AGAIN_LAST);
        loop {
            tokio::time::sleep(backoff.next_wait()).await;
            match self.open().await {
                Ok(opened) => return Ok(opened),
                Err(failure) if failure.passing => {}
                Err(failure) => return Err(failure),
            }
        }
    }
}

/// One message, checked as a workload should check it.
pub(super) struct Update {
    svids: Vec<Held>,
    federated: BTreeMap<TrustDomain, Bundle>,
}

struct Held {
    svid: X509Svid,
    key: SecretBytes,
    bundle: Bundle,
    hint: String,
}

impl Update {
    /// The first identity, as who uses it himself needs it.
    pub(super) fn first(self) -> Result<(X509Svid, LocalKey, Bundle), Failure> {
        let held = self.svids.into_iter().next();
        let Held {
            svid, key, bundle, ..
        } =
            held.ok_or_else(|| Failure::refused("could not use the agent's answer", "it holds no identity"))?;
        let key = LocalKey::from_pkcs8(key.expose_secret()).map_err(|error| wrong(0, &error))?;
        Ok((svid, key, bundle))
    }

    pub(super) fn read(message: X509svidResponse) -> Result<Self, Failure> {
        if message.svids.is_empty() {
            // A refusal has a status; a list without anything says nothing (Workload API 4.5).
            return Err(Failure::refused(
                "could not use the agent's answer",
                "it holds no identity and is no refusal either",
            ));
        }
        let mut svids = Vec::with_capacity(message.svids.len());
        for (index, mut wire) in message.svids.into_iter().enumerate() {
            let key = SecretBytes::new(std::mem::take(&mut wire.x509_svid_key));
            let svid = X509Svid::from_der_concat(&wire.x509_svid).map_err(|error| wrong(index, &error))?;
            let id: SpiffeId = wire.spiffe_id.parse().map_err(|error| wrong(index, &error))?;
            let held = LocalKey::from_pkcs8(key.expose_secret()).map_err(|error| wrong(index, &error))?;
            if id != *svid.id() || held.public_key() != svid.public_key() {
                return Err(Failure::refused(
                    format!("could not use identity {index} of the agent's answer"),
                    "its ID, certificate and key don't belong together",
                ));
            }
            let bundle = Bundle::from_der_concat(id.trust_domain().clone(), &wire.bundle)
                .map_err(|error| wrong(index, &error))?;
            svids.push(Held {
                svid,
                key,
                bundle,
                hint: clean(&wire.hint),
            });
        }
        let federated = super::bundles::read_x509(&message.federated_bundles)?;
        Ok(Self { svids, federated })
    }

    /// Writes it into the folder, too, if there is one. `written` are the files of the update before, and then those of this one.
    fn answer(&self, folder: Option<&Folder>, written: &mut Vec<PathBuf>) -> Result<Answer, Failure> {
        let now = SystemClock.now();
        let mut blocks: Vec<String> = self.svids.iter().map(|held| held.block(now)).collect();
        if !self.federated.is_empty() {
            let names: Vec<_> = self.federated.keys().map(TrustDomain::to_string).collect();
            blocks.push(output::block([("Federated", names.join(", "))]));
        }
        if let Some(folder) = folder {
            let before = std::mem::replace(written, self.write(folder)?);
            let gone = folder.forget(&before, written)?;
            let wrote = written.iter().map(|path| format!("wrote {}", path.display()));
            let removed = gone.iter().map(|path| format!("removed {}", path.display()));
            let lines: Vec<_> = wrote.chain(removed).collect();
            blocks.push(lines.join("\n"));
        }
        let federated: BTreeMap<&str, String> = self
            .federated
            .iter()
            .map(|(name, bundle)| (name.as_str(), bundle.x509_pem()))
            .collect();
        let json = json!({
            "svids": self.svids.iter().map(Held::json).collect::<Value>(),
            "federated_bundles": federated,
        });
        Ok(Answer::new(blocks.join("\n\n"), json))
    }

    /// Keys first: who sees a new certificate finds its key.
    fn write(&self, folder: &Folder) -> Result<Vec<PathBuf>, Failure> {
        let mut written = Vec::new();
        for (n, held) in self.svids.iter().enumerate() {
            let key = pem::private_key(held.key.expose_secret());
            written.push(folder.write(&format!("svid.{n}.key"), key.as_bytes(), Readers::Owner)?);
            let chain = pem::certificates(held.svid.chain());
            written.push(folder.write(&format!("svid.{n}.pem"), chain.as_bytes(), Readers::All)?);
            let bundle = held.bundle.x509_pem();
            written.push(folder.write(&format!("bundle.{n}.pem"), bundle.as_bytes(), Readers::All)?);
            for (m, bundle) in self.federated.values().enumerate() {
                let name = format!("federated_bundle.{n}.{m}.pem");
                written.push(folder.write(&name, bundle.x509_pem().as_bytes(), Readers::All)?);
            }
        }
        Ok(written)
    }
}

impl Held {
    fn block(&self, now: UnixTime) -> String {
        output::block([
            ("SPIFFE ID", self.svid.id().to_string()),
            ("Hint", self.hint.clone()),
            ("Valid from", output::moment(self.svid.not_before(), now)),
            ("Valid until", output::moment(self.svid.not_after(), now)),
            ("Serial number", self.svid.serial().to_string()),
            ("Authorities", self.bundle.x509_authorities().len().to_string()),
        ])
    }

    /// Without the key: it goes into a file if somebody asks, never into a pipe by chance.
    fn json(&self) -> Value {
        json!({
            "spiffe_id": self.svid.id().to_string(),
            "hint": self.hint,
            "serial_number": self.svid.serial().to_string(),
            "not_before": self.svid.not_before().as_secs(),
            "not_after": self.svid.not_after().as_secs(),
            "x509_svid": pem::certificates(self.svid.chain()),
            "bundle": self.bundle.x509_pem(),
        })
    }
}

fn wrong(index: usize, error: &dyn std::error::Error) -> Failure {
    Failure::refused(
        format!("could not use identity {index} of the agent's answer"),
        chain(error),
    )
}
