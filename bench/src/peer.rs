//! A store of tower-sessions.

use std::collections::HashMap;

use serde_json::Value;
use session_core::async_trait;
use time::OffsetDateTime;
use tower_sessions_core::{
    SessionStore,
    session::{Id, Record},
};

use crate::{
    Result,
    contest::{Contestant, Held, TTL},
    sizes::{Sizes, any},
};

/// Attributes of a session.
pub const ATTRIBUTES: usize = 8;

/// A store of tower-sessions, whatever is behind it.
pub struct Peer<S> {
    name: &'static str,
    store: S,
    data: Vec<HashMap<String, Value>>,
}

impl<S: SessionStore> Peer<S> {
    /// Sessions whose attributes are texts of so many bytes together.
    pub fn new(name: &'static str, store: S, sizes: impl Into<Sizes>) -> Self {
        let attribute = |(number, text)| (format!("attribute-{number}"), Value::String(text));
        let session = |texts: Vec<String>| texts.into_iter().enumerate().map(attribute).collect();
        Self {
            name,
            store,
            data: sizes.into().texts(ATTRIBUTES).map(session).collect(),
        }
    }

    fn record(&self, id: Id) -> Record {
        Record {
            id,
            data: any(&self.data).clone(),
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
        let held = Held::random();
        self.store.create(&mut self.record(id(&held))).await?;
        Ok(held)
    }

    async fn load(&self, held: &Held) -> Result<()> {
        match self.store.load(&id(held)).await? {
            Some(record) if record.data.len() == ATTRIBUTES => Ok(()),
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
