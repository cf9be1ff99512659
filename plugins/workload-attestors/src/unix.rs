//! The Unix facts of a process: whose it is, and what it runs.

mod executable;
mod groups;
mod hash_cache;
mod hasher;
mod names;

use std::io;
use std::time::Duration;

use async_trait::async_trait;
use muster_identity::{Fact, FactSource, Selector};
use muster_plugin_api::{AttestError, Attestation, Caller, Gap, Hope, Standing, WorkloadAttestor};

use self::executable::Executables;
use self::names::{NameKind, Names};

const KIND: &str = "unix";

/// States `unix:uid`, `user`, `gid`, `group`, `supplementary_gid`, `supplementary_group`, `path` and `sha256`, with SPIRE's names and values.
///
/// - Numbers are the authority; names come from the host's user database within 500 ms or are absent (T-17).
/// - `path` is stated only if that path, looked up in our mount namespace, is the very file that runs; never for memfds and deleted files.
/// - `sha256` is read through an open descriptor of the running file, never from FUSE or network file systems, up to a size.
/// - A set-id program is led by whoever started it, so nothing is stated of it (T-14).
/// - A set-id file whose ids the process does not have may only be shown by it, so neither `path` nor `sha256` is stated (T-12).
/// - A foreign caller gets its real uid and user, and nothing that an exec can change.
pub struct Unix {
    names: Names,
    executables: Executables,
    overflow_uid: u32,
    overflow_gid: u32,
}

/// What can be set for [`Unix`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct UnixSettings {
    /// How executables are hashed, or `None` if no `unix:sha256` is wanted.
    pub hash: Option<HashSettings>,
}

/// How executables are hashed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HashSettings {
    /// The biggest executable that is hashed. Bigger ones have no `unix:sha256`; raise it where such are run and may be told apart by
    /// nothing else.
    pub max_size: u64,
    /// How many files are hashed at once.
    pub hashers: usize,
    /// How long a caller waits for a hash.
    pub deadline: Duration,
    /// How many hashes are remembered.
    pub remembered: usize,
}

