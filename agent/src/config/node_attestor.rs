//! `[node_attestor]`: how this node proves itself, when not by a join token. Keys are SPIRE's.

use std::path::PathBuf;

use muster_node_attestors::k8s_psat::{K8sPsatToken, TOKEN_PATH};
use muster_node_attestors::x509pop::X509popFiles;
use muster_runtime::config::Table;

use crate::attest::NodeAttestorConfig;

/// The one kind in the table.
pub(super) fn read(table: &mut Table) -> Option<NodeAttestorConfig> {
    let x509pop = table
        .optional_table("x509pop")
        .map(|mut table| x509pop(&mut table));
    let k8s_psat = table
        .optional_table("k8s_psat")
        .map(|mut table| k8s_psat(&mut table));
    match (x509pop, k8s_psat) {
        (Some(config), None) | (None, Some(config)) => config,
        (None, None) => {
            table.refuse(
                "x509pop",
                &"nothing",
                "one kind of node attestation: x509pop or k8s_psat",
            );
            None
        }
        (Some(_), Some(_)) => {
            table.refuse(
                "k8s_psat",
                &"given beside x509pop",
                "one kind of node attestation: a node has one identity",
            );
            None
        }
    }
}

fn x509pop(table: &mut Table) -> Option<NodeAttestorConfig> {
    let certificate_path = table.required("certificate_path");
    let private_key_path = table.required("private_key_path");
    let intermediates_path = table.optional("intermediates_path");
    Some(NodeAttestorConfig::X509pop(X509popFiles {
        certificate_path: certificate_path?,
        private_key_path: private_key_path?,
        intermediates_path,
    }))
}

fn k8s_psat(table: &mut Table) -> Option<NodeAttestorConfig> {
    let cluster = table.required("cluster");
    let token_path = table.or("token_path", PathBuf::from(TOKEN_PATH));
    Some(NodeAttestorConfig::K8sPsat(K8sPsatToken {
        cluster: cluster?,
        token_path,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::{Config, EXAMPLE};
    use super::*;

    const JOIN: &str = "server = 'a:1'\n[join]\nbundle_file = '/b'\n";

    fn read(text: &str) -> Result<Option<NodeAttestorConfig>, String> {
        let config = Config::parse("agent.toml", &format!("{JOIN}{text}"));
        config
            .map(|config| config.node_attestor)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_example_shows_in_comments_can_be_taken_as_it_stands() {
        for (kind, other) in [("x509pop", "k8s_psat"), ("k8s_psat", "x509pop")] {
            let begin = EXAMPLE
                .find(&format!("# [node_attestor.{kind}]"))
                .expect("it is in the example");
            let lines = EXAMPLE[begin..].lines().map_while(|line| line.strip_prefix("# "));
            let own = lines.take_while(|line| !line.contains(other));
            let shown: Vec<_> = own.filter(|line| !line.starts_with(char::is_uppercase)).collect();
            assert!(read(&shown.join("\n")).unwrap().is_some(), "{kind}");
        }
    }

    #[test]
    fn a_node_has_one_proof() {
        let k8s = "[node_attestor.k8s_psat]\ncluster = 'c'\n";
        let Ok(Some(NodeAttestorConfig::K8sPsat(token))) = read(k8s) else {
            panic!("{:?}", read(k8s));
        };
        assert_eq!(token.token_path, PathBuf::from(TOKEN_PATH));
        let x509pop = "[node_attestor.x509pop]\ncertificate_path = '/c'\nprivate_key_path = '/k'\n";
        assert!(read(x509pop).unwrap().is_some());
        for (text, key) in [
            (format!("{k8s}{x509pop}"), "node_attestor.k8s_psat"),
            ("[node_attestor]\n".to_owned(), "node_attestor.x509pop"),
            ("[node_attestor.x509pop]\n".to_owned(), "certificate_path"),
            ("[node_attestor.k8s_psat]\n".to_owned(), "cluster"),
            (String::new(), "join.token_file"),
            (format!("token_file = '/t'\n{k8s}"), "join.token_file"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
