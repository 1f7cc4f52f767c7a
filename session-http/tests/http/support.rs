//! A store that is watched, a site, and a browser.

use std::{
    mem::take,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::Path,
    http::{HeaderMap, Request, StatusCode},
    response::{AppendHeaders, IntoResponse, Response},
    routing::get,
};
use session_core::{
    Clock, ErrorKind, Lengths, MemoryStore, Record, Result as StoreResult, SessionId, SessionKey,
    SessionStore, Sessions, StoreProfile, Stored, Subject, Subjects, Sweep, Timestamp, Version, async_trait,
};
use session_http::{Error, Session, SessionLayer, SessionManager};
use tokio::sync::Notify;
use tower::ServiceExt;

/// The namespace of every test's sessions.
pub(crate) const NAMESPACE: &str = "session";

/// A memory store that writes down each call, can be down, and can hold a call back.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    pub(crate) memory: MemoryStore,
    calls: Mutex<Vec<&'static str>>,
    down: AtomicBool,
    /// The call whose next reply is lost.
    loses: Mutex<Option<&'static str>>,
    hold: Mutex<Option<Arc<Hold>>>,
    /// What it claims of itself, if that is not the memory store's.
    claims: Option<StoreProfile>,
}

/// A call that waits inside the store until it is let go.
#[derive(Debug)]
pub(crate) struct Hold {
    call: &'static str,
    reached: Notify,
    go_on: Notify,
}

impl Hold {
    /// Waits until the call is there. A minute without it is a call that never comes.
    pub(crate) async fn reached(&self) {
        let reached = self.reached.notified();
        let minute = Duration::from_secs(60);
        let came = tokio::time::timeout(minute, reached).await;
        assert!(came.is_ok(), "no {} came", self.call);
    }

    /// Lets the call go on, and waits until it has ended or was dropped.
    pub(crate) async fn let_go(self: Arc<Self>) {
        self.go_on.notify_one();
        while Arc::strong_count(&self) > 1 {
            tokio::task::yield_now().await;
        }
    }
}

impl Watched {
    pub(crate) fn shared() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// Over a memory store whose time a test moves.
    pub(crate) fn timed(clock: &Arc<Moved>) -> Arc<Self> {
        let memory = MemoryStore::builder().clock(clock.clone()).build().unwrap();
        Arc::new(Self {
            memory,
            ..Self::default()
        })
    }

    /// One that claims to evict.
    #[cfg(feature = "jwt")]
    pub(crate) fn evicting() -> Arc<Self> {
        let mut store = Self::default();
        let mut claims = store.memory.profile().clone();
        claims.limits.may_evict = true;
        store.claims = Some(claims);
        Arc::new(store)
    }

    /// One that claims to keep nothing for longer.
    #[cfg(feature = "jwt")]
    pub(crate) fn keeping(clock: &Arc<Moved>, longest: Duration) -> Arc<Self> {
        let memory = MemoryStore::builder().clock(clock.clone()).build().unwrap();
        let mut claims = memory.profile().clone();
        claims.limits.max_ttl = longest;
        Arc::new(Self {
            memory,
            claims: Some(claims),
            ..Self::default()
        })
    }

    /// The calls since the last time this was asked.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        take(&mut *self.calls.lock().unwrap())
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Holds the next such call back before it has done anything.
    pub(crate) fn hold(&self, call: &'static str) -> Arc<Hold> {
        let hold = Arc::new(Hold {
            call,
            reached: Notify::new(),
            go_on: Notify::new(),
        });
        *self.hold.lock().unwrap() = Some(Arc::clone(&hold));
        hold
    }

    /// Does the next such call and answers that the store is unavailable.
    pub(crate) fn lose_reply_of(&self, call: &'static str) {
        *self.loses.lock().unwrap() = Some(call);
    }

    /// What is stored under the id that a client holds.
    pub(crate) async fn record(&self, id: &str) -> Option<Stored> {
        let id: SessionId = id.parse().unwrap();
        self.memory.load(&id.key(NAMESPACE)).await.unwrap()
    }

    async fn watch<T>(
        &self,
        call: &'static str,
        work: impl Future<Output = StoreResult<T>>,
    ) -> StoreResult<T> {
        self.calls.lock().unwrap().push(call);
        let hold = self.hold.lock().unwrap().take_if(|hold| hold.call == call);
        if let Some(hold) = &hold {
            hold.reached.notify_one();
            hold.go_on.notified().await;
        }
        let unavailable =
            |detail| session_core::Error::new(ErrorKind::Unavailable, "watched").with_detail(detail);
        if self.down.load(Ordering::SeqCst) {
            return Err(unavailable("connect to 10.1.2.3:6379: refused"));
        }
        let done = work.await;
        match self.loses.lock().unwrap().take_if(|loses| *loses == call) {
            Some(_) => Err(unavailable("no reply")),
            None => done,
        }
    }
}

