//! Forged requests: one test for each rule.

use std::{
    collections::{HashSet, VecDeque},
    convert::Infallible,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Form, Router,
    body::Body,
    extract::Path,
    http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, request::Builder},
    routing::{get, post},
};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Full};
use session_core::{Bytes, Subject};
use session_http::{
    CSRF_ATTRIBUTE, CsrfBody, CsrfConfigError, CsrfError, CsrfLayer, Error, Outage, OutageLayer,
    RequireToken, Session, SessionLayer, SessionManager,
};
use tokio::sync::Barrier;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

use crate::support::{Answer, Browser, Watched, made_up, manager, routes, send, timed_manager};

const FORM: &str = "application/x-www-form-urlencoded";

/// A page with a token, and a form that changes something.
fn shop(manager: SessionManager, layer: CsrfLayer) -> Router {
    routes()
        .route("/page", get(page))
        .route("/login-page/{user}", get(log_in_page))
        .route("/change", post(change).put(change).patch(change).delete(change))
        .route("/login/{user}", post(log_in))
        .route("/names", get(names))
        .layer(layer)
        .layer(SessionLayer::new(manager))
}

async fn page(session: Session) -> Result<String, Error> {
    let token = session.csrf_token().await?;
    Ok(token.map_or_else(|| "none".to_owned(), |token| token.to_string()))
}

/// Logs in and shows a page at once.
async fn log_in_page(session: Session, path: Path<String>) -> Result<String, Error> {
    log_in(session.clone(), path).await?;
    page(session).await
}

async fn log_in(session: Session, Path(user): Path<String>) -> Result<&'static str, Error> {
    session.log_in(Subject::new(user).unwrap()).await?;
    Ok("logged in")
}

async fn change(session: Session) -> Result<&'static str, Error> {
    session
        .update("count", |count: Option<u32>| count.unwrap_or(0) + 1)
        .await?;
    Ok("changed")
}

async fn names(session: Session) -> Result<String, Error> {
    Ok(session.names().await?.join(","))
}

fn shared() -> (Arc<Watched>, Router) {
    let store = Watched::shared();
    let site = shop(manager(&store), CsrfLayer::new());
    (store, site)
}

/// A logged-in browser, and the token of its page.
async fn member(site: &Router) -> (Browser, String) {
    let mut browser = Browser::new(site);
    browser.text("/login/zoe").await;
    let token = browser.text("/page").await;
    assert_eq!(token.len(), 64, "{token}");
    (browser, token)
}

/// The beginning of a POST.
fn to(browser: &Browser, path: &str) -> Builder {
    let request = Request::post(path).header("host", "shop.example");
    match &browser.id {
        Some(id) => request.header("cookie", format!("__Host-session={id}")),
        None => request,
    }
}

/// A form as a browser sends it.
fn form(browser: &Browser, form: impl Into<Body>) -> Request<Body> {
    to(browser, "/change")
        .header("content-type", FORM)
        .body(form.into())
        .unwrap()
}

fn with_header(browser: &Browser, token: &str) -> Request<Body> {
    to(browser, "/change")
        .header("x-csrf-token", token)
        .body(Body::empty())
        .unwrap()
}

/// Sends a form with this token.
async fn change_with(browser: &mut Browser, token: &str) -> Answer {
    let request = form(browser, format!("a=1&csrf_token={token}&b=2"));
    browser.send(request).await
}

fn assert_passed(answer: &Answer) {
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "changed"));
}

/// 403, a line of text, no cookie either way, kept by no cache.
fn assert_refused(answer: &Answer, says: &str) {
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.body);
    assert!(answer.body.contains(says), "{}", answer.body);
    assert_eq!(answer.all("content-type"), ["text/plain; charset=utf-8"]);
    assert_eq!(answer.all("cache-control"), ["no-store"]);
    assert_eq!(answer.all("vary"), ["Cookie"]);
    assert_eq!(answer.new_id(), None);
}

const OUT_OF_DATE: &str = "reload";

const ANOTHER_SITE: &str = "another site";

/// How often something was changed: what a refused request leaves alone.
async fn changes(browser: &mut Browser) -> u32 {
    let count: u32 = browser.text("/count").await.parse().unwrap();
    count - 1
}

#[tokio::test]
async fn token_passes_in_a_field_or_in_the_header_as_often_as_it_is_sent() {
    let (_, site) = shared();
    let (mut browser, token) = member(&site).await;
    for _ in 0..3 {
        assert_passed(&change_with(&mut browser, &token).await);
        let request = with_header(&browser, &token);
        assert_passed(&browser.send(request).await);
    }
    assert_eq!(changes(&mut browser).await, 6);
}

#[tokio::test]
async fn request_without_a_token_is_refused_and_changes_nothing() {
    let (store, site) = shared();
    let (mut browser, token) = member(&site).await;
    let before = store.record(&browser.held()).await.unwrap();
    for body in [
        "",
        "a=1",
        "csrf_token_=x",
        "CSRF_TOKEN=x",
        &format!("x-csrf-token={token}"),
    ] {
        let request = form(&browser, body.to_owned());
        assert_refused(&browser.send(request).await, OUT_OF_DATE);
    }
    let empty = form(&browser, "csrf_token=");
    assert_refused(&browser.send(empty).await, OUT_OF_DATE);
    let after = store.record(&browser.held()).await.unwrap();
    assert_eq!(after.version, before.version);
    assert_eq!(changes(&mut browser).await, 0);
}

