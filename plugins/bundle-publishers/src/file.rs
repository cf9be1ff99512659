//! A file on this machine.

use std::path::PathBuf;

use async_trait::async_trait;
use muster_pki::bundle::Bundle;
use muster_plugin_api::{BundleForm, BundlePublisher, PublishError};
use muster_runtime::file;
use muster_seal::atomic::{Existing, write};

/// A bundle is public.
const MODE: u32 = 0o644;

/// Lays the bundle in a file: readers find the old one or the new one, each whole.
#[derive(Clone, Debug)]
pub struct FilePublisher {
    path: PathBuf,
    form: BundleForm,
}

impl FilePublisher {
    /// Lays it at `path`.
    pub fn new(path: PathBuf, form: BundleForm) -> Self {
        Self { path, form }
    }
}

#[async_trait]
impl BundlePublisher for FilePublisher {
    fn name(&self) -> &'static str {
        "file"
    }

    async fn publish(&self, bundle: &Bundle) -> Result<(), PublishError> {
        let (path, text) = (self.path.clone(), self.form.write(bundle));
        let writing = move || {
            // Written only when it is another: whoever watches the file is not woken for nothing.
            match file::read(&path, text.len()) {
                Ok(present) if present == text.as_bytes() => Ok(()),
                _ => write(&path, text.as_bytes(), MODE, Existing::Replace),
            }
        };
        let written = tokio::task::spawn_blocking(writing).await;
        let failed = |source| PublishError::Unavailable {
            what: format!("writing {}", self.path.display()),
            source,
        };
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed(error.into())),
            Err(error) => Err(failed(error.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn readers_find_the_bundle_in_the_form_they_read() {
        let dir = tempfile::tempdir().unwrap();
        for form in [BundleForm::Spiffe, BundleForm::Jwks, BundleForm::Pem] {
            let path = dir.path().join(format!("{form:?}"));
            let publisher = FilePublisher::new(path.clone(), form);
            muster_plugin_api::conformance::bundle_publisher(
                &publisher,
                || {
                    let path = path.clone();
                    async move { std::fs::read_to_string(path).unwrap() }
                },
                form,
            )
            .await;
        }
        let nowhere = FilePublisher::new(dir.path().join("none/bundle"), BundleForm::Pem);
        let error = nowhere
            .publish(&Bundle::new("example.org".parse().unwrap()))
            .await
            .unwrap_err();
        assert!(matches!(error, PublishError::Unavailable { .. }), "{error:?}");
    }
}
