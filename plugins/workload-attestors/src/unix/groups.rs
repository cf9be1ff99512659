//! The supplementary groups of a process.

use muster_plugin_api::{AttestError, Caller, Hope};

use super::Findings;

/// How many supplementary groups become facts. The kernel allows 65,536.
const MAX_GROUPS: usize = 256;

/// `/proc/PID/status` has some 60 lines; one of them lists the groups, at most 65,536 numbers of ten digits.
const STATUS_LIMIT: usize = 1 << 20;

/// The groups, sorted, without duplicates and bounded.
pub(super) fn supplementary(caller: &Caller, found: &mut Findings) -> Result<Vec<u32>, AttestError> {
    let mut groups = listed(&caller.read("status", STATUS_LIMIT)?).ok_or_else(|| {
        AttestError::failed("reading the supplementary groups", "the status has no such line")
    })?;
    groups.sort_unstable();
    groups.dedup();
    if groups.len() > MAX_GROUPS {
        groups.truncate(MAX_GROUPS);
        found.lack(
            "supplementary_gid:",
            Hope::Final,
            "it is in more groups than are looked at",
        );
        found.lack(
            "supplementary_group:",
            Hope::Final,
            "it is in more groups than are looked at",
        );
    }
    Ok(groups)
}

pub(super) fn listed(status: &[u8]) -> Option<Vec<u32>> {
    // The process chooses its name, which stands in the first line; a newline in it is escaped by the kernel.
    let line = status
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"Groups:"))?;
    std::str::from_utf8(line)
        .ok()?
        .split_whitespace()
        .map(|group| group.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_from_the_status() {
        assert_eq!(
            listed(b"Name:\tx\nGroups:\t4 24 1000 \nNStgid:\t1\n"),
            Some(vec![4, 24, 1000])
        );
        assert_eq!(listed(b"Name:\tx\nGroups:\t \n"), Some(vec![]));
        assert_eq!(listed(b"Name:\tGroups:\t0\n"), None);
        assert_eq!(listed(b"Groups:\t4 x\n"), None);
    }
}
