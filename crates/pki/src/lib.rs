//! X.509-SVIDs, JWT-SVIDs and bundles: made, parsed and checked by the SPIFFE standards.
//!
//! The crate knows neither files nor sockets nor clocks: bytes, names and a time go in, values come out.
//!
//! ```text
//! csr bytes ──x509::Csr──▶ public key ─┐
//! entry (identity) ────────────────────┼─x509::issue_x509_svid──▶ x509::X509Svid ──▶ Workload API, TLS
//! signer::Signer (memory, TPM, KMS) ───┘
//!
//! peer's chain + bundles + now ──x509::verify_x509_svid──▶ VerifiedX509Svid   (tls: the same inside rustls)
//! token + bundles + audience + now ──jwt::verify_jwt_svid──▶ VerifiedJwtSvid
//! ```
//!
//! **Trusted:** the caller's clock and the bundles it hands in. **Not trusted:** everything else, above all sizes. Keys are
//! held to one policy ([`key::PublicKey`]) before any arithmetic, chains and documents to fixed bounds. What was verified is
//! what is used: verification returns the value, nothing is read from the input a second time.
//!
//! Private keys stay behind [`signer::Signer`]; the one kind that lives here is [`local_key::LocalKey`].
//! References to the standards: ID = SPIFFE-ID, XS = X509-SVID, JS = JWT-SVID, TB = Trust Domain and Bundle,
//! WA = Workload API. Begin at [`x509`] for certificates and at [`signer`] for keys.

pub mod bundle;
mod der;
pub mod ecdsa;
mod json;
pub mod jwk;
pub mod jws;
pub mod jwt;
pub mod key;
pub mod local_key;
pub mod secret;
pub mod signer;
pub mod tls;
pub mod x509;

pub use key::{BadSignature, KeyKind, PublicKey, PublicKeyError};
pub use local_key::{KeyAlgorithm, LocalKey, LocalKeyError};
pub use secret::SecretBytes;
pub use signer::{SignatureScheme, Signer, SignerError};
