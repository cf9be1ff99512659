//! `muster validate jwt`.

use std::path::PathBuf;

use muster_identity::UnixTime;
use muster_pki::jwt::{JwtSvid, verify_jwt_svid};
use muster_runtime::{Clock, SystemClock};
use zeroize::Zeroizing;

use super::{
    sources::{BundleArgument, Sources},
    verdict::{invalid, valid},
};
use crate::{
    duration,
    failure::{Failure, chain},
    files,
    output::Answer,
};

const WHAT: &str = "JWT-SVID";

#[derive(clap::Args, Debug)]
pub(crate) struct Jwt {
    /// A file with the token; - is standard input.
    #[arg(value_name = "TOKENFILE")]
    token: PathBuf,
    /// A trust domain's bundle: a SPIFFE bundle document, or a JWK Set as `muster fetch bundles` writes it. Repeat it for several.
    #[arg(long = "bundle", required = true, value_name = "TRUST DOMAIN=FILE")]
    bundles: Vec<BundleArgument>,
    /// Who must be among those the token is for. [default: not checked]
    #[arg(long, value_name = "NAME")]
    audience: Option<String>,
    /// The moment at which it must be valid, as 2026-01-31T08:00:00Z. [default: now]
    #[arg(long, value_name = "MOMENT", value_parser = duration::parse_moment)]
    at: Option<UnixTime>,
}

impl Jwt {
    pub(super) fn run(self) -> Result<Answer, Failure> {
        let (bundles, mut notes) = match Sources::read_keys(&self.bundles)? {
            Sources::Read(bundles, notes) => (bundles, notes),
            Sources::Invalid(why) => return Ok(invalid(WHAT, &why, None)),
        };
        let bytes = Zeroizing::new(files::read(&self.token)?);
        let Some(token) = std::str::from_utf8(&bytes).ok().map(str::trim_ascii) else {
            return Ok(invalid(WHAT, "the file is not text", Some("JWT-SVID 2")));
        };
        let audience = match self.audience {
            Some(audience) => audience,
            None => {
                notes.push("the audience was not checked: name yours with --audience".to_owned());
                match JwtSvid::parse_unverified(token.to_owned()) {
                    Ok(svid) => svid.audience().first().cloned().unwrap_or_default(),
                    Err(error) => return Ok(invalid(WHAT, &chain(&error), None)),
                }
            }
        };
        let now = self.at.unwrap_or_else(|| SystemClock.now());
        let verified = match verify_jwt_svid(token, &bundles, &audience, now) {
            Ok(verified) => verified,
            Err(error) => return Ok(invalid(WHAT, &chain(&error), None)),
        };
        let fields = vec![
            ("SPIFFE ID", verified.id().to_string().into()),
            ("Audience", verified.audience().to_vec().into()),
            ("Issued", verified.issued_at().map(|at| at.to_string()).into()),
            ("Expires", verified.expires_at().to_string().into()),
            ("Issuer", verified.issuer().into()),
            ("Token ID", verified.token_id().into()),
            ("Authority", verified.key_id().to_string().into()),
        ];
        Ok(valid(WHAT, fields, &notes))
    }
}
