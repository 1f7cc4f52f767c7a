//! When the cookie is set, when it is removed, and what caches are told.

use axum::{
    Router,
    body::Body,
    http::{Request, StatusCode},
    response::IntoResponse,
    routing::get,
};
use session_http::{CookieConfig, Error, SameSite, SchemeSource, Session, SessionLayer, SessionManager};

use crate::support::{Answer, Browser, Watched, made_up, send, sessions, site, site_of};

#[tokio::test]
async fn cookie_has_the_documented_attributes() {
    let mut browser = Browser::new(&site(&Watched::shared()));
    let answer = browser.get("/write/x").await;
    let id = browser.held();
    assert_eq!(id.len(), 43);
    assert_eq!(
        answer.all("set-cookie"),
        [format!(
            "__Host-session={id}; HttpOnly; SameSite=Lax; Secure; Path=/"
        )]
    );
    assert!(answer.headers["set-cookie"].is_sensitive());
}

#[tokio::test]
async fn cookie_is_set_only_when_the_id_changes() {
    let mut browser = Browser::new(&site(&Watched::shared()));
    assert_eq!(browser.get("/read").await.new_id(), None);
    assert!(browser.get("/write/x").await.new_id().is_some());
    for path in ["/read", "/write/y", "/count", "/unused", "/plain", "/whoami"] {
        assert_eq!(browser.get(path).await.new_id(), None, "{path}");
    }
    assert!(browser.get("/login/zoe").await.new_id().is_some());
    assert_eq!(browser.get("/whoami").await.new_id(), None);
    assert!(browser.get("/renew").await.new_id().is_some());
}

/// A handler may commit by itself: the layer's commit still tells the client its id.
#[tokio::test]
async fn cookie_is_set_once_if_the_handler_commits_too() {
    let store = Watched::shared();
    let mut browser = Browser::new(&site(&store));
    assert!(browser.get("/commit-early").await.new_id().is_some());
    assert_eq!(store.calls(), ["create", "update"]);
    assert_eq!(browser.text("/read").await, "early");
    assert_eq!(browser.text("/count").await, "8");
}

#[tokio::test]
async fn only_logout_removes_the_cookie_and_only_if_it_was_sent() {
    let store = Watched::shared();
    let site = site(&store);
    let removal = "__Host-session=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0; \
                   Expires=Thu, 01 Jan 1970 00:00:00 GMT";
    let mut browser = Browser::new(&site);
    browser.text("/write/x").await;
    assert_eq!(browser.get("/logout").await.all("set-cookie"), [removal]);

    assert!(Browser::new(&site).get("/logout").await.new_id().is_none());
    // What is expired or made up stays, until its owner logs out.
    let mut stale = Browser::with_id(&site, &made_up());
    assert!(stale.get("/read").await.new_id().is_none());
    assert_eq!(stale.get("/logout").await.all("set-cookie"), [removal]);
}

#[tokio::test]
async fn removal_repeats_the_attributes_of_the_cookie() {
    let cookie = CookieConfig::builder()
        .name("__Secure-sid")
        .same_site(SameSite::None)
        .domain("shop.example.org")
        .path("/shop")
        .partitioned(true)
        .persistent(true)
        .build()
        .unwrap();
    let manager = SessionManager::builder(sessions(&Watched::shared()))
        .cookie(cookie)
        .build()
        .unwrap();
    let site = site_of(manager);
    let request = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let set = send(&site, request("/write/x")).await.all("set-cookie")[0].to_owned();
    let attributes =
        "; HttpOnly; SameSite=None; Partitioned; Secure; Path=/shop; Domain=shop.example.org; Max-Age=";
    let (pair, max_age) = set.split_once(attributes).unwrap();
    // The default absolute length is 8 hours; some milliseconds of it may have passed.
    assert!(["28800", "28799"].contains(&max_age), "{max_age}");

    let mut request = request("/logout");
    request.headers_mut().insert("cookie", pair.parse().unwrap());
    let removed = send(&site, request).await.all("set-cookie")[0].to_owned();
    let expires = "Expires=Thu, 01 Jan 1970 00:00:00 GMT";
    assert_eq!(removed, format!("__Secure-sid={attributes}0; {expires}"));
}

