//! sqlx: one statement for each call.

use std::sync::{Mutex, PoisonError};

use session_bench::{
    Result,
    contest::{self, Contestant, Held, TTL},
    sizes::{Sizes, any},
};
use session_core::async_trait;
use session_postgres::sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool, Postgres, Row, SqlSafeStr, SqlStr,
    postgres::{PgArguments, PgQueryResult, PgRow},
    query,
    query::Query,
};
use tokio::sync::Semaphore;

/// sqlx with statements that are prepared once.
pub(crate) struct Raw {
    name: &'static str,
    source: Source,
    least: usize,
    values: Vec<Vec<u8>>,
    load: SqlStr,
    create: SqlStr,
    update: SqlStr,
    touch: SqlStr,
    delete: SqlStr,
}

/// Where connections come from.
pub(crate) enum Source {
    /// sqlx's pool as it is, which pings a connection before it gives it out and when it gets it back.
    Pool(PgPool),
    /// Nothing but the connections: there is no less than this.
    Bare(Bare),
}

/// Connections that are given out as they are.
pub(crate) struct Bare {
    free: Semaphore,
    idle: Mutex<Vec<PgConnection>>,
}

impl Bare {
    pub(crate) async fn connect(url: &str, count: u32) -> Result<Self> {
        let mut idle = Vec::new();
        for _ in 0..count {
            idle.push(PgConnection::connect(url).await?);
        }
        Ok(Self {
            free: Semaphore::new(idle.len()),
            idle: Mutex::new(idle),
        })
    }

    fn take(&self) -> Result<PgConnection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.pop().ok_or_else(|| "a connection was lost".into())
    }

    fn give_back(&self, connection: PgConnection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(connection);
    }
}

impl Raw {
    /// On a table of its own, which is made; sessions of so many bytes.
    pub(crate) async fn new(
        name: &'static str,
        source: Source,
        table: &str,
        sizes: impl Into<Sizes>,
    ) -> Result<Self> {
        let sizes = sizes.into();
        let sql = |sql: String| AssertSqlSafe(sql).into_sql_str();
        let raw = Self {
            name,
            source,
            least: sizes.least(),
            values: sizes.bytes(),
            load: sql(format!(
                "SELECT value, expires_at FROM {table} WHERE key = $1 AND expires_at > now()"
            )),
            create: sql(format!(
                "INSERT INTO {table} (key, value, version, expires_at)
                 VALUES ($1, $2, $3, now() + $4::bigint * interval '1 millisecond')"
            )),
            update: sql(format!(
                "UPDATE {table} SET value = $3, version = $4, expires_at = now() + $5::bigint * interval '1 millisecond'
                 WHERE key = $1 AND version = $2 AND expires_at > now()"
            )),
            touch: sql(format!(
                "UPDATE {table} SET expires_at = now() + $2::bigint * interval '1 millisecond'
                 WHERE key = $1 AND expires_at > now()"
            )),
            delete: sql(format!("DELETE FROM {table} WHERE key = $1")),
        };
        let table = sql(format!(
            "CREATE TABLE {table} (
                 key bytea PRIMARY KEY,
                 value bytea NOT NULL,
                 version bytea NOT NULL,
                 expires_at timestamptz NOT NULL)"
        ));
        raw.source.execute(query(table)).await?;
        Ok(raw)
    }

    /// Executes a statement that changes one row.
    async fn change(&self, query: Query<'_, Postgres, PgArguments>) -> Result<()> {
        match self.source.execute(query).await?.rows_affected() {
            1 => Ok(()),
            _ => Err("the session is not there, or has another version".into()),
        }
    }
}

impl Source {
    async fn execute(&self, query: Query<'_, Postgres, PgArguments>) -> Result<PgQueryResult> {
        Ok(match self {
            Self::Pool(pool) => query.execute(pool).await?,
            Self::Bare(bare) => {
                let _free = bare.free.acquire().await?;
                let mut connection = bare.take()?;
                let done = query.execute(&mut connection).await;
                bare.give_back(connection);
                done?
            }
        })
    }

    async fn fetch(&self, query: Query<'_, Postgres, PgArguments>) -> Result<Option<PgRow>> {
        Ok(match self {
            Self::Pool(pool) => query.fetch_optional(pool).await?,
            Self::Bare(bare) => {
                let _free = bare.free.acquire().await?;
                let mut connection = bare.take()?;
                let row = query.fetch_optional(&mut connection).await;
                bare.give_back(connection);
                row?
            }
        })
    }
}

fn millis() -> i64 {
    i64::try_from(TTL.as_millis()).unwrap_or(i64::MAX)
}

#[async_trait]
impl Contestant for Raw {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn create(&self) -> Result<Held> {
        let held = Held::random();
        let query = query(self.create.clone())
            .bind(&held.id[..])
            .bind(&any(&self.values)[..])
            .bind(&held.version[..])
            .bind(millis());
        self.change(query).await?;
        Ok(held)
    }

    async fn load(&self, held: &Held) -> Result<()> {
        let row = self
            .source
            .fetch(query(self.load.clone()).bind(&held.id[..]))
            .await?;
        let value: Option<Vec<u8>> = row.map(|row| row.try_get(0)).transpose()?;
        match value {
            Some(value) if value.len() >= self.least => Ok(()),
            _ => Err("the session is not there".into()),
        }
    }

    async fn update(&self, held: &mut Held) -> Result<()> {
        let version = contest::version();
        let query = query(self.update.clone())
            .bind(&held.id[..])
            .bind(&held.version[..])
            .bind(&any(&self.values)[..])
            .bind(&version[..])
            .bind(millis());
        self.change(query).await?;
        held.version = version;
        Ok(())
    }

    async fn touch(&self, held: &Held) -> Result<()> {
        let query = query(self.touch.clone()).bind(&held.id[..]).bind(millis());
        self.change(query).await
    }

    async fn delete(&self, held: &Held) -> Result<()> {
        self.change(query(self.delete.clone()).bind(&held.id[..])).await
    }
}
