//! From a record and its key to what signs.

use std::sync::Arc;

use muster_audit::Actor;
use muster_pki::Signer;
use muster_pki::x509::{CertificateDer, IssuingAuthority, X509Authority};

use super::{Keeper, KeeperError};
use crate::ca::life::{Order, Stage};
use crate::ca::record::{AuthorityRecord, Kind};
use crate::ca::sign::JwtSigner;

/// An authority with its key, found fit to sign.
pub(super) enum Loaded {
    X509(IssuingAuthority),
    Jwt(JwtSigner),
}

impl Keeper {
    /// Makes the active authority of the log the one that signs. One whose key is gone can't sign any more and becomes old.
    pub(super) async fn load(&self, kind: Kind) -> Result<(), KeeperError> {
        let records = self.records(kind)?;
        let Some(active) = records.iter().find(|record| record.life.stage == Stage::Active) else {
            return Ok(());
        };
        if self.ca.signs_with(kind, &active.life.id) {
            return Ok(());
        }
        match self.loaded(active).await? {
            Some(loaded) => {
                self.install(loaded);
                Ok(())
            }
            None => {
                let retire = Order::Retire(active.life.id.clone());
                self.carry_out(kind, retire, &Actor::Daemon).await.map(drop)
            }
        }
    }

    /// What signs for `record`; nothing when its key is gone.
    pub(super) async fn loaded(&self, record: &AuthorityRecord) -> Result<Option<Loaded>, KeeperError> {
        let Some(signer) = self.keys.load(&record.key).await? else {
            return Ok(None);
        };
        loaded(record, signer).map(Some)
    }

    /// Lets it sign from the next request on.
    pub(super) fn install(&self, loaded: Loaded) {
        match loaded {
            Loaded::X509(authority) => {
                self.meter.x509_ends(authority.ends());
                self.ca.activate_x509(Some(authority));
            }
            Loaded::Jwt(signer) => self.ca.activate_jwt(Some(signer)),
        }
    }
}

fn loaded(record: &AuthorityRecord, signer: Arc<dyn Signer>) -> Result<Loaded, KeeperError> {
    let id = &record.life.id;
    match record.kind {
        Kind::X509 => {
            let certificate = |source| KeeperError::Certificate {
                id: id.clone(),
                source,
            };
            let authority = X509Authority::from_der(&record.public).map_err(certificate)?;
            let chain = record.chain.iter().map(|der| CertificateDer::from(der.clone()));
            let issuing = IssuingAuthority::new(authority, chain.collect(), signer)?;
            // A root above may end before the chain does; its end was taken into the record.
            Ok(Loaded::X509(issuing.ending_by(record.life.not_after)))
        }
        Kind::Jwt => Ok(Loaded::Jwt(JwtSigner {
            key_id: id.parse()?,
            not_after: record.life.not_after,
            signer,
        })),
    }
}
