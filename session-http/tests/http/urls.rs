//! Browsers that keep no cookies: the session is in the URL.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    http::{Request, StatusCode, Uri, request::Builder},
    response::Redirect,
    routing::{MethodRouter, get},
};
use session_core::{SessionStore, Sessions};
use session_http::{
    CookieConfig, Error, HeaderConfig, KeyRing, ManagerError, SecretKey, Session, SessionLayer,
    SessionManager, Transport, UrlConfig, UrlLayer,
};
use tower::{Layer, ServiceExt};

use crate::support::{Answer, Moved, NAMESPACE, Watched, made_up, routes};

struct Site {
    clock: Arc<Moved>,
    store: Arc<Watched>,
    manager: SessionManager,
}

impl Site {
    fn new() -> Self {
        Self::with(UrlConfig::new(&KeyRing::new(SecretKey::generate().unwrap())))
    }

    fn with(url: UrlConfig) -> Self {
        let clock = Arc::new(Moved::default());
        let store = Watched::timed(&clock);
        let shared: Arc<dyn SessionStore> = store.clone();
        let sessions = Sessions::builder(shared)
            .namespace(NAMESPACE)
            .clock(clock.clone());
        let transports: [Transport; 2] = [CookieConfig::default().into(), url.into()];
        let manager = SessionManager::builder(sessions.build().unwrap()).transports(transports);
        Self {
            clock,
            store,
            manager: manager.build().unwrap(),
        }
    }

    async fn ask(&self, request: Request<Body>) -> Answer {
        let router = routes()
            .route("/link", get(link))
            .route("/path", get(async |uri: Uri| uri.to_string()))
            .route("/look", get(async |session: Session| look(session).await))
            .route("/go", get(async |session: Session| go(session).await))
            .route("/away", get(async || Redirect::to("https://other.example/")))
            .route("/change-after", get(change_after))
            .route("/next", get(async || Redirect::to("/;sid=x/evil.example/")))
            .route("/unused-go", get(async || Redirect::to("/read")))
            .layer(SessionLayer::new(self.manager.clone()));
        let app = UrlLayer::new(self.manager.clone()).layer(router);
        Answer::of(app.oneshot(request).await.unwrap()).await
    }

    async fn get(&self, url: &str) -> Answer {
        self.ask(request(url).body(Body::empty()).unwrap()).await
    }

    async fn text(&self, url: &str) -> String {
        let answer = self.get(url).await;
        assert_eq!(answer.status, StatusCode::OK, "{url}: {}", answer.body);
        answer.body
    }
}

fn request(url: &str) -> Builder {
    Request::get(url)
        .header("host", "shop.example")
        .header("user-agent", "Lynx/2.9")
}

/// A page: something is kept, and the links have the session.
async fn link(session: Session) -> Result<String, Error> {
    let seen: u32 = session.update("seen", |seen| seen.unwrap_or(0) + 1).await?;
    session.insert("value", &format!("seen {seen}")).await?;
    let urls = session.urls().await?;
    Ok(urls.encode("/read?x=1").into_owned())
}

/// A page that only reads.
async fn look(session: Session) -> Result<String, Error> {
    let _: Option<String> = session.get("value").await?;
    Ok(session.urls().await?.encode("/read").into_owned())
}

async fn go(session: Session) -> Result<Redirect, Error> {
    session.insert("value", &"gone".to_owned()).await?;
    Ok(Redirect::to("/read"))
}

/// Something changes after the links were written.
async fn change_after(session: Session) -> Result<String, Error> {
    let links = link(session.clone()).await?;
    session.insert("value", &"later".to_owned()).await?;
    Ok(links)
}

fn location(answer: &Answer) -> String {
    answer.headers["location"].to_str().unwrap().to_owned()
}

/// Another path with the session of this link.
fn at(path: &str, link: &str) -> String {
    let (_, session) = link.split_once(';').unwrap();
    format!("{path};{}", session.split('?').next().unwrap())
}

