//! Whether this machine's users can make user namespaces.

use std::fs;
use std::path::Path;

/// What an operator is to know where they can; how to forbid it says `docs/attestors/unix.md`.
pub(super) const ALLOWED: &str = "users can make user namespaces, and so have a process of their own show any program that they may run: \
                                  unix:path and unix:sha256 tell apart only what one uid runs";

/// Whether the kernel below `proc` (`/proc`) lets everybody make them. AppArmor's restriction does not count: its profiles name programs that
/// may, and everybody may run those.
pub(super) fn are_allowed(proc: &Path) -> bool {
    let set = |name: &str| fs::read_to_string(proc.join("sys").join(name)).ok();
    let is_zero = |text: &String| text.trim() == "0";
    // A kernel without the first has no user namespaces; the second is a patch of Debian's and of some others.
    set("user/max_user_namespaces").is_some_and(|most| !is_zero(&most))
        && !set("kernel/unprivileged_userns_clone").is_some_and(|allowed| is_zero(&allowed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_switch_of_the_kernel_forbids_them() {
        for (most, allowed, expected) in [
            (Some("96365\n"), None, true),
            (Some("96365\n"), Some("1\n"), true),
            (Some("96365\n"), Some("0\n"), false),
            (Some("0\n"), None, false),
            (Some("0\n"), Some("1\n"), false),
            (None, None, false),
        ] {
            let proc = tempfile::tempdir().unwrap();
            for (name, text) in [
                ("user/max_user_namespaces", most),
                ("kernel/unprivileged_userns_clone", allowed),
            ] {
                let path = proc.path().join("sys").join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                if let Some(text) = text {
                    fs::write(path, text).unwrap();
                }
            }
            assert_eq!(are_allowed(proc.path()), expected, "{most:?} {allowed:?}");
        }
    }
}
