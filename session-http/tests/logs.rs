//! No id in any log line. Alone in its process: the subscriber is for all threads.

// All of this is tests, helpers included.
#![allow(clippy::unwrap_used)]

use std::{
    io,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    http::{Request, Response, StatusCode},
    routing::get,
};
use session_core::{MemoryStore, SessionStore, Sessions, Subject};
use session_http::{CookieConfig, CsrfLayer, Error, Session, SessionLayer, SessionManager};
use tower::ServiceExt;
use tracing_subscriber::fmt::format::FmtSpan;

/// Everything that is logged, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn capture() -> Self {
        let log = Self::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .init();
        log
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.lock().unwrap().clone()
    }

    fn contains(&self, needle: &[u8]) -> bool {
        self.bytes().windows(needle.len()).any(|window| window == needle)
    }
}

/// The bits that base64url text stands for, not by the decoder under test.
fn raw(id: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits: Vec<u8> = id
        .bytes()
        .flat_map(|char| {
            let value = ALPHABET.iter().position(|&letter| letter == char).unwrap();
            (0..6).rev().map(move |bit| u8::from(value >> bit & 1 == 1))
        })
        .collect();
    let byte = |bits: &[u8]| bits.iter().fold(0, |byte, bit| byte << 1 | bit);
    bits.chunks_exact(8).map(byte).collect()
}

fn site(store: &Arc<MemoryStore>) -> Router {
    async fn write(session: Session) -> Result<String, Error> {
        tracing::trace!(?session, "the handler's own line");
        session.insert("cart", &vec!["tea".to_owned()]).await?;
        Ok(format!("{session:?} {:?}", session.manager()))
    }
    async fn log_in(session: Session) -> Result<&'static str, Error> {
        session.log_in(Subject::new("zoe@example.org").unwrap()).await?;
        Ok("in")
    }
    async fn renew(session: Session) -> Result<&'static str, Error> {
        session.renew().await?;
        Ok("renewed")
    }
    async fn log_out(session: Session) -> Result<&'static str, Error> {
        session.log_out().await?;
        Ok("out")
    }
    async fn give_up(session: Session) -> Result<&'static str, Error> {
        let wrong: Option<u64> = session.get("cart").await?;
        Ok(if wrong.is_some() { "?" } else { "none" })
    }
    async fn token(session: Session) -> Result<String, Error> {
        let token = session.csrf_token().await?.unwrap();
        tracing::trace!(?token, "the page's own line");
        Ok(token.to_string())
    }
    let store: Arc<dyn SessionStore> = store.clone();
    let sessions = Sessions::builder(store).build().unwrap();
    Router::new()
        .route("/write", get(write))
        .route("/login", get(log_in))
        .route("/renew", get(renew))
        .route("/logout", get(log_out))
        .route("/give-up", get(give_up))
        .route("/token", get(token))
        .layer(CsrfLayer::new())
        // What an access log does: at TRACE it shows the headers of request and response.
        .layer(axum::middleware::map_response(
            async |response: axum::response::Response| {
                tracing::trace!(headers = ?response.headers(), "before the session's layer");
                response
            },
        ))
        .layer(SessionLayer::new(SessionManager::new(sessions)))
        .layer(axum::middleware::map_response(
            async |response: axum::response::Response| {
                tracing::trace!(headers = ?response.headers(), "response");
                response
            },
        ))
}

async fn send(site: &Router, path: &str, cookie: &str) -> Response<Body> {
    let request = Request::get(path)
        .header("cookie", cookie)
        .body(Body::empty())
        .unwrap();
    site.clone().oneshot(request).await.unwrap()
}

/// The id that the response sets.
fn new_id(response: &Response<Body>) -> String {
    let cookie = response.headers()["set-cookie"].to_str().unwrap();
    let value = cookie.strip_prefix("__Host-session=").unwrap();
    value[..43].to_owned()
}

/// CVE-2023-20866: from the first write to the logout and beyond, with every anomaly on the way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_id_is_in_any_log_line() {
    let log = Log::capture();
    let store = Arc::new(MemoryStore::new());
    let site = site(&store);
    let cookie = |id: &str| format!("__Host-session={id}");
    let mut ids = Vec::new();

    let first = send(&site, "/write", "").await;
    ids.push(new_id(&first));
    let body = axum::body::to_bytes(first.into_body(), 1 << 20).await.unwrap();
    let in_ = send(&site, "/login", &cookie(&ids[0])).await;
    ids.push(new_id(&in_));
    send(&site, "/write", &cookie(&ids[1])).await;
    let token = send(&site, "/token", &cookie(&ids[1])).await;
    let token = axum::body::to_bytes(token.into_body(), 1 << 20).await.unwrap();
    assert_eq!(token.len(), 64);
    for (name, value) in [
        ("x-csrf-token", &token[..]),
        ("x-csrf-token", &token[1..]),
        ("origin", b"null"),
    ] {
        let request = Request::post("/token")
            .header("cookie", cookie(&ids[1]))
            .header(name, value);
        let answer = site
            .clone()
            .oneshot(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        let passed = name != "origin" && value.len() == 64;
        assert_eq!(answer.status() == StatusCode::FORBIDDEN, !passed);
    }
    let renewed = send(&site, "/renew", &cookie(&ids[1])).await;
    ids.push(new_id(&renewed));
    let failed = send(&site, "/give-up", &cookie(&ids[2])).await;
    assert_eq!(failed.status(), StatusCode::INTERNAL_SERVER_ERROR);
    // Retired ids, two ids at once, an id in quotes, a made-up one, a dead one.
    send(&site, "/write", &cookie(&ids[0])).await;
    send(&site, "/write", &cookie(&ids[1])).await;
    send(
        &site,
        "/write",
        &format!("{}; {}", cookie(&ids[1]), cookie(&ids[2])),
    )
    .await;
    send(&site, "/write", &cookie(&format!("\"{}\"", ids[2]))).await;
    ids.push("Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFyYmE".to_owned());
    send(&site, "/write", &cookie(&ids[3])).await;
    let out = send(&site, "/logout", &cookie(&ids[2])).await;
    assert_eq!(out.status(), StatusCode::OK);
    send(&site, "/write", &cookie(&ids[2])).await;

    // The log is not empty, and holds what it should.
    for expected in [
        "the handler's own line",
        "credential_malformed",
        "credential_repeated",
        "session_failed",
        "csrf_refused\" reason=\"origin\"",
        "csrf_refused\" reason=\"token_wrong\"",
    ] {
        assert!(log.contains(expected.as_bytes()), "{expected}");
    }
    assert_eq!(raw("AAAB_w")[..], [0, 0, 1, 255]);
    let body = String::from_utf8(body.to_vec()).unwrap();
    for id in &ids {
        let raw = raw(id);
        assert_eq!(raw.len(), 32);
        let hex: String = raw.iter().map(|byte| format!("{byte:02x}")).collect();
        let list = format!("{raw:?}");
        for needle in [
            id.as_bytes(),
            &raw,
            hex.as_bytes(),
            hex.to_uppercase().as_bytes(),
            list.as_bytes(),
        ] {
            assert!(!log.contains(needle), "an id is in the log");
        }
        // Nor the most of it: what a cut-off line would show.
        assert!(!log.contains(&id.as_bytes()[..12]));
        assert!(!body.contains(id), "an id is in what Debug shows");
    }
    for part in [&token[..12], &token[12..]] {
        assert!(!log.contains(part), "a token is in the log");
    }
    assert!(!log.contains(b"zoe@example.org"));
    assert!(format!("{:?}", CookieConfig::default()).contains("__Host-session"));
}
