//! `[node_attestors]`: how nodes may prove themselves beside join tokens. Keys are SPIRE's where it has them.

use std::path::PathBuf;

use muster_node_attestors::PathTemplate;
use muster_node_attestors::k8s_psat::{ClusterAccess, ClusterSettings};
use muster_node_attestors::x509pop::{Mode, X509popSettings};
use muster_runtime::config::Table;

use crate::node_attestors::NodeAttestorsConfig;

/// More for PKIs with many levels; each costs a signature check for anybody who can reach the door.
const MAX_INTERMEDIATES: usize = 4;
/// Past this no key is read at all.
const MAX_RSA: u16 = 4096;
const SPIFFE_PREFIX: &str = "/spire-exchange";

pub(super) fn read(table: &mut Table) -> NodeAttestorsConfig {
    let x509pop = table
        .optional_table("x509pop")
        .map(|mut table| x509pop(&mut table));
    let k8s_psat = table.optional_table("k8s_psat").map(|mut table| {
        let clusters = table.tables("clusters");
        clusters
            .into_iter()
            .filter_map(|mut cluster| self::cluster(&mut cluster))
            .collect()
    });
    NodeAttestorsConfig {
        x509pop: x509pop.flatten(),
        k8s_psat,
    }
}

fn x509pop(table: &mut Table) -> Option<X509popSettings> {
    let spiffe = table.choice("mode", false, &[("external_pki", false), ("spiffe", true)]);
    let one: Option<PathBuf> = table.optional("ca_bundle_path");
    let mut ca_bundle_paths: Vec<PathBuf> = table.list("ca_bundle_paths");
    if let Some(path) = &one {
        if !ca_bundle_paths.is_empty() {
            table.refuse(
                "ca_bundle_path",
                &path.display(),
                "either ca_bundle_path or ca_bundle_paths",
            );
        }
        ca_bundle_paths.insert(0, path.clone());
    }
    let prefix: Option<String> = table.optional("spiffe_prefix");
    let mode = if spiffe {
        if !ca_bundle_paths.is_empty() {
            table.refuse(
                "ca_bundle_paths",
                &"given",
                "no files in mode \"spiffe\": the server's own bundle is used",
            );
        }
        let prefix = prefix.unwrap_or_else(|| SPIFFE_PREFIX.to_owned());
        if !prefix.starts_with('/') || prefix.trim_matches('/').is_empty() {
            // With an empty one any workload could make itself a node.
            let expected = "a path of at least one segment, such as \"/spire-exchange\"";
            table.refuse("spiffe_prefix", &prefix, expected);
        }
        Mode::Spiffe {
            prefix: format!("{}/", prefix.trim_end_matches('/')),
        }
    } else {
        if ca_bundle_paths.is_empty() {
            table.refuse(
                "ca_bundle_paths",
                &"nothing",
                "files with the authorities of nodes' certificates, in PEM",
            );
        }
        if let Some(prefix) = prefix {
            table.refuse("spiffe_prefix", &prefix, "mode \"spiffe\" with it");
        }
        Mode::ExternalPki { ca_bundle_paths }
    };
    let template: Option<String> = table.optional("agent_path_template");
    let agent_path_template = template.and_then(|text| match PathTemplate::parse(&text) {
        Ok(template) => Some(template),
        Err(error) => {
            table.refuse("agent_path_template", &text, &format!("a template ({error})"));
            None
        }
    });
    let max_intermediates = table.or_checked(
        "max_intermediates",
        MAX_INTERMEDIATES,
        "a number from 0 to 7",
        |most| *most <= 7,
    );
    let max_rsa_key_size = table.or_checked(
        "max_rsa_key_size",
        MAX_RSA,
        "a number from 2048 to 4096",
        |bits| (2048..=MAX_RSA).contains(bits),
    );
    let verify_client_ip = table.or("verify_client_ip", false);
    Some(X509popSettings {
        mode,
        agent_path_template,
        max_intermediates,
        max_rsa_key_size,
        verify_client_ip,
    })
}

fn cluster(table: &mut Table) -> Option<ClusterSettings> {
    let name: Option<String> = table.required("name");
    let service_account_allow_list: Vec<String> = table.list("service_account_allow_list");
    let named = |account: &String| {
        account
            .split_once(':')
            .is_some_and(|(namespace, name)| !namespace.is_empty() && !name.is_empty() && !name.contains(':'))
    };
    if service_account_allow_list.is_empty() || !service_account_allow_list.iter().all(named) {
        table.refuse(
            "service_account_allow_list",
            &format!("{service_account_allow_list:?}"),
            "at least one service account, each \"namespace:name\"",
        );
    }
    let audience = if table.has("audience") {
        table.list("audience")
    } else {
        vec![ClusterSettings::AUDIENCE.to_owned()]
    };
    let access = match table.optional("kube_config_file") {
        Some(path) => Some(ClusterAccess::KubeConfig(path)),
        None => in_cluster(),
    };
    if access.is_none() {
        table.refuse(
            "kube_config_file",
            &"nothing",
            "a kubeconfig file, unless this server runs in a pod of the cluster (KUBERNETES_SERVICE_HOST is not set)",
        );
    }
    let allowed_node_label_keys = table.list("allowed_node_label_keys");
    let allowed_pod_label_keys = table.list("allowed_pod_label_keys");
    let use_pod_uid_for_agent_id = table.or("use_pod_uid_for_agent_id", false);
    Some(ClusterSettings {
        name: name?,
        service_account_allow_list,
        audience,
        access: access?,
        allowed_node_label_keys,
        allowed_pod_label_keys,
        use_pod_uid_for_agent_id,
    })
}

