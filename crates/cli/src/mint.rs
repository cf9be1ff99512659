//! `muster mint`: SVIDs by name, for the administrator who may ask for any.

use std::path::PathBuf;

use clap::Subcommand;
use muster_identity::{DnsName, SpiffeId};
use muster_pki::{KeyAlgorithm, LocalKey, x509::create_named_csr};
use muster_proto::{
    convert::{self, spiffe_id_to_wire},
    spire::server::{
        bundle::bundle_client::BundleClient,
        svid::{MintJwtsvidRequest, MintX509svidRequest, svid_client::SvidClient},
    },
};
use muster_runtime::{Clock, SystemClock};
use serde_json::json;

use crate::{
    args::ServerSocket,
    bundle,
    connect::{Daemon, connect},
    duration,
    failure::{Failure, chain},
    files::{Folder, Readers},
    output::{self, Answer},
    pem,
};

#[derive(Debug, Subcommand)]
pub(crate) enum MintCommand {
    /// Make a key and have an X.509-SVID signed for it.
    X509(X509),
    /// Have a JWT-SVID signed.
    Jwt(Jwt),
}

impl MintCommand {
    pub(crate) async fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::X509(command) => command.run().await,
            Self::Jwt(command) => command.run().await,
        }
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct X509 {
    /// The identity.
    #[arg(value_name = "SPIFFE ID")]
    id: SpiffeId,
    /// How long it lives. [default: the server's]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_seconds)]
    ttl: Option<i32>,
    /// A DNS name for the certificate.
    #[arg(long = "dns", value_name = "NAME")]
    dns_names: Vec<DnsName>,
    /// The kind of key: ec-p256, ec-p384, rsa-2048 or rsa-4096.
    #[arg(long, default_value = "ec-p256", value_name = "KIND")]
    key: KeyAlgorithm,
    /// Write svid.pem, key.pem and bundle.pem into this folder instead of printing them.
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
    #[command(flatten)]
    socket: ServerSocket,
}

impl X509 {
    async fn run(self) -> Result<Answer, Failure> {
        let what = format!("could not mint an X.509-SVID for {}", self.id);
        let refused = |error: &dyn std::error::Error| Failure::refused(&what, chain(error));
        let key = LocalKey::generate(self.key).map_err(|error| refused(&error))?;
        let csr = create_named_csr(&key, Some(&self.id), &self.dns_names).map_err(|error| refused(&error))?;
        let channel = connect(&self.socket.path, Daemon::Server).await?;
        let answer = SvidClient::new(channel.clone())
            .mint_x509svid(MintX509svidRequest {
                csr,
                ttl: self.ttl.unwrap_or(0),
            })
            .await
            .map_err(|status| Failure::status(&what, &status))?;
        let svid =
            convert::x509_svid("svid", answer.into_inner().svid.as_ref()).map_err(|error| refused(&error))?;
        let bundle = bundle::own(&mut BundleClient::new(channel)).await?;

        let chain = pem::certificates(svid.chain());
        let pkcs8 = key.to_pkcs8().map_err(|error| refused(&error))?;
        let key = pem::private_key(pkcs8.expose_secret());
        let json = json!({
            "spiffe_id": svid.id().to_string(),
            "serial_number": svid.serial().to_string(),
            "expires_at": svid.not_after().as_secs(),
            "x509_svid": chain,
            "x509_svid_key": self.write.is_none().then(|| key.as_str()),
            "bundle": bundle.x509_pem(),
        });
        let head = output::block([
            ("SPIFFE ID", svid.id().to_string()),
            ("Serial number", svid.serial().to_string()),
            ("Expires", output::moment(svid.not_after(), SystemClock.now())),
        ]);
        let Some(folder) = self.write else {
            let text = format!("{head}\n\n{chain}\n{}\n{}", key.as_str(), bundle.x509_pem());
            return Ok(Answer::new(text, json));
        };
        let folder = Folder::open(&folder)?;
        let written = [
            folder.write("svid.pem", chain.as_bytes(), Readers::All)?,
            folder.write("key.pem", key.as_bytes(), Readers::Owner)?,
            folder.write("bundle.pem", bundle.x509_pem().as_bytes(), Readers::All)?,
        ];
        let lines: Vec<String> = written
            .iter()
            .map(|path| format!("wrote {}", path.display()))
            .collect();
        Ok(Answer::new(format!("{head}\n{}", lines.join("\n")), json))
    }
}

#[derive(clap::Args, Debug)]
pub(crate) struct Jwt {
    /// The identity.
    #[arg(value_name = "SPIFFE ID")]
    id: SpiffeId,
    /// Who is to accept the token. Repeat it for several.
    #[arg(long, required = true, value_name = "NAME")]
    audience: Vec<String>,
    /// How long it lives. [default: the server's]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_seconds)]
    ttl: Option<i32>,
    #[command(flatten)]
    socket: ServerSocket,
}

impl Jwt {
    async fn run(self) -> Result<Answer, Failure> {
        let what = format!("could not mint a JWT-SVID for {}", self.id);
        let request = MintJwtsvidRequest {
            id: Some(spiffe_id_to_wire(&self.id)),
            audience: self.audience,
            ttl: self.ttl.unwrap_or(0),
        };
        let answer = SvidClient::new(connect(&self.socket.path, Daemon::Server).await?)
            .mint_jwtsvid(request)
            .await
            .map_err(|status| Failure::status(&what, &status))?;
        let svid = convert::jwt_svid("svid", answer.into_inner().svid)
            .map_err(|error| Failure::refused(&what, chain(&error)))?;
        let json = json!({
            "spiffe_id": svid.id().to_string(),
            "audience": svid.audience(),
            "expires_at": svid.expires_at().as_secs(),
            "token": svid.token(),
        });
        // The token alone, so that it can be piped on.
        Ok(Answer::new(svid.token(), json))
    }
}