/// Why the attestor did not start.
#[derive(Debug, thiserror::Error)]
#[error("starting the threads of the unix attestor")]
pub struct StartError(#[from] io::Error);

impl Default for HashSettings {
    fn default() -> Self {
        Self {
            max_size: 256 << 20,
            hashers: 2,
            deadline: Duration::from_secs(5),
            remembered: 1024,
        }
    }
}

impl UnixSettings {
    /// Everything is stated, with default limits.
    pub fn complete() -> Self {
        Self {
            hash: Some(HashSettings::default()),
        }
    }
}

impl Unix {
    /// An attestor with these settings, and its threads.
    pub fn new(settings: UnixSettings) -> Result<Self, StartError> {
        Ok(Self {
            names: Names::start()?,
            executables: Executables::start(settings.hash)?,
            overflow_uid: overflow_id("/proc/sys/kernel/overflowuid"),
            overflow_gid: overflow_id("/proc/sys/kernel/overflowgid"),
        })
    }

    async fn native(&self, caller: &Caller) -> Result<Attestation, AttestError> {
        let evidence = caller.evidence();
        let (Some(uid), Some(gid)) = (evidence.uids.agreed(), evidence.gids.agreed()) else {
            let reason = "it is a set-id program: its real, effective and saved ids differ";
            return Ok(Attestation {
                gaps: vec![Gap::of_type(KIND, Hope::Final, reason)],
                ..Attestation::default()
            });
        };
        let mut found = Findings::default();
        found.state("uid", uid, FactSource::Kernel);
        let mut groups = groups::supplementary(caller, &mut found)?;
        groups.retain(|group| *group != self.overflow_gid);
        for group in &groups {
            found.state("supplementary_gid", group, FactSource::Kernel);
        }
        if gid == self.overflow_gid {
            found.lack(
                "gid:",
                Hope::Final,
                "its group has no number in our user namespace",
            );
            found.lack(
                "group:",
                Hope::Final,
                "its group has no number in our user namespace",
            );
        } else {
            found.state("gid", gid, FactSource::Kernel);
        }
        let named = self.name_all(uid, (gid != self.overflow_gid).then_some(gid), &groups);
        let (names, executable) = tokio::join!(named, self.executables.measure(caller, uid));
        caller.check_alive()?;
        Ok(found.and(names).and(executable?).into())
    }

    async fn foreign(&self, caller: &Caller) -> Result<Attestation, AttestError> {
        let uid = caller.evidence().uids.real;
        let mut found = Findings::default();
        found.state("uid", uid, FactSource::Kernel);
        for prefix in [
            "gid:",
            "group:",
            "supplementary_gid:",
            "supplementary_group:",
            "path:",
            "sha256:",
        ] {
            found.lack(prefix, Hope::Final, "it stands in a user namespace of its own");
        }
        let names = self.name_all(uid, None, &[]).await;
        caller.check_alive()?;
        Ok(found.and(names).into())
    }

    /// The names behind the numbers, as far as they are known in time.
    async fn name_all(&self, uid: u32, gid: Option<u32>, groups: &[u32]) -> Findings {
        let user = std::iter::once(("user", NameKind::User, uid));
        let group = gid.into_iter().map(|gid| ("group", NameKind::Group, gid));
        let supplementary = groups
            .iter()
            .map(|gid| ("supplementary_group", NameKind::Group, *gid));
        let wanted: Vec<_> = user.chain(group).chain(supplementary).collect();
        let ids = wanted.iter().map(|(_, kind, id)| (*kind, *id)).collect();
        let names = self.names.look_up(ids).await;
        let mut found = Findings::default();
        for ((word, kind, id), name) in wanted.iter().zip(names) {
            match name {
                Ok(Some(name)) => found.state(word, name, FactSource::UserDatabase),
                // A number without a name is a fact that does not exist, not one that is not known.
                Ok(None) => {}
                Err(names::Late) => found.lack(
                    match *word {
                        "user" => "user:",
                        "group" => "group:",
                        _ => "supplementary_group:",
                    },
                    Hope::MayHeal,
                    &format!("the user database did not name {kind} {id} in time"),
                ),
            }
        }
        found
    }
}

#[async_trait]
impl WorkloadAttestor for Unix {
    fn name(&self) -> &'static str {
        "unix"
    }

    fn types(&self) -> &'static [&'static str] {
        &[KIND]
    }

    async fn attest(&self, caller: &Caller) -> Result<Attestation, AttestError> {
        let uids = caller.evidence().uids;
        if uids.contains(self.overflow_uid) {
            // Whoever has no number here shares this one with everybody else who has none (T-12).
            return Err(AttestError::Refused(format!(
                "uid {} stands for users without a number here",
                self.overflow_uid
            )));
        }
        match caller.evidence().standing {
            Standing::Native => self.native(caller).await,
            Standing::Foreign => self.foreign(caller).await,
        }
    }
}

/// Facts and gaps while they are gathered.
#[derive(Debug, Default)]
struct Findings {
    facts: Vec<Fact>,
    gaps: Vec<Gap>,
}

impl Findings {
    fn state(&mut self, word: &str, value: impl std::fmt::Display, source: FactSource) {
        // A name with control characters is no selector; numbers always are.
        if let Ok(selector) = Selector::new(KIND, &format!("{word}:{value}")) {
            self.facts.push(Fact::new(selector, source));
        }
    }

    fn lack(&mut self, prefix: &'static str, hope: Hope, reason: &str) {
        self.gaps.push(Gap::new(KIND, prefix, hope, reason));
    }

    fn and(mut self, other: Self) -> Self {
        self.facts.extend(other.facts);
        self.gaps.extend(other.gaps);
        self
    }
}

impl From<Findings> for Attestation {
    fn from(found: Findings) -> Self {
        let Findings { facts, mut gaps } = found;
        // One gap for each prefix says enough: several supplementary groups may be late at once.
        let mut seen: Vec<String> = Vec::new();
        gaps.retain(|gap| {
            let prefix = gap
                .to_string()
                .split_once('*')
                .map(|(prefix, _)| prefix.to_owned())
                .unwrap_or_default();
            !seen.contains(&prefix) && {
                seen.push(prefix);
                true
            }
        });
        Self {
            facts: facts.into_iter().collect(),
            gaps,
        }
    }
}

/// For fuzz targets.
pub(crate) fn read_status(text: &[u8]) {
    let _ = groups::listed(text);
}

/// The id that stands for those that our user namespace can't number; 65534 on every kernel whose operator did not change it.
fn overflow_id(path: &str) -> u32 {
    let set = std::fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    set.unwrap_or(65_534)
}

#[cfg(test)]
mod tests;
