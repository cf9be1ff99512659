//! `/proc/PID/mountinfo`: which file systems are mounted where. It is used to learn what kind a file system is, and of our own process where
//! the cgroup hierarchies are; never to say which container a process is in, since anyone can mount in a namespace of his own (T-09).

/// One mount.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Mount {
    pub(crate) id: u64,
    /// Which folder of the file system is mounted.
    pub(crate) root: String,
    pub(crate) mount_point: String,
    pub(crate) kind: String,
    pub(crate) super_options: String,
}

/// Longer tables are cut: a host with that many mounts gets gaps, not a slow agent.
pub(crate) const LIMIT: usize = 1 << 20;

/// The mounts of a mountinfo text. Lines that are none are left out.
pub(crate) fn mounts(text: &[u8]) -> impl Iterator<Item = Mount> + '_ {
    text.split(|byte| *byte == b'\n')
        .filter_map(|line| mount(std::str::from_utf8(line).ok()?))
}

/// The kind of file system that mount `id` shows.
pub(crate) fn kind_of(text: &[u8], id: u64) -> Option<String> {
    mounts(text).find(|mount| mount.id == id).map(|mount| mount.kind)
}

fn mount(line: &str) -> Option<Mount> {
    // The optional fields in the middle end with a dash; nothing before them can hold a space, since it is escaped.
    let (front, back) = line.split_once(" - ")?;
    let mut front = front.split(' ');
    let id = front.next()?.parse().ok()?;
    let (_parent, _device) = (front.next()?, front.next()?);
    let (root, mount_point) = (unescape(front.next()?), unescape(front.next()?));
    let mut back = back.split(' ');
    let (kind, _source, super_options) = (back.next()?, back.next()?, back.next()?);
    Some(Mount {
        id,
        root,
        mount_point,
        kind: kind.to_owned(),
        super_options: super_options.to_owned(),
    })
}

/// The kernel writes space, tab, newline and backslash as three octal digits.
fn unescape(field: &str) -> String {
    field
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &[u8] = b"36 35 98:0 / /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue\n\
        30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n\
        77 23 0:66 /a\\040b /mnt/a\\040b rw - fuse.sshfs a:b rw\nnot a mount\n";

    #[test]
    fn mounts_are_read_with_and_without_optional_fields() {
        let all: Vec<_> = mounts(TEXT).collect();
        assert_eq!(all.len(), 3);
        assert_eq!(
            (all[1].kind.as_str(), all[1].mount_point.as_str()),
            ("cgroup2", "/sys/fs/cgroup")
        );
        assert_eq!(
            (all[2].root.as_str(), all[2].mount_point.as_str()),
            ("/a b", "/mnt/a b")
        );
        assert_eq!(kind_of(TEXT, 77).as_deref(), Some("fuse.sshfs"));
        assert_eq!(kind_of(TEXT, 78), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in prop::collection::vec(any::<u8>(), 0..300)) {
            mounts(&text).count();
        }
    }
}
