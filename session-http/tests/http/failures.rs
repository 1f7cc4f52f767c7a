//! What goes wrong goes wrong visibly, and closed.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{Response, StatusCode},
    middleware::{Next, from_fn},
    response::{AppendHeaders, IntoResponse},
    routing::get,
};
use session_core::{Bytes, ErrorKind, Record, SessionError, SessionId, SessionStore};
use session_http::{CookieConfig, Error, Session, SessionLayer, SessionManager};
use tokio::sync::Notify;
use tower::{Layer, ServiceBuilder, ServiceExt};

use crate::support::{Answer, Browser, NAMESPACE, Watched, manager, routes, send, sessions, site, site_of};

/// 503, no cookie either way, and nothing that tells of the site's inside.
pub(crate) fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.all("retry-after"), ["1"]);
    assert_eq!(answer.all("content-type"), ["text/plain; charset=utf-8"]);
    assert_eq!(answer.all("cache-control"), ["no-store"]);
    assert_eq!(answer.all("vary"), ["Cookie"]);
    assert_eq!(answer.new_id(), None);
    assert_eq!(
        answer.body,
        "Your session cannot be reached right now. Please try again.\n"
    );
}

#[tokio::test]
async fn downed_store_is_never_an_anonymous_session() {
    let store = Watched::shared();
    let mut browser = Browser::new(&site(&store));
    browser.text("/write/cart").await;
    browser.text("/login/zoe").await;
    let id = browser.held();

    store.set_down(true);
    for path in [
        "/read",
        "/whoami",
        "/write/y",
        "/count",
        "/login/ann",
        "/renew",
        "/logout",
    ] {
        assert_unavailable(&browser.get(path).await);
        assert_eq!(browser.held(), id);
    }
    // What needs no session still works.
    assert_eq!(browser.text("/plain").await, "plain");
    assert_eq!(browser.text("/unused").await, "unused");
    // Nor does a visitor without a cookie get one that nobody keeps.
    let mut stranger = Browser::new(&site(&store));
    assert_unavailable(&stranger.get("/write/y").await);
    assert_eq!(stranger.text("/read").await, "nothing");

    store.set_down(false);
    assert_eq!(browser.text("/whoami").await, "zoe");
    assert_eq!(browser.text("/read").await, "cart");
    assert_eq!(browser.held(), id);
}

/// A handler that ignores the error gets its answer through, but no cookie and no record of it.
#[tokio::test]
async fn swallowed_error_makes_no_session() {
    let store = Watched::shared();
    let mut browser = Browser::new(&site(&store));
    browser.text("/write/cart").await;
    let id = browser.held();
    let before = store.record(&id).await.unwrap().version;
    store.calls();

    store.set_down(true);
    let answer = browser.get("/swallow").await;
    assert_eq!(answer.body, "swallowed");
    assert_eq!(answer.new_id(), None);
    store.set_down(false);
    assert!(store.calls().iter().all(|&call| call == "load"));
    assert_eq!(store.record(&id).await.unwrap().version, before);
    assert_eq!(store.memory.len(), 1);
    assert_eq!(browser.text("/swallow").await, "something");
}

#[tokio::test]
async fn failed_commit_replaces_the_response() {
    async fn order(
        session: Session,
    ) -> Result<(AppendHeaders<[(&'static str, &'static str); 2]>, &'static str), Error> {
        session.insert("value", &"ordered".to_owned()).await?;
        let headers = [("set-cookie", "receipt=7"), ("location", "/thanks")];
        Ok((AppendHeaders(headers), "thank you"))
    }
    let store = Watched::shared();
    let site = Router::new()
        .route("/order", get(order))
        .layer(SessionLayer::new(manager(&store)));
    store.set_down(true);
    let answer = Browser::new(&site).get("/order").await;
    assert_unavailable(&answer);
    assert!(answer.all("location").is_empty());
    store.set_down(false);
    assert!(store.memory.is_empty());
}

#[tokio::test]
async fn unreadable_record_is_an_error_and_stays() {
    let store = Watched::shared();
    let mut browser = Browser::new(&site(&store));
    browser.text("/write/cart").await;
    let id = browser.held();
    let whole = store.record(&id).await.unwrap().record.data;
    let mut newer = whole.to_vec();
    newer[0] = 200;
    let truncated = whole.slice(..whole.len() / 2);
    for (data, status) in [
        (truncated, StatusCode::INTERNAL_SERVER_ERROR),
        (newer.into(), StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let key = id.parse::<SessionId>().unwrap().key(NAMESPACE);
        let version = store.record(&id).await.unwrap().version;
        let unreadable = Record::new(data);
        let ttl = Duration::from_secs(60);
        store
            .memory
            .update(&key, version, &unreadable, ttl)
            .await
            .unwrap();
        for path in ["/read", "/write/x", "/login/zoe", "/logout"] {
            let answer = browser.get(path).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.body);
            assert_eq!(answer.new_id(), None);
        }
        assert_eq!(store.record(&id).await.unwrap().record, unreadable);
        assert_eq!(store.memory.len(), 1);
    }
}