#[tokio::test]
async fn visitor_without_cookies_keeps_the_session_in_the_url() {
    let site = Site::new();
    let first = site.get("/link").await;
    assert!(first.new_id().is_some(), "a cookie is tried as well");
    assert!(
        first.body.starts_with("/read;sid=") && first.body.ends_with("?x=1"),
        "{}",
        first.body
    );
    assert_eq!(site.text(&first.body).await, "seen 1");
    let second = site.text(&at("/link", &first.body)).await;
    assert_eq!(site.text(&second).await, "seen 2");
    // Both lead there: the first page is still open in another tab.
    assert_eq!(site.text(&first.body).await, "seen 2");
    // Routes, handlers and whatever they log see the path without it.
    assert_eq!(site.text(&at("/path", &second)).await, "/path");
}

#[tokio::test]
async fn cookie_wins_over_the_url_and_its_pages_have_plain_links() {
    let site = Site::new();
    let (one, two) = (site.get("/link").await, site.text("/link").await);
    let with_cookie = async |path: &str, id: &str| {
        let cookie = format!("__Host-session={id}");
        site.ask(
            request(path)
                .header("cookie", cookie)
                .body(Body::empty())
                .unwrap(),
        )
        .await
    };
    let id = one.new_id().unwrap();
    let answer = with_cookie(&at("/link", &two), &id).await;
    assert_eq!(answer.body, "/read?x=1", "no session in it");
    assert_eq!(with_cookie("/read", &id).await.body, "seen 2");
    assert_eq!(site.text(&two).await, "seen 1");
    // A cookie that is none decides all the same.
    assert_eq!(with_cookie(&two, "nonsense").await.body, "nothing");
    assert_eq!(with_cookie(&two, &made_up()).await.body, "nothing");
}

#[tokio::test]
async fn redirect_leads_to_the_session_and_to_no_other_site() {
    let site = Site::new();
    let answer = site.get("/go").await;
    assert!(answer.headers["location"].is_sensitive());
    let first = location(&answer);
    assert_eq!(site.text(&first).await, "gone");
    let link = site.text("/link").await;
    let next = location(&site.get(&at("/go", &link)).await);
    assert!(next.starts_with("/read;sid="), "{next}");
    assert_eq!(site.text(&next).await, "gone");
    assert_eq!(
        location(&site.get(&at("/away", &link)).await),
        "https://other.example/"
    );
    // Nor is it lost where nobody asked for it.
    let unused = location(&site.get(&at("/unused-go", &link)).await);
    assert_eq!(site.text(&unused).await, "gone");
    assert_eq!(location(&site.get("/unused-go").await), "/read");
}

#[tokio::test]
async fn log_in_leads_to_the_new_id_and_ends_the_old_one() {
    let site = Site::new();
    let planted = site.text("/link").await;
    let answer = site.get(&at("/login/zoe", &planted)).await;
    let id = answer.new_id().unwrap();
    assert!(!planted.contains(&id));
    assert_eq!(site.text(&at("/whoami", &planted)).await, "nobody");
    assert_eq!(site.text(&planted).await, "nothing");
}

#[tokio::test]
async fn logout_ends_the_session_of_every_link() {
    let site = Site::new();
    let link = site.text("/link").await;
    site.text(&at("/logout", &link)).await;
    assert_eq!(site.text(&link).await, "nothing");
    // And is not written into any link again.
    assert_eq!(site.text(&at("/look", &link)).await, "/read");
    assert!(site.store.memory.is_empty());
}

/// A page that goes on without the store keeps the visitor's session in its links.
#[tokio::test]
async fn outage_takes_no_session_out_of_the_links() {
    let site = Site::new();
    let link = site.text("/link").await;
    let (parts, _) = request(&link).body(Body::empty()).unwrap().into_parts();
    site.store.set_down(true);
    let visit = site.manager.open(&parts);
    visit.session().tolerate_outage();
    let nothing: Option<String> = visit.session().get("value").await.unwrap();
    assert!(nothing.is_none() && visit.session().is_degraded());
    let urls = site.manager.urls(&visit).await.unwrap();
    let link = urls.encode("/read").into_owned();
    site.store.set_down(false);
    assert_eq!(site.text(&link).await, "seen 1");
}

