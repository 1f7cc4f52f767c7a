//! What an operator's Prometheus reads of a shop, driven by curl over loopback.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::collections::BTreeMap;

use common::{Shop, ask, command, curl_command};

const ADA: &str = "name=ada&password=analytical+engine";

/// The samples by name and labels.
fn scrape(url: &str) -> (String, BTreeMap<String, f64>) {
    let output = curl_command().arg(url).output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    let samples = body.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        (series.to_owned(), value.parse().unwrap())
    });
    (body.to_owned(), samples.collect())
}

#[test]
fn operator_sees_what_visitors_did_and_nobody_else_does() {
    let shop = Shop::start(&["--metrics-listen", "127.0.0.1:0"]);
    let metrics = shop.metrics.clone().unwrap();
    assert!(scrape(&metrics).1.is_empty(), "nothing has happened");

    let guest = ask(&shop, "/cart/add", None, Some("product=mug")).id.unwrap();
    let user = ask(&shop, "/login", Some(&guest), Some(ADA)).id.unwrap();
    ask(&shop, "/cart/add", Some(&user), Some("product=lamp"));
    let made_up = "a".repeat(42) + "A";
    ask(&shop, "/cart", Some(&made_up), None);
    assert_eq!(ask(&shop, "/logout", Some(&user), Some("")).status, 303);

    let (text, samples) = scrape(&metrics);
    let count = |series: &str| {
        let found = samples.get(series);
        *found.unwrap_or_else(|| panic!("{series} is not in {text}"))
    };
    assert_eq!(count("session_events_total{event=\"created\"}"), 1.0);
    assert_eq!(count("session_events_total{event=\"renewed\"}"), 1.0);
    assert_eq!(count("session_events_total{event=\"unknown_id\"}"), 1.0);
    assert_eq!(
        count("session_events_total{event=\"destroyed\",reason=\"logout\"}"),
        1.0
    );
    assert!(count("session_events_total{event=\"loaded\"}") >= 3.0);
    let created = "{store=\"memory\",call=\"create\",outcome=\"ok\"}";
    assert_eq!(count(&format!("session_store_seconds_count{created}")), 2.0);
    assert!(count("session_http_seconds_count{stage=\"commit\",outcome=\"ok\"}") >= 5.0);
    for help in [
        "# HELP session_events_total ",
        "# TYPE session_events_total counter\n",
        "# TYPE session_store_seconds histogram\n",
    ] {
        assert_eq!(text.matches(help).count(), 1, "{help}");
    }
    shop.assert_tells_no_id(&text);
    for secret in ["ada", "mug", "cart", &made_up] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
    // Not where the visitors are.
    assert_eq!(ask(&shop, "/metrics", None, None).status, 404);
    let elsewhere = metrics.replace("/metrics", "/");
    let answer = curl_command().arg(elsewhere).output().unwrap();
    assert!(String::from_utf8_lossy(&answer.stdout).starts_with("HTTP/1.1 404"));
    shop.stop();
}

#[test]
fn without_the_option_nothing_is_counted_or_shown() {
    let shop = Shop::start(&[]);
    assert_eq!(shop.metrics, None);
    assert_eq!(ask(&shop, "/metrics", None, None).status, 404);
    shop.stop();
}

#[test]
fn port_that_is_taken_is_an_error_that_names_the_option() {
    let shop = Shop::start(&["--metrics-listen", "127.0.0.1:0"]);
    let taken = shop.authority();
    let output = command()
        .args([
            "--listen",
            "127.0.0.1:0",
            "--store",
            "memory:",
            "--metrics-listen",
            taken,
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("--metrics-listen") && text.contains(taken),
        "{text}"
    );
}
