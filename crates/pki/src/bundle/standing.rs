use super::Bundle;
use crate::{jwt::KeyId, x509::AuthorityId};

/// How a bundle stands to an authority.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AuthorityStanding {
    /// It is in the bundle.
    Trusted,
    /// It is in the bundle, but nothing that it signed is to last.
    Tainted,
    /// It is not in the bundle: what it signed does not verify.
    Absent,
}

impl AuthorityStanding {
    fn of(tainted: Option<bool>) -> Self {
        match tainted {
            None => Self::Absent,
            Some(true) => Self::Tainted,
            Some(false) => Self::Trusted,
        }
    }
}

impl Bundle {
    /// How it stands to the X.509 authority of this id.
    pub fn x509_standing(&self, id: &AuthorityId) -> AuthorityStanding {
        let mut held = self.x509_authorities.iter().filter(|held| held.id() == id);
        // Two certificates may share a key: what stands below it is as good as the better of them.
        let first = held.next().map(|held| held.tainted());
        AuthorityStanding::of(first.map(|tainted| tainted && held.all(|held| held.tainted())))
    }

    /// How it stands to the token-signing key of this name.
    pub fn jwt_standing(&self, id: &KeyId) -> AuthorityStanding {
        let mut held = self.jwt_authorities.iter();
        AuthorityStanding::of(held.find(|held| held.key_id() == id).map(|held| held.tainted()))
    }
}