#[tokio::test]
async fn development_cookie_works_over_plain_http() {
    let manager = SessionManager::builder(sessions(&Watched::shared()))
        .cookie(CookieConfig::insecure_for_development())
        .build()
        .unwrap();
    let site = site_of(manager);
    let request = |path: &str| Request::get(format!("http://localhost{path}"));
    let answer = send(&site, request("/write/x").body(Body::empty()).unwrap()).await;
    let pair = answer.all("set-cookie")[0].split(';').next().unwrap().to_owned();
    assert!(pair.starts_with("session="));
    let request = request("/read").header("cookie", pair);
    assert_eq!(send(&site, request.body(Body::empty()).unwrap()).await.body, "x");
}

#[tokio::test]
async fn secure_cookie_is_neither_sent_nor_read_over_plain_http() {
    let store = Watched::shared();
    let site = site(&store);
    let over = |scheme: &str, path: &str, id: &str| {
        Request::get(format!("{scheme}://shop.example{path}"))
            .header("cookie", format!("__Host-session={id}"))
            .body(Body::empty())
            .unwrap()
    };
    let mut browser = Browser::new(&site);
    browser.text("/write/x").await;
    let id = browser.held();

    assert_eq!(send(&site, over("https", "/read", &id)).await.body, "x");
    assert_eq!(send(&site, over("http", "/read", &id)).await.body, "nothing");
    for path in ["/write/y", "/logout", "/login/zoe"] {
        let answer = send(&site, over("http", path, &id)).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.new_id(), None, "{path}");
    }
    assert_eq!(send(&site, over("https", "/read", &id)).await.body, "x");
    assert!(
        send(&site, over("https", "/login/zoe", &id))
            .await
            .new_id()
            .is_some()
    );
}

#[tokio::test]
async fn forwarded_scheme_counts_only_when_chosen() {
    let store = Watched::shared();
    let behind_proxy = SessionManager::builder(sessions(&store))
        .scheme_source(SchemeSource::XForwardedProto)
        .build()
        .unwrap();
    let (direct, behind_proxy) = (site(&store), site_of(behind_proxy));
    let request = |proto: &str| {
        let request = Request::get("/write/x").header("x-forwarded-proto", proto);
        request.body(Body::empty()).unwrap()
    };
    assert!(send(&behind_proxy, request("https")).await.new_id().is_some());
    assert_eq!(send(&behind_proxy, request("http")).await.new_id(), None);
    assert_eq!(Browser::new(&behind_proxy).get("/write/x").await.new_id(), None);
    // Anybody may write the header where no proxy does.
    assert!(send(&direct, request("http")).await.new_id().is_some());
}

#[tokio::test]
async fn several_cookie_fields_are_read_and_different_ids_refused() {
    let store = Watched::shared();
    let site = site(&store);
    let (mut ann, mut ben) = (Browser::new(&site), Browser::new(&site));
    ann.text("/write/ann").await;
    ben.text("/write/ben").await;
    let (ann, ben) = (ann.held(), ben.held());
    let read = async |fields: &[String]| {
        let mut request = Request::get("/read");
        for field in fields {
            request = request.header("cookie", field);
        }
        store.calls();
        let answer = send(&site, request.body(Body::empty()).unwrap()).await;
        (answer.body, store.calls().len())
    };
    let cookie = |id: &str| format!("__Host-session={id}");

    let whole = ["theme=dark; a=\"".to_owned(), cookie(&ann), "b=c".to_owned()];
    assert_eq!(read(&whole).await, ("ann".to_owned(), 1));
    let repeated = [format!("{0}; {0}", cookie(&ann)), cookie(&ann)];
    assert_eq!(read(&repeated).await, ("ann".to_owned(), 1));
    let beside_nonsense = [format!("__Host-session=%; {}", cookie(&ann))];
    assert_eq!(read(&beside_nonsense).await, ("ann".to_owned(), 1));
    // Neither is tried against the store.
    for different in [
        [format!("{}; {}", cookie(&ann), cookie(&ben))].as_slice(),
        &[cookie(&made_up()), cookie(&ann)],
    ] {
        assert_eq!(read(different).await, ("nothing".to_owned(), 0));
    }
    let other_case = [format!("__host-session={ann}")];
    assert_eq!(read(&other_case).await, ("nothing".to_owned(), 0));
}

