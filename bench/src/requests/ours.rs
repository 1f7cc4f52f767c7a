//! Whole requests through [`Session`].

use std::sync::Arc;

use session_core::{ClientAction, Lengths, Session, SessionId, SessionStore, Sessions, async_trait};

use super::{COUNTED, READ, Requests, Texts};
use crate::{
    Result,
    contest::{Contestant, Held, TOUCH_EVERY, TTL},
    counting::{Calls, Counting},
};

/// [`Sessions`] over a store of this repository.
pub struct OurRequests {
    name: &'static str,
    sessions: Sessions,
    texts: Texts,
}

impl OurRequests {
    /// Sessions whose attributes are texts of `size` bytes together.
    ///
    /// # Errors
    ///
    /// The store cannot keep a session as long as a run may last.
    pub fn new(name: &'static str, store: Arc<dyn SessionStore>, size: usize) -> Result<Self> {
        Self::over(name, store, Texts::new(size))
    }

    fn over(name: &'static str, store: Arc<dyn SessionStore>, texts: Texts) -> Result<Self> {
        // Both ends are behind the run's.
        let lengths = Lengths::new(TTL, 2 * TTL);
        let sessions = Sessions::builder(store).lengths(lengths).build()?;
        Ok(Self {
            name,
            sessions,
            texts,
        })
    }

    fn open(&self, held: &Held) -> Result<Session> {
        Ok(self.sessions.open(Some(id(held)?)))
    }
}

fn id(held: &Held) -> Result<SessionId> {
    Ok(held.name.as_deref().unwrap_or_default().parse()?)
}

/// The end of a request. What need not delay the response is part of it here: it costs the store the same.
async fn commit(session: &Session) -> Result<ClientAction> {
    let committed = session.commit().await?;
    if let Some(upkeep) = committed.upkeep {
        upkeep.run().await;
    }
    Ok(committed.client)
}

#[async_trait]
impl Contestant for OurRequests {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn create(&self) -> Result<Held> {
        let session = self.sessions.open(None);
        for (name, text) in self.texts.attributes() {
            session.insert(&name, &text.to_owned()).await?;
        }
        match commit(&session).await? {
            ClientAction::Store { id, .. } => {
                let mut held = Held::random();
                held.name = Some(id.expose().as_str().into());
                Ok(held)
            }
            _ => Err("a new session has no id".into()),
        }
    }

    async fn load(&self, held: &Held) -> Result<()> {
        let session = self.open(held)?;
        let text: Option<String> = session.get(READ).await?;
        text.ok_or("the session is not there")?;
        commit(&session).await?;
        // No session of a run is old enough to be touched by itself as often as one whose visitor asks once a second.
        if fastrand::u32(..TOUCH_EVERY) == 0 {
            let key = id(held)?.key(self.sessions.namespace());
            self.sessions.store().touch(&key, TTL).await?;
        }
        Ok(())
    }

    async fn update(&self, held: &mut Held) -> Result<()> {
        let session = self.open(held)?;
        session.insert(READ, &self.texts.any().to_owned()).await?;
        commit(&session).await?;
        Ok(())
    }
}

#[async_trait]
impl Requests for OurRequests {
    async fn count_up(&self, held: &Held) -> Result<()> {
        let session = self.open(held)?;
        session
            .update(COUNTED, |count: Option<u64>| count.unwrap_or(0) + 1)
            .await?;
        commit(&session).await?;
        Ok(())
    }

    async fn count(&self, held: &Held) -> Result<u64> {
        let count: Option<u64> = self.open(held)?.get(COUNTED).await?;
        Ok(count.unwrap_or(0))
    }

    fn counting(&self) -> Result<(Arc<dyn Requests>, Calls)> {
        let calls = Calls::default();
        let store = Counting::new(Arc::clone(self.sessions.store()), calls.clone());
        let same = Self::over(self.name, Arc::new(store), self.texts.clone())?;
        Ok((Arc::new(same), calls))
    }
}
