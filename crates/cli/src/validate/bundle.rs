//! `muster validate bundle`.

use std::path::PathBuf;

use muster_identity::TrustDomain;
use muster_pki::bundle::Bundle;

use super::{
    sources::ignored,
    verdict::{invalid, valid},
};
use crate::{
    failure::{Failure, chain},
    files,
    output::Answer,
};

#[derive(clap::Args, Debug)]
pub(crate) struct BundleFile {
    /// The bundle: PEM, DER or a SPIFFE bundle document; - is standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Whose bundle it is. A bundle does not say so itself.
    #[arg(long, value_name = "TRUST DOMAIN")]
    trust_domain: TrustDomain,
}

impl BundleFile {
    pub(super) fn run(self) -> Result<Answer, Failure> {
        let bytes = files::read(&self.file)?;
        let parsed = match Bundle::from_file_bytes(self.trust_domain, &bytes) {
            Ok(parsed) => parsed,
            Err(error) => return Ok(invalid("bundle", &chain(&error), None)),
        };
        let bundle = &parsed.bundle;
        let fields = vec![
            ("Trust domain", bundle.trust_domain().as_str().into()),
            ("X.509 authorities", bundle.x509_authorities().len().into()),
            ("JWT keys", bundle.jwt_authorities().len().into()),
            ("WIT keys", bundle.wit_authorities().len().into()),
            ("Sequence", bundle.sequence().into()),
            ("Refresh hint", bundle.refresh_hint().into()),
        ];
        Ok(valid("bundle", fields, &ignored(&parsed, "key")))
    }
}
