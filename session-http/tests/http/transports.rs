//! Several ways to travel: the first that a request uses decides.

use axum::{Router, body::Body, http::Request};
use session_http::{CookieConfig, HeaderConfig, ManagerError, SchemeSource, SessionManager, Transport};

use crate::support::{Answer, Watched, made_up, send, sessions, site_of};

const FIELD: &str = "x-auth-token";

fn both() -> [Transport; 2] {
    [
        HeaderConfig::named(FIELD).unwrap().into(),
        CookieConfig::default().into(),
    ]
}

fn site(store: &std::sync::Arc<Watched>, transports: impl IntoIterator<Item = Transport>) -> Router {
    let manager = SessionManager::builder(sessions(store)).transports(transports);
    site_of(manager.build().unwrap())
}

/// A request with these fields.
async fn get(site: &Router, path: &str, fields: &[(&str, &str)]) -> Answer {
    let mut request = Request::get(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    send(site, request.body(Body::empty()).unwrap()).await
}

fn cookie(id: &str) -> String {
    format!("__Host-session={id}")
}

#[tokio::test]
async fn header_carries_the_session_both_ways() {
    let store = Watched::shared();
    let site = site(&store, [HeaderConfig::bearer().into()]);
    let written = get(&site, "/write/x", &[]).await;
    let id = written.all("session-id")[0].to_owned();
    assert_eq!(id.len(), 43);
    assert!(written.headers["session-id"].is_sensitive());
    assert!(written.all("set-cookie").is_empty(), "no cookie was configured");
    assert_eq!(written.all("vary"), ["authorization"]);
    assert_eq!(written.all("cache-control"), ["no-store"]);

    let bearer = format!("Bearer {id}");
    let read = get(&site, "/read", &[("authorization", &bearer)]).await;
    assert_eq!(read.body, "x");
    assert!(read.all("session-id").is_empty(), "nothing new to tell");
    assert_eq!(
        get(&site, "/read", &[("cookie", &cookie(&id))]).await.body,
        "nothing"
    );

    let log_in = get(&site, "/login/ada", &[("authorization", &bearer)]).await;
    let renewed = format!("Bearer {}", log_in.all("session-id")[0]);
    assert_ne!(renewed, bearer);
    assert_eq!(
        get(&site, "/whoami", &[("authorization", &bearer)]).await.body,
        "nobody"
    );
    let out = get(&site, "/logout", &[("authorization", &renewed)]).await;
    assert_eq!(out.all("session-id"), [""], "an empty field: forget it");
    assert_eq!(
        get(&site, "/whoami", &[("authorization", &renewed)]).await.body,
        "nobody"
    );
}

/// OWASP ASVS 5.0, 14.2.1: an id in a URL ends up in logs, in histories and in what `Referer` tells.
#[tokio::test]
async fn id_in_the_url_is_not_read() {
    let store = Watched::shared();
    let site = site(&store, both());
    let id = get(&site, "/write/x", &[]).await.all(FIELD)[0].to_owned();
    assert_eq!(store.calls(), ["create"]);
    for name in [FIELD, "__Host-session", "session", "sid", "jsessionid"] {
        let answer = get(&site, &format!("/read?{name}={id}"), &[]).await;
        assert_eq!(answer.body, "nothing", "{name}");
    }
    assert!(store.calls().is_empty());
}

#[tokio::test]
async fn first_transport_that_a_request_uses_decides_whatever_it_holds() {
    let store = Watched::shared();
    let site = site(&store, both());
    let new = async |value: &str| {
        let answer = get(&site, &format!("/write/{value}"), &[]).await;
        answer.all(FIELD)[0].to_owned()
    };
    let (a, b) = (new("a").await, new("b").await);
    let (in_cookie, made_up) = (cookie(&b), made_up());

    let read = async |fields: &[(&str, &str)]| get(&site, "/read", fields).await.body;
    assert_eq!(read(&[(FIELD, &a)]).await, "a");
    assert_eq!(read(&[("cookie", &in_cookie)]).await, "b");
    assert_eq!(read(&[(FIELD, &a), ("cookie", &in_cookie)]).await, "a");
    // No way out to the cookie, however bad the header is: it was not used by whoever set the cookie.
    for bad in ["nonsense", made_up.as_str(), "."] {
        assert_eq!(
            read(&[(FIELD, bad), ("cookie", &in_cookie)]).await,
            "nothing",
            "{bad}"
        );
    }
    assert_eq!(
        read(&[(FIELD, &a), (FIELD, &a), ("cookie", &in_cookie)]).await,
        "nothing"
    );
    // An empty field is what a client sends that was asked to forget.
    assert_eq!(read(&[(FIELD, ""), ("cookie", &in_cookie)]).await, "b");
}

#[tokio::test]
async fn response_uses_the_transport_of_its_request() {
    let store = Watched::shared();
    let site = site(&store, both());
    let first = get(&site, "/write/x", &[]).await;
    let id = first.all(FIELD)[0].to_owned();
    assert!(first.all("set-cookie").is_empty(), "an id is handed out once");
    assert_eq!(first.all("vary"), ["x-auth-token, Cookie"]);

    // The client chose the cookie: it learns the next id there, and no script can read that.
    let renewed = get(&site, "/renew", &[("cookie", &cookie(&id))]).await;
    assert!(renewed.all(FIELD).is_empty());
    let id = renewed.new_id().unwrap();
    let out = get(&site, "/logout", &[("cookie", &cookie(&id))]).await;
    assert!(out.all("set-cookie")[0].starts_with("__Host-session=;"));
    assert!(out.all(FIELD).is_empty());
}

#[tokio::test]
async fn id_in_a_header_neither_comes_nor_goes_over_plain_http() {
    let store = Watched::shared();
    let build = |header: HeaderConfig| {
        let manager = SessionManager::builder(sessions(&store))
            .transports([header])
            .scheme_source(SchemeSource::XForwardedProto);
        site_of(manager.build().unwrap())
    };
    let named = HeaderConfig::named(FIELD).unwrap();
    let site = build(named.clone());
    let (https, http) = (("x-forwarded-proto", "https"), ("x-forwarded-proto", "http"));
    let written = get(&site, "/write/x", &[https]).await;
    let id = written.all(FIELD)[0].to_owned();
    assert_eq!(get(&site, "/read", &[https, (FIELD, &id)]).await.body, "x");
    assert_eq!(get(&site, "/read", &[http, (FIELD, &id)]).await.body, "nothing");
    assert!(get(&site, "/write/y", &[http]).await.all(FIELD).is_empty());

    let development = build(named.insecure_for_development());
    let written = get(&development, "/write/z", &[http]).await;
    let id = written.all(FIELD)[0].to_owned();
    assert_eq!(get(&development, "/read", &[http, (FIELD, &id)]).await.body, "z");
}

#[tokio::test]
async fn applications_own_field_does_not_stand_in_for_the_sessions() {
    use axum::{http::HeaderName, middleware, response::Response};
    let store = Watched::shared();
    let own = middleware::map_response(async |mut response: Response| {
        let name = HeaderName::from_static(FIELD);
        response.headers_mut().insert(name, "mine".parse().unwrap());
        response
    });
    let manager = SessionManager::builder(sessions(&store)).transports(both());
    let site = crate::support::routes()
        .layer(own)
        .layer(session_http::SessionLayer::new(manager.build().unwrap()));
    assert!(get(&site, "/read", &[]).await.all(FIELD).is_empty());
    assert_eq!(get(&site, "/write/x", &[]).await.all(FIELD)[0].len(), 43);
}

#[test]
fn lists_that_make_no_sense_are_refused() {
    let build = |transports: Vec<Transport>| {
        let manager = SessionManager::builder(sessions(&Watched::shared())).transports(transports);
        manager.build().map(|_| ()).unwrap_err()
    };
    assert_eq!(build(vec![]), ManagerError::NoTransport);
    let twice = vec![CookieConfig::default().into(), CookieConfig::default().into()];
    let name = "__Host-session".to_owned();
    assert_eq!(build(twice), ManagerError::RepeatedTransport { name });
}
