//! `muster audit`: whether an audit log is whole. Offline: the log may lie on the server's disk or in a copy of it.

use std::path::PathBuf;

use clap::Subcommand;
use muster_audit::{
    Checkpoint, Trust, Verified, VerifyError, origin_beside, public_key_from_pem, verify, verify_chain,
};
use muster_pki::key::PublicKey;
use serde_json::json;

use crate::{
    failure::{Failure, chain, clean},
    files,
    output::{Answer, block},
};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Check every record, link and signature of an audit log.
    Verify(Verify),
}

#[derive(clap::Args, Debug)]
pub(crate) struct Verify {
    /// The log's folder, `audit` in the daemon's data folder, or a copy of it. The daemon may be running.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
    /// The public key that signs the log: `audit-key.pem` in the server's data folder, kept elsewhere since. Without it signatures are not checked.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// The log's name. Without it the log is taken for what it says it is.
    #[arg(long, value_name = "NAME", requires = "key")]
    origin: Option<String>,
    /// A copy of the file `checkpoint` beside the log, kept elsewhere: shows whether records at the end are gone.
    #[arg(long, value_name = "FILE", requires = "key")]
    checkpoint: Option<PathBuf>,
    /// The record with which the log may begin at the latest, where older files were put away. [default: 0, all must be there]
    #[arg(long, value_name = "NUMBER", default_value_t = 0, hide_default_value = true)]
    first: u64,
}

impl AuditCommand {
    pub(crate) fn run(self) -> Result<Answer, Failure> {
        match self {
            Self::Verify(verify) => verify.run(),
        }
    }
}

impl Verify {
    fn run(self) -> Result<Answer, Failure> {
        let found = match &self.key {
            None => verify_chain(&self.folder),
            Some(key) => verify(&self.folder, &self.trust(public_key(key)?)?),
        };
        match found {
            Ok(verified) if verified.records == 0 => Err(self.nothing()),
            Ok(Verified { first, .. }) | Err(VerifyError::Before { first, .. }) if first > self.first => {
                let why = format!(
                    "the log begins with record {first}; if older files were put away, say so by --first {first}"
                );
                Ok(damaged(Some(self.first), &why))
            }
            Ok(verified) => Ok(self.whole(&verified)),
            Err(error @ VerifyError::Before { .. }) => Err(Failure::refused(
                format!("could not compare {} with the checkpoint", self.folder.display()),
                error,
            )
            .next("put the older files back beside it, or take a later checkpoint")),
            Err(VerifyError::Open(error)) => Err(Failure::refused(
                format!("could not read the audit log in {}", self.folder.display()),
                chain(&error),
            )
            .next("name the folder `audit` in the daemon's data folder, and read it as the daemon's user")),
            Err(error) => Ok(damaged(error.first(), &clean(&chain(&error)))),
        }
    }

    fn trust(&self, key: PublicKey) -> Result<Trust, Failure> {
        let origin = match &self.origin {
            Some(origin) => origin.clone(),
            None => origin_beside(&self.folder).ok_or_else(|| self.nothing())?,
        };
        let keys = vec![key];
        let known = match &self.checkpoint {
            None => None,
            Some(path) => {
                let note = String::from_utf8_lossy(&files::read(path)?).into_owned();
                let known = Checkpoint::verify(&note, &origin, &keys);
                Some(known.map_err(|error| {
                    Failure::refused(format!("could not use the checkpoint {}", path.display()), error)
                })?)
            }
        };
        Ok(Trust { origin, keys, known })
    }

    fn nothing(&self) -> Failure {
        let what = format!("could not verify {}", self.folder.display());
        Failure::refused(what, "there is no audit log in this folder")
            .next("name the folder `audit` in the daemon's data folder")
    }

    fn whole(&self, verified: &Verified) -> Answer {
        let checked = self.key.is_some();
        let root = verified.root.to_hex();
        let signed = match checked {
            true => verified.signed.to_string(),
            false => "not checked: no --key was given".to_owned(),
        };
        // Only where older files were put away.
        let first = (verified.first > 0).then_some(verified.first);
        let fields = [
            ("Log", origin_beside(&self.folder).unwrap_or_default()),
            (
                "First record",
                first.map(|first| first.to_string()).unwrap_or_default(),
            ),
            ("Records", verified.records.to_string()),
            ("Signed", signed),
            ("Tree head", root.clone()),
        ];
        let text = format!("the audit log is whole\n{}", block(fields));
        let json = json!({
            "whole": true,
            "first": verified.first,
            "records": verified.records,
            "signed": checked.then_some(verified.signed),
            "tree_head": root,
        });
        Answer::new(text.trim_end(), json)
    }
}

fn damaged(first: Option<u64>, why: &str) -> Answer {
    let fields = [
        (
            "First damaged record",
            first.map(|index| index.to_string()).unwrap_or_default(),
        ),
        ("Why", why.to_owned()),
    ];
    let text = format!("the audit log is NOT whole\n{}", block(fields));
    let json = json!({ "whole": false, "first_damaged": first, "why": why });
    Answer::new(text.trim_end(), json).incomplete(true)
}

fn public_key(path: &std::path::Path) -> Result<PublicKey, Failure> {
    let what = || format!("could not use the key {}", path.display());
    let text = String::from_utf8(files::read(path)?).map_err(|error| Failure::usage(what(), error))?;
    public_key_from_pem(&text).map_err(|error| Failure::usage(what(), chain(&error)))
}
