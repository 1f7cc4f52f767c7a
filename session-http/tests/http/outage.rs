//! A store that is down: which routes go on, and what they leave alone.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    http::StatusCode,
    response::{AppendHeaders, IntoResponse, Response},
    routing::get,
};
use session_core::{OnLimit, Record, SessionId, SessionStore, Sessions, Subject};
use session_http::{Error, Outage, OutageLayer, Session, SessionLayer, SessionManager};

use crate::{
    failures::assert_unavailable,
    support::{Answer, Browser, NAMESPACE, Watched, manager, routes, site},
};

/// A site whose routes under `/shown` go on while the store is down.
fn tolerant_site(store: &Arc<Watched>) -> Router {
    let shown = routes()
        .route("/page", get(page))
        .layer(OutageLayer::new(Outage::ReadOnly));
    let kept = routes().layer(OutageLayer::new(Outage::FailClosed));
    // Closed within open: the innermost counts.
    let within = Router::new()
        .nest("/closed", kept)
        .layer(OutageLayer::new(Outage::ReadOnly));
    routes()
        .nest("/shown", shown)
        .nest("/within", within)
        .layer(SessionLayer::new(manager(store)))
}

/// A page that a browser might keep for a while.
async fn page(session: Session) -> Result<Response, Error> {
    let subject = session.subject().await?;
    let text = match (subject, session.is_degraded()) {
        (_, true) => "the list; your cart cannot be reached".to_owned(),
        (Some(subject), false) => format!("the list, {}", subject.as_str()),
        (None, false) => "the list".to_owned(),
    };
    let headers = AppendHeaders([("cache-control", "private, max-age=600")]);
    Ok((headers, text).into_response())
}

/// 200 without the visitor, and nothing that a client or a cache would keep.
fn assert_degraded(answer: &Answer, body: &str) {
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, body));
    assert_eq!(answer.all("set-cookie"), Vec::<&str>::new());
    assert_eq!(answer.all("cache-control"), ["no-store"]);
    assert_eq!(answer.all("vary"), ["Cookie"]);
}

#[tokio::test]
async fn tolerant_route_shows_its_page_and_leaves_the_cookie_alone() {
    let store = Watched::shared();
    let mut browser = Browser::new(&tolerant_site(&store));
    browser.text("/write/cart").await;
    browser.text("/login/zoe").await;
    let id = browser.held();
    let before = store.record(&id).await.unwrap();
    let whole = browser.get("/shown/page").await;
    assert_eq!(whole.body, "the list, zoe");
    assert_eq!(whole.all("cache-control"), ["private, max-age=600"]);
    store.calls();

    store.set_down(true);
    assert_degraded(
        &browser.get("/shown/page").await,
        "the list; your cart cannot be reached",
    );
    assert_degraded(&browser.get("/shown/read").await, "nothing");
    assert_degraded(&browser.get("/shown/whoami").await, "nobody");
    // One attempt each, and nothing but that.
    assert_eq!(store.calls(), ["load"; 3]);
    // The other routes fail closed, and so does a closed one within an open one.
    for path in ["/read", "/whoami", "/within/closed/read", "/within/closed/whoami"] {
        assert_unavailable(&browser.get(path).await);
    }

    store.set_down(false);
    assert_eq!(browser.held(), id);
    assert_eq!(browser.get("/shown/page").await.body, "the list, zoe");
    assert_eq!(browser.text("/whoami").await, "zoe");
    let after = store.record(&id).await.unwrap();
    assert_eq!((after.record, after.version), (before.record, before.version));
    assert_eq!(
        store.memory.len(),
        2,
        "the session, and its retired id from before the log-in"
    );
}

#[tokio::test]
async fn whatever_changes_the_session_fails_on_a_tolerant_route() {
    let store = Watched::shared();
    let mut browser = Browser::new(&tolerant_site(&store));
    browser.text("/login/zoe").await;
    let id = browser.held();
    store.set_down(true);
    for path in [
        "/write/y",
        "/count",
        "/login/ann",
        "/renew",
        "/logout",
        "/commit-early",
    ] {
        assert_unavailable(&browser.get(&format!("/shown{path}")).await);
        assert_eq!(browser.held(), id);
        // Nor does a stranger get a session that nobody keeps.
        if path != "/renew" && path != "/logout" {
            let mut stranger = Browser::new(&tolerant_site(&store));
            assert_unavailable(&stranger.get(&format!("/shown{path}")).await);
        }
    }
    store.set_down(false);
    assert_eq!(browser.text("/whoami").await, "zoe");
    assert_eq!(store.memory.len(), 1);
}