/// Bodies that are not read, whatever is in them: the header is for those.
#[tokio::test]
async fn other_bodies_need_the_header() {
    let (_, site) = shared();
    let (mut browser, token) = member(&site).await;
    let field = format!("csrf_token={token}");
    for kind in [
        "application/json",
        "text/plain",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded+x",
        "x application/x-www-form-urlencoded",
    ] {
        let request = || to(&browser, "/change").header("content-type", kind);
        let bare = request().body(Body::from(field.clone())).unwrap();
        let with_header = request()
            .header("x-csrf-token", &token)
            .body(Body::from("{}"))
            .unwrap();
        assert_refused(&browser.clone().send(bare).await, OUT_OF_DATE);
        assert_passed(&browser.clone().send(with_header).await);
    }
    for kind in [
        "Application/X-WWW-form-urlencoded",
        "application/x-www-form-urlencoded ; charset=UTF-8",
    ] {
        let request = to(&browser, "/change").header("content-type", kind);
        assert_passed(
            &browser
                .clone()
                .send(request.body(Body::from(field.clone())).unwrap())
                .await,
        );
    }
    let untyped = to(&browser, "/change").body(Body::from(field)).unwrap();
    assert_refused(&browser.send(untyped).await, OUT_OF_DATE);
}

/// CVE-2023-45128.
#[tokio::test]
async fn csrf_token_of_another_session_is_refused() {
    let (_, site) = shared();
    let (mut zoe, _) = member(&site).await;
    // Of the same user, even.
    let (_, other) = member(&site).await;
    assert_refused(&change_with(&mut zoe, &other).await, OUT_OF_DATE);
    let request = with_header(&zoe, &other);
    assert_refused(&zoe.send(request).await, OUT_OF_DATE);
    assert_eq!(changes(&mut zoe).await, 0);
}

#[tokio::test]
async fn token_from_before_a_login_is_refused_after_it() {
    let (clock, _, manager) = timed_manager();
    let layer = CsrfLayer::builder()
        .require_token(RequireToken::AnySession)
        .build()
        .unwrap();
    let site = shop(manager, layer);
    let mut browser = Browser::new(&site);
    browser.text("/write/cart").await;
    let guest = browser.text("/page").await;
    assert_passed(&change_with(&mut browser, &guest).await);

    browser.text("/login/zoe").await;
    assert_refused(&change_with(&mut browser, &guest).await, OUT_OF_DATE);
    let first = browser.text("/page").await;
    assert_passed(&change_with(&mut browser, &first).await);

    clock.forward(Duration::from_millis(1));
    browser.text("/login/zoe").await;
    assert_refused(&change_with(&mut browser, &first).await, OUT_OF_DATE);
    let second = browser.text("/page").await;
    assert_passed(&change_with(&mut browser, &second).await);

    clock.forward(Duration::from_millis(1));
    browser.text("/login/ann").await;
    assert_refused(&change_with(&mut browser, &second).await, OUT_OF_DATE);
}

#[tokio::test]
async fn token_from_before_a_logout_is_worth_nothing_after_the_next_login() {
    let (_, site) = shared();
    let (mut browser, token) = member(&site).await;
    browser.text("/logout").await;
    browser.text("/login/zoe").await;
    assert_refused(&change_with(&mut browser, &token).await, OUT_OF_DATE);
}

#[tokio::test]
async fn token_stays_good_when_the_id_is_renewed() {
    const QUARTER: Duration = Duration::from_secs(15 * 60);
    let (clock, _, manager) = timed_manager();
    let site = shop(manager, CsrfLayer::new());
    let (mut browser, token) = member(&site).await;
    let first = browser.held();
    // By a page in another tab, by the form itself, and on purpose.
    clock.forward(QUARTER);
    browser.text("/read").await;
    let second = browser.held();
    assert_ne!(second, first);
    assert_passed(&change_with(&mut browser, &token).await);
    clock.forward(QUARTER);
    assert_passed(&change_with(&mut browser, &token).await);
    let third = browser.held();
    assert_ne!(third, second);
    browser.text("/renew").await;
    assert_ne!(browser.held(), third);
    assert_passed(&change_with(&mut browser, &token).await);
    assert_eq!(changes(&mut browser).await, 3);
    // Under the old id within its grace, as a request in flight.
    clock.forward(QUARTER);
    let mut in_flight = browser.clone();
    browser.text("/read").await;
    assert_ne!(browser.id, in_flight.id);
    assert_passed(&change_with(&mut in_flight, &token).await);
}

#[tokio::test]
async fn every_token_is_another_text_and_all_are_good() {
    let (store, site) = shared();
    let (mut browser, token) = member(&site).await;
    let mut tokens = HashSet::from([token]);
    store.calls();
    for _ in 0..50 {
        tokens.insert(browser.text("/page").await);
    }
    assert_eq!(tokens.len(), 51);
    // No byte of a text is the same in all of them (BREACH guesses byte by byte).
    for at in 0..64 {
        let bytes: HashSet<_> = tokens.iter().map(|token| token.as_bytes()[at]).collect();
        assert!(bytes.len() > 1, "{at}");
    }
    let calls = store.calls();
    assert!(calls.iter().all(|call| *call == "load"), "{calls:?}");
    for token in tokens {
        assert_passed(&change_with(&mut browser, &token).await);
    }
}

