//! The pages, by each means.

use std::{iter, sync::Arc};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use session_bench::peer::ATTRIBUTES;
use session_http::SessionLayer;
use tower_sessions::{Expiry, SessionManagerLayer, SessionStore};

use super::variant::Idle;

/// Stores the attributes of a new session.
pub(super) const BEGIN: &str = "/begin";

/// The counter: the attribute that pages use.
const VISITS: &str = "visits";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    Read,
    Change,
}

impl Page {
    pub(crate) const ALL: [Self; 2] = [Self::Read, Self::Change];

    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Read => "/read",
            Self::Change => "/change",
        }
    }

    /// What one request is.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::Read => "the handler reads a counter in the visitor's session and answers a line of text",
            Self::Change => {
                "the handler adds one to a counter in the visitor's session, which is kept before the line is sent"
            }
        }
    }
}

/// The line that a page answers.
fn line(visits: u64) -> String {
    format!("{GREETING}{visits}\n")
}

/// What it begins with.
pub(super) const GREETING: &str = "Hello, this is visit number ";

/// The attributes beside the counter: so many that a session has `size` bytes.
/// Shared: axum copies its state for each request.
#[derive(Clone)]
pub(super) struct Texts(Arc<[(String, String)]>);

impl Texts {
    pub(super) fn new(size: usize) -> Self {
        let text = || iter::repeat_with(fastrand::alphanumeric).take(size / ATTRIBUTES);
        let attribute = |number| (format!("attribute-{number}"), text().collect());
        Self((1..ATTRIBUTES).map(attribute).collect())
    }
}

/// Without sessions.
pub(super) fn none() -> Router {
    Router::new()
        .route(BEGIN, get(async || line(1)))
        .route(Page::Read.path(), get(async || line(1)))
        .route(Page::Change.path(), get(async || line(1)))
}

/// With session-http.
pub(super) fn ours(layer: SessionLayer, texts: Texts) -> Router {
    use session_http::{Error, Session};

    async fn begin(session: Session, State(texts): State<Texts>) -> Result<String, Error> {
        for (name, text) in &*texts.0 {
            session.insert(name, text).await?;
        }
        session.insert(VISITS, &1_u64).await?;
        Ok(line(1))
    }

    async fn read(session: Session) -> Result<String, Error> {
        Ok(line(session.get(VISITS).await?.unwrap_or_default()))
    }

    async fn change(session: Session) -> Result<String, Error> {
        let visits = session.update(VISITS, |visits: Option<u64>| visits.unwrap_or_default() + 1);
        Ok(line(visits.await?))
    }

    Router::new()
        .route(BEGIN, get(begin))
        .route(Page::Read.path(), get(read))
        .route(Page::Change.path(), get(change))
        .with_state(texts)
        .layer(layer)
}

/// With tower-sessions.
pub(super) fn peer<S: SessionStore + Clone>(store: S, idle: Idle, texts: Texts) -> Router {
    use tower_sessions::{Session, session::Error};

    type Answer = Result<String, StatusCode>;

    fn failed(_: Error) -> StatusCode {
        StatusCode::INTERNAL_SERVER_ERROR
    }

    async fn begin(session: Session, State(texts): State<Texts>) -> Answer {
        for (name, text) in &*texts.0 {
            session.insert(name, text).await.map_err(failed)?;
        }
        session.insert(VISITS, 1_u64).await.map_err(failed)?;
        Ok(line(1))
    }

    async fn read(session: Session) -> Answer {
        let visits: Option<u64> = session.get(VISITS).await.map_err(failed)?;
        Ok(line(visits.unwrap_or_default()))
    }

    async fn change(session: Session) -> Answer {
        let visits: Option<u64> = session.get(VISITS).await.map_err(failed)?;
        let visits = visits.unwrap_or_default() + 1;
        session.insert(VISITS, visits).await.map_err(failed)?;
        Ok(line(visits))
    }

    let layer = SessionManagerLayer::new(store);
    let layer = match idle {
        Idle::Ignored => layer,
        Idle::Kept => layer
            .with_expiry(Expiry::OnInactivity(IDLE))
            .with_always_save(true),
    };
    Router::new()
        .route(BEGIN, get(begin))
        .route(Page::Read.path(), get(read))
        .route(Page::Change.path(), get(change))
        .with_state(texts)
        .layer(layer)
}

/// As long as session-core's.
const IDLE: time::Duration = time::Duration::minutes(30);
