//! Which keys of a configuration a running server can't take over.

use super::Config;

impl Config {
    /// The keys that count from the next start on and whose values differ in `new`.
    pub(crate) fn fixed_keys_that_differ(&self, new: &Self) -> Vec<&'static str> {
        // By name, so that a new key can't be forgotten here.
        let Self {
            trust_domain,
            data_dir,
            listen,
            admin_socket,
            admin_socket_mode,
            admin_ids,
            ca,
            node_attestors,
            upstream,
            federation,
            // Taken over.
            limits: _,
            connections,
            pruning,
            signing_threads,
            signing_queue,
            http,
            oidc,
            publishers,
            // Taken over.
            log_level: _,
            log_format,
            drain,
        } = self;
        let differ = [
            ("trust_domain", *trust_domain != new.trust_domain),
            ("data_dir", *data_dir != new.data_dir),
            ("listen", *listen != new.listen),
            ("admin_socket", *admin_socket != new.admin_socket),
            ("admin_socket_mode", *admin_socket_mode != new.admin_socket_mode),
            ("admin_ids", *admin_ids != new.admin_ids),
            ("ca", *ca != new.ca),
            ("node_attestors", *node_attestors != new.node_attestors),
            ("upstream_authority", *upstream != new.upstream),
            ("federation", *federation != new.federation),
            ("limits.connections", *connections != new.connections),
            ("nodes", *pruning != new.pruning),
            ("signing.threads", *signing_threads != new.signing_threads),
            ("signing.queue", *signing_queue != new.signing_queue),
            ("http", *http != new.http),
            ("oidc", *oidc != new.oidc),
            ("bundle_publishers", *publishers != new.publishers),
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
        let read =
            |text: &str| Config::parse("server.toml", &format!("trust_domain = 'a.org'\n{text}")).unwrap();
        let old = read("");
        for taken_over in ["[log]\nlevel = 'debug'", "[limits]\nsigning = false"] {
            assert!(old.fixed_keys_that_differ(&read(taken_over)).is_empty());
        }
        let new = read("listen = '[::1]:1'\ndrain = '1s'\n[ca]\nlifetime = '1h'\n[limits]\nconnections = 9");
        assert_eq!(
            old.fixed_keys_that_differ(&new),
            ["listen", "ca", "limits.connections", "drain"]
        );
    }
}
