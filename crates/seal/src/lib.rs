//! Secrets at rest: what is on the disk is of use to nobody who has only the disk.
//!
//! ```text
//! secret ─[`Seal::seal`] with a [`Purpose`]→ sealed bytes ─[`SealedFile`]: new file, fsync, rename, folder fsync→ disk
//! ```
//!
//! A *seal* holds the one key of a machine and seals and unseals under it: [`KeyFile`] keeps it in a file that only the
//! daemon's user can read; a TPM or a systemd credential stand behind the same trait. Each sealed value is bound to
//! its purpose: what was sealed as one thing does not open as another.
//!
//! Trusted: the kernel's file permissions, the random generator. Not trusted: the bytes on the disk (changed ones do
//! not open) and the folder (links and foreign owners are refused). A key file protects against backups and stolen
//! disks only as far as the key file is kept apart from them. Begin at [`Seal`].

mod aead;
pub mod atomic;
mod key_file;
mod purpose;
mod seal;
mod sealed_file;

pub use key_file::{KeyFile, KeyFileError};
pub use purpose::Purpose;
pub use seal::{Seal, SealError, SealKind};
pub use sealed_file::{SealedFile, SealedFileError};
pub use zeroize::Zeroizing;
