//! A store of this repository.

use session_core::{Record, SessionKey, SessionStore, Version, async_trait};

use crate::{
    Result,
    contest::{Contestant, Held, TOUCH_EVERY, TTL},
    sizes::{Sizes, any},
};

/// A store of this repository, whatever is behind it.
pub struct Ours<S> {
    name: &'static str,
    store: S,
    data: Vec<Vec<u8>>,
    least: usize,
}

impl<S: SessionStore> Ours<S> {
    /// Sessions of so many bytes.
    pub fn new(name: &'static str, store: S, sizes: impl Into<Sizes>) -> Self {
        let sizes = sizes.into();
        Self {
            name,
            store,
            data: sizes.bytes(),
            least: sizes.least(),
        }
    }
}

impl<S> Ours<S> {
    /// With bytes of its own, as a codec makes them: a store in memory keeps what it is given.
    fn record(&self) -> Record {
        Record::new(any(&self.data).clone())
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
        let mut held = Held::random();
        let version = self.store.create(&key(&held), &self.record(), TTL).await?;
        held.version = *version.as_bytes();
        Ok(held)
    }

    async fn load(&self, held: &Held) -> Result<()> {
        match self.store.load(&key(held)).await? {
            Some(stored) if stored.record.data.len() >= self.least => Ok(()),
            _ => Err("the session is not there".into()),
        }
    }

    async fn update(&self, held: &mut Held) -> Result<()> {
        let expected = Version::from_bytes(held.version);
        let version = self
            .store
            .update(&key(held), expected, &self.record(), TTL)
            .await?;
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
