//! Which keys of a configuration a running agent can't take over.

use super::Config;

impl Config {
    /// The keys that count from the next start on and whose values differ in `new`.
    pub(crate) fn fixed_keys_that_differ(&self, new: &Self) -> Vec<&'static str> {
        // By name, so that a new key can't be forgotten here.
        let Self {
            data_dir,
            server,
            trust_domain,
            workload_socket,
            workload_socket_mode,
            admin_socket,
            admin_socket_mode,
            // It counts only before the node has joined.
            join: _,
            node_attestor,
            limits,
            // Taken over.
            workload: _,
            key,
            prefetch,
            unix,
            http,
            // Taken over.
            log_level: _,
            log_format,
            drain,
        } = self;
        let differ = [
            ("data_dir", *data_dir != new.data_dir),
            ("server", *server != new.server),
            ("trust_domain", *trust_domain != new.trust_domain),
            ("workload_socket", *workload_socket != new.workload_socket),
            (
                "workload_socket_mode",
                *workload_socket_mode != new.workload_socket_mode,
            ),
            ("admin_socket", *admin_socket != new.admin_socket),
            ("admin_socket_mode", *admin_socket_mode != new.admin_socket_mode),
            ("workload.connections", *limits != new.limits),
            ("node_attestor", *node_attestor != new.node_attestor),
            ("svids.key", *key != new.key),
            ("svids.prefetch", *prefetch != new.prefetch),
            ("attest", *unix != new.unix),
            ("http", *http != new.http),
            ("log.format", *log_format != new.log_format),
            ("drain", *drain != new.drain),
        ];
        let differ = differ.into_iter().filter(|(_, differs)| *differs);
        differ.map(|(key, _)| key).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_need_a_restart_are_named() {
        let read = |text| Config::parse("agent.toml", text).unwrap();
        let old = read("");
        assert!(
            old.fixed_keys_that_differ(&read("[log]\nlevel = 'debug'"))
                .is_empty()
        );
        assert!(
            old.fixed_keys_that_differ(&read("[workload]\ncalls_per_second = 7"))
                .is_empty()
        );
        let new = read("server = 'other:8081'\n[workload]\nconnections = 7\n[attest]\nsha256 = false");
        assert_eq!(
            old.fixed_keys_that_differ(&new),
            ["server", "workload.connections", "attest"]
        );
    }
}