#[tokio::test]
async fn store_that_fails_after_the_load_is_an_error_on_a_tolerant_route() {
    let store = Watched::shared();
    let site = Router::new()
        .route(
            "/fails-between",
            get({
                let store = store.clone();
                async move |session: Session| -> Result<&'static str, Error> {
                    session.insert("value", &"kept".to_owned()).await?;
                    store.set_down(true);
                    Ok("done")
                }
            }),
        )
        .layer(OutageLayer::new(Outage::ReadOnly))
        .merge(routes())
        .layer(SessionLayer::new(manager(&store)));
    let mut browser = Browser::new(&site);
    browser.text("/write/x").await;
    assert_unavailable(&browser.get("/fails-between").await);
    store.set_down(false);
    assert_eq!(browser.text("/read").await, "x");
}

#[tokio::test]
async fn unreadable_record_is_never_tolerated() {
    let store = Watched::shared();
    let mut browser = Browser::new(&tolerant_site(&store));
    browser.text("/write/cart").await;
    let id = browser.held();
    let whole = store.record(&id).await.unwrap();
    let mut newer = whole.record.data.to_vec();
    newer[0] = 200;
    let cut = whole.record.data.slice(..whole.record.data.len() / 2);
    let key = id.parse::<SessionId>().unwrap().key(NAMESPACE);
    for (data, status) in [(cut, 500), (newer.into(), 503)] {
        let version = store.record(&id).await.unwrap().version;
        let (record, ttl) = (Record::new(data), Duration::from_secs(60));
        store.memory.update(&key, version, &record, ttl).await.unwrap();
        for path in ["/shown/page", "/shown/read", "/shown/write/x"] {
            let answer = browser.get(path).await;
            assert_eq!(answer.status, status, "{path}: {}", answer.body);
            assert_eq!(answer.new_id(), None);
        }
        assert_eq!(store.record(&id).await.unwrap().record, record);
    }
}

/// An outage layer outside the session's finds nothing to choose for: its routes fail closed.
#[tokio::test]
async fn misplaced_outage_layer_fails_closed() {
    let store = Watched::shared();
    let misplaced = site(&store).layer(OutageLayer::new(Outage::ReadOnly));
    let mut browser = Browser::new(&misplaced);
    browser.text("/write/x").await;
    store.set_down(true);
    assert_unavailable(&browser.get("/read").await);
}

#[tokio::test]
async fn log_in_beyond_the_limit_is_told_and_leaves_the_session_as_it_was() {
    let store = Watched::shared();
    let shared: Arc<dyn SessionStore> = store.clone();
    let sessions = Sessions::builder(shared)
        .namespace(NAMESPACE)
        .max_per_subject(1, OnLimit::Refuse)
        .build()
        .unwrap();
    let site = routes().layer(SessionLayer::new(SessionManager::new(sessions)));
    let mut first = Browser::new(&site);
    first.text("/login/zoe").await;
    let mut second = Browser::new(&site);
    second.text("/write/cart").await;
    let answer = second.get("/login/zoe").await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert!(
        answer.body.contains("as many devices as allowed"),
        "{}",
        answer.body
    );
    assert_eq!(answer.all("set-cookie"), Vec::<&str>::new());
    assert_eq!(second.text("/whoami").await, "nobody");
    assert_eq!(second.text("/read").await, "cart");
    assert_eq!(first.text("/whoami").await, "zoe");
    first.text("/logout").await;
    second.text("/login/zoe").await;
    assert_eq!(second.text("/whoami").await, "zoe");
    assert_eq!(second.text("/read").await, "cart");
}

#[tokio::test]
async fn stale_log_in_is_told_to_log_in_again() {
    async fn pay(session: Session) -> Result<&'static str, Error> {
        session.require_fresh(Duration::from_millis(50)).await?;
        Ok("paid")
    }
    async fn log_in_again(session: Session) -> Result<&'static str, Error> {
        session.log_in(Subject::new("zoe").unwrap()).await?;
        session.require_fresh(session_core::Session::FRESH).await?;
        Ok("again")
    }
    let store = Watched::shared();
    let site = Router::new()
        .route("/pay", get(pay))
        .route("/again", get(log_in_again))
        .layer(SessionLayer::new(manager(&store)));
    let mut browser = Browser::new(&site);
    assert_eq!(browser.get("/pay").await.status, StatusCode::FORBIDDEN);
    browser.text("/again").await;
    let id = browser.held();
    tokio::time::sleep(Duration::from_millis(60)).await;
    let answer = browser.get("/pay").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
    assert!(answer.body.contains("log in again"), "{}", answer.body);
    browser.text("/again").await;
    assert_ne!(browser.held(), id);
}
