//! The shop in this process, on stores that fail, and what becomes of text that others wrote.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode, header},
};
use session_core::{
    Error, ErrorKind, MemoryStore, Record, Result, SessionKey, SessionStore, StoreProfile, Stored, Subjects,
    Sweep, Version,
};
use shop::mode::Mode;
use tower::ServiceExt;

/// A memory store that can be told to fail.
#[derive(Debug)]
struct Failing {
    store: MemoryStore,
    profile: StoreProfile,
    /// Loads fail.
    reads: AtomicBool,
    /// Writes fail.
    writes: AtomicBool,
    /// Somebody logs the session out just before it is written.
    logout: AtomicBool,
    /// Loads meet something unreadable.
    corrupt: AtomicBool,
}

impl Failing {
    fn new() -> Arc<Self> {
        let store = MemoryStore::new();
        Arc::new(Self {
            // Without capabilities: this store indexes no subjects.
            profile: StoreProfile::new("failing"),
            store,
            reads: AtomicBool::default(),
            writes: AtomicBool::default(),
            logout: AtomicBool::default(),
            corrupt: AtomicBool::default(),
        })
    }

    fn fail(flag: &AtomicBool, kind: ErrorKind) -> Result<()> {
        if flag.load(Ordering::SeqCst) {
            return Err(Error::new(kind, "failing"));
        }
        Ok(())
    }
}

#[async_trait]
impl SessionStore for Failing {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        Self::fail(&self.writes, ErrorKind::Unavailable)?;
        self.store.create(key, record, ttl).await
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        Self::fail(&self.reads, ErrorKind::Unavailable)?;
        Self::fail(&self.corrupt, ErrorKind::Corrupt)?;
        self.store.load(key).await
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        Self::fail(&self.writes, ErrorKind::Unavailable)?;
        if self.logout.load(Ordering::SeqCst) {
            self.store.delete(key, None).await?;
        }
        self.store.update(key, expected, record, ttl).await
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.store.touch(key, ttl).await
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        Self::fail(&self.writes, ErrorKind::Unavailable)?;
        self.store.delete(key, expected).await
    }

    fn profile(&self) -> &StoreProfile {
        &self.profile
    }

    fn subjects(&self) -> Option<&dyn Subjects> {
        None
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        None
    }
}

struct Answer {
    status: StatusCode,
    set_cookie: Option<String>,
    body: String,
}

async fn send(shop: &Router, request: Request<Body>) -> Answer {
    let response = shop.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    let status = response.status();
    let set_cookie = response.headers().get(header::SET_COOKIE);
    let set_cookie = set_cookie.map(|value| value.to_str().unwrap().to_owned());
    let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    Answer {
        status,
        set_cookie,
        body,
    }
}

async fn get(shop: &Router, path: &str, cookie: &str) -> Answer {
    let request = Request::get(path)
        .header(header::COOKIE, cookie)
        .body(Body::empty())
        .unwrap();
    send(shop, request).await
}

async fn post(shop: &Router, path: &str, cookie: &str, form: &str) -> Answer {
    let request = Request::post(path)
        .header(header::COOKIE, cookie)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(form.to_owned()))
        .unwrap();
    send(shop, request).await
}

/// `session=ID` of a visitor with one mug.
async fn begin(shop: &Router) -> String {
    let answer = post(shop, "/cart/add", "", "product=mug").await;
    let set_cookie = answer.set_cookie.unwrap();
    set_cookie.split(';').next().unwrap().to_owned()
}

/// `csrf_token=TOKEN`, as the forms of a user have it.
async fn token(shop: &Router, cookie: &str) -> String {
    let page = get(shop, "/", cookie).await.body;
    let (_, rest) = page.split_once("name=\"csrf_token\" value=\"").unwrap();
    format!("csrf_token={}", rest.split('"').next().unwrap())
}

#[tokio::test]
async fn store_that_is_down_is_a_page_to_try_again_and_the_cookie_stays() {
    let store = Failing::new();
    let shop = shop::shop(store.clone(), &Mode::stored(), false).unwrap();
    let cookie = begin(&shop).await;

    store.reads.store(true, Ordering::SeqCst);
    // The shop window stays open, and takes nobody for a guest.
    let list = get(&shop, "/", &cookie).await;
    assert_eq!((list.status, list.set_cookie), (StatusCode::OK, None));
    assert!(
        list.body.contains("Stoneware mug") && list.body.contains("Your cart is kept"),
        "{}",
        list.body
    );
    assert!(
        !list.body.contains("/login") && !list.body.contains("/logout"),
        "{}",
        list.body
    );
    for path in ["/cart", "/session", "/login"] {
        let page = get(&shop, path, &cookie).await;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(page.body.contains("try again"), "{}", page.body);
        assert_eq!(page.set_cookie, None);
    }
    for path in ["/cart/add", "/logout", "/logout/everywhere"] {
        let page = post(&shop, path, &cookie, "product=mug").await;
        assert_eq!(
            (page.status, page.set_cookie),
            (StatusCode::SERVICE_UNAVAILABLE, None),
            "{path}"
        );
    }
    assert_eq!(get(&shop, "/style.css", &cookie).await.status, StatusCode::OK);
    assert_eq!(
        get(&shop, "/nowhere", &cookie).await.status,
        StatusCode::NOT_FOUND
    );

    store.reads.store(false, Ordering::SeqCst);
    store.writes.store(true, Ordering::SeqCst);
    let unsaved = post(&shop, "/cart/add", &cookie, "product=mug").await;
    assert_eq!(
        (unsaved.status, unsaved.set_cookie),
        (StatusCode::SERVICE_UNAVAILABLE, None)
    );
    let login = post(&shop, "/login", &cookie, "name=ada&password=analytical+engine").await;
    assert_eq!(
        (login.status, login.set_cookie),
        (StatusCode::SERVICE_UNAVAILABLE, None)
    );

    store.writes.store(false, Ordering::SeqCst);
    let page = get(&shop, "/cart", &cookie).await;
    assert!(
        page.body.contains("value=\"1\""),
        "the cart is as it was: {}",
        page.body
    );
    assert!(page.body.contains("href=\"/login\""), "nobody is logged in");
}

