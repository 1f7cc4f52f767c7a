//! The table, behind the store's back: as the suite looks into it, and as another program uses it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use session_conformance::{BoxError, Deed, Raw, Rival, Scope, Transaction, async_trait};
use session_core::{SessionKey, head};
use session_sqlite::sqlx::{self, Row, Sqlite, SqlitePool};

pub(crate) struct Behind(SqlitePool);

impl Behind {
    pub(crate) fn new(pool: SqlitePool) -> Self {
        Self(pool)
    }
}

/// An end in milliseconds since 1970, and its hour.
fn end(from_now: Duration) -> Result<(i64, i64), BoxError> {
    let end = SystemTime::now().duration_since(UNIX_EPOCH)? + from_now;
    let millis = i64::try_from(end.as_millis())?;
    Ok((millis, millis.div_euclid(3_600_000) + 1))
}

#[async_trait]
impl Raw for Behind {
    async fn plant(&self, key: &SessionKey, value: &[u8]) -> Result<(), BoxError> {
        let (end, hour) = end(Duration::from_secs(120))?;
        sqlx::query(
            "INSERT INTO sessions (key, value, expires_at, sweep) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (key) DO UPDATE SET value = ?2",
        )
        .bind(&key.as_bytes()[..])
        .bind(value)
        .bind(end)
        .bind(hour)
        .execute(&self.0)
        .await?;
        Ok(())
    }

    async fn read(&self, key: &SessionKey) -> Result<Option<Vec<u8>>, BoxError> {
        let query = sqlx::query_scalar("SELECT value FROM sessions WHERE key = ?").bind(&key.as_bytes()[..]);
        Ok(query.fetch_optional(&self.0).await?)
    }

    async fn dump(&self) -> Result<Vec<u8>, BoxError> {
        let rows = sqlx::query("SELECT key, value, coalesce(subject, x'') FROM sessions")
            .fetch_all(&self.0)
            .await?;
        let mut all = Vec::new();
        for row in rows {
            for at in 0..3 {
                all.extend(row.try_get::<Vec<u8>, _>(at)?);
            }
        }
        Ok(all)
    }
}

#[async_trait]
impl Rival for Behind {
    fn locks(&self) -> Scope {
        Scope::Store
    }

    async fn begin(&self, deeds: &[(SessionKey, Deed)]) -> Result<Box<dyn Transaction>, BoxError> {
        let only_looks = deeds.iter().all(|(_, deed)| *deed == Deed::Look);
        let begin = if only_looks { "BEGIN" } else { "BEGIN IMMEDIATE" };
        let mut transaction = self.0.begin_with(begin).await?;
        for (key, deed) in deeds {
            let key_bytes = &key.as_bytes()[..];
            let query = match deed {
                Deed::Lock | Deed::Look => {
                    sqlx::query("SELECT 1 FROM sessions WHERE key = ?").bind(key_bytes)
                }
                Deed::Expire | Deed::Extend => {
                    let length = if *deed == Deed::Expire { 0 } else { 3600 };
                    let (end, hour) = end(Duration::from_secs(length))?;
                    sqlx::query("UPDATE sessions SET expires_at = ?, sweep = ? WHERE key = ?")
                        .bind(end)
                        .bind(hour)
                        .bind(key_bytes)
                }
                Deed::Delete => sqlx::query("DELETE FROM sessions WHERE key = ?").bind(key_bytes),
                Deed::Replace { record, version } => {
                    sqlx::query("UPDATE sessions SET value = ?, subject = ? WHERE key = ?")
                        .bind(head::seal("rival", key, *version, record)?)
                        .bind(record.subject.as_ref().map(|subject| subject.digest().to_vec()))
                        .bind(key_bytes)
                }
                other => return Err(format!("not known here: {other:?}").into()),
            };
            query.fetch_all(&mut *transaction).await?;
        }
        Ok(Box::new(Begun(transaction)))
    }
}

struct Begun(sqlx::Transaction<'static, Sqlite>);

#[async_trait]
impl Transaction for Begun {
    async fn commit(self: Box<Self>) -> Result<(), BoxError> {
        Ok(self.0.commit().await?)
    }

    async fn roll_back(self: Box<Self>) -> Result<(), BoxError> {
        Ok(self.0.rollback().await?)
    }
}
