//! A bare gRPC server of canned answers, in a process of its own: how fast a server could be that looks at nobody.
//! What it answers was taken from a real agent, so that the sizes are the same.

use std::{fs, path::PathBuf, pin::Pin};

use muster_proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, WitBundlesRequest, WitBundlesResponse, WitsvidRequest, WitsvidResponse,
    X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
    spiffe_workload_api_client::SpiffeWorkloadApiClient,
    spiffe_workload_api_server::{SpiffeWorkloadApi, SpiffeWorkloadApiServer},
};
use tokio::net::UnixListener;
use tokio_stream::{Stream, StreamExt as _, wrappers::UnixListenerStream};
use tonic::{Request, Response, Status};
use tonic_prost::prost::Message as _;

use crate::{
    daemon::Daemon,
    side::{Side, request, watch},
};

/// The server, and the socket that it listens on.
pub(crate) struct Canned {
    pub(crate) daemon: Daemon,
    pub(crate) socket: PathBuf,
}

impl Canned {
    /// Takes its answers from `side` and starts.
    pub(crate) async fn start(side: &Side, folder: PathBuf) -> Self {
        let (_, x509) = watch(side.dial().await).await.unwrap();
        let jwt = SpiffeWorkloadApiClient::new(side.dial().await)
            .fetch_jwtsvid(request(JwtsvidRequest {
                audience: vec!["bench".into()],
                spiffe_id: String::new(),
            }))
            .await
            .unwrap();
        let socket = folder.join("canned.sock");
        let files = [folder.join("canned.x509"), folder.join("canned.jwt")];
        fs::write(&files[0], x509.encode_to_vec()).unwrap();
        fs::write(&files[1], jwt.into_inner().encode_to_vec()).unwrap();
        let mut args = vec!["canned".into(), socket.clone().into()];
        args.extend(files.into_iter().map(Into::into));
        let program = std::env::current_exe().unwrap();
        let mut daemon = Daemon::new(program, args, folder.join("canned.log"));
        daemon.start();
        muster_tests::until("the server of canned answers", || {
            std::os::unix::net::UnixStream::connect(&socket).is_ok()
        });
        Self { daemon, socket }
    }
}

/// What the process does: `canned SOCKET X509-ANSWER JWT-ANSWER`.
pub(crate) async fn serve(args: &[String]) {
    let [socket, x509, jwt] = args else {
        panic!("usage: canned SOCKET X509-ANSWER JWT-ANSWER");
    };
    let answers = Answers {
        x509: X509svidResponse::decode(&*fs::read(x509).unwrap()).unwrap(),
        jwt: JwtsvidResponse::decode(&*fs::read(jwt).unwrap()).unwrap(),
    };
    let listener = UnixListener::bind(socket).unwrap();
    tonic::transport::Server::builder()
        .add_service(SpiffeWorkloadApiServer::new(answers))
        .serve_with_incoming(UnixListenerStream::new(listener))
        .await
        .unwrap();
}

struct Answers {
    x509: X509svidResponse,
    jwt: JwtsvidResponse,
}

/// One answer, and then nothing: such a stream stays open.
type Stays<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl SpiffeWorkloadApi for Answers {
    type FetchX509SVIDStream = Stays<X509svidResponse>;
    type FetchX509BundlesStream = Stays<X509BundlesResponse>;
    type FetchJWTBundlesStream = Stays<JwtBundlesResponse>;
    type FetchWITSVIDStream = Stays<WitsvidResponse>;
    type FetchWITBundlesStream = Stays<WitBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        _: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let first = tokio_stream::once(Ok(self.x509.clone()));
        Ok(Response::new(Box::pin(first.chain(tokio_stream::pending()))))
    }

    async fn fetch_jwtsvid(&self, _: Request<JwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        Ok(Response::new(self.jwt.clone()))
    }

    async fn fetch_x509_bundles(
        &self,
        _: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn fetch_jwt_bundles(
        &self,
        _: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn validate_jwtsvid(
        &self,
        _: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn fetch_witsvid(
        &self,
        _: Request<WitsvidRequest>,
    ) -> Result<Response<Self::FetchWITSVIDStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn fetch_wit_bundles(
        &self,
        _: Request<WitBundlesRequest>,
    ) -> Result<Response<Self::FetchWITBundlesStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}