#[tokio::test]
async fn every_change_of_a_token_is_refused() {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (_, site) = shared();
    let (mut browser, token) = member(&site).await;
    let mut wrong = vec![
        format!("{token}A"),
        format!("%20{token}"),
        made_up(),
        "A".repeat(64),
    ];
    for at in 0..token.len() {
        wrong.push(token[..at].to_owned());
        let letter = ALPHABET
            .iter()
            .position(|&letter| letter == token.as_bytes()[at])
            .unwrap();
        // Each of the six bits, and what is no base64url.
        let others = (0..6).map(|bit| ALPHABET[letter ^ 1 << bit]);
        for other in others.chain(*b"=/.") {
            let mut changed = token.clone().into_bytes();
            changed[at] = other;
            wrong.push(String::from_utf8(changed).unwrap());
        }
    }
    for wrong in wrong {
        assert_refused(&change_with(&mut browser, &wrong).await, OUT_OF_DATE);
    }
    assert_passed(&change_with(&mut browser, &token).await);
}

#[tokio::test]
async fn several_tokens_are_refused_even_if_all_are_good() {
    let (_, site) = shared();
    let (mut browser, token) = member(&site).await;
    let other = browser.text("/page").await;
    for body in [
        format!("csrf_token={token}&csrf_token={token}"),
        format!("csrf_token={token}&x=1&csrf%5Ftoken={other}"),
        format!("csrf_token=&csrf_token={token}"),
        format!("csrf_token={token}&csrf_token"),
    ] {
        let request = form(&browser, body);
        assert_refused(&browser.send(request).await, OUT_OF_DATE);
    }
    let mut twice = with_header(&browser, &token);
    twice.headers_mut().append("x-csrf-token", other.parse().unwrap());
    assert_refused(&browser.send(twice).await, OUT_OF_DATE);
    let mut not_text = with_header(&browser, &token);
    let not_ascii = HeaderValue::from_bytes(b"\xff").unwrap();
    not_text.headers_mut().insert("x-csrf-token", not_ascii);
    assert_refused(&browser.send(not_text).await, OUT_OF_DATE);
}

#[tokio::test]
async fn header_decides_where_both_are_sent() {
    let (_, site) = shared();
    let (mut browser, token) = member(&site).await;
    let both = |header: &str, field: &str| {
        let mut request = form(&browser, format!("csrf_token={field}"));
        request
            .headers_mut()
            .insert("x-csrf-token", header.parse().unwrap());
        request
    };
    let (good, bad) = (both(&token, "wrong"), both("wrong", &token));
    assert_passed(&browser.send(good).await);
    assert_refused(&browser.send(bad).await, OUT_OF_DATE);
}

#[tokio::test]
async fn safe_methods_are_never_checked_and_load_nothing() {
    let (store, site) = shared();
    let (browser, _) = member(&site).await;
    store.calls();
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
        for path in ["/plain", "/unused"] {
            let mut request = browser.request(path);
            *request.method_mut() = method.clone();
            request
                .headers_mut()
                .insert("sec-fetch-site", "cross-site".parse().unwrap());
            request
                .headers_mut()
                .insert("origin", "https://evil.example".parse().unwrap());
            request
                .headers_mut()
                .insert("x-csrf-token", "wrong".parse().unwrap());
            let answer = send(&site, request).await;
            assert_ne!(answer.status, StatusCode::FORBIDDEN, "{method}");
        }
    }
    assert_eq!(store.calls(), [""; 0]);
}

#[tokio::test]
async fn every_other_method_is_checked() {
    let (store, site) = shared();
    let (browser, token) = member(&site).await;
    store.calls();
    let custom = Method::from_bytes(b"PURGE").unwrap();
    let lower = Method::from_bytes(b"get").unwrap();
    for method in [
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::CONNECT,
        custom,
        lower,
    ] {
        let mut bare = form(&browser, "");
        *bare.method_mut() = method.clone();
        assert_refused(&send(&site, bare).await, OUT_OF_DATE);
        let mut good = with_header(&browser, &token);
        *good.method_mut() = method.clone();
        let answer = send(&site, good).await;
        assert_ne!(answer.status, StatusCode::FORBIDDEN, "{method}");
    }
}

