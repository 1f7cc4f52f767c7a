//! A store of this repository.

use session_core::{Record, SessionKey, SessionStore, Version, async_trait};

use crate::{
    Result,
    contest::{Contestant, Held, TOUCH_EVERY, TTL},
};

/// A store of this repository, whatever is behind it.
pub(crate) struct Ours<S> {
    name: &'static str,
    store: S,
    record: Record,
}

impl<S: SessionStore> Ours<S> {
    /// Sessions of `size` bytes.
    pub(crate) fn new(name: &'static str, store: S, size: usize) -> Self {
        let mut data = vec![0; size];
        fastrand::fill(&mut data);
        Self {
            name,
            store,
            record: Record::new(data),
        }
    }
}

fn key(held: &Held) -> SessionKey {
    SessionKey::from_bytes(held.id)
}

#[async_trait]
impl<S: SessionStore> Contestant for Ours<S> {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn create(&self) -> Result<Held> {
        let mut held = Held::new();
        let version = self.store.create(&key(&held), &self.record, TTL).await?;
        held.version = *version.as_bytes();
        Ok(held)
    }

    async fn load(&self, held: &Held) -> Result<()> {
        match self.store.load(&key(held)).await? {
            Some(stored) if stored.record.data.len() == self.record.data.len() => Ok(()),
            _ => Err("the session is not there".into()),
        }
    }

    async fn update(&self, held: &mut Held) -> Result<()> {
        let expected = Version::from_bytes(held.version);
        let version = self.store.update(&key(held), expected, &self.record, TTL).await?;
        held.version = *version.as_bytes();
        Ok(())
    }

    async fn touch(&self, held: &Held) -> Result<()> {
        Ok(self.store.touch(&key(held), TTL).await?)
    }

    /// As `Session` does: it touches at most once a minute.
    async fn visit(&self, held: &Held) -> Result<()> {
        self.load(held).await?;
        match fastrand::u32(..TOUCH_EVERY) {
            0 => self.touch(held).await,
            _ => Ok(()),
        }
    }

    async fn delete(&self, held: &Held) -> Result<()> {
        match self.store.delete(&key(held), None).await? {
            true => Ok(()),
            false => Err("the session is not there".into()),
        }
    }
}
