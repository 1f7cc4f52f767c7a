//! Round trips to the store that a request costs (section 5 of the design).

use std::time::Duration;

use crate::support::{Browser, Watched, made_up, site, timed_site};

#[tokio::test]
async fn unused_session_costs_nothing() {
    let store = Watched::shared();
    let mut browser = Browser::new(&site(&store));
    browser.text("/write/x").await;
    store.calls();
    for path in ["/plain", "/unused", "/not-found"] {
        browser.get(path).await;
        assert!(store.calls().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn anonymous_read_costs_nothing() {
    let store = Watched::shared();
    let mut browser = Browser::new(&site(&store));
    for path in ["/read", "/whoami", "/logout"] {
        browser.text(path).await;
        assert!(store.calls().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn each_request_keeps_its_budget() {
    let store = Watched::shared();
    let site = site(&store);
    let mut browser = Browser::new(&site);
    let mut costs = async |path, expected: &[&str]| {
        browser.text(path).await;
        assert_eq!(store.calls(), expected, "{path}");
    };
    costs("/write/x", &["create"]).await;
    costs("/read", &["load"]).await;
    costs("/whoami", &["load"]).await;
    costs("/write/y", &["load", "update"]).await;
    costs("/count", &["load", "update"]).await;
    costs("/login/zoe", &["load", "create", "update"]).await;
    let mut browser = Browser::new(&site);
    browser.text("/write/x").await;
    store.calls();
    browser.text("/logout").await;
    assert_eq!(store.calls(), ["load", "delete"]);
    browser.text("/login/zoe").await;
    assert_eq!(store.calls(), ["create"]);

    let mut stranger = Browser::with_id(&site, &made_up());
    stranger.text("/read").await;
    assert_eq!(store.calls(), ["load"]);
    stranger.text("/logout").await;
    assert_eq!(store.calls(), ["load"]);
}

#[tokio::test]
async fn touch_is_off_the_path_of_the_response() {
    let (clock, store, site) = timed_site();
    let mut browser = Browser::new(&site);
    browser.text("/write/x").await;
    let id = browser.held();
    store.calls();

    clock.forward(Duration::from_secs(300));
    let left = store.record(&id).await.unwrap().remaining;
    let touch = store.hold("touch");
    // The answer is here while the touch still waits.
    assert_eq!(browser.text("/read").await, "x");
    touch.reached().await;
    touch.let_go().await;
    assert_eq!(store.calls(), ["load", "touch"]);
    assert!(store.record(&id).await.unwrap().remaining > left);

    // Within the slack nothing more is due.
    let touch = store.hold("touch");
    browser.text("/read").await;
    clock.forward(Duration::from_secs(300));
    browser.text("/read").await;
    touch.reached().await;
    touch.let_go().await;
    assert_eq!(store.calls(), ["load", "load", "touch"]);
}

#[tokio::test]
async fn failed_touch_is_no_failed_request() {
    let (clock, store, site) = timed_site();
    let mut browser = Browser::new(&site);
    browser.text("/write/x").await;
    clock.forward(Duration::from_secs(300));
    let touch = store.hold("touch");
    assert_eq!(browser.text("/read").await, "x");
    touch.reached().await;
    store.set_down(true);
    touch.let_go().await;
    store.set_down(false);
    assert_eq!(browser.text("/read").await, "x");
}
