//! Who gets which session. The numbers are those of the vulnerabilities of other libraries that each test would have
//! caught.

use std::sync::Arc;

use axum::{Router, extract::State, http::StatusCode, routing::get};
use session_core::{SessionStore, Sessions};
use session_http::{Error, Session, SessionLayer, SessionManager};
use tokio::sync::Notify;
use tower::{Service, ServiceExt};

use crate::support::{Answer, Browser, Watched, made_up, manager, site, site_of};

/// CVE-2018-1000519, CVE-2024-38513.
#[tokio::test]
async fn made_up_id_is_never_adopted() {
    let store = Watched::shared();
    let site = site(&store);
    let planted = made_up();

    let mut victim = Browser::with_id(&site, &planted);
    assert_eq!(victim.text("/write/secret").await, "written");
    assert_ne!(victim.held(), planted);
    assert!(store.record(&planted).await.is_none());
    assert!(store.record(&victim.held()).await.is_some());

    let mut attacker = Browser::with_id(&site, &planted);
    assert_eq!(attacker.text("/read").await, "nothing");
    let mut victim = Browser::with_id(&site, &planted);
    victim.text("/login/zoe").await;
    assert_ne!(victim.held(), planted);
    assert!(store.record(&planted).await.is_none());
    assert_eq!(attacker.text("/whoami").await, "nobody");
}

/// CVE-2022-25896, CVE-2023-29019, CVE-2018-11385.
#[tokio::test]
async fn login_gives_a_new_id_and_ends_the_old_one() {
    let store = Watched::shared();
    let site = site(&store);
    let mut victim = Browser::new(&site);
    victim.text("/write/cart").await;
    let fixed = victim.held();

    victim.text("/login/zoe").await;
    assert_ne!(victim.held(), fixed);
    assert_eq!(victim.text("/whoami").await, "zoe");
    assert_eq!(victim.text("/read").await, "cart");

    let mut attacker = Browser::with_id(&site, &fixed);
    assert_eq!(attacker.text("/whoami").await, "nobody");
    assert_eq!(attacker.text("/read").await, "nothing");

    // Logging in again renews again.
    let first = victim.held();
    victim.text("/login/zoe").await;
    assert_ne!(victim.held(), first);
    assert_eq!(Browser::with_id(&site, &first).text("/whoami").await, "nobody");
}

#[tokio::test]
async fn privilege_change_gives_a_new_id_and_ends_the_old_one() {
    let store = Watched::shared();
    let site = site(&store);
    let mut browser = Browser::new(&site);
    browser.text("/login/zoe").await;
    let old = browser.held();
    browser.text("/renew").await;
    assert_ne!(browser.held(), old);
    assert_eq!(browser.text("/whoami").await, "zoe");
    assert_eq!(Browser::with_id(&site, &old).text("/whoami").await, "nobody");
}

/// CVE-2015-3982, and ids as file paths (CVE-2024-3400, CVE-2011-0698, CVE-2008-0252).
#[tokio::test]
async fn empty_and_hostile_ids_reach_no_store() {
    let store = Watched::shared();
    let site = site(&store);
    let paths = "../".repeat(20);
    let long = "A".repeat(60_000);
    for id in [
        "",
        ";",
        "\"\"",
        "../../../../../../../../etc/passwd",
        &paths[..43],
        "%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2f%2e%2e%2f%",
        &long,
    ] {
        let answer = Browser::with_id(&site, id).get("/read").await;
        assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "nothing"));
        assert_eq!(answer.new_id(), None);
        assert!(store.calls().is_empty(), "{:.50}", id);
    }
    // Such a cookie is no obstacle: whoever sends it gets a session once there is something to keep.
    let mut browser = Browser::with_id(&site, "");
    browser.text("/write/x").await;
    assert_eq!(browser.text("/read").await, "x");
}

/// CVE-2015-5143, CVE-2015-5963, CVE-2015-5964.
#[tokio::test]
async fn anonymous_requests_fill_nothing() {
    let store = Watched::shared();
    let site = site(&store);
    for round in 0..10_000 {
        let path = ["/plain", "/unused", "/read", "/whoami", "/logout"][round % 5];
        let mut browser = Browser::new(&site);
        if round % 2 == 1 {
            browser.id = Some(made_up());
        }
        let answer = browser.get(path).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(browser.id.is_none() || answer.new_id().is_none());
    }
    let calls = store.calls();
    assert!(calls.contains(&"load"));
    let writes = calls.iter().filter(|&&call| call != "load").count();
    assert_eq!(writes, 0);
    assert!(store.memory.is_empty());
}

