//! `rediss://`: the server's certificate is checked.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{sync::Arc, time::Duration};

use session_core::{ErrorKind, Record, SessionId, SessionStore};
use session_redis::{
    ConnectError, RedisStore,
    redis::{Client, TlsCertificates},
};
use session_testbed::{Kind, RedisServer};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::{CryptoProvider, ring},
        pki_types::PrivateKeyDer,
    },
};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A port that speaks TLS, in front of `server`, and its certificate, which no system trusts.
async fn terminate(server: u16) -> (u16, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let (acceptor, listener) = (
        TlsAcceptor::from(Arc::new(config)),
        TcpListener::bind("127.0.0.1:0").await.unwrap(),
    );
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // A client that does not trust the certificate hangs up.
                let Ok(mut client) = acceptor.accept(client).await else {
                    return;
                };
                let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (port, made.cert.pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_server_serves_and_another_is_unavailable() {
    let server = RedisServer::start(Kind::Redis, &[]).await.unwrap();
    let (port, certificate) = terminate(server.port().unwrap()).await;

    // The store chooses the cryptography where the process has not.
    assert!(CryptoProvider::get_default().is_none());
    let url = format!("rediss://127.0.0.1:{port}/?read_ms=5000&connect_ms=5000");
    let ConnectError::Store(error) = RedisStore::connect(&url).await.unwrap_err() else {
        panic!("the URL is right")
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(format!("{error}").contains("certificate"), "{error}");

    let trusted = TlsCertificates {
        client_tls: None,
        root_cert: Some(certificate.into_bytes()),
    };
    let client = Client::build_with_tls(format!("rediss://127.0.0.1:{port}/"), trusted).unwrap();
    let store = RedisStore::builder(client)
        .read_deadline(Duration::from_secs(5))
        .write_deadline(Duration::from_secs(5))
        .connect_deadline(Duration::from_secs(5))
        .build()
        .unwrap();
    let key = SessionId::random().unwrap().key("tls");
    let record = Record::new(vec![7; 60_000]);
    let version = store.create(&key, &record, HOUR).await.unwrap();
    let stored = store.load(&key).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.record), (version, record));
}
