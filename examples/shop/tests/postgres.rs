//! The shop on a PostgreSQL that is killed under it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Shop, ask, command, served_again};
use session_testbed::{PostgresServer, Version};

const PASSWORD: &str = "correct-horse-battery";

#[tokio::test(flavor = "multi_thread")]
async fn postgres_that_dies_is_an_error_page_and_heals_without_a_restart() {
    let postgres = PostgresServer::start(Version::V17, &[]).await.unwrap();
    let separator = if postgres.url().contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}read_ms=5000&write_ms=5000", postgres.url());
    let shop = Shop::start(&["--store", &url]);
    let guest = ask(&shop, "/cart/add", None, Some("product=mug"));
    assert_eq!(guest.status, 303, "{}", guest.text);
    let id = guest.id.unwrap();

    postgres.kill().await.unwrap();
    for path in ["/cart", "/session"] {
        let answer = ask(&shop, path, Some(&id), None);
        assert_eq!((answer.status, answer.id), (503, None), "{}", answer.text);
    }
    postgres.start_again().await.unwrap();

    let cart = served_again(&shop, "/cart", &id);
    assert!(cart.text.contains("Stoneware mug"), "{}", cart.text);
    let added = ask(&shop, "/cart/add", Some(&id), Some("product=lamp"));
    assert_eq!((added.status, added.id), (303, None), "{}", added.text);
    assert!(ask(&shop, "/cart", Some(&id), None).text.contains("Desk lamp"));
    shop.stop();
}

#[test]
fn store_that_cannot_be_opened_ends_the_shop_without_telling_the_password() {
    let nobody = format!("127.0.0.1:{}", session_testbed::free_port().unwrap());
    for (rest, code, says) in [("", 1, "cannot be used"), ("?colour=red", 2, "\"colour\"")] {
        let url = format!("postgres://ann:{PASSWORD}@{nobody}/shop{rest}");
        let output = command().args(["--store", &url]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(says) && !text.contains(PASSWORD), "{text}");
    }
}