/// A link that is passed on: to another browser, or later.
#[tokio::test]
async fn passed_on_link_is_nobodys() {
    let site = Site::new();
    let link = site.text("/link").await;
    let other = Request::get(&link)
        .header("host", "shop.example")
        .header("user-agent", "Mozilla/5.0");
    site.store.calls();
    assert_eq!(site.ask(other.body(Body::empty()).unwrap()).await.body, "nothing");
    assert!(site.store.calls().is_empty());
    // The session is kept alive; this link is not.
    for _ in 0..3 {
        site.clock.forward(Duration::from_secs(11 * 60));
        let link = site.text(&at("/link", &link)).await;
        assert!(link.contains(";sid="));
    }
    assert_eq!(site.text(&link).await, "nothing");
}

/// A reference to the page itself leads to where the client asked, whatever a router between has taken from the path.
#[tokio::test]
async fn page_of_a_nested_router_refers_to_itself() {
    let site = Site::new();
    let page = async |session: Session| -> Result<String, Error> {
        session.insert("value", &"kept".to_owned()).await?;
        Ok(session.urls().await?.encode("?page=2").into_owned())
    };
    let inner = axum::Router::new()
        .route("/list", get(page))
        .layer(SessionLayer::new(site.manager.clone()));
    let app = UrlLayer::new(site.manager.clone()).layer(axum::Router::new().nest("/shop", inner));
    let ask = async |url: &str| {
        let request = request(url).body(Body::empty()).unwrap();
        Answer::of(app.clone().oneshot(request).await.unwrap()).await.body
    };
    let first = ask("/shop/list").await;
    assert!(first.starts_with("/shop/list;sid="), "{first}");
    let second = ask(&first).await;
    assert!(second.starts_with("/shop/list;sid="), "{second}");
}

/// Two managers, each with a parameter and a layer of its own.
#[tokio::test]
async fn sessions_of_two_managers_stand_in_one_url() {
    let url = || UrlConfig::new(&KeyRing::new(SecretKey::generate().unwrap()));
    let (one, two) = (Site::with(url()), Site::with(url().parameter("two").unwrap()));
    let app = |manager: &SessionManager, inner| {
        UrlLayer::new(one.manager.clone()).layer(
            UrlLayer::new(two.manager.clone())
                .layer(axum::Router::new().nest("/x", routes_with_link(manager, inner))),
        )
    };
    let ask = async |manager: &SessionManager, url: &str| {
        let request = request(url).body(Body::empty()).unwrap();
        let response = app(manager, get(link)).oneshot(request).await.unwrap();
        Answer::of(response).await.body
    };
    let of_one = ask(&one.manager, "/x/link").await;
    let of_two = ask(&two.manager, "/x/link").await;
    let both = format!(
        "{};{}",
        at("/x/read", &of_one),
        at("", &of_two).trim_start_matches(';')
    );
    assert_eq!(ask(&one.manager, &both).await, "seen 1");
    assert_eq!(ask(&two.manager, &both).await, "seen 1");
}

fn routes_with_link(manager: &SessionManager, link: MethodRouter) -> axum::Router {
    routes()
        .route("/link", link)
        .layer(SessionLayer::new(manager.clone()))
}

#[tokio::test]
async fn urls_commit_nothing_for_a_client_with_a_cookie() {
    let site = Site::new();
    let id = site.get("/link").await.new_id().unwrap();
    for (cookie, calls) in [
        (Some(id), &["load", "update"][..]),
        (None, &["create", "update"][..]),
    ] {
        site.store.calls();
        let mut request = request("/change-after");
        if let Some(id) = cookie {
            request = request.header("cookie", format!("__Host-session={id}"));
        }
        site.ask(request.body(Body::empty()).unwrap()).await;
        assert_eq!(site.store.calls(), calls);
    }
}

