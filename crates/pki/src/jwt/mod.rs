//! JWT-SVIDs (the JWT-SVID standard, JS): made by [`issue_jwt_svid`], checked by [`verify_jwt_svid`].
//!
//! A token is a bearer secret: whoever reads it can use it until it ends. [`JwtSvid`] therefore has no `Display`, and
//! errors never repeat a token's content.

mod audience;
mod authority;
mod claims;
mod issue;
mod svid;
mod verify;

pub use audience::{Audience, AudienceError};
pub use authority::{JwtAuthority, KeyId, ParseKeyIdError};
pub use claims::ClaimsError;
pub use issue::{IssueJwtError, JwtSvidProfile, TokenId, issue_jwt_svid};
pub use svid::{JwtSvid, ParseJwtSvidError};
pub use verify::{JwtBundleSource, VerifiedJwtSvid, VerifyJwtError, verify_jwt_svid};

#[cfg(test)]
mod tests;
