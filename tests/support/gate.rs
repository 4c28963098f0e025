//! The way to a server from the others, which a test can close.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::server::runtime;

/// A port that others know a server by. What arrives is carried on to the server, or falls on a closed door.
pub struct Gate {
    port: u16,
    leads_to: watch::Sender<Option<SocketAddr>>,
}

impl Gate {
    /// On any port of the loopback address, closed.
    pub fn new() -> Self {
        let listener = runtime().block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (leads_to, seen) = watch::channel(None);
        runtime().spawn(async move {
            while let Ok((caller, _)) = listener.accept().await {
                tokio::spawn(carry(caller, seen.clone()));
            }
        });
        Self { port, leads_to }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whoever calls from now on reaches this address.
    pub fn open(&self, address: SocketAddr) {
        self.leads_to.send_replace(Some(address));
    }

    /// Nobody gets through, and who had is cut off when this returns.
    pub async fn close(&self) {
        self.leads_to.send_replace(None);
        // Each connection looks at where the gate leads, and whoever lets them in.
        while self.leads_to.receiver_count() > 1 {
            tokio::task::yield_now().await;
        }
    }
}

/// Carries one connection until either end has enough or the gate changes.
async fn carry(mut caller: TcpStream, mut gate: watch::Receiver<Option<SocketAddr>>) {
    let Some(address) = *gate.borrow_and_update() else { return };
    let Ok(mut server) = TcpStream::connect(address).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut caller, &mut server) => {}
        _ = gate.changed() => {}
    }
}
