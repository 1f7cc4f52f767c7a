//! A store of tower-sessions.

use std::{collections::HashMap, iter};

use serde_json::Value;
use session_core::async_trait;
use tower_sessions_core::{
    SessionStore,
    session::{Id, Record},
};
use tower_sessions_sqlx_store::sqlx::types::time::OffsetDateTime;

use crate::{
    Result,
    contest::{Contestant, Held, TTL},
};

/// Attributes of a session.
pub(crate) const ATTRIBUTES: usize = 8;

/// A store of tower-sessions, whatever is behind it.
pub(crate) struct Peer<S> {
    name: &'static str,
    store: S,
    data: HashMap<String, Value>,
}

impl<S: SessionStore> Peer<S> {
    /// Sessions whose attributes are texts of `size` bytes together.
    pub(crate) fn new(name: &'static str, store: S, size: usize) -> Self {
        let text = || iter::repeat_with(fastrand::alphanumeric).take(size / ATTRIBUTES);
        let attribute = |number| (format!("attribute-{number}"), Value::String(text().collect()));
        Self {
            name,
            store,
            data: (0..ATTRIBUTES).map(attribute).collect(),
        }
    }

    fn record(&self, id: Id) -> Record {
        Record {
            id,
            data: self.data.clone(),
            expiry_date: OffsetDateTime::now_utc() + TTL,
        }
    }
}

/// Its ids are shorter.
fn id(held: &Held) -> Id {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&held.id[..16]);
    Id(i128::from_le_bytes(bytes))
}

#[async_trait]
impl<S: SessionStore> Contestant for Peer<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn create(&self) -> Result<Held> {
        let held = Held::new();
        self.store.create(&mut self.record(id(&held))).await?;
        Ok(held)
    }

    async fn load(&self, held: &Held) -> Result<()> {
        match self.store.load(&id(held)).await? {
            Some(record) if record.data.len() == self.data.len() => Ok(()),
            _ => Err("the session is not there".into()),
        }
    }

    /// It knows no versions: what is there is replaced, or made.
    async fn update(&self, held: &mut Held) -> Result<()> {
        Ok(self.store.save(&self.record(id(held))).await?)
    }

    /// It has no such thing: a session lives on when it is saved.
    async fn touch(&self, held: &Held) -> Result<()> {
        Ok(self.store.save(&self.record(id(held))).await?)
    }

    async fn delete(&self, held: &Held) -> Result<()> {
        Ok(self.store.delete(&id(held)).await?)
    }
}