#[tokio::test]
async fn request_of_another_site_is_refused_before_the_store_is_asked() {
    let (store, site) = shared();
    let (browser, token) = member(&site).await;
    store.calls();
    let cases: &[&[(&str, &str)]] = &[
        &[("sec-fetch-site", "cross-site")],
        // A subdomain, and whatever else shares the registrable domain.
        &[
            ("sec-fetch-site", "same-site"),
            ("origin", "https://blog.shop.example"),
        ],
        &[
            ("sec-fetch-site", "cross-site"),
            ("origin", "https://shop.example"),
        ],
        &[("origin", "null")],
        &[("origin", "https://evil.example")],
        &[("origin", "https://shop.example.evil.example")],
        &[("origin", "https://shop.example:8443")],
        &[("origin", "")],
    ];
    for case in cases {
        // With a token that is good, even.
        let mut request = with_header(&browser, &token);
        for (name, value) in *case {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        assert_refused(&send(&site, request).await, ANOTHER_SITE);
    }
    assert_eq!(store.calls(), [""; 0]);
}

#[tokio::test]
async fn request_of_our_own_pages_needs_its_token_all_the_same() {
    let (_, site) = shared();
    let (browser, token) = member(&site).await;
    for (name, value) in [
        ("sec-fetch-site", "same-origin"),
        ("sec-fetch-site", "none"),
        ("origin", "https://shop.example"),
        // Neither header: no browser.
        ("accept", "*/*"),
    ] {
        let mut bare = form(&browser, "a=1");
        bare.headers_mut().append(name, value.parse().unwrap());
        assert_refused(&send(&site, bare).await, OUT_OF_DATE);
        let mut good = with_header(&browser, &token);
        good.headers_mut().append(name, value.parse().unwrap());
        assert_passed(&send(&site, good).await);
    }
}

/// Login CSRF: a visitor is logged in as somebody else, and then confides in them.
#[tokio::test]
async fn login_from_another_site_is_refused() {
    let (store, site) = shared();
    let mut stranger = Browser::new(&site);
    let mut forged = to(&stranger, "/login/mallory").body(Body::empty()).unwrap();
    forged
        .headers_mut()
        .insert("origin", "https://evil.example".parse().unwrap());
    assert_refused(&stranger.send(forged).await, ANOTHER_SITE);
    assert_eq!(store.calls(), [""; 0]);

    let mut own = to(&stranger, "/login/zoe").body(Body::empty()).unwrap();
    own.headers_mut()
        .insert("origin", "https://shop.example".parse().unwrap());
    let answer = stranger.send(own).await;
    assert_eq!(answer.body, "logged in");
    assert!(
        answer.all("set-cookie")[0].contains("; SameSite=Lax"),
        "no site makes a browser send it with a form"
    );
}

/// CVE-2015-5143: who looks at a form is nobody yet.
#[tokio::test]
async fn visitor_without_a_session_needs_no_token_and_gets_no_session() {
    for require in [RequireToken::LoggedIn, RequireToken::AnySession] {
        let store = Watched::shared();
        let layer = CsrfLayer::builder().require_token(require).build().unwrap();
        let site = shop(manager(&store), layer);
        let mut stranger = Browser::with_id(&site, &made_up());
        let page = stranger.get("/page").await;
        assert_eq!((page.body.as_str(), page.new_id()), ("none", None));
        assert_eq!(store.calls(), ["load"]);
        stranger.id = None;
        assert_eq!(stranger.text("/page").await, "none");
        assert_eq!(store.calls(), [""; 0]);
        let request = form(&stranger, "a=1");
        assert_passed(&stranger.send(request).await);
        assert_eq!(store.calls(), ["create"]);
    }
}

#[tokio::test]
async fn guests_session_needs_a_token_only_if_any_session_does() {
    let store = Watched::shared();
    let logged_in = shop(manager(&store), CsrfLayer::new());
    let layer = CsrfLayer::builder().require_token(RequireToken::AnySession);
    let any = shop(manager(&store), layer.build().unwrap());
    let mut guest = Browser::new(&logged_in);
    guest.text("/write/cart").await;
    assert_eq!(guest.text("/page").await, "none");
    let request = form(&guest, "a=1");
    assert_passed(&guest.send(request).await);
    assert_eq!(guest.text("/names").await, "count,value", "no secret was made");

    guest.site = any;
    let request = form(&guest, "a=1");
    assert_refused(&guest.send(request).await, OUT_OF_DATE);
    let token = guest.text("/page").await;
    assert_passed(&change_with(&mut guest, &token).await);
}

#[tokio::test]
async fn session_without_a_secret_has_no_good_token() {
    let (_, site) = shared();
    let mut browser = Browser::new(&site);
    browser.text("/login/zoe").await;
    let names = browser.text("/names").await;
    assert!(!names.contains(CSRF_ATTRIBUTE), "{names}");
    assert_refused(&change_with(&mut browser, &"A".repeat(64)).await, OUT_OF_DATE);
}

/// The page of whoever loses the race shows a token, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_made_at_the_same_time_are_all_good() {
    const REQUESTS: usize = 64;
    let store = Watched::shared();
    let all_loaded = Arc::new(Barrier::new(REQUESTS));
    let race = async move |session: Session| {
        session.subject().await?;
        all_loaded.wait().await;
        page(session).await
    };
    let inner = Router::new().route("/race", get(race)).layer(CsrfLayer::new());
    let site = shop(manager(&store), CsrfLayer::new()).merge(inner.layer(SessionLayer::new(manager(&store))));
    let mut browser = Browser::new(&site);
    browser.text("/login/zoe").await;
    store.calls();
    let pages: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let mut tab = browser.clone();
            tokio::spawn(async move { tab.text("/race").await })
        })
        .collect();
    let mut tokens = HashSet::new();
    for page in pages {
        tokens.insert(page.await.unwrap());
    }
    let updates = store.calls().iter().filter(|call| **call == "update").count();
    assert!(updates >= REQUESTS, "all of them made a secret: {updates}");
    assert_eq!(tokens.len(), REQUESTS);
    for token in &tokens {
        assert_passed(&change_with(&mut browser, token).await);
    }
}

/// What a page shows was written before, so one whose commit fails shows nothing.
#[tokio::test]
async fn first_token_is_kept_before_its_page_is_made() {
    let (clock, store, manager) = timed_manager();
    let site = shop(manager, CsrfLayer::new());
    let mut browser = Browser::new(&site);
    browser.text("/login/zoe").await;
    store.calls();
    let token = browser.text("/page").await;
    assert_eq!(store.calls(), ["load", "update"]);
    assert_passed(&change_with(&mut browser, &token).await);

    // In the request of the log-in itself: the client learns its id all the same.
    let mut browser = Browser::new(&site);
    let token = browser.text("/login-page/ann").await;
    assert_eq!(browser.text("/whoami").await, "ann");
    assert_passed(&change_with(&mut browser, &token).await);
    // And again, over a session with a secret.
    clock.forward(Duration::from_millis(1));
    let again = browser.text("/login-page/ann").await;
    assert_refused(&change_with(&mut browser, &token).await, OUT_OF_DATE);
    assert_passed(&change_with(&mut browser, &again).await);
    clock.forward(Duration::from_millis(1));
    let other = browser.text("/login-page/zoe").await;
    assert_refused(&change_with(&mut browser, &again).await, OUT_OF_DATE);
    assert_passed(&change_with(&mut browser, &other).await);
}

