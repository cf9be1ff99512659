//! A key manager in memory.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use muster_pki::{KeyAlgorithm, LocalKey, Signer};

use crate::{KeyManager, KeyManagerError, KeyName};

type Keys = BTreeMap<KeyName, Arc<dyn Signer>>;

/// Keeps keys in memory, and can be told to be down.
#[derive(Default)]
pub struct FakeKeyManager {
    keys: Mutex<Keys>,
    down: AtomicBool,
}

impl FakeKeyManager {
    /// No keys yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on every request fails, or works again.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::Release);
    }

    fn keys(&self) -> Result<MutexGuard<'_, Keys>, KeyManagerError> {
        if self.down.load(Ordering::Acquire) {
            return Err(KeyManagerError::Unavailable {
                what: "asking the fake".to_owned(),
                source: "it was told to be down".into(),
            });
        }
        Ok(self.keys.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl KeyManager for FakeKeyManager {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn generate(
        &self,
        name: &KeyName,
        algorithm: KeyAlgorithm,
    ) -> Result<Arc<dyn Signer>, KeyManagerError> {
        if self.keys()?.contains_key(name) {
            return Err(KeyManagerError::Exists(name.clone()));
        }
        let key: Arc<dyn Signer> =
            Arc::new(
                LocalKey::generate(algorithm).map_err(|source| KeyManagerError::Unavailable {
                    what: format!("making key {name}"),
                    source: source.into(),
                })?,
            );
        Ok(Arc::clone(self.keys()?.entry(name.clone()).or_insert(key)))
    }

    async fn load(&self, name: &KeyName) -> Result<Option<Arc<dyn Signer>>, KeyManagerError> {
        Ok(self.keys()?.get(name).cloned())
    }

    async fn list(&self) -> Result<Vec<KeyName>, KeyManagerError> {
        Ok(self.keys()?.keys().cloned().collect())
    }

    async fn delete(&self, name: &KeyName) -> Result<(), KeyManagerError> {
        self.keys()?.remove(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance;

    #[tokio::test]
    async fn the_fake_keeps_the_promises_of_a_key_manager() {
        conformance::key_manager(&FakeKeyManager::new()).await;
    }
}
