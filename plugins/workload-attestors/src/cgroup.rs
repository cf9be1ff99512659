//! The container a process runs in, by its place in the host's cgroup hierarchies.

mod hierarchy;
mod place;

use async_trait::async_trait;
use muster_identity::{Fact, FactSource, Selector};
use muster_plugin_api::{AttestError, Attestation, Caller, Gap, Hope, WorkloadAttestor};

use self::hierarchy::Hierarchies;
use self::place::Container;

const KIND: &str = "container";

/// States `container:id:<64 hex>` and `container:runtime:<docker|podman|containerd|crio>`.
///
/// A name is not enough: any user may make a folder of his own delegated subtree look like a container (T-08). So the place must be one
/// where the runtimes put containers, counted from the root of the hierarchy, the shallowest match counts, and the folder and all above it
/// must belong to root. The unified hierarchy decides; where it says nothing (v1, hybrid), all v1 hierarchies that say something must agree.
#[derive(Debug, Default)]
pub struct Cgroup {
    hierarchies: Hierarchies,
}

impl Cgroup {
    /// An attestor over this host's hierarchies.
    pub fn new() -> Self {
        Self::default()
    }

    fn container(&self, text: &[u8]) -> Result<Option<Container>, AttestError> {
        let (unified, others) = candidates(text);
        let found = if unified.is_empty() { others } else { unified };
        let Some((_, container)) = found.first() else {
            return Ok(None);
        };
        if found.iter().any(|(_, other)| other.id != container.id) {
            return Err(AttestError::failed(
                "comparing the cgroup hierarchies",
                "they name different containers",
            ));
        }
        for (controllers, candidate) in &found {
            let owned = self.hierarchies.belongs_to_root(controllers, &candidate.folder);
            if !owned.map_err(|source| {
                AttestError::failed(format!("looking at cgroup {}", candidate.folder), source)
            })? {
                return Ok(None);
            }
        }
        Ok(Some(container.clone()))
    }
}

#[async_trait]
impl WorkloadAttestor for Cgroup {
    fn name(&self) -> &'static str {
        "cgroup"
    }

    fn types(&self) -> &'static [&'static str] {
        &[KIND]
    }

    async fn attest(&self, caller: &Caller) -> Result<Attestation, AttestError> {
        let container = self.container(&caller.evidence().cgroups);
        caller.check_alive()?;
        let Some(container) = container? else {
            let reason = "its cgroup is no container's, or not root's";
            return Ok(Attestation {
                gaps: vec![Gap::of_type(KIND, Hope::Final, reason)],
                ..Attestation::default()
            });
        };
        let id = Some(format!("id:{}", container.id));
        let runtime = container.runtime.map(|runtime| format!("runtime:{runtime}"));
        let selectors = [id, runtime]
            .into_iter()
            .flatten()
            .filter_map(|value| Selector::new(KIND, &value).ok());
        let facts = selectors
            .map(|selector| Fact::new(selector, FactSource::Cgroup))
            .collect();
        Ok(Attestation {
            facts,
            gaps: Vec::new(),
        })
    }
}

/// For fuzz targets.
pub(crate) fn read_text(text: &[u8]) {
    let _ = candidates(text);
}

type Candidates = Vec<(String, Container)>;

/// The containers that the lines of `/proc/PID/cgroup` speak of: those of the unified hierarchy, and those of the others.
fn candidates(text: &[u8]) -> (Candidates, Candidates) {
    let lines = text
        .split(|byte| *byte == b'\n')
        .take(64)
        .filter_map(|line| std::str::from_utf8(line).ok());
    let found = lines.filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        Some((
            number == "0" && controllers.is_empty(),
            (controllers.to_owned(), Container::at(path)?),
        ))
    });
    let (unified, others): (Vec<_>, Vec<_>) = found.partition(|(unified, _)| *unified);
    let strip = |list: Vec<(bool, _)>| list.into_iter().map(|(_, candidate)| candidate).collect();
    (strip(unified), strip(others))
}

#[cfg(test)]
mod tests;
