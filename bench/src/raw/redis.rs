//! The client of Redis, on one multiplexed connection.

use redis::{Client, Script, aio::MultiplexedConnection, cmd, pipe};
use session_bench::{
    Result,
    contest::{Contestant, Held, TOUCH_EVERY, TTL, version},
    sizes::{Sizes, any},
};
use session_core::{Record, SessionKey, Version, async_trait, head};

/// What session-redis runs to replace a session that has the version expected.
const UPDATE: &str = concat!(
    include_str!("../../../session-redis/src/scripts/check.lua"),
    include_str!("../../../session-redis/src/scripts/update.lua")
);

/// The client that session-redis uses, asked for the same, by commands that are written by hand.
pub(crate) struct Raw {
    connection: MultiplexedConnection,
    update: Script,
    least: usize,
    records: Vec<Record>,
}

impl Raw {
    /// Sessions of so many bytes.
    pub(crate) async fn connect(url: &str, sizes: impl Into<Sizes>) -> Result<Self> {
        let sizes = sizes.into();
        let connection = Client::open(url)?.get_multiplexed_async_connection().await?;
        let update = Script::new(UPDATE);
        update
            .prepare_invoke()
            .load_async(&mut connection.clone())
            .await?;
        Ok(Self {
            connection,
            update,
            least: sizes.least(),
            records: sizes.bytes().into_iter().map(Record::new).collect(),
        })
    }

    /// As the script expects it.
    fn value(&self, held: &Held, version: [u8; 16]) -> Result<Vec<u8>> {
        Ok(head::seal(
            "raw",
            &key(held),
            Version::from_bytes(version),
            any(&self.records),
        )?)
    }
}

fn key(held: &Held) -> SessionKey {
    SessionKey::from_bytes(held.id)
}

fn name(held: &Held) -> String {
    format!("raw:{}", key(held))
}

fn millis() -> u64 {
    TTL.as_secs() * 1000
}

#[async_trait]
impl Contestant for Raw {
    fn name(&self) -> &'static str {
        "redis, raw"
    }

    async fn create(&self) -> Result<Held> {
        let held = Held::random();
        let written: Option<String> = cmd("SET")
            .arg(name(&held))
            .arg(self.value(&held, held.version)?)
            .arg("NX")
            .arg("PX")
            .arg(millis())
            .query_async(&mut self.connection.clone())
            .await?;
        written.map(|_| held).ok_or_else(|| "the session is there".into())
    }

    async fn load(&self, held: &Held) -> Result<()> {
        let name = name(held);
        let (value, left): (Option<Vec<u8>>, i64) = pipe()
            .cmd("GET")
            .arg(&name)
            .cmd("PTTL")
            .arg(&name)
            .query_async(&mut self.connection.clone())
            .await?;
        match value {
            Some(value) if value.len() > self.least && left > 0 => Ok(()),
            _ => Err("the session is not there".into()),
        }
    }

    async fn update(&self, held: &mut Held) -> Result<()> {
        let next = version();
        let written: (Vec<u8>,) = self
            .update
            .key(name(held))
            .arg(&held.version)
            .arg(self.value(held, next)?)
            .arg(millis())
            .arg("0")
            .invoke_async(&mut self.connection.clone())
            .await?;
        match written.0 == next {
            true => {
                held.version = next;
                Ok(())
            }
            false => Err("the session is not there, or has another version".into()),
        }
    }

    async fn touch(&self, held: &Held) -> Result<()> {
        let set: bool = cmd("PEXPIRE")
            .arg(name(held))
            .arg(millis())
            .query_async(&mut self.connection.clone())
            .await?;
        set.then_some(()).ok_or_else(|| "the session is not there".into())
    }

    async fn visit(&self, held: &Held) -> Result<()> {
        self.load(held).await?;
        match fastrand::u32(..TOUCH_EVERY) {
            0 => self.touch(held).await,
            _ => Ok(()),
        }
    }

    async fn delete(&self, held: &Held) -> Result<()> {
        let gone: bool = cmd("DEL")
            .arg(name(held))
            .query_async(&mut self.connection.clone())
            .await?;
        gone.then_some(())
            .ok_or_else(|| "the session is not there".into())
    }
}
