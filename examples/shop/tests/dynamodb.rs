//! The shop on DynamoDB, which an emulator stands for.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Shop, ask, command};
use session_testbed::DynamoDbServer;

const LOGIN: &str = "name=ada&password=analytical+engine";

#[tokio::test(flavor = "multi_thread")]
async fn visitor_keeps_the_cart_over_a_restart_and_a_server_that_is_away_is_an_error_page() {
    let server = DynamoDbServer::start().await.unwrap();
    let url = format!("{}&create=yes&read_ms=5000&write_ms=5000", server.url());
    let secret = server.credentials().1.to_owned();
    let shop = Shop::start(&["--store", &url]);
    let guest = ask(&shop, "/cart/add", None, Some("product=mug"));
    assert_eq!(guest.status, 303, "{}", guest.text);
    let login = ask(&shop, "/login", guest.id.as_deref(), Some(LOGIN));
    let (here, there) = (
        login.id.unwrap(),
        ask(&shop, "/login", None, Some(LOGIN)).id.unwrap(),
    );
    assert!(
        ask(&shop, "/session", Some(&here), None)
            .text
            .contains("You have 2")
    );
    shop.stop();

    let shop = Shop::start(&["--store", &url]);
    assert!(
        ask(&shop, "/cart", Some(&here), None)
            .text
            .contains("Stoneware mug")
    );
    assert_eq!(
        ask(&shop, "/logout/everywhere", Some(&here), Some("")).status,
        303
    );
    for id in [&here, &there] {
        let cart = ask(&shop, "/cart", Some(id), None);
        assert!(!cart.text.contains("Stoneware mug"), "{}", cart.text);
    }
    let id = ask(&shop, "/cart/add", None, Some("product=lamp")).id.unwrap();
    drop(server);
    for (path, form) in [("/cart", None), ("/cart/add", Some("product=mug"))] {
        let answer = ask(&shop, path, Some(&id), form);
        assert_eq!((answer.status, answer.id), (503, None), "{path}: {}", answer.text);
        assert!(!answer.text.contains(&secret), "{}", answer.text);
    }
    let log = shop.stop();
    assert!(!log.contains(&secret), "{log}");
}

#[test]
fn store_that_cannot_be_opened_ends_the_shop_without_telling_the_secret() {
    let nobody = format!("127.0.0.1:{}", session_testbed::free_port().unwrap());
    for (rest, code, says) in [("", 1, "cannot be used"), ("&colour=red", 2, "\"colour\"")] {
        let url = format!("dynamodb://AKEY:hunter2@eu-central-1/sessions?endpoint=http://{nobody}{rest}");
        let output = command().args(["--store", &url]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(says) && !text.contains("hunter2"), "{text}");
    }
}
