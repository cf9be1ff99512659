//! The node's next certificate: renewed while the present one counts, or earned anew.
//!
//! A node whose proof lasts gives the whole proof each time, so that what vouches for the machine is asked again and again (SPIRE's servers refuse it
//! any other way). A node that came by a join token renews by its certificate and comes back by its last key.

use std::sync::Arc;

use muster_pki::LocalKey;
use muster_runtime::Stop;
use tonic::transport::Channel;
use tracing::{info, warn};

use super::link::Link;
use super::link_error::LinkError;
use super::under_way::{Renewed, Under};
use crate::attest::{attest_again, rejoin, renew};

impl Link {
    /// Asks for the next certificate, for `key`. `channel` shows the present one.
    pub(super) fn ask_again(
        &self,
        channel: Channel,
        key: Arc<LocalKey>,
    ) -> Result<Under<Renewed>, LinkError> {
        Ok(match &self.attestor {
            None => Box::pin(async move { renew(channel, &key).await }),
            Some(attestor) => {
                let (dial, attestor) = (self.membership.dial_as_nobody()?, Arc::clone(attestor));
                Box::pin(async move { attest_again(dial, &*attestor, &key).await })
            }
        })
    }

    /// Proves the node again, after the server has said that its certificate counts no longer or when it has ended.
    pub(super) async fn rejoin(&mut self, stop: &Stop) -> Result<(), LinkError> {
        let dial = self.membership.dial_as_nobody()?;
        let Some(attestor) = self.attestor.clone() else {
            return self.rejoin_by_last_key(dial, stop).await;
        };
        let key = self.membership.key_to_ask_with().await?;
        let with = Arc::clone(&key);
        let attesting = async move { attest_again(dial, &*attestor, &with).await };
        let Some(svid) = self.meanwhile(stop, attesting).await else {
            return Err(LinkError::Closed);
        };
        let svid = svid?;
        let before = self.membership.state().identity.as_ref().map(|own| own.svid.id());
        if let Some(before) = before.filter(|before| *before != svid.id()) {
            warn!(%before, now = %svid.id(), "this node has another name than before; entries below the old one are no longer its own");
        }
        info!("the server has taken this node back");
        self.adopt(svid, &key).await
    }

    async fn rejoin_by_last_key(&mut self, dial: super::Dial, stop: &Stop) -> Result<(), LinkError> {
        let Some(channel) = self.meanwhile(stop, async move { dial.connect().await }).await else {
            return Err(LinkError::Closed);
        };
        let svid = rejoin(channel?, &self.membership).await?;
        let identity = self.membership.state().identity.as_ref();
        let key = identity
            .map(crate::keep::NodeIdentity::signer)
            .transpose()?
            .ok_or(LinkError::Closed)?;
        info!("the server has taken this node back");
        self.adopt(svid, &key).await
    }
}