#[tokio::test]
async fn session_cookie_is_set_at_most_once() {
    let site = site(&Watched::shared());
    let set = async |path| {
        let request = Browser::new(&site).request(path);
        let answer = send(&site, request).await;
        answer
            .all("set-cookie")
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    // The name is the session's alone; other names stay, in their order.
    let others = ["theme=dark", "__host-session=other", "lang=en"];
    assert_eq!(set("/own-cookies/unused").await, others);
    let with_ours = set("/own-cookies/x").await;
    assert_eq!(with_ours[..3], others);
    assert_eq!(with_ours.len(), 4);
    assert!(with_ours[3].starts_with("__Host-session=") && with_ours[3].ends_with("; Path=/"));
    assert_ne!(with_ours[3], "__Host-session=mine; Secure; Path=/");
}

/// CVE-2023-30861: a cache gave one visitor's cookie to another.
#[tokio::test]
async fn caches_are_told_of_the_session() {
    let site = site(&Watched::shared());
    let told = |answer: &Answer| {
        let all = |name| answer.all(name).join("|");
        (all("vary"), all("cache-control"))
    };
    let private = ("Cookie".to_owned(), "no-store".to_owned());
    let mut browser = Browser::new(&site);
    for path in ["/read", "/write/x", "/read", "/login/zoe", "/give-up", "/logout"] {
        assert_eq!(told(&browser.get(path).await), private, "{path}");
    }
    let nothing = (String::new(), String::new());
    for path in ["/plain", "/unused"] {
        assert_eq!(told(&browser.get(path).await), nothing, "{path}");
    }
}

#[tokio::test]
async fn caches_are_told_beside_what_the_handler_tells_them() {
    async fn page(
        session: Session,
        cache_control: &'static str,
        write: bool,
    ) -> Result<impl IntoResponse, Error> {
        session.get::<String>("value").await?;
        if write {
            session.insert("value", &"x".to_owned()).await?;
        }
        Ok(([("vary", "Accept"), ("cache-control", cache_control)], "page"))
    }
    let routes = Router::new()
        .route(
            "/private",
            get(|session| page(session, "private, max-age=60", false)),
        )
        .route(
            "/public",
            get(|session| page(session, "public, max-age=60", false)),
        )
        .route("/set", get(|session| page(session, "private, max-age=60", true)));
    let manager = SessionManager::new(sessions(&Watched::shared()));
    let site = routes.layer(SessionLayer::new(manager));
    for (path, expected) in [
        ("/private", "private, max-age=60"),
        ("/public", "no-store"),
        ("/set", "no-store"),
    ] {
        let answer = Browser::new(&site).get(path).await;
        assert_eq!(answer.all("vary"), ["Accept, Cookie"]);
        assert_eq!(answer.all("cache-control"), [expected], "{path}");
    }
}

#[tokio::test]
async fn cookie_header_is_hidden_from_debug() {
    async fn show(request: Request<Body>) -> String {
        format!("{:?}", request.headers())
    }
    let store = Watched::shared();
    let manager = SessionManager::new(sessions(&store));
    let site = Router::new()
        .route("/", get(show))
        .layer(SessionLayer::new(manager));
    let id = made_up();
    let body = Browser::with_id(&site, &id).text("/").await;
    assert!(!body.contains(&id), "{body}");
}
