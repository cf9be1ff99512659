//! One address behind which servers change places.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    task::JoinSet,
};

/// Passes bytes on to the server of the moment.
pub(crate) struct Proxy {
    address: SocketAddr,
    behind: Arc<Mutex<Behind>>,
    // Its tasks end with it.
    _runtime: Runtime,
}

struct Behind {
    server: SocketAddr,
    connections: JoinSet<()>,
}

impl Proxy {
    /// One that leads to `server`.
    pub(crate) fn start(server: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let behind = Arc::new(Mutex::new(Behind {
            server: server.parse().unwrap(),
            connections: JoinSet::new(),
        }));
        let held = behind.clone();
        runtime.spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut behind = held.lock().unwrap();
                let server = behind.server;
                behind.connections.spawn(async move {
                    if let Ok(mut far) = TcpStream::connect(server).await {
                        copy_bidirectional(&mut near, &mut far).await.ok();
                    }
                });
            }
        });
        Self {
            address,
            behind,
            _runtime: runtime,
        }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Leads to another server from now on, and cuts what is open.
    pub(crate) fn lead_to(&self, server: &str) {
        let mut behind = self.behind.lock().unwrap();
        behind.server = server.parse().unwrap();
        behind.connections.abort_all();
    }
}
