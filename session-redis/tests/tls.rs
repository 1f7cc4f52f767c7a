//! `rediss://`: the server's certificate is checked.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{sync::Arc, time::Duration};

use session_core::{ErrorKind, Record, SessionId, SessionStore};
use session_redis::{
    ConnectError, RedisStore, RedisStoreBuilder, Servers,
    redis::{Client, TlsCertificates},
};
use session_testbed::{Kind, RedisCluster, RedisServer, SentinelGroup};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A port that speaks TLS, in front of `server`, and its certificate, which no system trusts.
async fn terminate(server: u16) -> (u16, String) {
    let (certificate, acceptor) = identity();
    (open_door(server, acceptor).await, certificate)
}

/// A certificate that no system trusts, and what proves it.
fn identity() -> (String, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (made.cert.pem(), TlsAcceptor::from(Arc::new(config)))
}

async fn open_door(server: u16, acceptor: TlsAcceptor) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
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
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_server_serves_and_another_is_unavailable() {
    let server = RedisServer::start(Kind::Redis, &[]).await.unwrap();
    let (port, certificate) = terminate(server.port().unwrap()).await;

    // Nothing in this process chooses the cryptography: the store does.
    let url = format!("rediss://127.0.0.1:{port}/?read_ms=5000&connect_ms=5000");
    let ConnectError::Store(error) = RedisStore::connect(&url).await.unwrap_err() else {
        panic!("the URL is right")
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(format!("{error}").contains("certificate"), "{error}");

    let store = patient(RedisStore::builder(trusting(port, &certificate)));
    serves(&store).await;
}

/// The servers that Sentinels and nodes of a Cluster tell of are reached by TLS too, and trusted no less and no more.
#[tokio::test(flavor = "multi_thread")]
async fn group_and_cluster_are_reached_by_tls() {
    let cluster = RedisCluster::start(Kind::Redis, 0, &[]).await.unwrap();
    let group = SentinelGroup::start(Kind::Redis, &[]).await.unwrap();
    let sentinels = || {
        group
            .sentinels()
            .iter()
            .map(|sentinel| Client::open(sentinel.url()).unwrap())
    };

    let (made, acceptor) = identity();
    let mut doors = Vec::new();
    for server in cluster.nodes().iter().chain(group.servers()) {
        let told = server.port().unwrap();
        doors.push((told, open_door(told, acceptor.clone()).await));
    }
    let nat = || {
        doors
            .iter()
            .map(|(told, door)| (("127.0.0.1", *told), ("127.0.0.1", *door)))
    };
    let client = trusting(doors[0].1, &made);
    let servers = [
        Servers::cluster([client.clone()]),
        Servers::sentinel(sentinels(), "sessions", client),
    ];
    for servers in servers {
        let store = patient(RedisStore::builder(servers).nat_map(nat()));
        for _ in 0..12 {
            serves(&store).await;
        }
    }

    let stranger = Client::open(format!("rediss://127.0.0.1:{}/", doors[0].1)).unwrap();
    let servers = [
        Servers::cluster([stranger.clone()]),
        Servers::sentinel(sentinels(), "sessions", stranger),
    ];
    for servers in servers {
        let store = patient(RedisStore::builder(servers).nat_map(nat()));
        let error = store
            .load(&SessionId::random().unwrap().key("tls"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(format!("{error}").contains("certificate"), "{error}");
    }
}

fn trusting(port: u16, certificate: &str) -> Client {
    let trusted = TlsCertificates {
        client_tls: None,
        root_cert: Some(certificate.as_bytes().to_vec()),
    };
    Client::build_with_tls(format!("rediss://127.0.0.1:{port}/"), trusted).unwrap()
}

fn patient(builder: RedisStoreBuilder) -> RedisStore {
    builder
        .read_deadline(Duration::from_secs(5))
        .write_deadline(Duration::from_secs(5))
        .connect_deadline(Duration::from_secs(5))
        .build()
        .unwrap()
}

async fn serves(store: &RedisStore) {
    let key = SessionId::random().unwrap().key("tls");
    let record = Record::new(vec![7; 60_000]);
    let version = store.create(&key, &record, HOUR).await.unwrap();
    let stored = store.load(&key).await.unwrap().unwrap();
    assert_eq!((stored.version, stored.record), (version, record));
}
