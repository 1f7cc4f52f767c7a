//! Whole requests through the session of tower-sessions.

use std::sync::Arc;

use session_core::async_trait;
use time::Duration;
use tower_sessions_core::{Expiry, Session, SessionStore, session::Id};

use super::{COUNTED, READ, Requests, Texts};
use crate::{
    Result,
    contest::{Contestant, Held, TTL},
    counting::{Calls, Counting},
};

/// `tower_sessions_core::Session` over one of its stores, whose sessions end after inactivity. As its `SessionManagerLayer` with
/// `always_save` it saves at the end of each request: without, who only reads would be logged out.
#[derive(Clone)]
pub struct PeerRequests {
    name: &'static str,
    open: Opener,
    /// With the calls of the store counted.
    counting: (Opener, Calls),
    texts: Texts,
}

/// What makes sessions over a store, whichever it is.
type Opener = Arc<dyn Fn(Option<Id>) -> Session + Send + Sync>;

impl PeerRequests {
    /// Sessions whose attributes are texts of `size` bytes together.
    pub fn new(name: &'static str, store: impl SessionStore, size: usize) -> Self {
        let (store, calls) = (Arc::new(store), Calls::default());
        let counting = Counting::new(Arc::clone(&store), calls.clone());
        Self {
            name,
            open: opener(store),
            counting: (opener(Arc::new(counting)), calls),
            texts: Texts::new(size),
        }
    }

    fn open(&self, id: Option<Id>) -> Session {
        (self.open)(id)
    }
}

fn opener(store: Arc<impl SessionStore>) -> Opener {
    let length = Duration::seconds(TTL.as_secs() as i64);
    Arc::new(move |id| Session::new(id, Arc::clone(&store), Some(Expiry::OnInactivity(length))))
}

fn id(held: &Held) -> Result<Id> {
    let name = held.name.as_deref().unwrap_or_default();
    name.parse().map_err(|_| "no id of tower-sessions".into())
}

#[async_trait]
impl Contestant for PeerRequests {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn create(&self) -> Result<Held> {
        let session = self.open(None);
        for (name, text) in self.texts.attributes() {
            session.insert(&name, text).await?;
        }
        session.save().await?;
        let mut held = Held::random();
        held.name = session.id().map(|id| id.to_string().into());
        Ok(held)
    }

    async fn load(&self, held: &Held) -> Result<()> {
        let session = self.open(Some(id(held)?));
        let text: Option<String> = session.get(READ).await?;
        text.ok_or("the session is not there")?;
        Ok(session.save().await?)
    }

    async fn update(&self, held: &mut Held) -> Result<()> {
        let session = self.open(Some(id(held)?));
        session.insert(READ, self.texts.any()).await?;
        Ok(session.save().await?)
    }
}

#[async_trait]
impl Requests for PeerRequests {
    async fn count_up(&self, held: &Held) -> Result<()> {
        let session = self.open(Some(id(held)?));
        let count: Option<u64> = session.get(COUNTED).await?;
        session.insert(COUNTED, count.unwrap_or(0) + 1).await?;
        Ok(session.save().await?)
    }

    async fn count(&self, held: &Held) -> Result<u64> {
        let count: Option<u64> = self.open(Some(id(held)?)).get(COUNTED).await?;
        Ok(count.unwrap_or(0))
    }

    fn counting(&self) -> Result<(Arc<dyn Requests>, Calls)> {
        let (open, calls) = self.counting.clone();
        let same = Self { open, ..self.clone() };
        Ok((Arc::new(same), calls))
    }
}
