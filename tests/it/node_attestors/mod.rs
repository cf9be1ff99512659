//! Nodes that prove themselves by more than a join token: ours on our server, and those who only pretend.

mod k8s_psat;
mod x509pop;

use std::fs;
use std::path::Path;

use muster_node_attestors::x509pop::{X509popAttestor, X509popFiles};
use muster_pki::x509::{CertificateDer, X509Svid, create_csr};
use muster_plugin_api::NodeAttestor;
use muster_proto::spire::server::agent::{
    AgentX509svidParams, AttestAgentRequest, AttestAgentResponse, agent_client::AgentClient,
    attest_agent_request, attest_agent_response,
};
use muster_proto::spire::types;
use muster_tests::{Cluster, Identity, MachineCa, tcp_channel};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

/// An attestation that the story leads word by word.
struct Talk {
    say: mpsc::Sender<AttestAgentRequest>,
    heard: Streaming<AttestAgentResponse>,
}

/// What a node got.
struct Attested {
    identity: Identity,
    reattestable: bool,
}

impl Talk {
    /// Shows a payload, as a node does that has no certificate of the server's yet.
    async fn open(cluster: &Cluster, kind: &str, payload: Vec<u8>, csr: Vec<u8>) -> Result<Self, Status> {
        let (say, said) = mpsc::channel(4);
        let data = types::AttestationData {
            r#type: kind.to_owned(),
            payload,
        };
        let params = attest_agent_request::Params {
            data: Some(data),
            params: Some(AgentX509svidParams { csr }),
        };
        let step = Some(attest_agent_request::Step::Params(params));
        say.send(AttestAgentRequest { step }).await.unwrap();
        let mut client = AgentClient::new(tcp_channel(cluster, None).await);
        let heard = client.attest_agent(ReceiverStream::new(said)).await?.into_inner();
        Ok(Self { say, heard })
    }

    async fn next(&mut self) -> Result<attest_agent_response::Step, Status> {
        let answer = self.heard.message().await?;
        answer
            .and_then(|answer| answer.step)
            .ok_or_else(|| Status::internal("the server said nothing"))
    }

    async fn challenge(&mut self) -> Result<Vec<u8>, Status> {
        match self.next().await? {
            attest_agent_response::Step::Challenge(challenge) => Ok(challenge),
            attest_agent_response::Step::Result(_) => panic!("a certificate without a challenge"),
        }
    }

    async fn answer(&mut self, answer: Vec<u8>) -> Result<attest_agent_response::Step, Status> {
        let step = Some(attest_agent_request::Step::ChallengeResponse(answer));
        self.say.send(AttestAgentRequest { step }).await.unwrap();
        self.next().await
    }
}

/// The whole attestation, for a new key.
async fn attest(cluster: &Cluster, attestor: &dyn NodeAttestor) -> Result<Attested, Status> {
    let key = Identity::key();
    let mut proof = attestor.begin().await.unwrap();
    let payload = proof.payload().expose_secret().to_vec();
    let mut talk = Talk::open(
        cluster,
        attestor.kind(),
        payload,
        create_csr(&*key, None).unwrap(),
    )
    .await?;
    let mut step = talk.next().await?;
    loop {
        step = match step {
            attest_agent_response::Step::Challenge(challenge) => {
                talk.answer(proof.answer(&challenge).await.unwrap()).await?
            }
            attest_agent_response::Step::Result(result) => {
                let chain = result.svid.unwrap().cert_chain;
                let chain = chain
                    .into_iter()
                    .map(|der| CertificateDer::from(der.to_vec()))
                    .collect();
                let svid = X509Svid::parse(chain).unwrap();
                return Ok(Attested {
                    identity: Identity { svid, key },
                    reattestable: result.reattestable,
                });
            }
        };
    }
}

/// The attestor of the machine whose certificate is in `folder`.
fn x509pop(folder: &Path) -> X509popAttestor {
    X509popAttestor::new(X509popFiles {
        certificate_path: folder.join("machine.crt"),
        private_key_path: folder.join("machine.key"),
        intermediates_path: None,
    })
}

/// From now on the server takes machines of `ca`: it reads the file at each attestation.
fn trust(cluster: &Cluster, ca: &MachineCa) {
    fs::write(cluster.path().join("node-ca.pem"), ca.pem()).unwrap();
}

/// A file of authorities must be there when the server starts.
fn some_authority(dir: &Path) {
    fs::write(dir.join("node-ca.pem"), MachineCa::new("before").pem()).unwrap();
}

/// The selectors of a node, as texts.
fn selectors(agent: &types::Agent) -> Vec<String> {
    let texts = agent.selectors.iter();
    texts
        .map(|selector| format!("{}:{}", selector.r#type, selector.value))
        .collect()
}
