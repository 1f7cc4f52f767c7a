//! Between store and server: a socket of this machine.

use tokio::{io::copy_bidirectional, net::TcpStream};

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
