//! The table, behind the store's back: as the suite looks into it, and as another program uses it.

use session_conformance::{BoxError, Deed, Raw, Rival, Scope, Transaction, async_trait};
use session_core::{SessionKey, head};
use session_postgres::sqlx::{self, AssertSqlSafe, PgPool, Postgres, Row};

use super::table;

pub(crate) struct Behind {
    pool: PgPool,
    table: String,
}

impl Behind {
    pub(crate) fn new(pool: PgPool, namespace: &str) -> Self {
        let table = table(namespace);
        Self { pool, table }
    }
}

#[async_trait]
impl Raw for Behind {
    async fn plant(&self, key: &SessionKey, value: &[u8]) -> Result<(), BoxError> {
        let sql = format!(
            "INSERT INTO {0} AS s (key, value, expires_at, sweep)
             VALUES ($1, $2, now() + interval '2 minutes', ceil(extract(epoch FROM now() + interval '2 minutes') / 3600)::int)
             ON CONFLICT (key) DO UPDATE SET value = $2",
            self.table
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(&key.as_bytes()[..])
            .bind(value);
        query.execute(&self.pool).await?;
        Ok(())
    }

    async fn read(&self, key: &SessionKey) -> Result<Option<Vec<u8>>, BoxError> {
        let sql = format!("SELECT value FROM {} WHERE key = $1", self.table);
        let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(&key.as_bytes()[..]);
        Ok(query.fetch_optional(&self.pool).await?)
    }

    async fn dump(&self) -> Result<Vec<u8>, BoxError> {
        let sql = format!("SELECT key || value || coalesce(subject, '') FROM {}", self.table);
        // Prepared, so that the reply does not depend on `bytea_output`.
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.pool).await?;
        let mut all = Vec::new();
        for row in rows {
            all.extend(row.try_get::<Vec<u8>, _>(0)?);
        }
        Ok(all)
    }
}

#[async_trait]
impl Rival for Behind {
    fn locks(&self) -> Scope {
        Scope::Record
    }

    async fn begin(&self, deeds: &[(SessionKey, Deed)]) -> Result<Box<dyn Transaction>, BoxError> {
        let looks = deeds.iter().any(|(_, deed)| *deed == Deed::Look);
        let level = if looks {
            "REPEATABLE READ"
        } else {
            "READ COMMITTED"
        };
        let begin = AssertSqlSafe(format!("BEGIN ISOLATION LEVEL {level}"));
        let mut transaction = self.pool.begin_with(begin).await?;
        let table = &self.table;
        let hour =
            |time: &str| format!("expires_at = {time}, sweep = ceil(extract(epoch FROM {time}) / 3600)::int");
        for (key, deed) in deeds {
            let sql = match deed {
                Deed::Lock => format!("SELECT 1 FROM {table} WHERE key = $1 FOR UPDATE"),
                Deed::Look => format!("SELECT 1 FROM {table} WHERE key = $1"),
                Deed::Expire => format!("UPDATE {table} SET {} WHERE key = $1", hour("clock_timestamp()")),
                Deed::Extend => format!(
                    "UPDATE {table} SET {} WHERE key = $1",
                    hour("(clock_timestamp() + interval '1 hour')")
                ),
                Deed::Delete => format!("DELETE FROM {table} WHERE key = $1"),
                Deed::Replace { .. } => format!("UPDATE {table} SET value = $2, subject = $3 WHERE key = $1"),
                other => return Err(format!("not known here: {other:?}").into()),
            };
            let mut query = sqlx::query(AssertSqlSafe(sql)).bind(&key.as_bytes()[..]);
            if let Deed::Replace { record, version } = deed {
                query = query
                    .bind(head::seal("rival", key, *version, record)?)
                    .bind(record.subject.as_ref().map(|subject| subject.digest().to_vec()));
            }
            query.execute(&mut *transaction).await?;
        }
        Ok(Box::new(Begun(transaction)))
    }
}

struct Begun(sqlx::Transaction<'static, Postgres>);

#[async_trait]
impl Transaction for Begun {
    async fn commit(self: Box<Self>) -> Result<(), BoxError> {
        Ok(self.0.commit().await?)
    }

    async fn roll_back(self: Box<Self>) -> Result<(), BoxError> {
        Ok(self.0.rollback().await?)
    }
}
