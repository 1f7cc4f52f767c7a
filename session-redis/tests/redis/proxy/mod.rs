//! Between store and server: loses a reply when told to.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// A port of 127.0.0.1 that leads to the server.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    lose: AtomicBool,
    lost: AtomicUsize,
}

impl Proxy {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, state) = (listener.local_addr().unwrap().port(), Arc::<State>::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, server, Arc::clone(&shared)));
            }
        });
        Self { port, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// What the server says next is lost, and the connection with it.
    pub(crate) fn lose_next_reply(&self) {
        self.state.lose.store(true, Ordering::SeqCst);
    }

    /// Replies lost so far.
    pub(crate) fn lost(&self) -> usize {
        self.state.lost.load(Ordering::SeqCst)
    }
}

async fn serve(client: TcpStream, server: u16, state: Arc<State>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else {
        return;
    };
    let ((mut asks, mut hears), (mut says, mut listens)) = (client.into_split(), server.into_split());
    let forward = tokio::spawn(async move { tokio::io::copy(&mut asks, &mut listens).await });
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = says.read(&mut buffer).await {
        if state.lose.swap(false, Ordering::SeqCst) {
            state.lost.fetch_add(1, Ordering::SeqCst);
            break;
        }
        if hears.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    forward.abort();
}

/// A socket of this machine that leads to the server.
#[cfg(unix)]
pub(crate) fn listen_on_socket(path: &std::path::Path, server: u16) {
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                // Ends when either side does.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
}