/// CVE-2022-24444, CVE-2023-20862, CVE-2026-30224.
#[tokio::test]
async fn logout_ends_the_session_on_the_server() {
    let store = Watched::shared();
    let site = site(&store);
    let mut browser = Browser::new(&site);
    browser.text("/write/cart").await;
    browser.text("/login/zoe").await;
    let stolen = browser.held();
    assert_eq!(browser.text("/logout").await, "logged out");
    assert_eq!(browser.id, None);
    assert!(store.record(&stolen).await.is_none());

    let mut thief = Browser::with_id(&site, &stolen);
    assert_eq!(thief.text("/whoami").await, "nobody");
    assert_eq!(thief.text("/read").await, "nothing");
}

/// CVE-2025-32441, CVE-2025-46336: a slow request that began before the logout and ends after it.
#[tokio::test]
async fn logout_is_not_undone_by_a_request_in_flight() {
    #[derive(Clone, Default)]
    struct Steps {
        loaded: Arc<Notify>,
        go_on: Arc<Notify>,
    }
    async fn slow(State(steps): State<Steps>, session: Session) -> Result<&'static str, Error> {
        assert_eq!(session.get("value").await?, Some("cart".to_owned()));
        steps.loaded.notify_one();
        steps.go_on.notified().await;
        session.insert("value", &"late".to_owned()).await?;
        Ok("late")
    }

    let store = Watched::shared();
    let steps = Steps::default();
    let slow = Router::new().route("/slow", get(slow)).with_state(steps.clone());
    let slow = slow.layer(SessionLayer::new(manager(&store)));
    let mut browser = Browser::new(&site(&store));
    browser.text("/write/cart").await;
    let id = browser.held();

    let in_flight = tokio::spawn({
        let mut browser = Browser::with_id(&slow, &id);
        async move { browser.get("/slow").await }
    });
    steps.loaded.notified().await;
    browser.text("/logout").await;
    steps.go_on.notify_one();

    let late = in_flight.await.unwrap();
    assert_eq!(late.status, StatusCode::CONFLICT);
    assert_ne!(late.body, "late");
    assert_eq!(late.new_id(), None);
    assert!(store.memory.is_empty());
    assert_eq!(
        Browser::with_id(&site(&store), &id).text("/read").await,
        "nothing"
    );
}

/// CVE-2023-47127, CVE-2022-46170: the same store behind two sites.
#[tokio::test]
async fn cookie_of_one_site_is_nothing_on_another() {
    let store = Watched::shared();
    let other: Arc<dyn SessionStore> = store.clone();
    let other = Sessions::builder(other).namespace("other").build().unwrap();
    let other = site_of(SessionManager::new(other));
    let mut browser = Browser::new(&site(&store));
    browser.text("/login/zoe").await;
    let mut stray = Browser::with_id(&other, &browser.held());
    assert_eq!(stray.text("/whoami").await, "nobody");
    assert_eq!(browser.text("/whoami").await, "zoe");
}

/// CVE-2026-24894: one worker, one service, one visitor after the other.
#[tokio::test]
async fn nothing_of_one_visitor_is_left_for_the_next() {
    let store = Watched::shared();
    let site = site(&store);
    let mut ann = Browser::new(&site);
    ann.text("/write/ann").await;
    ann.text("/login/ann").await;
    let mut ben = Browser::new(&site);
    ben.text("/write/ben").await;
    let stranger = Browser::new(&site);

    // The very same service, not clones of it, as a keep-alive connection uses it.
    let mut worker = site.into_service();
    for _ in 0..20 {
        for (browser, path, expected) in [
            (&ann, "/whoami", "ann"),
            (&ben, "/whoami", "nobody"),
            (&stranger, "/whoami", "nobody"),
            (&ann, "/read", "ann"),
            (&stranger, "/read", "nothing"),
            (&ben, "/read", "ben"),
        ] {
            let request = browser.request(path);
            let response = worker.ready().await.unwrap().call(request).await.unwrap();
            let answer = Answer::of(response).await;
            assert_eq!((answer.body.as_str(), answer.new_id()), (expected, None));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_visitors_get_their_own_sessions() {
    let site = site(&Watched::shared());
    let visitors = (0..50).map(|visitor| {
        let mut browser = Browser::new(&site);
        tokio::spawn(async move {
            let name = format!("visitor-{visitor}");
            browser.text(&format!("/write/{name}")).await;
            for _ in 0..20 {
                assert_eq!(browser.text("/read").await, name);
            }
        })
    });
    for visitor in visitors.collect::<Vec<_>>() {
        visitor.await.unwrap();
    }
}

/// Two additions from two parallel requests of one visitor are both kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_requests_of_one_visitor_all_count() {
    let site = site(&Watched::shared());
    let mut browser = Browser::new(&site);
    browser.text("/count").await;
    let requests = (0..8).map(|_| {
        let mut browser = browser.clone();
        tokio::spawn(async move { browser.text("/count").await })
    });
    for request in requests.collect::<Vec<_>>() {
        request.await.unwrap();
    }
    assert_eq!(browser.text("/count").await, "10");
}
