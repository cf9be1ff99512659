//! The hashes that are remembered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::kernel::Version;

/// A file changed so recently may be changed again without another ctime: kernels before 6.13 count it in steps of several milliseconds.
const SETTLED: Duration = Duration::from_secs(2);

/// Bounded; the one that was used longest ago goes first.
#[derive(Debug)]
pub(super) struct HashCache {
    hashes: HashMap<Version, (Arc<str>, u64)>,
    uses: u64,
    bound: usize,
}

impl HashCache {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            hashes: HashMap::new(),
            uses: 0,
            bound,
        }
    }

    pub(super) fn find(&mut self, version: &Version) -> Option<Arc<str>> {
        self.uses += 1;
        let (digest, used) = self.hashes.get_mut(version)?;
        *used = self.uses;
        Some(Arc::clone(digest))
    }

    /// Remembers a hash that was finished at `now` (since the epoch), unless the file is too young.
    pub(super) fn remember(&mut self, version: Version, digest: Arc<str>, now: Duration) {
        let changed = u64::try_from(version.changed.0).map_or(Duration::ZERO, Duration::from_secs);
        if self.bound == 0 || changed + SETTLED >= now {
            return;
        }
        if self.hashes.len() >= self.bound
            && let Some(oldest) = self
                .hashes
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(version, _)| *version)
        {
            self.hashes.remove(&oldest);
        }
        self.uses += 1;
        self.hashes.insert(version, (digest, self.uses));
    }
}

#[cfg(test)]
mod tests {
    use muster_plugin_api::FileId;

    use super::*;

    fn version(inode: u64, changed: i64) -> Version {
        Version {
            id: FileId { device: 1, inode },
            size: 3,
            modified: (changed, 0),
            changed: (changed, 0),
        }
    }

    const NOW: Duration = Duration::from_secs(1000);

    #[test]
    fn the_one_that_was_used_longest_ago_goes_first() {
        let mut cache = HashCache::new(2);
        for inode in [1, 2] {
            cache.remember(version(inode, 1), "hash".into(), NOW);
        }
        assert!(cache.find(&version(1, 1)).is_some());
        cache.remember(version(3, 1), "hash".into(), NOW);
        assert!(cache.find(&version(2, 1)).is_none());
        assert!(cache.find(&version(1, 1)).is_some() && cache.find(&version(3, 1)).is_some());
    }

    #[test]
    fn another_version_of_the_file_is_another_file() {
        let mut cache = HashCache::new(2);
        cache.remember(version(1, 1), "hash".into(), NOW);
        assert!(cache.find(&version(1, 2)).is_none());
        assert!(
            cache
                .find(&Version {
                    size: 4,
                    ..version(1, 1)
                })
                .is_none()
        );
    }

    #[test]
    fn a_file_that_changed_just_now_is_not_remembered() {
        let mut cache = HashCache::new(2);
        for changed in [999, 1000, 5000] {
            cache.remember(version(1, changed), "hash".into(), NOW);
            assert!(cache.find(&version(1, changed)).is_none(), "{changed}");
        }
    }
}
