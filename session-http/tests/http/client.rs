//! What kind of client a session is of.

use axum::{Router, body::Body, http::Request, routing::get};
use session_http::{Error, Session, SessionLayer, SessionManager};

use crate::support::{Answer, Browser, Watched, manager, routes, send};

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

fn with_clients(manager: SessionManager) -> Router {
    async fn changed(session: Session) -> Result<String, Error> {
        Ok(session.client_changed().await?.to_string())
    }
    routes()
        .route("/changed", get(changed))
        .layer(SessionLayer::new(manager))
}

/// A request by a client that names itself so.
async fn ask(browser: &mut Browser, path: &str, agent: &str) -> Answer {
    let mut request: Request<Body> = browser.request(path);
    request.headers_mut().insert("user-agent", agent.parse().unwrap());
    browser.send(request).await
}

#[tokio::test]
async fn another_client_is_noticed_and_costs_no_write() {
    let store = Watched::shared();
    let mut browser = Browser::new(&with_clients(manager(&store)));
    ask(&mut browser, "/write/x", FIREFOX).await;
    assert_eq!(store.calls(), ["create"]);
    for (agent, changed) in [
        (FIREFOX, "false"),
        (&*FIREFOX.replace("140.0", "141.0"), "false"),
        ("curl/8.14.1", "true"),
        ("", "true"),
    ] {
        assert_eq!(
            ask(&mut browser, "/changed", agent).await.body,
            changed,
            "{agent}"
        );
        assert_eq!(store.calls(), ["load"], "{agent}");
        // And the session is the client's all the same.
        assert_eq!(ask(&mut browser, "/read", agent).await.body, "x");
        assert_eq!(store.calls(), ["load"]);
    }
    assert_eq!(
        send(&browser.site, browser.request("/changed")).await.body,
        "true"
    );
    ask(&mut browser, "/login/zoe", "curl/8.14.1").await;
    assert_eq!(ask(&mut browser, "/changed", "curl/8.14.1").await.body, "false");
    assert_eq!(ask(&mut browser, "/changed", FIREFOX).await.body, "true");
}

#[tokio::test]
async fn client_is_not_remembered_where_that_is_not_wanted() {
    let store = Watched::shared();
    let forgetful = SessionManager::builder(manager(&store).sessions().clone())
        .client_fingerprint(false)
        .build()
        .unwrap();
    let mut browser = Browser::new(&with_clients(forgetful));
    ask(&mut browser, "/write/x", FIREFOX).await;
    // Asked by a manager that would notice.
    browser.site = with_clients(manager(&store));
    assert_eq!(ask(&mut browser, "/changed", "curl/8.14.1").await.body, "false");
}