#[tokio::test]
async fn handler_that_answers_with_an_error_commits_nothing() {
    let store = Watched::shared();
    let answer = Browser::new(&site(&store)).get("/give-up").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.new_id(), None);
    assert!(store.calls().is_empty());
}

#[tokio::test]
async fn application_answers_errors_in_its_own_way() {
    let own = |error: &Error| {
        Response::builder()
            .status(418)
            .header("set-cookie", "__Host-session=; Max-Age=0")
            .header("set-cookie", "sorry=1")
            .header("cache-control", "public")
            .body(Bytes::from(format!("sorry: {}", error.status())))
            .unwrap()
    };
    let store = Watched::shared();
    let site = site_of(
        SessionManager::builder(sessions(&store))
            .on_error(own)
            .build()
            .unwrap(),
    );
    let mut browser = Browser::new(&site);
    browser.text("/write/x").await;
    let check = |answer: Answer, body: &str| {
        assert_eq!(answer.status, StatusCode::IM_A_TEAPOT);
        assert_eq!(answer.body, body);
        // The session's cookie stays, whatever the page does, and no cache keeps the page.
        assert_eq!(answer.all("set-cookie"), ["sorry=1"]);
        assert_eq!(answer.all("cache-control"), ["no-store"]);
    };
    let failed = async |path| {
        let request = browser.request(path);
        Answer::of(site.clone().oneshot(request).await.unwrap()).await
    };
    // The handler's own error and the failed commit are answered alike.
    check(failed("/give-up").await, "sorry: 500 Internal Server Error");
    store.set_down(true);
    check(failed("/read").await, "sorry: 503 Service Unavailable");
    let stranger = Browser::new(&site).request("/write/x");
    let answer = Answer::of(site.clone().oneshot(stranger).await.unwrap()).await;
    check(answer, "sorry: 503 Service Unavailable");
}

#[test]
fn each_error_has_its_status() {
    let store = |kind| Error::from(SessionError::Store(session_core::Error::new(kind, "test")));
    let (size, limit) = (2, 1);
    for (error, status) in [
        (store(ErrorKind::Unavailable), 503),
        (store(ErrorKind::Full), 503),
        (store(ErrorKind::NewerFormat), 503),
        (store(ErrorKind::Corrupt), 500),
        (store(ErrorKind::TooLarge { size, limit }), 500),
        (store(ErrorKind::Unsupported), 500),
        (SessionError::Gone.into(), 409),
        (SessionError::Contended { attempts: 3 }.into(), 409),
        (SessionError::TooManySessions { limit: 3 }.into(), 409),
        (
            SessionError::NotFresh {
                within: Duration::ZERO,
            }
            .into(),
            403,
        ),
        (SessionError::InvalidName { len: 0 }.into(), 500),
    ] {
        assert_eq!(error.status(), status, "{error:?}");
        let response = error.response();
        assert_eq!(response.status(), status);
        assert_eq!(response.headers().contains_key("retry-after"), status == 503);
    }
}

#[tokio::test]
async fn panic_of_a_handler_goes_on_and_commits_nothing() {
    let store = Watched::shared();
    let mut browser = Browser::new(&site(&store));
    browser.text("/write/before").await;
    let request = browser.request("/panic");
    let site = browser.site.clone();
    let stopped = tokio::spawn(async move { site.oneshot(request).await })
        .await
        .unwrap_err();
    let panic = stopped.into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"the handler's own"));
    assert_eq!(browser.text("/read").await, "before");
}

#[tokio::test]
async fn request_that_is_dropped_commits_nothing() {
    let store = Watched::shared();
    let inserted = Arc::new(Notify::new());
    let wait = {
        let inserted = inserted.clone();
        async move |session: Session| {
            session.insert("value", &"dropped".to_owned()).await.unwrap();
            inserted.notify_one();
            std::future::pending::<()>().await;
        }
    };
    let site = Router::new()
        .route("/wait", get(wait))
        .layer(SessionLayer::new(manager(&store)));
    let request = Browser::new(&site).request("/wait");
    let in_flight = site.oneshot(request);
    tokio::select! {
        _ = in_flight => panic!("the handler never answers"),
        () = inserted.notified() => {}
    }
    assert!(store.calls().is_empty());
    assert!(store.memory.is_empty());
}

