//! Time passes: the id is renewed on the way, and the session ends.

use std::time::Duration;

use axum::Router;

use crate::support::{Browser, timed_site};

/// Somebody who is logged in: nobody else's id is renewed by time.
async fn member(site: &Router) -> Browser {
    let mut browser = Browser::new(site);
    browser.text("/login/zoe").await;
    browser.text("/write/x").await;
    browser
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn periodic_renewal_hands_out_one_new_id() {
    let (clock, store, site) = timed_site();
    let mut browser = member(&site).await;
    let old = browser.held();
    store.calls();

    clock.forward(16 * MINUTE);
    assert_eq!(browser.text("/read").await, "x");
    assert_eq!(store.calls(), ["load", "create", "update"]);
    let new = browser.held();
    assert_ne!(new, old);

    // A request that was on its way with the old id is served, and told nothing.
    let mut late = Browser::with_id(&site, &old);
    let answer = late.get("/read").await;
    assert_eq!((answer.body.as_str(), answer.new_id()), ("x", None));
    // It may even log out: the renewed session ends.
    clock.forward(Duration::from_secs(10));
    let mut late = Browser::with_id(&site, &old);
    late.text("/logout").await;
    assert_eq!(Browser::with_id(&site, &new).text("/read").await, "nothing");
    assert!(store.memory.is_empty());
}

#[tokio::test]
async fn old_id_is_refused_once_the_new_one_is_in_use() {
    let (clock, store, site) = timed_site();
    let mut browser = member(&site).await;
    let old = browser.held();
    clock.forward(16 * MINUTE);
    browser.text("/read").await;
    // The first use of the new id is marked off the response's path.
    let mark = store.hold("update");
    browser.text("/read").await;
    mark.reached().await;
    mark.let_go().await;

    clock.forward(MINUTE);
    let answer = Browser::with_id(&site, &old).get("/read").await;
    assert_eq!((answer.body.as_str(), answer.new_id()), ("nothing", None));
    assert_eq!(browser.text("/read").await, "x");
}

/// The response with the new id never arrived.
#[tokio::test]
async fn lost_response_with_a_new_id_loses_no_session() {
    let (clock, _, site) = timed_site();
    let mut browser = member(&site).await;
    let old = browser.held();
    clock.forward(16 * MINUTE);
    let lost = Browser::with_id(&site, &old).get("/read").await;
    assert!(lost.new_id().is_some());

    clock.forward(MINUTE);
    assert_eq!(browser.text("/read").await, "x");
    assert_ne!(browser.held(), old);
    assert_ne!(lost.new_id(), browser.id);
}

#[tokio::test]
async fn idle_session_ends_and_its_cookie_is_left_alone() {
    let (clock, _, site) = timed_site();
    let mut browser = Browser::new(&site);
    browser.text("/write/x").await;
    let id = browser.held();
    clock.forward(31 * MINUTE);
    let answer = browser.get("/read").await;
    assert_eq!((answer.body.as_str(), answer.new_id()), ("nothing", None));
    // The expired id is not taken up again either.
    browser.text("/write/y").await;
    assert_ne!(browser.held(), id);
}

#[tokio::test]
async fn no_use_carries_a_session_past_its_absolute_deadline() {
    let (clock, _, site) = timed_site();
    let mut browser = Browser::new(&site);
    browser.text("/write/x").await;
    let step = 20 * MINUTE;
    for _ in 0..23 {
        clock.forward(step);
        browser.text("/count").await;
        assert_eq!(browser.text("/read").await, "x");
    }
    clock.forward(step);
    assert_eq!(browser.text("/read").await, "nothing");
}
