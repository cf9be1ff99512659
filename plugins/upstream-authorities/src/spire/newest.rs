use std::sync::{Mutex, MutexGuard, PoisonError};

use muster_plugin_api::UpstreamBundle;
use tracing::warn;

/// The newest bundle of the server above, by its sequence number. It is not kept over a restart: a server whose store was set back is believed again then.
#[derive(Debug, Default)]
pub(super) struct Newest(Mutex<Option<Held>>);

#[derive(Debug)]
struct Held {
    sequence: u64,
    bundle: UpstreamBundle,
    /// The older number that was said last: it comes every other second.
    said: Option<u64>,
}

impl Newest {
    /// The newer one of what came and what came before. What has no number is taken as it comes.
    pub(super) fn of(&self, sequence: Option<u64>, came: UpstreamBundle) -> UpstreamBundle {
        let Some(sequence) = sequence else { return came };
        let mut held = self.held();
        match &mut *held {
            Some(held) if sequence < held.sequence => {
                if held.said.replace(sequence) != Some(sequence) {
                    warn!(
                        sequence,
                        newest = held.sequence,
                        "the server above told an older bundle than before; it is not taken. If its store was set back, restart this server"
                    );
                }
                held.bundle.clone()
            }
            _ => {
                let bundle = came.clone();
                *held = Some(Held {
                    sequence,
                    bundle,
                    said: None,
                });
                came
            }
        }
    }

    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        // A panic elsewhere leaves it whole: each change of it is one assignment.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use muster_identity::{Lifetime, UnixTime};
    use muster_pki::x509::{RootProfile, X509Authority, ca_subject, issue_root};
    use muster_pki::{KeyAlgorithm, LocalKey};
    use muster_plugin_api::Extent;

    use super::*;

    fn root() -> X509Authority {
        let profile = RootProfile {
            trust_domain: "example.org".parse().unwrap(),
            subject: ca_subject(),
            now: UnixTime::from_secs(1_800_000_000),
            lifetime: Lifetime::from_secs(3_600).unwrap(),
        };
        let key = Arc::new(LocalKey::generate(KeyAlgorithm::EcP256).unwrap());
        issue_root(key, &profile).unwrap().authority().clone()
    }

    fn with(roots: &[&X509Authority]) -> UpstreamBundle {
        UpstreamBundle {
            x509_authorities: roots.iter().map(|root| (*root).clone()).collect(),
            jwt_authorities: Vec::new(),
            extent: Extent::All,
        }
    }

    #[test]
    fn an_older_answer_takes_the_place_of_no_newer_one() {
        let newest = Newest::default();
        let (revoked, stays) = (root(), root());
        let (old, new) = (with(&[&revoked, &stays]), with(&[&stays]));
        assert_eq!(newest.of(Some(7), old.clone()), old);
        assert_eq!(newest.of(Some(8), new.clone()), new);
        assert_eq!(newest.of(Some(7), old.clone()), new, "nothing comes back");
        assert_eq!(newest.of(Some(8), new.clone()), new);
        let later = with(&[&stays, &root()]);
        assert_eq!(newest.of(Some(10), later.clone()), later);
        assert_eq!(
            newest.of(None, old.clone()),
            old,
            "who does not count is believed"
        );
    }
}