/// The client goes away between the two writes of a renewal: the second is done all the same.
#[tokio::test]
async fn commit_that_has_begun_is_finished() {
    let store = Watched::shared();
    let site = site(&store);
    let mut browser = Browser::new(&site);
    browser.text("/write/cart").await;
    let old = browser.held();

    let update = store.hold("update");
    let in_flight = site.clone().oneshot(browser.request("/login/zoe"));
    tokio::select! {
        _ = in_flight => panic!("the commit waits for the store"),
        () = update.reached() => {}
    }
    // The request is gone by now.
    update.let_go().await;

    // The login took place: its client never learnt the new id, and the old one is dead.
    assert_eq!(Browser::with_id(&site, &old).text("/whoami").await, "nobody");
    assert_eq!(Browser::with_id(&site, &old).text("/read").await, "nothing");
    assert_eq!(store.calls()[..4], ["create", "load", "create", "update"]);
}

#[tokio::test]
async fn missing_layer_says_which() {
    let answer = Browser::new(&routes()).get("/read").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(
        answer.body.contains("session_http::SessionLayer is missing"),
        "{}",
        answer.body
    );
}

/// One manager's layer on a route and on the router around it: one session, one commit, one cookie.
#[tokio::test]
async fn layer_applied_twice_is_applied_once() {
    let store = Watched::shared();
    let manager = manager(&store);
    let site = site_of(manager.clone()).layer(SessionLayer::new(manager));
    let mut browser = Browser::new(&site);
    browser.text("/write/x").await;
    assert_eq!(store.calls(), ["create"]);
    assert_eq!(browser.text("/read").await, "x");
    browser.text("/logout").await;
    assert_eq!(browser.id, None);
}

/// An error of the service itself passes, and nothing is committed.
#[tokio::test]
async fn error_of_the_inner_service_passes_and_commits_nothing() {
    let store = Watched::shared();
    let failing = tower::service_fn(async |request: Request| {
        let session = request.extensions().get::<Session>().unwrap().clone();
        session.insert("value", &"lost".to_owned()).await.unwrap();
        Err::<Response<axum::body::Body>, _>("the service's own")
    });
    let layer = SessionLayer::new(manager(&store));
    let service = ServiceBuilder::new().layer(&layer).service(failing);
    let request = Browser::new(&site(&store)).request("/");
    assert_eq!(service.oneshot(request).await.unwrap_err(), "the service's own");
    assert!(store.memory.is_empty());
    assert!(format!("{:?}", layer.layer(())).contains("SessionService"));
}

/// A handler that is cut off by a layer within: what it had begun is not finished by the commit that follows.
#[tokio::test]
async fn log_out_that_is_cut_off_brings_nobody_back() {
    let store = Watched::shared();
    let cut_off = async |request: Request, next: Next| {
        let limit = Duration::from_millis(50);
        match tokio::time::timeout(limit, next.run(request)).await {
            Ok(response) => response,
            Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
        }
    };
    let site = routes()
        .layer(from_fn(cut_off))
        .layer(SessionLayer::new(manager(&store)));
    let mut browser = Browser::new(&site);
    browser.text("/login/zoe").await;
    let id = browser.held();
    let hold = store.hold("delete");
    let answer = browser.get("/logout").await;
    assert_eq!(answer.status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(answer.all("set-cookie"), Vec::<&str>::new());
    hold.let_go().await;
    assert_eq!(browser.held(), id);
}

/// A handler that gives up changes nothing, in the sessions of another manager neither.
#[tokio::test]
async fn handler_that_gives_up_commits_nothing_in_any_layer() {
    let (store, outer_store) = (Watched::shared(), Watched::shared());
    let cookie = CookieConfig::builder().name("__Host-outer").build().unwrap();
    let outer = SessionManager::builder(sessions(&outer_store))
        .cookie(cookie)
        .build()
        .unwrap();
    let change = async |session: Session, request: Request, next: Next| {
        session.insert("value", &"changed".to_owned()).await.unwrap();
        next.run(request).await
    };
    let site = routes()
        .layer(SessionLayer::new(manager(&store)))
        .layer(from_fn(change))
        .layer(SessionLayer::new(outer));
    let answer = Browser::new(&site).get("/give-up").await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(answer.all("set-cookie"), Vec::<&str>::new());
    assert!(outer_store.memory.is_empty() && store.memory.is_empty());
    let answer = send(&site, Browser::new(&site).request("/write/y")).await;
    assert_eq!(answer.all("set-cookie").len(), 2);
}
