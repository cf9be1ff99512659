//! The revocation lists to hold a chain against.

use std::path::{Path, PathBuf};

use muster_pki::x509::{Certificate, CertificateDer, RevocationList, RevocationListError};
use rustls_pki_types::{CertificateRevocationListDer, pem::PemObject};

use crate::{failure::Failure, files};

/// Lists in the order in which they were given, each with the file that it was in.
pub(super) struct Lists {
    pub(super) lists: Vec<RevocationList>,
    files: Vec<PathBuf>,
}

/// Lists could be read, or one of them can't be used.
pub(super) enum Read {
    Lists(Lists),
    Invalid(String, &'static str),
}

impl Lists {
    /// Reads the files, each PEM with one list or more, or one list in DER.
    ///
    /// A file that isn't there is a mistake of the caller; one that is no list is an answer to his question.
    pub(super) fn read(paths: &[PathBuf]) -> Result<Read, Failure> {
        let (mut lists, mut files) = (Vec::new(), Vec::new());
        for path in paths {
            let Some(found) = split(&files::read(path)?) else {
                let why = format!("{} is neither PEM nor DER of revocation lists", path.display());
                return Ok(Read::Invalid(why, RevocationListError::Malformed.section()));
            };
            for der in found {
                match RevocationList::parse(&der) {
                    Ok(list) => lists.push(list),
                    Err(error) => {
                        return Ok(Read::Invalid(
                            format!("{}: {error}", path.display()),
                            error.section(),
                        ));
                    }
                }
                files.push(path.clone());
            }
        }
        Ok(Read::Lists(Self { lists, files }))
    }

    /// The file of a list, counted from 1 as errors count them.
    pub(super) fn file(&self, list: usize) -> Option<&Path> {
        self.files.get(list.checked_sub(1)?).map(PathBuf::as_path)
    }

    /// The lists that come from an issuer of the chain, in words; and notes on those that do not.
    pub(super) fn shown(&self, chain: &[CertificateDer<'_>]) -> (Vec<String>, Vec<String>) {
        let chain: Vec<_> = chain
            .iter()
            .filter_map(|der| Certificate::parse(der).ok())
            .collect();
        let (mut used, mut notes) = (Vec::new(), Vec::new());
        for (list, file) in self.lists.iter().zip(&self.files) {
            let file = file.display();
            if chain.iter().any(|certificate| list.is_by_issuer_of(certificate)) {
                let (number, until) = (list.number(), list.next_update());
                used.push(format!("{file}, number {number}, until {until}"));
            } else {
                notes.push(format!(
                    "a revocation list in {file} is not used: it comes from none of the chain's issuers"
                ));
            }
        }
        (used, notes)
    }
}

/// The lists of a file, in either form.
fn split(bytes: &[u8]) -> Option<Vec<CertificateRevocationListDer<'static>>> {
    if bytes.trim_ascii_start().starts_with(b"-----") || bytes.is_ascii() {
        let lists = CertificateRevocationListDer::pem_slice_iter(bytes);
        let lists: Vec<_> = lists.collect::<Result<_, _>>().ok()?;
        return (!lists.is_empty()).then_some(lists);
    }
    Some(vec![CertificateRevocationListDer::from(bytes.to_vec())])
}