#[tokio::test]
async fn request_costs_the_one_load_that_its_handler_needs() {
    let (store, site) = shared();
    let (mut browser, token) = member(&site).await;
    store.calls();
    assert_passed(&change_with(&mut browser, &token).await);
    assert_eq!(store.calls(), ["load", "update"]);
    assert_refused(&change_with(&mut browser, "wrong").await, OUT_OF_DATE);
    assert_eq!(store.calls(), ["load"]);
}

#[tokio::test]
async fn downed_store_lets_nothing_pass() {
    let store = Watched::shared();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let site = shop(manager(&store), CsrfLayer::new());
    let (mut browser, token) = member(&site).await;
    browser.site = Router::new()
        .route(
            "/change",
            post(async move || counted.fetch_add(1, Ordering::SeqCst).to_string()),
        )
        .layer(CsrfLayer::new())
        .layer(SessionLayer::new(manager(&store)));
    store.set_down(true);
    for request in [form(&browser, "a=1"), with_header(&browser, &token)] {
        let answer = browser.send(request).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.all("retry-after"), ["1"]);
        assert_eq!(answer.new_id(), None);
    }
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    store.set_down(false);
    let request = with_header(&browser, &token);
    assert_eq!(browser.send(request).await.body, "0");
}

/// Where the layer is inside the tolerant one, outside of it, and where the session was used in between.
#[tokio::test]
async fn route_that_tolerates_an_outage_takes_no_users_request_for_a_guests() {
    let store = Watched::shared();
    let runs = Arc::new(AtomicUsize::new(0));
    let (mut browser, token) = member(&shop(manager(&store), CsrfLayer::new())).await;
    let routes = || {
        let (counted, checked) = (Arc::clone(&runs), Arc::clone(&runs));
        let check = async move |session: Session| {
            session.check_csrf(None).await?;
            Ok::<_, Error>(checked.fetch_add(1, Ordering::SeqCst).to_string())
        };
        let change = async move || counted.fetch_add(1, Ordering::SeqCst).to_string();
        let by_handler = Router::new()
            .route("/checked", post(check))
            .layer(CsrfLayer::new().token_left_to_handler());
        Router::new()
            .route("/page", get(page))
            .route("/change", post(change))
            .layer(CsrfLayer::new())
            .merge(by_handler)
    };
    let used = axum::middleware::from_fn(
        async |request: axum::extract::Request, next: axum::middleware::Next| {
            let session = request.extensions().get::<Session>().unwrap().clone();
            let _ = session.subject().await;
            next.run(request).await
        },
    );
    let tolerant = || OutageLayer::new(Outage::ReadOnly);
    let sites = [
        routes().layer(tolerant()),
        routes().layer(used).layer(tolerant()),
        Router::new()
            .route("/change", post(change).layer(tolerant()))
            .layer(CsrfLayer::new()),
    ];
    store.set_down(true);
    for (at, site) in sites.into_iter().enumerate() {
        browser.site = site.layer(SessionLayer::new(manager(&store)));
        let checked = to(&browser, "/checked").body(Body::empty()).unwrap();
        for request in [form(&browser, "a=1"), with_header(&browser, &token), checked] {
            if at == 2 && request.uri() == "/checked" {
                continue;
            }
            let answer = browser.send(request).await;
            assert_eq!(
                answer.status,
                StatusCode::SERVICE_UNAVAILABLE,
                "{at}: {}",
                answer.body
            );
        }
        if at < 2 {
            assert_eq!(
                browser.text("/page").await,
                "none",
                "the page is shown all the same"
            );
        }
    }
    assert_eq!(runs.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn handler_of_a_refused_request_never_runs_and_nothing_is_committed() {
    let store = Watched::shared();
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let handler = post(async move || counted.fetch_add(1, Ordering::SeqCst).to_string());
    // Something between the layers changes the session before.
    let earlier = axum::middleware::from_fn(
        async |request: axum::extract::Request, next: axum::middleware::Next| {
            let session = request.extensions().get::<Session>().unwrap().clone();
            session.insert("before", &true).await.unwrap();
            next.run(request).await
        },
    );
    let site = Router::new()
        .route("/change", handler)
        .layer(CsrfLayer::new())
        .layer(earlier)
        .layer(SessionLayer::new(manager(&store)));
    let (mut browser, token) = member(&shop(manager(&store), CsrfLayer::new())).await;
    browser.site = site;
    let before = store.record(&browser.held()).await.unwrap().version;
    assert_refused(&change_with(&mut browser, "wrong").await, OUT_OF_DATE);
    let mut forged = form(&browser, "a=1");
    forged.headers_mut().insert("origin", "null".parse().unwrap());
    assert_refused(&browser.send(forged).await, ANOTHER_SITE);
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    assert_eq!(store.record(&browser.held()).await.unwrap().version, before);

    let passed = change_with(&mut browser, &token).await;
    assert_eq!(passed.body, "0");
    assert_ne!(store.record(&browser.held()).await.unwrap().version, before);
}

#[tokio::test]
async fn own_page_takes_the_place_of_the_text() {
    let store = Watched::shared();
    let manager = SessionManager::builder(crate::support::sessions(&store)).on_error(|error| {
        let mut page = Response::new(Bytes::from(format!("{error:?}")));
        *page.status_mut() = error.status();
        page
    });
    let layer = CsrfLayer::builder().longest_form(100).build().unwrap();
    let site = shop(manager.build().unwrap(), layer);
    let (mut browser, _) = member(&site).await;
    let request = form(&browser, "a=1");
    let answer = browser.send(request).await;
    assert_eq!(
        (answer.status.as_u16(), answer.body.as_str()),
        (403, "Csrf(TokenMissing)")
    );
    let answer = change_with(&mut browser, "wrong").await;
    assert_eq!(
        (answer.status.as_u16(), answer.body.as_str()),
        (403, "Csrf(TokenWrong)")
    );
    let request = form(&browser, "a".repeat(101));
    let answer = browser.send(request).await;
    assert_eq!(
        (answer.status.as_u16(), answer.body.as_str()),
        (413, "Csrf(FormTooLong)")
    );
}

/// A body in pieces, with trailers, without its length.
fn in_pieces(pieces: &[&[u8]], trailers: HeaderMap) -> Body {
    let frames = pieces
        .iter()
        .map(|piece| Frame::data(Bytes::copy_from_slice(piece)))
        .chain([Frame::trailers(trailers)]);
    Body::new(Pieces(frames.map(Ok).collect()))
}

struct Pieces(VecDeque<io::Result<Frame<Bytes>>>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        Poll::Ready(self.0.pop_front())
    }
}

/// Answers with the body as it comes, and with its trailers in a header.
fn echo(store: &Arc<Watched>, layer: CsrfLayer) -> Router {
    let echo = async |body: Body| {
        let collected = body.collect().await.unwrap();
        let trailer = collected
            .trailers()
            .and_then(|trailers| trailers.get("digest"))
            .cloned();
        let mut response = Response::new(Body::from(collected.to_bytes()));
        if let Some(trailer) = trailer {
            response.headers_mut().insert("digest", trailer);
        }
        response
    };
    Router::new()
        .route("/change", post(echo))
        .layer(layer)
        .layer(SessionLayer::new(manager(store)))
}

#[tokio::test]
async fn form_is_handed_on_byte_for_byte() {
    let (store, site) = shared();
    let (mut browser, token) = member(&site).await;
    browser.site = echo(&store, CsrfLayer::new());
    let all: Vec<u8> = (0..=255).collect();
    let pieces: [&[u8]; 8] = [
        b"",
        b"a=%zz&&;=",
        &all,
        b"&csrf_to",
        b"",
        b"ken=",
        token.as_bytes(),
        b"&b=\xc3",
    ];
    let trailers = HeaderMap::from_iter([("digest".parse().unwrap(), HeaderValue::from_static("x"))]);
    let request = form(&browser, in_pieces(&pieces, trailers));
    let response = browser.site.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["digest"], "x");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, pieces.concat());
}

