use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// What an endpoint says to whoever asks.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Status 200 with this body.
    Document(String),
    /// These bytes, the head too.
    Raw(String),
    /// A redirect with this status, to there.
    Redirect(u16, String),
    /// This head, and then as much as anybody takes.
    Endless(&'static str),
    /// This head, and then a byte from time to time.
    Drip(&'static str),
}

/// A bundle endpoint that says what a story wants it to say.
pub struct ScriptedEndpoint {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

struct Shared {
    reply: Reply,
    tls: Option<Arc<ServerConfig>>,
    /// The heads of the requests.
    requests: Vec<String>,
    connections: usize,
}

impl ScriptedEndpoint {
    /// Listens, with TLS or without.
    pub fn start(tls: Option<Arc<ServerConfig>>, reply: Reply) -> Self {
        let shared = Arc::new(Mutex::new(Shared {
            reply,
            tls,
            requests: Vec::new(),
            connections: 0,
        }));
        let (bound, address) = std::sync::mpsc::channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                bound.send(listener.local_addr().unwrap()).unwrap();
                tokio::select! {
                    _ = stopped => {}
                    () = serve(listener, serving) => {}
                }
            });
        });
        Self {
            address: address.recv().unwrap(),
            shared,
            stop: Some(stop),
        }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("https://{}/", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it says this.
    pub fn say(&self, reply: Reply) {
        self.lock().reply = reply;
    }

    /// From now on it shows this.
    pub fn show(&self, tls: Option<Arc<ServerConfig>>) {
        self.lock().tls = tls;
    }

    /// The heads of the requests since they were last asked for.
    pub fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().requests)
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.lock().connections
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ScriptedEndpoint {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
    }
}

async fn serve(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        let tls = {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.connections += 1;
            shared.tls.clone()
        };
        connections.spawn(async move {
            match tls {
                None => talk(tcp, &shared).await,
                Some(tls) => {
                    if let Ok(stream) = TlsAcceptor::from(tls).accept(tcp).await {
                        talk(stream, &shared).await;
                    }
                }
            }
        });
    }
}

async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Mutex<Shared>) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && head.len() < 20_000 {
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let reply = {
        let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.requests.push(String::from_utf8_lossy(&head).into_owned());
        shared.reply.clone()
    };
    let text = match reply {
        Reply::Document(body) => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
        Reply::Raw(text) => text,
        Reply::Redirect(status, target) => {
            format!("HTTP/1.1 {status} Moved\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n")
        }
        Reply::Endless(head) => {
            stream.write_all(head.as_bytes()).await.ok();
            while stream.write_all(&[b' '; 16 << 10]).await.is_ok() {}
            return;
        }
        Reply::Drip(head) => {
            stream.write_all(head.as_bytes()).await.ok();
            while stream.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            return;
        }
    };
    stream.write_all(text.as_bytes()).await.ok();
    stream.shutdown().await.ok();
}
