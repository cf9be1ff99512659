//! What this machine says of itself to the server. It informs people and is never a selector.

use sysinfo::System;

/// Kernel, distribution, architecture and host name, as far as they are known.
pub(crate) fn node_facts() -> Vec<(String, String)> {
    let facts = [
        ("kernel", System::kernel_version().ok()),
        ("distribution", System::long_os_version().ok()),
        ("architecture", Some(System::cpu_arch())),
        ("host", System::host_name().ok()),
    ];
    let known = facts
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    let cut = known.map(|(name, value)| (name, value.chars().take(128).collect::<String>()));
    cut.filter(|(_, value)| !value.is_empty()).collect()
}