/// axum's own extractor, which the field does not disturb.
#[tokio::test]
async fn form_is_extracted_after_it_was_read() {
    let (store, site) = shared();
    let (mut browser, token) = member(&site).await;
    let extract = async |Form(fields): Form<Vec<(String, String)>>| {
        fields
            .into_iter()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
            .join(",")
    };
    browser.site = Router::new()
        .route("/change", post(extract))
        .layer(CsrfLayer::new())
        .layer(SessionLayer::new(manager(&store)));
    assert_eq!(change_with(&mut browser, &token).await.body, "a,csrf_token,b");
}

#[tokio::test]
async fn form_is_read_up_to_its_limit() {
    let (store, site) = shared();
    let (mut browser, token) = member(&site).await;
    browser.site = echo(&store, CsrfLayer::new());
    let field = format!("csrf_token={token}&x=");
    let padding = |size: usize| "x".repeat(size - field.len());
    for size in [64 * 1024, 64 * 1024 + 1] {
        let (whole, rest) = (format!("{field}{}", padding(size)), padding(size));
        let pieces = in_pieces(&[field.as_bytes(), rest.as_bytes()], HeaderMap::new());
        for body in [Body::from(whole), pieces] {
            let request = form(&browser, body);
            let answer = browser.send(request).await;
            match size {
                65_536 => assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, size)),
                _ => {
                    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
                    assert!(answer.body.contains("too long"), "{}", answer.body);
                }
            }
        }
    }
    // Where the header carries the token, nothing is read, and no limit is ours.
    let long = "x".repeat(1 << 20);
    let mut request = form(&browser, long.clone());
    request
        .headers_mut()
        .insert("x-csrf-token", token.parse().unwrap());
    assert_eq!(browser.send(request).await.body.len(), long.len());
    // Nor where no token is asked for.
    let mut stranger = Browser::new(&browser.site);
    let request = form(&stranger, long.clone());
    assert_eq!(stranger.send(request).await.body.len(), long.len());
}

/// A body without end is given up at the limit.
#[tokio::test]
async fn form_without_end_is_refused() {
    struct Endless(Arc<AtomicUsize>);
    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.fetch_add(1, Ordering::SeqCst);
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 1024])))))
        }
    }
    let (_, site) = shared();
    let (mut browser, _) = member(&site).await;
    let pieces = Arc::new(AtomicUsize::new(0));
    let request = form(&browser, Body::new(Endless(Arc::clone(&pieces))));
    assert_eq!(browser.send(request).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(pieces.load(Ordering::SeqCst), 65);
}

