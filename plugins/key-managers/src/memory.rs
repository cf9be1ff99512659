//! Keys that are gone with the process.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use muster_pki::{KeyAlgorithm, Signer};
use muster_plugin_api::{KeyManager, KeyManagerError, KeyName};

/// Keys that live as long as the process.
#[derive(Default)]
pub struct MemoryKeys {
    keys: Mutex<BTreeMap<KeyName, Arc<dyn Signer>>>,
}

impl MemoryKeys {
    /// No keys yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn keys(&self) -> MutexGuard<'_, BTreeMap<KeyName, Arc<dyn Signer>>> {
        // Every change below is one call on the map: a panic elsewhere leaves it whole.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl KeyManager for MemoryKeys {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn generate(
        &self,
        name: &KeyName,
        algorithm: KeyAlgorithm,
    ) -> Result<Arc<dyn Signer>, KeyManagerError> {
        if self.keys().contains_key(name) {
            return Err(KeyManagerError::Exists(name.clone()));
        }
        let key: Arc<dyn Signer> = Arc::new(crate::make(name, algorithm).await?);
        let mut keys = self.keys();
        // Somebody may have been faster while ours was made.
        if keys.contains_key(name) {
            return Err(KeyManagerError::Exists(name.clone()));
        }
        keys.insert(name.clone(), Arc::clone(&key));
        Ok(key)
    }

    async fn load(&self, name: &KeyName) -> Result<Option<Arc<dyn Signer>>, KeyManagerError> {
        Ok(self.keys().get(name).cloned())
    }

    async fn list(&self) -> Result<Vec<KeyName>, KeyManagerError> {
        Ok(self.keys().keys().cloned().collect())
    }

    async fn delete(&self, name: &KeyName) -> Result<(), KeyManagerError> {
        self.keys().remove(name);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use muster_plugin_api::conformance;

    use super::*;

    #[tokio::test]
    async fn memory_keeps_the_promises_of_a_key_manager() {
        conformance::key_manager(&MemoryKeys::new()).await;
    }

    #[tokio::test]
    async fn of_two_keys_made_at_once_under_one_name_one_is_made() {
        let keys = MemoryKeys::new();
        let name: KeyName = "k".parse().unwrap();
        let (one, two) = tokio::join!(
            keys.generate(&name, KeyAlgorithm::EcP256),
            keys.generate(&name, KeyAlgorithm::EcP256)
        );
        assert!(one.is_ok() ^ two.is_ok());
    }
}
