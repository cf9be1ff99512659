//! `muster fetch bundles`.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use muster_identity::{SpiffeId, TrustDomain};
use muster_pki::bundle::Bundle;
use muster_proto::workload::{JwtBundlesRequest, X509BundlesRequest};
use serde_json::json;

use super::{Source, call};
use crate::{
    failure::{Failure, chain, clean},
    files::{Folder, Readers},
    jwk_set,
    output::{self, Answer},
};

#[derive(clap::Args, Debug)]
pub(crate) struct Bundles {
    /// Write bundle.N.pem and bundle.N.jwks.json into this folder.
    #[arg(long, value_name = "FOLDER")]
    write: Option<PathBuf>,
    #[command(flatten)]
    source: Source,
}

impl Bundles {
    pub(super) async fn run(self) -> Result<Answer, Failure> {
        let folder = self.write.as_deref().map(Folder::open).transpose()?;
        let mut client = self.source.client().await?;
        let request = client.fetch_x509_bundles(call(X509BundlesRequest {}));
        let (x509, _) = self.source.first_of("X.509 bundles", request).await?;
        let request = client.fetch_jwt_bundles(call(JwtBundlesRequest {}));
        let (jwt, _) = self.source.first_of("JWT bundles", request).await?;
        let x509 = read_x509(&x509.bundles)?;
        let jwt = read_jwt(&jwt.bundles)?;

        let names: std::collections::BTreeSet<&TrustDomain> = x509.keys().chain(jwt.keys()).collect();
        let rows = names.iter().map(|name| {
            [
                name.to_string(),
                x509.get(*name)
                    .map_or(0, |bundle| bundle.x509_authorities().len())
                    .to_string(),
                jwt.get(*name)
                    .map_or(0, |bundle| bundle.jwt_authorities().len())
                    .to_string(),
            ]
        });
        let mut text = output::table(["TRUST DOMAIN", "X.509 AUTHORITIES", "JWT KEYS"], rows);
        let mut json = serde_json::Map::new();
        for (n, name) in names.iter().enumerate() {
            let pem = x509.get(*name).map(Bundle::x509_pem);
            let jwks = jwt.get(*name).map(Bundle::jwks_for_workload);
            if let Some(folder) = &folder {
                let mut note = |path: PathBuf| text.push_str(&format!("\nwrote {}", path.display()));
                if let Some(pem) = &pem {
                    note(folder.write(&format!("bundle.{n}.pem"), pem.as_bytes(), Readers::All)?);
                }
                if let Some(jwks) = &jwks {
                    note(folder.write(&format!("bundle.{n}.jwks.json"), jwks.as_bytes(), Readers::All)?);
                }
            }
            json.insert(name.to_string(), json!({ "x509": pem, "jwt": jwks }));
        }
        Ok(Answer::new(text, json.into()))
    }
}

/// Reads bundles as the Workload API sends them: by trust domain ID, certificates one after the other.
pub(super) fn read_x509(wire: &HashMap<String, Vec<u8>>) -> Result<BTreeMap<TrustDomain, Bundle>, Failure> {
    read(wire, |name, der| {
        Bundle::from_der_concat(name, der).map_err(|error| chain(&error))
    })
}

fn read_jwt(wire: &HashMap<String, Vec<u8>>) -> Result<BTreeMap<TrustDomain, Bundle>, Failure> {
    read(wire, |name, jwks| {
        let parsed = jwk_set::read(name, jwks);
        parsed.map(|parsed| parsed.bundle).map_err(|error| chain(&error))
    })
}

fn read(
    wire: &HashMap<String, Vec<u8>>,
    parse: impl Fn(TrustDomain, &[u8]) -> Result<Bundle, String>,
) -> Result<BTreeMap<TrustDomain, Bundle>, Failure> {
    wire.iter()
        .map(|(name, bytes)| {
            let what = format!(
                "could not use the bundle of {:?} in the agent's answer",
                clean(name)
            );
            let id: SpiffeId = name.parse().map_err(|error| Failure::refused(&what, error))?;
            if !id.is_trust_domain_id() {
                return Err(Failure::refused(what, "that is not the ID of a trust domain"));
            }
            let name = id.trust_domain().clone();
            let bundle = parse(name.clone(), bytes).map_err(|why| Failure::refused(what, why))?;
            Ok((name, bundle))
        })
        .collect()
}
