//! Whole requests, as the middleware of actix-session does them.

use std::{collections::HashMap, sync::Arc};

use actix_session::storage::{RedisSessionStore, SessionStore};
use session_bench::{
    Result,
    contest::{Contestant, Held, TTL},
    counting::Calls,
    requests::{COUNTED, READ, Requests, Texts},
};
use session_core::async_trait;
use time::Duration;

use super::key;

/// The calls that `actix_session::SessionMiddleware` makes at the beginning and at the end of a request, and what its
/// `Session` does between them: attributes are JSON.
#[derive(Clone)]
pub(crate) struct ActixRequests {
    store: RedisSessionStore,
    texts: Texts,
    ttl: Duration,
    calls: Calls,
}

impl ActixRequests {
    /// Sessions whose attributes are texts of `size` bytes together.
    pub(crate) async fn connect(url: &str, size: usize) -> Result<Self> {
        Ok(Self {
            store: RedisSessionStore::new(url).await?,
            texts: Texts::new(size),
            ttl: Duration::try_from(TTL)?,
            calls: Calls::default(),
        })
    }

    async fn state(&self, held: &Held) -> Result<HashMap<String, String>> {
        self.calls.count();
        let state = self.store.load(&key(held)?).await?;
        state.ok_or_else(|| "the session is not there".into())
    }

    async fn replace(&self, held: &Held, state: HashMap<String, String>) -> Result<()> {
        self.calls.count();
        self.store.update(key(held)?, state, &self.ttl).await?;
        Ok(())
    }
}

fn number(state: &HashMap<String, String>) -> Result<u64> {
    let count = state.get(COUNTED).map(|json| serde_json::from_str(json));
    Ok(count.transpose()?.unwrap_or(0))
}

#[async_trait]
impl Contestant for ActixRequests {
    fn name(&self) -> &'static str {
        "actix-session"
    }

    async fn create(&self) -> Result<Held> {
        let json = |(name, text)| Ok((name, serde_json::to_string(text)?));
        let state = self.texts.attributes().map(json).collect::<Result<_>>()?;
        let key = self.store.save(state, &self.ttl).await?;
        let mut held = Held::random();
        held.name = Some(key.as_ref().into());
        Ok(held)
    }

    async fn load(&self, held: &Held) -> Result<()> {
        let state = self.state(held).await?;
        let json = state.get(READ).ok_or("the attribute is not there")?;
        serde_json::from_str::<String>(json)?;
        self.calls.count();
        Ok(self.store.update_ttl(&key(held)?, &self.ttl).await?)
    }

    async fn update(&self, held: &mut Held) -> Result<()> {
        let mut state = self.state(held).await?;
        state.insert(READ.to_owned(), serde_json::to_string(self.texts.any())?);
        self.replace(held, state).await
    }
}

#[async_trait]
impl Requests for ActixRequests {
    async fn count_up(&self, held: &Held) -> Result<()> {
        let mut state = self.state(held).await?;
        let next = number(&state)? + 1;
        state.insert(COUNTED.to_owned(), next.to_string());
        self.replace(held, state).await
    }

    async fn count(&self, held: &Held) -> Result<u64> {
        number(&self.state(held).await?)
    }

    fn counting(&self) -> Result<(Arc<dyn Requests>, Calls)> {
        Ok((Arc::new(self.clone()), self.calls.clone()))
    }
}