#[async_trait]
impl SessionStore for Watched {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> StoreResult<Version> {
        self.watch("create", self.memory.create(key, record, ttl)).await
    }

    async fn load(&self, key: &SessionKey) -> StoreResult<Option<Stored>> {
        self.watch("load", self.memory.load(key)).await
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> StoreResult<Version> {
        self.watch("update", self.memory.update(key, expected, record, ttl))
            .await
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> StoreResult<()> {
        self.watch("touch", self.memory.touch(key, ttl)).await
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> StoreResult<bool> {
        self.watch("delete", self.memory.delete(key, expected)).await
    }

    fn profile(&self) -> &StoreProfile {
        self.claims.as_ref().unwrap_or_else(|| self.memory.profile())
    }

    fn subjects(&self) -> Option<&dyn Subjects> {
        self.memory.subjects()
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        self.memory.sweep()
    }
}

/// The manager that most tests use.
pub(crate) fn manager(store: &Arc<Watched>) -> SessionManager {
    SessionManager::new(sessions(store))
}

pub(crate) fn sessions(store: &Arc<Watched>) -> Sessions {
    let store: Arc<Watched> = Arc::clone(store);
    Sessions::builder(store).namespace(NAMESPACE).build().unwrap()
}

/// A clock that a test moves.
#[derive(Debug, Default)]
pub(crate) struct Moved(Mutex<Duration>);

impl Moved {
    pub(crate) fn forward(&self, by: Duration) {
        *self.0.lock().unwrap() += by;
    }
}

impl Clock for Moved {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000).after(self.monotonic())
    }

    fn monotonic(&self) -> Duration {
        *self.0.lock().unwrap()
    }
}

/// A site whose time a test moves.
pub(crate) fn timed_site() -> (Arc<Moved>, Arc<Watched>, Router) {
    let (clock, store, manager) = timed_manager();
    (clock, store, site_of(manager))
}

/// A manager whose time a test moves.
pub(crate) fn timed_manager() -> (Arc<Moved>, Arc<Watched>, SessionManager) {
    let clock = Arc::new(Moved::default());
    let store = Watched::timed(&clock);
    let shared: Arc<dyn SessionStore> = store.clone();
    let sessions = Sessions::builder(shared)
        .namespace(NAMESPACE)
        .clock(clock.clone());
    let manager = SessionManager::new(sessions.build().unwrap());
    (clock, store, manager)
}

/// A site with the sessions of `store`.
pub(crate) fn site(store: &Arc<Watched>) -> Router {
    site_of(manager(store))
}

pub(crate) fn site_of(manager: SessionManager) -> Router {
    routes().layer(SessionLayer::new(manager))
}

pub(crate) fn routes() -> Router {
    Router::new()
        .route("/plain", get(async || "plain"))
        .route("/unused", get(async |_: Session| "unused"))
        .route("/read", get(read))
        .route("/write/{value}", get(write))
        .route("/count", get(count))
        .route("/login/{user}", get(log_in))
        .route("/remember/{user}", get(remember))
        .route("/whoami", get(who_am_i))
        .route("/renew", get(renew))
        .route("/logout", get(log_out))
        .route("/elsewhere", get(elsewhere))
        .route("/own", get(own))
        .route("/swallow", get(swallow))
        .route("/give-up", get(give_up))
        .route("/commit-early", get(commit_early))
        .route("/panic", get(panic))
        .route("/own-cookies/{value}", get(own_cookies))
}

async fn read(session: Session) -> Result<String, Error> {
    let value: Option<String> = session.get("value").await?;
    Ok(value.unwrap_or_else(|| "nothing".to_owned()))
}

async fn write(session: Session, Path(value): Path<String>) -> Result<&'static str, Error> {
    session.insert("value", &value).await?;
    Ok("written")
}

async fn count(session: Session) -> Result<String, Error> {
    let count: u32 = session.update("count", |count| count.unwrap_or(0) + 1).await?;
    Ok(count.to_string())
}

async fn log_in(session: Session, Path(user): Path<String>) -> Result<&'static str, Error> {
    session.log_in(Subject::new(user).unwrap()).await?;
    Ok("logged in")
}

/// A log-in that lasts for 30 days.
async fn remember(session: Session, Path(user): Path<String>) -> Result<&'static str, Error> {
    let days = |days: u64| Duration::from_secs(days * 24 * 3600);
    let lengths = Lengths::new(days(7), days(30));
    session.log_in_for(Subject::new(user).unwrap(), lengths).await?;
    Ok("logged in")
}

