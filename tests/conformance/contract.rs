//! What the agent says of itself by gRPC reflection.

use std::collections::BTreeSet;

use muster_tests::Cluster;
use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorProto, field_descriptor_proto::Label};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::caller::{connect, within};

/// The published contract: a line for each RPC and each field.
const PUBLISHED: &str = include_str!("workload_api.txt");

/// The services that are offered on the Workload API's socket.
pub(crate) async fn services(cluster: &Cluster) -> Vec<String> {
    match ask(cluster, MessageRequest::ListServices(String::new())).await {
        MessageResponse::ListServicesResponse(list) => {
            list.service.into_iter().map(|service| service.name).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// The file that describes the Workload API.
pub(crate) async fn descriptor(cluster: &Cluster) -> FileDescriptorProto {
    match ask(
        cluster,
        MessageRequest::FileContainingSymbol("SpiffeWorkloadAPI".into()),
    )
    .await
    {
        MessageResponse::FileDescriptorResponse(files) => {
            FileDescriptorProto::decode(&*files.file_descriptor_proto[0]).expect("a descriptor")
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) fn is_the_published_one(file: &FileDescriptorProto) {
    let mut said = BTreeSet::new();
    for service in &file.service {
        for method in &service.method {
            let stream = if method.server_streaming() { "stream " } else { "" };
            assert!(!method.client_streaming());
            said.insert(format!(
                "{}.{}({}) {stream}{}",
                service.name(),
                method.name(),
                method.input_type(),
                method.output_type()
            ));
        }
    }
    for message in &file.message_type {
        fields("", message, &mut said);
    }
    let published: BTreeSet<String> = PUBLISHED.lines().map(str::to_owned).collect();
    assert_eq!(said, published);
}

fn fields(outer: &str, message: &DescriptorProto, said: &mut BTreeSet<String>) {
    let name = format!("{outer}{}", message.name());
    for field in &message.field {
        let many = if field.label() == Label::Repeated {
            "repeated "
        } else {
            ""
        };
        let kind = match field.type_name() {
            "" => field
                .r#type()
                .as_str_name()
                .trim_start_matches("TYPE_")
                .to_lowercase(),
            named => named.to_owned(),
        };
        said.insert(format!("{name} {} {many}{kind} {}", field.number(), field.name()));
    }
    for nested in &message.nested_type {
        fields(&format!("{name}."), nested, said);
    }
}

async fn ask(cluster: &Cluster, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    };
    let mut client = ServerReflectionClient::new(connect(cluster).await);
    let answers = client
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .unwrap();
    within(answers.into_inner().message())
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap()
}
