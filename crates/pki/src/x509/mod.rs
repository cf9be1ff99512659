//! X.509-SVIDs and the authorities that issue them.
//!
//! ```text
//! request ──Csr::parse──▶ key, proven        root key ──issue_root──▶ IssuingAuthority
//!                          └────────┬───────────────────────┘
//!                            issue_x509_svid ──checked by our own rules──▶ X509Svid
//!
//! downstream's request ──issue_intermediate──▶ chain, root left out ──UpheldAuthority::accept──▶ IssuingAuthority, at the downstream
//!
//! chain ──Certificate::parse──▶ leaf rules (XS 2 to 5) ──▶ bundle of *its* trust domain ──▶ path ──▶ VerifiedX509Svid
//!                                                    revocation lists, where somebody has them ──▲
//! ```
//!
//! A certificate is taken apart once, strictly: one DER form, every extension accounted for. The path is then built and
//! judged here rather than by a general library, because the standard asks for things that those leave open: the bundle
//! is chosen by the leaf's trust domain, anchors must be valid certificate authorities too, key usage counts, and URI
//! name constraints are evaluated. A general library is asked for a second opinion on the path that was found.

mod authority;
mod certificate;
mod certify;
mod chain;
mod csr;
mod extensions;
mod intermediate;
mod issue;
mod leaf;
mod name;
mod name_constraints;
mod path;
mod raw_name;
mod revocation;
mod second_opinion;
mod serial;
mod shown;
mod signed;
mod svid;
mod upheld;
mod validity;
mod verify;

pub use authority::{AuthorityError, AuthorityId, X509Authority};
pub use certificate::{Certificate, CertificateError, MAX_CERTIFICATE};
pub use chain::{Chain, VerifiedChain, VerifyChainError};
pub use csr::{Csr, CsrError, MAX_CSR, create_authority_csr, create_csr, create_named_csr};
pub use intermediate::{IntermediateProfile, IntermediateSubject, issue_intermediate};
pub use issue::{
    BACKDATE, IssueError, IssuingAuthority, RootProfile, Subject, X509SvidProfile, ca_subject, issue_root,
    issue_x509_svid, leaf_validity,
};
pub use leaf::LeafError;
pub use name::{Name, NameAttribute, NameError};
pub use path::PathError;
pub use raw_name::{RawName, RawNameError};
pub use revocation::{
    MAX_REVOCATION_LIST, MAX_REVOCATION_LISTS, MAX_REVOKED, Reason, RevocationError, RevocationList,
    RevocationListError, Revoked,
};
pub use serial::{NoRandomness, ParseSerialError, Serial};
pub use shown::{ShownCertificate, shown_chain};
pub use svid::{ParseSvidError, X509Svid};
pub use upheld::{UpheldAuthority, UpheldError};
pub use validity::Validity;
pub use verify::{
    ChainError, MAX_CHAIN, MAX_CHAIN_BYTES, VerifiedX509Svid, VerifyError, X509BundleSource,
    verify_unrevoked_x509_svid, verify_x509_svid,
};

pub use rustls_pki_types::CertificateDer;

#[cfg(test)]
mod limbo;
#[cfg(test)]
mod test_pki;
#[cfg(test)]
mod tests;
