//! TLS, on a server that refuses everything else.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use session_core::{Record, SessionId, SessionStore};
use session_postgres::PostgresStore;
use session_testbed::{PostgresServer, Version};

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_kept_by_tls_and_a_certificate_of_nobody_is_refused_when_verified() {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (signed.cert.pem(), signed.signing_key.serialize_pem());
    let server = PostgresServer::start_with_tls(Version::V17, &certificate, &key, &[])
        .await
        .unwrap();
    let patient = "read_ms=10000&write_ms=10000&connect_ms=10000";
    let store = PostgresStore::connect(&format!("{}?sslmode=require&{patient}", server.url()))
        .await
        .unwrap();
    let key = SessionId::random().unwrap().key("tls");
    let hour = Duration::from_secs(3600);
    store.create(&key, &Record::new("data"), hour).await.unwrap();
    assert!(store.load(&key).await.unwrap().is_some());

    for mode in ["disable", "verify-full"] {
        let url = format!("{}?sslmode={mode}", server.url());
        let error = PostgresStore::connect(&url).await.unwrap_err().to_string();
        assert!(error.contains("unavailable"), "{mode}: {error}");
    }
}