#[tokio::test]
async fn form_that_breaks_off_is_refused() {
    let (_, site) = shared();
    let (mut browser, token) = member(&site).await;
    let start = Bytes::from(format!("csrf_token={token}"));
    let broken = [
        Ok(Frame::data(start)),
        Err(io::Error::other("the client went away")),
    ];
    let request = form(&browser, Body::new(Pieces(broken.into())));
    let answer = browser.send(request).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(changes(&mut browser).await, 0);
}

/// A form that is uploaded: only its handler can read it.
#[tokio::test]
async fn handler_that_checks_the_token_itself() {
    let (store, site) = shared();
    let (mut browser, token) = member(&site).await;
    let upload = async |session: Session, body: String| {
        session.insert("upload", &body).await?;
        let token = body.strip_prefix("token ").map(str::trim_end);
        session.check_csrf(token).await?;
        Ok::<_, Error>("uploaded")
    };
    browser.site = Router::new()
        .route("/change", post(upload))
        .layer(CsrfLayer::new().token_left_to_handler())
        .layer(SessionLayer::new(manager(&store)));
    let send = |body: String| form(&browser, body);
    let (good, wrong, missing) = (
        send(format!("token {token}\n")),
        send(format!("token {}", &token[1..])),
        send("x".to_owned()),
    );
    let mut forged = send(format!("token {token}"));
    forged
        .headers_mut()
        .insert("sec-fetch-site", "same-site".parse().unwrap());
    assert_refused(&browser.send(wrong).await, OUT_OF_DATE);
    assert_refused(&browser.send(missing).await, OUT_OF_DATE);
    assert_refused(&browser.send(forged).await, ANOTHER_SITE);
    let names = Browser::with_id(&site, &browser.held()).text("/names").await;
    assert!(!names.contains("upload"), "nothing is committed: {names}");
    assert_eq!(browser.send(good).await.body, "uploaded");
    // A guest is asked for none.
    let mut stranger = Browser::new(&browser.site);
    let request = form(&stranger, "x");
    assert_eq!(stranger.send(request).await.body, "uploaded");
}

#[tokio::test]
async fn routes_outside_the_layer_are_not_checked() {
    let (store, site) = shared();
    let (mut browser, _) = member(&site).await;
    let inside = Router::new()
        .route("/change", post(change))
        .layer(CsrfLayer::new());
    browser.site = Router::new()
        .route("/webhook", post(change))
        .merge(inside)
        .layer(SessionLayer::new(manager(&store)));
    let mut request = to(&browser, "/webhook").body(Body::empty()).unwrap();
    request
        .headers_mut()
        .insert("origin", "https://payments.example".parse().unwrap());
    assert_passed(&browser.send(request).await);
    let request = form(&browser, "a=1");
    assert_refused(&browser.send(request).await, OUT_OF_DATE);
}

#[tokio::test]
async fn allowed_origin_passes_with_a_token() {
    let store = Watched::shared();
    let layer = CsrfLayer::builder()
        .allow_origin("https://app.example")
        .build()
        .unwrap();
    let site = shop(manager(&store), layer);
    let (mut browser, token) = member(&site).await;
    for (origin, passes) in [
        ("https://app.example", true),
        ("https://app.example.evil.example", false),
    ] {
        let mut request = with_header(&browser, &token);
        request
            .headers_mut()
            .insert("sec-fetch-site", "cross-site".parse().unwrap());
        request.headers_mut().insert("origin", origin.parse().unwrap());
        let answer = browser.send(request).await;
        match passes {
            true => assert_passed(&answer),
            false => assert_refused(&answer, ANOTHER_SITE),
        }
    }
    let mut bare = form(&browser, "a=1");
    bare.headers_mut()
        .insert("origin", "https://app.example".parse().unwrap());
    assert_refused(&browser.send(bare).await, OUT_OF_DATE);
}

#[tokio::test]
async fn names_of_header_and_field_are_chosen() {
    let store = Watched::shared();
    let layer = CsrfLayer::builder()
        .header("x-xsrf".parse().unwrap())
        .field("_token");
    let site = shop(manager(&store), layer.build().unwrap());
    let (mut browser, token) = member(&site).await;
    let field = form(&browser, format!("_token={token}"));
    assert_passed(&browser.send(field).await);
    let mut header = form(&browser, "a=1");
    header.headers_mut().insert("x-xsrf", token.parse().unwrap());
    assert_passed(&browser.send(header).await);
    assert_refused(&change_with(&mut browser, &token).await, OUT_OF_DATE);
    let default = with_header(&browser, &token);
    assert_refused(&browser.send(default).await, OUT_OF_DATE);
}

#[test]
fn layers_that_could_not_work_are_not_built() {
    for field in ["", "a b", "a\"", "a&b", "a=b", "é", "a[b]"] {
        let built = CsrfLayer::builder().field(field).build();
        assert_eq!(built.unwrap_err(), CsrfConfigError::Field, "{field}");
    }
    for origin in [
        "",
        "*",
        "null",
        "shop.example",
        "https://shop.example/",
        "https://Shop.example",
    ] {
        let built = CsrfLayer::builder()
            .allow_origin("https://a.example")
            .allow_origin(origin)
            .build();
        let refused = CsrfConfigError::Origin {
            origin: origin.to_owned(),
        };
        assert_eq!(built.unwrap_err(), refused);
    }
}

