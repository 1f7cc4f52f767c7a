//! The shop on a memcached that is started again under it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Shop, ask, command, served_again};
use session_testbed::{Memcached, MemcachedServer};

const LOGIN: &str = "name=ada&password=analytical+engine";

#[tokio::test(flavor = "multi_thread")]
async fn memcached_that_restarts_is_an_error_page_and_then_makes_guests_of_all() {
    let memcached = MemcachedServer::start(Memcached::Stable, &[]).await.unwrap();
    let url = format!("memcached://{}/?read_ms=5000&write_ms=5000", memcached.address());
    let shop = Shop::start(&["--store", &url]);
    let guest = ask(&shop, "/cart/add", None, Some("product=mug"));
    assert_eq!(guest.status, 303, "{}", guest.text);
    let login = ask(&shop, "/login", guest.id.as_deref(), Some(LOGIN));
    assert_eq!(login.status, 303, "{}", login.text);
    let id = login.id.unwrap();
    assert!(
        ask(&shop, "/cart", Some(&id), None)
            .text
            .contains("Stoneware mug")
    );

    // It lists nothing: the page says so, and the call does nothing by halves.
    let session = ask(&shop, "/session", Some(&id), None).text;
    assert!(session.contains("keeps no index of users"), "{session}");
    assert_eq!(ask(&shop, "/logout/everywhere", Some(&id), Some("")).status, 501);
    assert!(
        ask(&shop, "/cart", Some(&id), None)
            .text
            .contains("Stoneware mug")
    );

    memcached.kill().await.unwrap();
    for (path, form) in [
        ("/cart", None),
        ("/cart/add", Some("product=lamp")),
        ("/logout", Some("")),
    ] {
        let answer = ask(&shop, path, Some(&id), form);
        // No other session in its place, and the cookie of the one there is stays.
        assert_eq!((answer.status, answer.id), (503, None), "{path}: {}", answer.text);
    }
    memcached.start_again().await.unwrap();
    let cart = served_again(&shop, "/cart", &id);
    assert!(!cart.text.contains("Stoneware mug"), "{}", cart.text);
    // The id that was lost is not adopted.
    let added = ask(&shop, "/cart/add", Some(&id), Some("product=lamp"));
    let new = added.id.unwrap();
    assert_ne!(new, id);
    assert!(ask(&shop, "/cart", Some(&new), None).text.contains("Desk lamp"));
    shop.stop();
}

#[test]
fn store_that_cannot_be_opened_ends_the_shop() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for (rest, code, says) in [("", 1, "refused"), ("/?colour=red", 2, "\"colour\"")] {
        let url = format!("memcached://{nobody}{rest}");
        let output = command().args(["--store", &url]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(says), "{text}");
    }
}
