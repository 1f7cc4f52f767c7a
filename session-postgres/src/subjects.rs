//! The sessions of a subject.

use std::time::Duration;

use session_core::{Result, SessionKey, Subject, Subjects, async_trait};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    PostgresStore,
    error::{self, Failure},
    node::{nonce, read},
};

#[async_trait]
impl Subjects for PostgresStore {
    async fn list(&self, subject: &Subject) -> Result<Vec<SessionKey>> {
        let deadline = Instant::now() + self.read;
        let listed = async {
            loop {
                let mut lane = self.node.lane().await?;
                let nonce = nonce();
                let statement = sqlx::query(self.node.statements.list.clone())
                    .bind(nonce)
                    .bind(subject.digest().to_vec());
                match lane.reply(nonce, statement).await {
                    Ok(row) => {
                        let keys: Option<Vec<Vec<u8>>> = read(&row, 1)?;
                        let keys = keys.unwrap_or_default().into_iter();
                        // A key of another length is none of ours.
                        let ours = keys.filter_map(|key| <[u8; 32]>::try_from(key).ok());
                        return Ok(ours.map(SessionKey::from_bytes).collect());
                    }
                    Err(Failure::Refused(error)) => return Err(error),
                    Err(_) => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        timeout_at(deadline, listed)
            .await
            .unwrap_or_else(|_| Err(error::unavailable(format!("no reply within {:?}", self.read))))
    }

    async fn delete_all(&self, subject: &Subject, except: Option<&SessionKey>) -> Result<u64> {
        // Many statements, of which each has the time of a write; all have ten times that.
        let deadline = Instant::now() + self.write * 10;
        let subject = subject.digest().to_vec();
        let except = except.map(|key| key.as_bytes().to_vec());
        let mut sum = 0_u64;
        loop {
            let one = async {
                let mut lane = self.node.lane().await?;
                let nonce = nonce();
                let statement = sqlx::query(self.node.statements.delete_all.clone())
                    .bind(nonce)
                    .bind(&subject)
                    .bind(&except);
                match lane.reply(nonce, statement).await {
                    Ok(row) => {
                        let number = |at: usize| read(&row, at).map(i64::unsigned_abs);
                        Ok((number(1)?, number(2)?))
                    }
                    Err(Failure::Busy) => Ok((0, 1)),
                    Err(failure) => Err(session_core::Error::from(failure)),
                }
            };
            let end = deadline.min(Instant::now() + self.write);
            let (deleted, seen) = timeout_at(end, one)
                .await
                .unwrap_or_else(|_| Err(error::unavailable(format!("no reply within {:?}", self.write))))?;
            sum += deleted;
            if seen == 0 {
                return Ok(sum);
            }
            if Instant::now() >= deadline {
                return Err(error::unavailable(
                    "new sessions were made as fast as they were removed, or others keep them locked",
                ));
            }
            if deleted == 0 {
                // Locked, or already gone.
                sleep(Duration::from_millis(fastrand::u64(2..10))).await;
            }
        }
    }
}