#[tokio::test]
async fn token_shows_itself_in_html_and_not_in_debug() {
    let store = Watched::shared();
    let show = async |session: Session| {
        let token = session.csrf_token().await?.unwrap();
        assert_eq!(token.to_string(), token.as_str());
        assert_eq!(token.field(), "csrf_token");
        Ok::<_, Error>(format!("{token:?} {} {token}", token.hidden_field()))
    };
    let (mut browser, _) = member(&shop(manager(&store), CsrfLayer::new())).await;
    browser.site = Router::new()
        .route("/show", get(show))
        .layer(CsrfLayer::new())
        .layer(SessionLayer::new(manager(&store)));
    let shown = browser.text("/show").await;
    let token = &shown[shown.len() - 64..];
    let expected = format!("CsrfToken <input type=\"hidden\" name=\"csrf_token\" value=\"{token}\"> {token}");
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn layer_that_is_missing_or_outside_is_told() {
    let (store, site) = shared();
    let (mut browser, _) = member(&site).await;
    browser.site = Router::new()
        .route("/page", get(page))
        .layer(SessionLayer::new(manager(&store)));
    let page = browser.get("/page").await;
    assert_eq!(page.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(page.body.contains("CsrfLayer is missing"), "{}", page.body);

    browser.site = routes()
        .layer(SessionLayer::new(manager(&store)))
        .layer(CsrfLayer::new());
    for request in [browser.request("/plain"), form(&browser, "a=1")] {
        let answer = browser.send(request).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(
            answer.body.contains("inside session_http::SessionLayer"),
            "{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn layer_twice_is_as_good_as_once() {
    let store = Watched::shared();
    let site = shop(manager(&store), CsrfLayer::new());
    let (mut browser, token) = member(&site).await;
    browser.site = Router::new()
        .route("/change", post(change))
        .layer(CsrfLayer::new())
        .layer(CsrfLayer::new())
        .layer(SessionLayer::new(manager(&store)));
    assert_passed(&change_with(&mut browser, &token).await);
    assert_refused(&change_with(&mut browser, "wrong").await, OUT_OF_DATE);
}

/// tower alone, with a body that axum does not know.
#[tokio::test]
async fn header_with_a_token_is_hidden_from_debug() {
    let (store, site) = shared();
    let (browser, token) = member(&site).await;
    let show = async |request: Request<Body>| format!("{:?}", request.headers());
    let site = Router::new()
        .route("/change", post(show))
        .layer(CsrfLayer::new())
        .layer(SessionLayer::new(manager(&store)));
    let answer = send(&site, with_header(&browser, &token)).await;
    assert!(answer.body.contains("x-csrf-token"), "{}", answer.body);
    assert!(!answer.body.contains(&token), "{}", answer.body);
}

#[tokio::test]
async fn layer_needs_no_framework() {
    let (store, site) = shared();
    let (browser, token) = member(&site).await;
    let answer = service_fn(async |request: Request<CsrfBody<Full<Bytes>>>| {
        let told = request.body().size_hint().exact();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            told,
            Some(body.len() as u64),
            "what was read is as long as it says"
        );
        Ok::<_, Infallible>(Response::new(Full::new(body)))
    });
    let service = ServiceBuilder::new()
        .layer(SessionLayer::new(manager(&store)))
        .service(CsrfLayer::new().layer(answer));
    for (token, status) in [(token.as_str(), 200), ("wrong", 403)] {
        let body = Bytes::from(format!("csrf_token={token}"));
        let request = to(&browser, "/change").header("content-type", FORM);
        let request = request.body(Full::new(body.clone())).unwrap();
        let response = service.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status);
        if status == 200 {
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body);
        }
    }
}

#[test]
fn refusals_have_their_status() {
    for (error, status) in [
        (CsrfError::Origin, 403),
        (CsrfError::TokenMissing, 403),
        (CsrfError::TokenWrong, 403),
        (CsrfError::FormTooLong, 413),
        (CsrfError::FormUnreadable, 400),
        (CsrfError::LayerMissing, 500),
    ] {
        assert_eq!(Error::from(error).status(), status);
    }
}

/// No browser sends that header by itself, and a request without it has no session to protect.
#[tokio::test]
async fn session_in_a_header_needs_no_token_and_one_in_a_cookie_does() {
    use session_http::{CookieConfig, HeaderConfig, Transport};
    let store = Watched::shared();
    let both: [Transport; 2] = [HeaderConfig::bearer().into(), CookieConfig::default().into()];
    let api = SessionManager::builder(crate::support::sessions(&store)).transports(both);
    let site = shop(api.build().unwrap(), CsrfLayer::new());
    let request = |path: &str, name: &str, value: &str| {
        let request = Request::post(path).header(name, value);
        request.body(Body::empty()).unwrap()
    };
    let log_in = Request::post("/login/ada").body(Body::empty()).unwrap();
    let answer = send(&site, log_in).await;
    let id = answer.all("session-id")[0].to_owned();
    let mut page = Request::get("/page").body(Body::empty()).unwrap();
    let bearer = format!("Bearer {id}").parse().unwrap();
    page.headers_mut().insert("authorization", bearer);
    assert_eq!(send(&site, page).await.body, "none");
    assert_passed(
        &send(
            &site,
            request("/change", "authorization", &format!("Bearer {id}")),
        )
        .await,
    );
    let in_cookie = request("/change", "cookie", &format!("__Host-session={id}"));
    let refused = send(&site, in_cookie).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.body);
    // Another site's page that was allowed nothing by CORS cannot send it at all; what says so is refused all the same.
    let mut foreign = request("/change", "authorization", &format!("Bearer {id}"));
    foreign
        .headers_mut()
        .insert("sec-fetch-site", "cross-site".parse().unwrap());
    assert_eq!(send(&site, foreign).await.status, StatusCode::FORBIDDEN);
}
