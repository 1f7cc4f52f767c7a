//! The shop on a Redis that is killed under it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{Carrier, Shop, ask, command, served_again};
use session_testbed::{Kind, RedisCluster, RedisServer, SentinelGroup};

const PASSWORD: &str = "correct-horse-battery";

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_dies_is_an_error_page_and_heals_without_a_restart() {
    let options = [
        "--requirepass",
        PASSWORD,
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
    ];
    for of in [Kind::Redis, Kind::Valkey] {
        let redis = RedisServer::start(of, &options).await.unwrap();
        let url = format!(
            "redis://:{PASSWORD}@127.0.0.1:{}/?read_ms=5000&write_ms=5000",
            redis.port().unwrap()
        );
        let shop = Shop::start(&["--store", &url]);
        let guest = ask(&shop, "/cart/add", None, Some("product=mug"));
        assert_eq!(guest.status, 303, "{}", guest.text);
        let form = "name=ada&password=analytical+engine";
        let login = ask(&shop, "/login", guest.id.as_deref(), Some(form));
        assert_eq!(login.status, 303, "{}", login.text);
        let id = login.id.unwrap();
        assert!(
            ask(&shop, "/cart", Some(&id), None)
                .text
                .contains("Stoneware mug")
        );

        redis.kill().await.unwrap();
        for (path, id, form) in [
            ("/cart", Some(&*id), None),
            ("/session", Some(&*id), None),
            ("/cart/add", Some(&*id), Some("product=lamp")),
            ("/logout", Some(&*id), Some("")),
            ("/cart/add", None, Some("product=lamp")),
        ] {
            let answer = ask(&shop, path, id, form);
            // No other session in its place, and the cookie of the one there is stays.
            assert_eq!(
                (answer.status, answer.id.as_deref()),
                (503, None),
                "{path}: {}",
                answer.text
            );
            assert!(!answer.text.contains(PASSWORD), "{}", answer.text);
        }

        // The list stays open: it takes nobody for a guest, and nobody's cookie.
        let list = ask(&shop, "/", Some(&id), None);
        assert_eq!((list.status, list.id.as_deref()), (200, None), "{}", list.text);
        assert!(
            list.text.contains("Stoneware mug") && list.text.contains("Your cart is kept"),
            "{}",
            list.text
        );
        assert!(!list.text.contains("/login"), "{}", list.text);

        redis.start_again().await.unwrap();
        let cart = served_again(&shop, "/cart", &id);
        assert!(
            cart.text.contains("Stoneware mug") && !cart.text.contains("Desk lamp"),
            "{}",
            cart.text
        );
        let added = ask(&shop, "/cart/add", Some(&id), Some("product=lamp"));
        assert_eq!((added.status, added.id), (303, None), "{}", added.text);
        assert!(ask(&shop, "/cart", Some(&id), None).text.contains("Desk lamp"));
        let log = shop.stop();
        assert!(!log.contains(PASSWORD), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn primary_that_dies_in_a_group_or_a_cluster_costs_no_cart() {
    let durable = ["--appendonly", "yes", "--appendfsync", "always"];
    let group = SentinelGroup::start(Kind::Redis, &durable).await.unwrap();
    let cluster = RedisCluster::start(Kind::Valkey, 1, &durable).await.unwrap();
    for url in [group.url(), cluster.url()] {
        // The replicas have what the visitor was told; a failover loses nothing of it then.
        let deadlines = "read_ms=5000&write_ms=5000&wait_replicas=1&wait_ms=4000";
        let shop = Shop::start(&["--store", &format!("{url}?{deadlines}")]);
        let mut visitors = Vec::new();
        // Enough of them for every node of the Cluster.
        for _ in 0..6 {
            let guest = ask(&shop, "/cart/add", None, Some("product=mug"));
            assert_eq!(guest.status, 303, "{}", guest.text);
            visitors.push(guest.id.unwrap());
        }
        if url == group.url() {
            let primary = group.primary().await.unwrap();
            group.servers()[primary].kill().await.unwrap();
        } else {
            cluster.nodes()[0].kill().await.unwrap();
        }
        for id in &visitors {
            let cart = served_again(&shop, "/cart", id);
            assert!(cart.text.contains("Stoneware mug"), "{}", cart.text);
        }
        shop.stop();
    }
}

#[test]
fn store_that_cannot_be_opened_ends_the_shop_without_telling_the_password() {
    let port = session_testbed::free_port().unwrap();
    for (url, code, says) in [
        (
            format!("redis://:{PASSWORD}@127.0.0.1:{port}/"),
            1,
            "cannot be used",
        ),
        (
            format!("redis://:{PASSWORD}@127.0.0.1:{port}/?colour=red"),
            2,
            "\"colour\"",
        ),
        (
            format!("rediss://:{PASSWORD}@127.0.0.1:{port}/"),
            1,
            "cannot be used",
        ),
    ] {
        let output = command()
            .args(["--listen", "0", "--store", &url])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{text}");
        assert!(text.contains(says) && !text.contains(PASSWORD), "{text}");
    }
}

/// Sessions that visitors carry, and a server that remembers who logged out: what ended stays ended, whatever happens to it.
#[tokio::test(flavor = "multi_thread")]
async fn sealed_session_is_ended_on_a_real_server_and_fails_closed_without_it() {
    let keys = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("redis-keys");
    let durable = ["--appendonly", "yes", "--appendfsync", "always"];
    let redis = RedisServer::start(Kind::Redis, &durable).await.unwrap();
    let url = format!("redis://127.0.0.1:{}/", redis.port().unwrap());
    let sealed = ["--session", "sealed", "--keys", keys.to_str().unwrap()];
    // A server that may evict could bring a session back: that it does not is for the operator to say.
    let output = command()
        .args(["--listen", "0", "--store", &url])
        .args(sealed)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("may evict"), "{text}");

    let url = format!("{url}?may_evict=false&read_ms=5000&write_ms=5000");
    let shop = Shop::start(&[&["--store", &url], &sealed[..]].concat());
    let log_in = || {
        let mut visitor = Carrier::new(&shop, None);
        visitor.log_in();
        visitor
    };
    let (mut ended, mut kept) = (log_in(), log_in());
    // CVE-2024-31999, CVE-2018-1000814: what was sealed once is not good for ever.
    let copy = ended.held();
    assert_eq!(ended.post("/logout", "").status, 303);
    let is_ada = |token: &str| Carrier::new(&shop, Some(token)).is_ada();
    assert!(!is_ada(&copy) && kept.is_ada());
    // CVE-2026-39324: a token that does not open is nothing, and is tried no other way.
    let kept = kept.held();
    let mut forged = kept.clone().into_bytes();
    let middle = forged.len() / 2;
    forged[middle] = if forged[middle] == b'A' { b'B' } else { b'A' };
    assert!(!is_ada(std::str::from_utf8(&forged).unwrap()));

    redis.kill().await.unwrap();
    for token in [&copy, &kept] {
        let answer = ask(&shop, "/cart", Some(token), None);
        assert_eq!((answer.status, answer.id), (503, None), "{}", answer.text);
    }
    redis.start_again().await.unwrap();
    served_again(&shop, "/cart", &kept);
    assert!(!is_ada(&copy) && is_ada(&kept));
    shop.stop();
}

/// What went wrong elsewhere, tried on a stored session and a real server: CVE-2015-5143 and CVE-2015-5963 (a store filled by
/// whoever asks), CVE-2022-25896 (the same id after the log-in), CVE-2023-20862 (a logout that did not last) and CVE-2023-20866
/// (ids in the log, which `Shop::stop` looks through).
#[tokio::test(flavor = "multi_thread")]
async fn faults_of_others_are_none_on_a_real_server() {
    let redis = RedisServer::start(Kind::Valkey, &[]).await.unwrap();
    let url = format!(
        "redis://127.0.0.1:{}/?read_ms=5000&write_ms=5000",
        redis.port().unwrap()
    );
    let shop = Shop::start(&["--store", &url, "--metrics-listen", "127.0.0.1:0"]);
    for number in 0..50 {
        let made_up = format!("{number:042}A");
        for path in ["/", "/cart", "/session", "/login"] {
            assert_eq!(ask(&shop, path, Some(&made_up), None).id, None);
            assert_eq!(ask(&shop, path, None, None).id, None);
        }
    }
    let scrape = common::curl_command()
        .arg(shop.metrics.as_ref().unwrap())
        .output()
        .unwrap();
    let samples = String::from_utf8(scrape.stdout).unwrap();
    assert!(samples.contains("call=\"load\",outcome=\"absent\""), "{samples}");
    for call in ["create", "update", "touch", "delete"] {
        assert!(
            !samples.contains(&format!("call=\"{call}\"")),
            "{call}: {samples}"
        );
    }

    let mut visitor = Carrier::new(&shop, None);
    visitor.post("/cart/add", "product=mug");
    let planted = visitor.held();
    visitor.log_in();
    let id = visitor.held();
    assert_ne!(id, planted);
    assert!(!Carrier::new(&shop, Some(&planted)).is_ada() && visitor.is_ada());
    assert_eq!(visitor.post("/logout", "").status, 303);
    shop.stop();
    let shop = Shop::start(&["--store", &url]);
    assert!(!Carrier::new(&shop, Some(&id)).is_ada());
    assert!(!Carrier::new(&shop, Some(&planted)).is_ada());
    shop.stop();
}
