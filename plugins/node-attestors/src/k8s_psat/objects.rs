//! What the API server says, as far as it is asked for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODE_UID: &str = "authentication.kubernetes.io/node-uid";

/// `authentication.k8s.io/v1` TokenReview, as we send it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Review<'a> {
    pub(super) api_version: &'a str,
    pub(super) kind: &'a str,
    pub(super) spec: ReviewSpec<'a>,
}

#[derive(Serialize)]
pub(super) struct ReviewSpec<'a> {
    pub(super) token: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    pub(super) audiences: &'a [String],
}

/// The same, as it comes back.
#[derive(Default, Deserialize)]
pub(super) struct Reviewed {
    #[serde(default)]
    pub(super) status: ReviewStatus,
}

#[derive(Default, Deserialize)]
pub(super) struct ReviewStatus {
    #[serde(default)]
    pub(super) authenticated: bool,
    #[serde(default)]
    pub(super) error: String,
    #[serde(default)]
    pub(super) audiences: Vec<String>,
    #[serde(default)]
    user: UserInfo,
}

#[derive(Default, Deserialize)]
struct UserInfo {
    #[serde(default)]
    username: String,
    #[serde(default)]
    extra: BTreeMap<String, Vec<String>>,
}

/// `v1` Pod and `v1` Node have in common what is asked of either.
#[derive(Default, Deserialize)]
pub(super) struct Object {
    #[serde(default)]
    pub(super) metadata: Metadata,
    #[serde(default)]
    pub(super) spec: PodSpec,
    #[serde(default)]
    pub(super) status: PodStatus,
}

#[derive(Default, Deserialize)]
pub(super) struct Metadata {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) uid: String,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PodSpec {
    #[serde(default)]
    pub(super) node_name: String,
    #[serde(default)]
    pub(super) service_account_name: String,
}

#[derive(Default, Deserialize)]
pub(super) struct PodStatus {
    #[serde(rename = "hostIP", default)]
    pub(super) host_ip: String,
}

/// Whose token it is: a pod of a service account.
#[derive(Debug)]
pub(super) struct Bearer {
    pub(super) namespace: String,
    pub(super) service_account: String,
    pub(super) pod_name: String,
    pub(super) pod_uid: String,
    /// Said by Kubernetes from 1.29 on.
    pub(super) node_name: Option<String>,
    pub(super) node_uid: Option<String>,
}

impl ReviewStatus {
    /// Whose the token is; none when it is not that of a pod's service account.
    pub(super) fn bearer(&self) -> Option<Bearer> {
        let account = self.user.username.strip_prefix("system:serviceaccount:")?;
        let (namespace, service_account) = account.split_once(':')?;
        // Both go into the path of a question to the API server, and are compared with an operator's list.
        (is_name(namespace) && is_name(service_account)).then_some(())?;
        let pod_name = self.only(POD_NAME).filter(|name| is_name(name))?;
        Some(Bearer {
            namespace: namespace.to_owned(),
            service_account: service_account.to_owned(),
            pod_name: pod_name.to_owned(),
            pod_uid: self.only(POD_UID)?.to_owned(),
            node_name: self.only(NODE_NAME).map(str::to_owned),
            node_uid: self.only(NODE_UID).map(str::to_owned),
        })
    }

    fn only(&self, key: &str) -> Option<&str> {
        match self.user.extra.get(key)?.as_slice() {
            [value] if !value.is_empty() => Some(value),
            _ => None,
        }
    }
}

/// Whether a text is the name of an object: small letters, digits, `-` and `.` (RFC 1123), so that it is one segment of a path.
pub(super) fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.';
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 253 && bytes.iter().all(|byte| fits(*byte)) && ends(bytes.first()) && ends(bytes.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(text: &str) -> ReviewStatus {
        serde_json::from_str::<Reviewed>(text).unwrap().status
    }

    #[test]
    fn only_the_pod_of_a_service_account_is_a_bearer() {
        let whole = r#"{"status":{"authenticated":true,"user":{"username":"system:serviceaccount:spire:agent",
            "extra":{"authentication.kubernetes.io/pod-name":["agent-x1"],"authentication.kubernetes.io/pod-uid":["u1"]}}}}"#;
        let bearer = status(whole).bearer().unwrap();
        assert_eq!(
            (bearer.namespace.as_str(), bearer.service_account.as_str()),
            ("spire", "agent")
        );
        for (from, to) in [
            ("system:serviceaccount:spire:agent", "system:node:spire:agent"),
            (
                "system:serviceaccount:spire:agent",
                "system:serviceaccount:spire:a:b",
            ),
            (
                "system:serviceaccount:spire:agent",
                "system:serviceaccount:../..:agent",
            ),
            (
                "system:serviceaccount:spire:agent",
                "system:serviceaccount::agent",
            ),
            ("[\"agent-x1\"]", "[\"agent-x1\",\"agent-x2\"]"),
            ("[\"agent-x1\"]", "[\"../../secrets\"]"),
            ("[\"agent-x1\"]", "[\"..\"]"),
            ("[\"u1\"]", "[\"\"]"),
            ("[\"u1\"]", "[]"),
        ] {
            assert!(whole.contains(from));
            assert!(status(&whole.replace(from, to)).bearer().is_none(), "{to}");
        }
    }
}