#[tokio::test]
async fn unreadable_session_is_neither_replaced_nor_forgotten() {
    let store = Failing::new();
    let shop = shop::shop(store.clone(), &Mode::stored(), false).unwrap();
    let cookie = begin(&shop).await;
    store.corrupt.store(true, Ordering::SeqCst);
    let page = post(&shop, "/cart/add", &cookie, "product=mug").await;
    assert_eq!(
        (page.status, page.set_cookie),
        (StatusCode::INTERNAL_SERVER_ERROR, None)
    );
    assert!(page.body.contains("We cannot read your session"), "{}", page.body);
    store.corrupt.store(false, Ordering::SeqCst);
    assert!(get(&shop, "/cart", &cookie).await.body.contains("value=\"1\""));
}

#[tokio::test]
async fn change_after_a_logout_elsewhere_says_so() {
    let store = Failing::new();
    let shop = shop::shop(store.clone(), &Mode::stored(), false).unwrap();
    let cookie = begin(&shop).await;
    store.logout.store(true, Ordering::SeqCst);
    let page = post(&shop, "/cart/add", &cookie, "product=mug").await;
    assert_eq!((page.status, page.set_cookie), (StatusCode::CONFLICT, None));
    assert!(page.body.contains("You have been logged out"), "{}", page.body);
    assert!(page.body.contains("href=\"/login\""), "{}", page.body);
    assert!(
        get(&shop, "/session", &cookie)
            .await
            .body
            .contains("Nothing is stored about you")
    );
}

#[tokio::test]
async fn store_without_an_index_says_that_it_cannot_find_other_sessions() {
    let shop = shop::shop(Failing::new(), &Mode::stored(), false).unwrap();
    let login = post(&shop, "/login", "", "name=ada&password=analytical+engine").await;
    let cookie = login.set_cookie.unwrap().split(';').next().unwrap().to_owned();
    assert!(
        get(&shop, "/session", &cookie)
            .await
            .body
            .contains("no index of users")
    );
    let token = token(&shop, &cookie).await;
    let everywhere = post(&shop, "/logout/everywhere", &cookie, &token).await;
    assert_eq!(
        everywhere.status,
        StatusCode::NOT_IMPLEMENTED,
        "{}",
        everywhere.body
    );
    assert!(
        get(&shop, "/session", &cookie)
            .await
            .body
            .contains("<dd>Ada</dd>")
    );
}

#[tokio::test]
async fn foreign_text_is_escaped_wherever_it_is_shown() {
    const TYPED: &str = "%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E%3C%2Ftextarea%3E%26lt%3B%27";
    const ESCAPED: &str = "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;/textarea&gt;&amp;lt;'";
    let shop = shop::shop(Failing::new(), &Mode::stored(), false).unwrap();
    let cookie = begin(&shop).await;

    let login = post(
        &shop,
        "/login",
        &cookie,
        &format!("name={TYPED}&password=x&next={TYPED}"),
    )
    .await;
    assert_eq!(login.status, StatusCode::FORBIDDEN);
    assert!(
        login.body.contains(&format!("value=\"{ESCAPED}\"")),
        "{}",
        login.body
    );

    let form = format!("theme=auto&currency=eur&note={TYPED}");
    assert_eq!(
        post(&shop, "/preferences", &cookie, &form).await.status,
        StatusCode::SEE_OTHER
    );
    for path in ["/preferences", "/session"] {
        assert!(get(&shop, path, &cookie).await.body.contains(ESCAPED), "{path}");
    }
    let login = post(&shop, "/login", &cookie, "name=ada&password=analytical+engine").await;
    let cookie = login.set_cookie.unwrap().split(';').next().unwrap().to_owned();
    assert!(get(&shop, "/checkout", &cookie).await.body.contains(ESCAPED));
    let token = token(&shop, &cookie).await;
    let forged = post(&shop, "/cart/add", &cookie, &format!("csrf_token={TYPED}")).await;
    assert_eq!(forged.status, StatusCode::FORBIDDEN);

    let hostile = [
        forged,
        post(&shop, "/cart/add", &cookie, &format!("{token}&product={TYPED}")).await,
        post(
            &shop,
            "/cart/set",
            &cookie,
            &format!("{token}&product=mug&pieces={TYPED}"),
        )
        .await,
        post(
            &shop,
            "/preferences",
            &cookie,
            &format!("{token}&theme={TYPED}&currency=eur&note="),
        )
        .await,
        get(&shop, &format!("/cart?done={TYPED}"), &cookie).await,
        get(&shop, &format!("/login?next={TYPED}"), &cookie).await,
        get(&shop, &format!("/{TYPED}"), &cookie).await,
    ];
    for page in hostile {
        assert!(!page.body.contains("<script"), "{}", page.body);
    }
}
