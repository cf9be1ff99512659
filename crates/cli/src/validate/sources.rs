//! The bundles to verify against.

use std::{collections::BTreeMap, path::PathBuf, str::FromStr};

use muster_identity::TrustDomain;
use muster_pki::{
    bundle::{Bundle, BundleFileError, ParsedBundle},
    jwt::{JwtAuthority, JwtBundleSource},
    x509::{X509Authority, X509BundleSource},
};

use crate::{
    failure::{Failure, chain},
    files, jwk_set,
};

/// `TD=FILE` on the command line.
#[derive(Clone, Debug)]
pub(super) struct BundleArgument {
    trust_domain: TrustDomain,
    file: PathBuf,
}

impl FromStr for BundleArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, file) = text.split_once('=').ok_or("write TRUST-DOMAIN=FILE")?;
        if file.is_empty() {
            return Err("no file is named behind the =".to_owned());
        }
        let trust_domain = name
            .parse()
            .map_err(|error: muster_identity::ParseTrustDomainError| error.to_string())?;
        Ok(Self {
            trust_domain,
            file: file.into(),
        })
    }
}

/// Bundles by trust domain. Unlike a daemon's set, none of them is our own.
pub(super) struct Bundles(BTreeMap<TrustDomain, Bundle>);

/// Bundles could be read, or one of them is itself invalid.
pub(super) enum Sources {
    Read(Bundles, Vec<String>),
    Invalid(String),
}

impl Sources {
    /// Reads the files.
    ///
    /// A file that isn't there is a mistake of the caller; one that is no bundle is an answer to his question.
    pub(super) fn read(arguments: &[BundleArgument]) -> Result<Self, Failure> {
        Self::read_as(arguments, Bundle::from_file_bytes)
    }

    /// The same for tokens: a JWK Set such as `muster fetch bundles` writes counts too.
    pub(super) fn read_keys(arguments: &[BundleArgument]) -> Result<Self, Failure> {
        Self::read_as(arguments, |trust_domain, bytes| {
            // The document first: it is the one that bounds what is read.
            let parsed = Bundle::from_file_bytes(trust_domain.clone(), bytes)?;
            match !parsed.ignored.is_empty() && jwk_set::is_one(bytes) {
                true => Ok(jwk_set::read(trust_domain, bytes)?),
                false => Ok(parsed),
            }
        })
    }

    fn read_as(
        arguments: &[BundleArgument],
        parse: impl Fn(TrustDomain, &[u8]) -> Result<ParsedBundle, BundleFileError>,
    ) -> Result<Self, Failure> {
        let (mut bundles, mut notes) = (BTreeMap::new(), Vec::new());
        for BundleArgument { trust_domain, file } in arguments {
            let bytes = files::read(file)?;
            let parsed = match parse(trust_domain.clone(), &bytes) {
                Ok(parsed) => parsed,
                Err(error) => {
                    return Ok(Self::Invalid(format!(
                        "the bundle {}: {}",
                        file.display(),
                        chain(&error)
                    )));
                }
            };
            notes.extend(ignored(&parsed, &format!("in {trust_domain}'s bundle, key")));
            if bundles.insert(trust_domain.clone(), parsed.bundle).is_some() {
                return Err(Failure::usage(
                    "could not read the bundles",
                    format!("{trust_domain} is named twice"),
                )
                .next("put all its authorities into one file"));
            }
        }
        Ok(Self::Read(Bundles(bundles), notes))
    }
}

/// What of a document was not used, in words.
pub(super) fn ignored(parsed: &ParsedBundle, what: &str) -> Vec<String> {
    parsed
        .ignored
        .iter()
        .map(|key| format!("{what} {} is not used: {}", key.index, chain(&key.why)))
        .collect()
}

impl X509BundleSource for Bundles {
    fn x509_authorities(&self, trust_domain: &TrustDomain) -> Option<&[X509Authority]> {
        self.0.get(trust_domain).map(Bundle::x509_authorities)
    }
}

impl JwtBundleSource for Bundles {
    fn jwt_authorities(&self, trust_domain: &TrustDomain) -> Option<&[JwtAuthority]> {
        self.0.get(trust_domain).map(Bundle::jwt_authorities)
    }
}