/// What an application lets through as a path of its own stays one.
#[tokio::test]
async fn redirect_to_a_path_leaves_the_site_by_no_parameter() {
    let site = Site::new();
    let link = site.text("/link").await;
    let next = location(&site.get(&at("/next", &link)).await);
    assert!(next.starts_with("/;sid=x/evil.example/;sid="), "{next}");
}

/// OWASP, "Session ID in URL": other sites, caches and search engines learn nothing of it.
#[tokio::test]
async fn whoever_answers_a_url_with_a_session_tells_nobody() {
    let site = Site::new();
    let link = site.text("/link").await;
    for path in ["/read", "/plain", "/unused", "/logout", "/nowhere", "/give-up"] {
        let answer = site.get(&at(path, &link)).await;
        assert_eq!(answer.all("referrer-policy"), ["same-origin"], "{path}");
        assert_eq!(answer.all("cache-control"), ["no-store"], "{path}");
        assert_eq!(answer.all("x-robots-tag"), ["noindex"], "{path}");
    }
    let first = site.get("/link").await;
    assert_eq!(
        first.all("referrer-policy"),
        ["same-origin"],
        "its links hold the session"
    );
    assert!(site.get("/plain").await.all("referrer-policy").is_empty());
}

#[tokio::test]
async fn id_that_nobody_wrote_into_the_url_is_refused() {
    let site = Site::new();
    let first = site.get("/link").await;
    let (id, link) = (first.new_id().unwrap(), first.body);
    site.store.calls();
    let twice = format!("{};{}", at("/read", &link), link.split_once(';').unwrap().1);
    for url in [
        format!("/read;sid={id}"),
        format!("/read;sid={}", made_up()),
        format!("/read;sid={id}.{}", "A".repeat(27)),
        "/read;sid=".to_owned(),
        "/read;sid=../../etc/passwd"
            .replace('/', "%2F")
            .replacen("%2F", "/", 1),
        link.replace(";sid=", ";SID="),
        twice,
        format!("/read?sid={id}"),
        format!("/read?{}", link.split_once(';').unwrap().1),
    ] {
        let answer = site.get(&url).await;
        let read = matches!(answer.status, StatusCode::OK) && answer.body != "nothing";
        assert!(!read, "{url}: {}", answer.body);
        assert!(site.store.calls().is_empty(), "{url}");
    }
}

#[tokio::test]
async fn session_in_the_url_neither_comes_nor_goes_over_plain_http() {
    let site = Site::new();
    let link = site.text("/link").await;
    let plain = |path: &str| {
        request(&format!("http://shop.example{path}"))
            .body(Body::empty())
            .unwrap()
    };
    assert_eq!(site.ask(plain(&link)).await.body, "nothing");
    assert_eq!(site.ask(plain("/link")).await.body, "/read?x=1");

    let url = UrlConfig::new(&KeyRing::new(SecretKey::generate().unwrap()));
    let site = Site::with(url.insecure_for_development());
    let link = site.ask(plain("/link")).await.body;
    assert_eq!(site.ask(plain(&link)).await.body, "seen 1");
}

#[test]
fn url_comes_after_a_cookie_and_never_alone() {
    let url = || Transport::from(UrlConfig::new(&KeyRing::new(SecretKey::generate().unwrap())));
    let build = |transports: Vec<Transport>| {
        let store: Arc<dyn SessionStore> = Watched::shared();
        let sessions = Sessions::builder(store).build().unwrap();
        SessionManager::builder(sessions)
            .transports(transports)
            .build()
            .map(drop)
    };
    let cookie = || Transport::from(CookieConfig::default());
    let header = || Transport::from(HeaderConfig::bearer());
    for wrong in [vec![url()], vec![url(), cookie()], vec![header(), url()]] {
        assert_eq!(build(wrong), Err(ManagerError::UrlBeforeCookie));
    }
    assert!(matches!(
        build(vec![cookie(), url(), url()]),
        Err(ManagerError::RepeatedTransport { .. })
    ));
    assert_eq!(build(vec![header(), cookie(), url()]), Ok(()));
}
