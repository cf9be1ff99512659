//! `[upstream_authority]`: who signs our authorities. One table in it says which and how.

use muster_runtime::config::{Table, host_and_port};
use muster_upstream_authorities::{DiskConfig, SpireConfig, UpstreamConfig, VaultAuth, VaultConfig};

/// The kinds, as they are named in the file.
const KINDS: [&str; 3] = ["disk", "spire", "vault"];
/// The ways to log in to Vault.
const WAYS: [&str; 4] = ["token", "approle", "cert", "kubernetes"];

/// None: our authorities sign themselves.
pub(super) fn read(root: &mut Table) -> Option<UpstreamConfig> {
    let mut table = root.optional_table("upstream_authority")?;
    one_of(&table, &KINDS);
    let disk = table
        .optional_table("disk")
        .and_then(|mut table| disk(&mut table));
    let spire = table
        .optional_table("spire")
        .and_then(|mut table| spire(&mut table));
    let vault = table
        .optional_table("vault")
        .and_then(|mut table| vault(&mut table));
    disk.map(UpstreamConfig::Disk)
        .or(spire.map(UpstreamConfig::Spire))
        .or(vault.map(UpstreamConfig::Vault))
}

fn disk(table: &mut Table) -> Option<DiskConfig> {
    let (cert, key, bundle) = (
        table.required("cert"),
        table.required("key"),
        table.optional("bundle"),
    );
    Some(DiskConfig {
        cert: cert?,
        key: key?,
        bundle,
    })
}

fn spire(table: &mut Table) -> Option<SpireConfig> {
    let (server, workload_api) = (address(table), table.required("workload_api"));
    Some(SpireConfig {
        server: server?,
        workload_api: workload_api?,
    })
}

fn vault(table: &mut Table) -> Option<VaultConfig> {
    let server = address(table);
    let pki_mount = mount(table, "pki_mount", "pki");
    let (namespace, ca_cert) = (table.optional("namespace"), table.optional("ca_cert"));
    one_of(table, &WAYS);
    let token = table.optional_table("token").and_then(|mut table| {
        let file = table.required("file");
        Some(VaultAuth::Token { file: file? })
    });
    let approle = table.optional_table("approle").and_then(|mut table| {
        let mount = mount(&mut table, "mount", "approle");
        let (role_id, secret_id) = (table.required("role_id"), table.required("secret_id"));
        Some(VaultAuth::AppRole {
            mount,
            role_id: role_id?,
            secret_id: secret_id?,
        })
    });
    let cert = table.optional_table("cert").and_then(|mut table| {
        let (mount, role) = (mount(&mut table, "mount", "cert"), table.optional("role"));
        let (cert, key) = (table.required("cert"), table.required("key"));
        Some(VaultAuth::Cert {
            mount,
            role,
            cert: cert?,
            key: key?,
        })
    });
    let kubernetes = table.optional_table("kubernetes").and_then(|mut table| {
        let mount = mount(&mut table, "mount", "kubernetes");
        let (role, token) = (table.required("role"), table.required("token"));
        Some(VaultAuth::Kubernetes {
            mount,
            role: role?,
            token: token?,
        })
    });
    Some(VaultConfig {
        server: server?,
        pki_mount,
        namespace,
        ca_cert,
        auth: token.or(approle).or(cert).or(kubernetes)?,
    })
}

fn address(table: &mut Table) -> Option<String> {
    let server: String = table.required("server")?;
    if host_and_port(&server).is_none() {
        let expected = "a host and a port, such as \"spire.example.org:8081\" or \"[::1]:8200\"";
        table.refuse("server", &server, expected);
        return None;
    }
    Some(server)
}

/// Where something is mounted in Vault: it becomes a part of a path.
fn mount(table: &mut Table, key: &'static str, default: &str) -> String {
    let plain = |text: &String| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        text.chars().all(fits) && !text.starts_with('/') && !text.ends_with('/') && !text.contains("..")
    };
    let expected = "a path of letters, digits, '-', '_', '.' and '/', without one at its ends";
    table.or_checked(key, default.to_owned(), expected, plain)
}

/// Exactly one of these tables has to be there.
fn one_of(table: &Table, names: &[&str]) {
    let there: Vec<_> = names.iter().filter(|name| table.has(name)).copied().collect();
    if there.len() != 1 {
        let found = if there.is_empty() {
            "none".to_owned()
        } else {
            there.join(", ")
        };
        table.refuse("*", &found, &format!("exactly one table of {}", names.join(", ")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn parsed(text: &str) -> Result<Option<UpstreamConfig>, String> {
        let text = format!("trust_domain = 'a.org'\n{text}");
        let read = Config::parse("t", &text).map_err(|error| error.to_string())?;
        Ok(read.upstream)
    }

    #[test]
    fn each_kind_is_read_and_none_means_none() {
        assert_eq!(parsed(""), Ok(None));
        let disk = "[upstream_authority.disk]\ncert = '/ca.crt'\nkey = '/ca.key'";
        let config = DiskConfig {
            cert: "/ca.crt".into(),
            key: "/ca.key".into(),
            bundle: None,
        };
        assert_eq!(parsed(disk), Ok(Some(UpstreamConfig::Disk(config))));
        let spire = "[upstream_authority.spire]\nserver = 'up:8081'\nworkload_api = '/api.sock'";
        assert!(matches!(parsed(spire), Ok(Some(UpstreamConfig::Spire(_)))));
        for way in [
            "token]\nfile = '/t'",
            "approle]\nrole_id = 'r'\nsecret_id = '/s'",
            "cert]\ncert = '/c'\nkey = '/k'",
            "kubernetes]\nrole = 'r'\ntoken = '/t'",
        ] {
            let vault =
                format!("[upstream_authority.vault]\nserver = 'v:8200'\n[upstream_authority.vault.{way}");
            let read = parsed(&vault);
            assert!(
                matches!(&read, Ok(Some(UpstreamConfig::Vault(vault))) if vault.pki_mount == "pki"),
                "{read:?}"
            );
        }
    }

    #[test]
    fn mistakes_name_the_key() {
        let two = "[upstream_authority.disk]\ncert = '/c'\nkey = '/k'\n[upstream_authority.spire]\nserver = 'up'\nworkload_api = 'api'";
        let error = parsed(two).unwrap_err();
        assert!(
            error.contains(
                "upstream_authority.* = disk, spire: expected exactly one table of disk, spire, vault"
            ),
            "{error}"
        );
        assert!(
            error.contains("upstream_authority.spire.server = up: expected a host and a port"),
            "{error}"
        );
        assert!(
            error.contains("upstream_authority.spire.workload_api = \"api\": expected an absolute path"),
            "{error}"
        );
        let error = parsed("[upstream_authority]").unwrap_err();
        assert!(error.contains("upstream_authority.* = none"), "{error}");
        let error = parsed("[upstream_authority.vault]\nserver = 'v:1'\npki_mount = '../x'").unwrap_err();
        assert!(
            error.contains("upstream_authority.vault.pki_mount")
                && error.contains("token, approle, cert, kubernetes"),
            "{error}"
        );
    }
}
