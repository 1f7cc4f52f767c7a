//! The store of actix-session.

use std::{collections::HashMap, iter};

use actix_session::storage::{RedisSessionStore, SessionKey, SessionStore};
use session_core::async_trait;
use time::Duration;

use crate::{
    Result,
    contest::{Contestant, Held, TTL},
    peer::ATTRIBUTES,
};

/// `actix-session`'s store on Redis: one connection, which it keeps alive by itself.
pub(crate) struct Actix {
    store: RedisSessionStore,
    state: HashMap<String, String>,
    ttl: Duration,
}

impl Actix {
    /// Sessions whose attributes are texts of `size` bytes together, each as JSON within JSON, as its `Session` writes them.
    pub(crate) async fn connect(url: &str, size: usize) -> Result<Self> {
        let text = || iter::repeat_with(fastrand::alphanumeric).take(size / ATTRIBUTES);
        let attribute = |number| {
            let text: String = text().collect();
            (format!("attribute-{number}"), format!("\"{text}\""))
        };
        Ok(Self {
            store: RedisSessionStore::new(url).await?,
            state: (0..ATTRIBUTES).map(attribute).collect(),
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
        let key = self.store.save(self.state.clone(), &self.ttl).await?;
        let mut held = Held::new();
        held.name = Some(key.as_ref().into());
        Ok(held)
    }

    async fn load(&self, held: &Held) -> Result<()> {
        match self.store.load(&key(held)?).await? {
            Some(state) if state.len() == self.state.len() => Ok(()),
            _ => Err("the session is not there".into()),
        }
    }

    /// It knows no versions: what is there is replaced.
    async fn update(&self, held: &mut Held) -> Result<()> {
        let key = self.store.update(key(held)?, self.state.clone(), &self.ttl).await?;
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