async fn who_am_i(session: Session) -> Result<String, Error> {
    let subject = session.subject().await?;
    Ok(subject.map_or_else(|| "nobody".to_owned(), |subject| subject.as_str().to_owned()))
}

async fn renew(session: Session) -> Result<&'static str, Error> {
    session.renew().await?;
    Ok("renewed")
}

async fn log_out(session: Session) -> Result<&'static str, Error> {
    session.log_out().await?;
    Ok("logged out")
}

async fn elsewhere(session: Session) -> Result<&'static str, Error> {
    session.log_out_elsewhere().await?;
    Ok("logged out elsewhere")
}

async fn own(session: Session) -> Result<String, Error> {
    Ok(session.own_sessions().await?.len().to_string())
}

/// A handler that ignores the error and goes on as if there were nothing.
async fn swallow(session: Session) -> &'static str {
    let value: Option<String> = session.get("value").await.ok().flatten();
    if value.is_some() { "something" } else { "swallowed" }
}

async fn give_up(session: Session) -> Result<&'static str, Error> {
    session.insert("value", &"given up".to_owned()).await?;
    // A name that no attribute may have.
    session.insert("", &0_u32).await?;
    Ok("not reached")
}

/// Commits by itself, as a handler that streams its body would, and changes something more.
async fn commit_early(session: Session) -> Result<&'static str, Error> {
    session.insert("value", &"early".to_owned()).await?;
    let _of_no_interest = session.commit().await?;
    session.insert("count", &7_u32).await?;
    Ok("committed")
}

async fn panic(session: Session) -> &'static str {
    session.insert("value", &"panicked".to_owned()).await.unwrap();
    panic!("the handler's own")
}

/// Sets the session's cookie twice by itself, among others.
async fn own_cookies(session: Session, Path(value): Path<String>) -> Result<Response, Error> {
    if value != "unused" {
        session.insert("value", &value).await?;
    }
    let own = AppendHeaders([
        ("set-cookie", "theme=dark"),
        ("set-cookie", "__Host-session=mine; Secure; Path=/"),
        ("set-cookie", " __Host-session = twice"),
        ("set-cookie", "__host-session=other"),
        ("set-cookie", "lang=en"),
    ]);
    Ok((own, "own").into_response())
}

/// One answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        Self {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// Every field of this name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let values = self.headers.get_all(name).into_iter();
        values.map(|value| value.to_str().unwrap()).collect()
    }

    /// The id in `Set-Cookie`, of which there is at most one.
    pub(crate) fn new_id(&self) -> Option<String> {
        let all = self.all("set-cookie");
        assert!(all.len() <= 1, "{all:?}");
        let (name, rest) = all.first()?.split_once('=').unwrap();
        assert_eq!(name, "__Host-session");
        Some(rest.split(';').next().unwrap().to_owned())
    }
}

/// A browser that keeps the session's cookie.
#[derive(Clone, Debug)]
pub(crate) struct Browser {
    pub(crate) site: Router,
    pub(crate) id: Option<String>,
}

impl Browser {
    pub(crate) fn new(site: &Router) -> Self {
        Self {
            site: site.clone(),
            id: None,
        }
    }

    pub(crate) fn with_id(site: &Router, id: &str) -> Self {
        Self {
            site: site.clone(),
            id: Some(id.to_owned()),
        }
    }

    pub(crate) fn request(&self, path: &str) -> Request<Body> {
        let mut request = Request::get(path);
        if let Some(id) = &self.id {
            request = request.header("cookie", format!("__Host-session={id}"));
        }
        request.body(Body::empty()).unwrap()
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.send(self.request(path)).await
    }

    pub(crate) async fn send(&mut self, request: Request<Body>) -> Answer {
        let answer = send(&self.site, request).await;
        match answer.new_id() {
            Some(removed) if removed.is_empty() => self.id = None,
            Some(id) => self.id = Some(id),
            None => {}
        }
        answer
    }

    /// The body of an answer that must be 200.
    pub(crate) async fn text(&mut self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.body);
        answer.body
    }

    /// The id that the browser holds.
    pub(crate) fn held(&self) -> String {
        self.id.clone().unwrap()
    }
}

/// A minute without an answer is one that never comes.
pub(crate) async fn send(site: &Router, request: Request<Body>) -> Answer {
    let response = site.clone().oneshot(request);
    let response = tokio::time::timeout(Duration::from_secs(60), response).await;
    Answer::of(response.unwrap().unwrap()).await
}

/// An id that no server issued.
pub(crate) fn made_up() -> String {
    SessionId::random().unwrap().expose().to_string()
}