/// As Kubernetes tells every pod where its API server is.
#[expect(
    clippy::disallowed_methods,
    reason = "Kubernetes describes the API server in the environment; read with the configuration"
)]
fn in_cluster() -> Option<ClusterAccess> {
    let host = std::env::var("KUBERNETES_SERVICE_HOST")
        .ok()
        .filter(|host| !host.is_empty())?;
    let port = std::env::var("KUBERNETES_SERVICE_PORT").unwrap_or_else(|_| "443".to_owned());
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host
    };
    Some(ClusterAccess::InCluster {
        server: format!("https://{host}:{port}"),
        service_account: PathBuf::from(ClusterSettings::SERVICE_ACCOUNT),
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Config, EXAMPLE};
    use super::*;

    fn read(text: &str) -> Result<NodeAttestorsConfig, String> {
        let config = Config::parse("server.toml", &format!("trust_domain = 'a.org'\n{text}"));
        config
            .map(|config| config.node_attestors)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn without_tables_only_join_tokens_are_taken() {
        assert_eq!(read("").unwrap(), NodeAttestorsConfig::default());
    }

    #[test]
    fn what_the_example_shows_in_comments_can_be_taken_as_it_stands() {
        let begin = EXAMPLE
            .find("# [node_attestors.x509pop]")
            .expect("it is in the example");
        let end = EXAMPLE[begin..]
            .find("\n\n")
            .map_or(EXAMPLE.len(), |end| begin + end);
        let lines = EXAMPLE[begin..end]
            .lines()
            .filter_map(|line| line.strip_prefix("# "));
        // Sentences begin with a capital letter; keys and tables do not.
        let shown: Vec<_> = lines
            .filter(|line| !line.starts_with(char::is_uppercase))
            .collect();
        let config = read(&shown.join("\n")).unwrap();
        let x509pop = config.x509pop.unwrap();
        assert_eq!(x509pop.max_intermediates, MAX_INTERMEDIATES);
        assert_eq!(x509pop.max_rsa_key_size, MAX_RSA);
        assert_eq!(config.k8s_psat.unwrap()[0].audience, [ClusterSettings::AUDIENCE]);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, key) in [
            ("[node_attestors.x509pop]", "x509pop.ca_bundle_paths"),
            (
                "[node_attestors.x509pop]\nca_bundle_path = '/a'\nca_bundle_paths = ['/b']",
                "x509pop.ca_bundle_path ",
            ),
            (
                "[node_attestors.x509pop]\nmode = 'spiffe'\nca_bundle_path = '/a'",
                "x509pop.ca_bundle_paths",
            ),
            (
                "[node_attestors.x509pop]\nmode = 'spiffe'\nspiffe_prefix = 'a'",
                "x509pop.spiffe_prefix",
            ),
            (
                "[node_attestors.x509pop]\nmode = 'spiffe'\nspiffe_prefix = '/'",
                "x509pop.spiffe_prefix",
            ),
            (
                "[node_attestors.x509pop]\nca_bundle_path = '/a'\nagent_path_template = '{{'",
                "agent_path_template",
            ),
            (
                "[node_attestors.x509pop]\nca_bundle_path = '/a'\nmax_rsa_key_size = 8192",
                "max_rsa_key_size",
            ),
            (
                "[[node_attestors.k8s_psat.clusters]]\nname = 'a'\nkube_config_file = '/k'",
                "service_account_allow_list",
            ),
            (
                "[[node_attestors.k8s_psat.clusters]]\nname = 'a'\nkube_config_file = '/k'\nservice_account_allow_list = ['x']",
                "service_account_allow_list",
            ),
            (
                "[[node_attestors.k8s_psat.clusters]]\nname = 'a'\nservice_account_allow_list = ['x:y']",
                "kube_config_file",
            ),
            ("[node_attestors.aws_iid]", "node_attestors.aws_iid"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(key), "{text}: {error}");
        }
        let spiffe = read("[node_attestors.x509pop]\nmode = 'spiffe'\nspiffe_prefix = '/x/'").unwrap();
        let prefix = "/x/".to_owned();
        assert_eq!(spiffe.x509pop.unwrap().mode, Mode::Spiffe { prefix });
        let any = "[[node_attestors.k8s_psat.clusters]]\nname = 'a'\nkube_config_file = '/k'\naudience = []\nservice_account_allow_list = ['x:y']";
        assert!(read(any).unwrap().k8s_psat.unwrap()[0].audience.is_empty());
    }
}
