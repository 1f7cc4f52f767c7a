//! The store of actix-session.

mod requests;

use std::collections::HashMap;

use actix_session::storage::{RedisSessionStore, SessionKey, SessionStore};
use session_bench::{
    Result,
    contest::{Contestant, Held, TTL},
    peer::ATTRIBUTES,
    sizes::{Sizes, any},
};
use session_core::async_trait;
use time::Duration;

pub(crate) use self::requests::ActixRequests;

/// `actix-session`'s store on Redis: one connection, which it keeps alive by itself.
pub(crate) struct Actix {
    store: RedisSessionStore,
    states: Vec<HashMap<String, String>>,
    ttl: Duration,
}

impl Actix {
    /// Sessions whose attributes are texts of so many bytes together, each as JSON within JSON, as its `Session` writes them.
    pub(crate) async fn connect(url: &str, sizes: impl Into<Sizes>) -> Result<Self> {
        let attribute = |(number, text)| (format!("attribute-{number}"), format!("\"{text}\""));
        let session = |texts: Vec<String>| texts.into_iter().enumerate().map(attribute).collect();
        Ok(Self {
            store: RedisSessionStore::new(url).await?,
            states: sizes.into().texts(ATTRIBUTES).map(session).collect(),
            ttl: Duration::try_from(TTL)?,
        })
    }
}

/// It makes its own keys.
fn key(held: &Held) -> Result<SessionKey> {
    let name = held.name.as_deref().unwrap_or_default().to_owned();
    SessionKey::try_from(name).map_err(|_| "no key of actix-session".into())
}

#[async_trait]
impl Contestant for Actix {
    fn name(&self) -> &'static str {
        "actix-session"
    }

    async fn create(&self) -> Result<Held> {
        let key = self.store.save(any(&self.states).clone(), &self.ttl).await?;
        let mut held = Held::random();
        held.name = Some(key.as_ref().into());
        Ok(held)
    }

    async fn load(&self, held: &Held) -> Result<()> {
        match self.store.load(&key(held)?).await? {
            Some(state) if state.len() == ATTRIBUTES => Ok(()),
            _ => Err("the session is not there".into()),
        }
    }

    /// It knows no versions: what is there is replaced.
    async fn update(&self, held: &mut Held) -> Result<()> {
        let key = self
            .store
            .update(key(held)?, any(&self.states).clone(), &self.ttl)
            .await?;
        held.name = Some(key.as_ref().into());
        Ok(())
    }

    async fn touch(&self, held: &Held) -> Result<()> {
        Ok(self.store.update_ttl(&key(held)?, &self.ttl).await?)
    }

    async fn delete(&self, held: &Held) -> Result<()> {
        Ok(self.store.delete(&key(held)?).await?)
    }
}
