//! The client of memcached: one command for each call.

use session_bench::{
    Result,
    contest::{Contestant, Held, TTL},
    sizes::{Sizes, any},
};
use session_core::async_trait;
use session_memcached::memcache::exp::{
    AsyncMetaClient, Delete, Get, GetStatus, Meta, MutationResult, MutationStatus, Set,
};

/// The client that session-memcached uses, asked for the same.
pub(crate) struct Raw {
    name: &'static str,
    client: AsyncMetaClient,
    least: usize,
    values: Vec<Vec<u8>>,
    ttl: u32,
}

impl Raw {
    /// Sessions of so many bytes, and as many connections as there are calls at once, up to `connections`.
    pub(crate) async fn connect(
        name: &'static str,
        address: &str,
        connections: usize,
        sizes: impl Into<Sizes>,
    ) -> Result<Self> {
        let sizes = sizes.into();
        let client = AsyncMetaClient::builder()
            .max_idle(connections)
            .max_connections(Some(connections))
            .connect_async(address)
            .await?;
        Ok(Self {
            name,
            client,
            least: sizes.least(),
            values: sizes.bytes(),
            ttl: u32::try_from(TTL.as_secs())?,
        })
    }

    fn keep(&self, held: &mut Held, written: &MutationResult) -> Result<()> {
        applied(written)?;
        let cas = written.cas.ok_or("no CAS value")?;
        held.version[..8].copy_from_slice(&cas.to_le_bytes());
        Ok(())
    }
}

fn name(held: &Held) -> String {
    held.id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn cas(held: &Held) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&held.version[..8]);
    u64::from_le_bytes(bytes)
}

fn applied(result: &MutationResult) -> Result<()> {
    match result.status {
        MutationStatus::Applied => Ok(()),
        _ => Err("the session is not there, or has another version".into()),
    }
}

#[async_trait]
impl Contestant for Raw {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn create(&self) -> Result<Held> {
        let mut held = Held::random();
        let set = Set::new(name(&held), any(&self.values))
            .ttl_raw(self.ttl)
            .return_cas()
            .add();
        let written = self.client.run(set).await?;
        self.keep(&mut held, &written)?;
        Ok(held)
    }

    async fn load(&self, held: &Held) -> Result<()> {
        let seen = self
            .client
            .run(Get::new(name(held)).meta(Meta::NONE.cas().ttl()))
            .await?;
        match seen.value {
            Some(value) if value.len() >= self.least => Ok(()),
            _ => Err("the session is not there".into()),
        }
    }

    async fn update(&self, held: &mut Held) -> Result<()> {
        let set = Set::new(name(held), any(&self.values))
            .ttl_raw(self.ttl)
            .return_cas()
            .compare_cas(cas(held));
        let written = self.client.run(set).await?;
        self.keep(held, &written)
    }

    async fn touch(&self, held: &Held) -> Result<()> {
        let get = Get::new(name(held)).without_value().touch_raw(self.ttl);
        match self.client.run(get).await?.status {
            GetStatus::Hit => Ok(()),
            _ => Err("the session is not there".into()),
        }
    }

    async fn delete(&self, held: &Held) -> Result<()> {
        applied(&self.client.run(Delete::new(name(held))).await?)
    }
}
