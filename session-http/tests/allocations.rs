//! How often the allocator is asked for the session of a request: the answer with a session, less the same without one.
//!
//! A ceiling that is passed is either a mistake, or a price that somebody decides to pay: then it is raised here.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    http::{
        Request,
        header::{COOKIE, SET_COOKIE},
    },
    routing::get,
};
use session_core::{MemoryStore, Sessions};
use session_http::{Session, SessionLayer, SessionManager};
use tokio::runtime::{Builder, Runtime};
use tower::ServiceExt;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn site() -> Router {
    Router::new()
        .route("/plain", get(async || "hello"))
        .route(
            "/read",
            get(async |session: Session| {
                session.get::<u64>("count").await.unwrap();
                "hello"
            }),
        )
        .route(
            "/change",
            get(async |session: Session| {
                session
                    .update("count", |count: Option<u64>| count.unwrap_or(0) + 1)
                    .await
                    .unwrap();
                "hello"
            }),
        )
}

fn with_sessions() -> Router {
    let sessions = Sessions::builder(Arc::new(MemoryStore::default()))
        .build()
        .unwrap();
    site().layer(SessionLayer::new(SessionManager::new(sessions)))
}

fn request(path: &str, cookie: Option<&str>) -> Request<Body> {
    let mut request = Request::get(path);
    if let Some(cookie) = cookie {
        request = request.header(COOKIE, cookie);
    }
    request.body(Body::empty()).unwrap()
}

/// The least of some times: the first one may fill a cache.
fn allocations(runtime: &Runtime, site: &Router, path: &str, cookie: Option<&str>) -> u64 {
    let counted = |_| {
        let (site, request) = (site.clone(), request(path, cookie));
        let answer = || {
            runtime.block_on(async {
                assert!(site.oneshot(request).await.unwrap().status().is_success());
            });
        };
        allocation_counter::measure(answer).count_total
    };
    (0..10).map(counted).min().unwrap()
}

fn costs(ceiling: u64, path: &str) {
    let (runtime, site) = (runtime(), with_sessions());
    let response = runtime
        .block_on(site.clone().oneshot(request("/change", None)))
        .unwrap();
    let cookie = response.headers()[SET_COOKIE].to_str().unwrap();
    let cookie = cookie.split(';').next().unwrap();
    let with = allocations(&runtime, &site, path, Some(cookie));
    let without = allocations(&runtime, &self::site(), "/plain", Some(cookie));
    let counted = with.saturating_sub(without);
    println!("{counted} allocations");
    assert!(counted <= ceiling, "{counted} allocations, {ceiling} at most");
}

#[test]
fn session_that_is_not_used() {
    costs(8, "/plain");
}

#[test]
fn session_that_is_read() {
    costs(14, "/read");
}

#[test]
fn session_that_is_changed() {
    costs(30, "/change");
}
