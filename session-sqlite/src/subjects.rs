//! The sessions of a subject.

use session_core::{Result, SessionKey, Subject, Subjects, async_trait};
use sqlx::Row;
use tokio::time::{Instant, timeout_at};

use crate::{
    SqliteStore,
    carry::{Answer, Call},
    error::{self, Failure},
    node::{READERS, pause},
    store::now,
};

#[async_trait]
impl Subjects for SqliteStore {
    async fn list(&self, subject: &Subject) -> Result<Vec<SessionKey>> {
        let deadline = Instant::now() + self.read;
        let Ok(Ok(_place)) = timeout_at(deadline, self.node.lists.acquire()).await else {
            return Err(error::unavailable(format!(
                "not begun within {:?}: {READERS} other lists are under way",
                self.read
            )));
        };
        let listed = async {
            loop {
                let mut lane = self.node.reader().await?;
                let query = sqlx::query(self.node.statements.list.clone())
                    .bind(subject.digest().to_vec())
                    .bind(now());
                match lane.rows(query).await {
                    Ok(rows) => {
                        lane.keep();
                        let keys = rows.iter().map(|row| row.try_get::<Vec<u8>, _>(0));
                        // A key of another length is none of ours.
                        let ours = keys.filter_map(|key| <[u8; 32]>::try_from(key.ok()?).ok());
                        return Ok(ours.map(SessionKey::from_bytes).collect());
                    }
                    Err(Failure::Busy) => {
                        lane.keep();
                        pause().await;
                    }
                    Err(failure) => return Err(failure.into()),
                }
            }
        };
        timeout_at(deadline, listed)
            .await
            .unwrap_or_else(|_| Err(error::unavailable(format!("not ended within {:?}", self.read))))
    }

    /// In one transaction: nobody sees some of them gone and others not.
    async fn delete_all(&self, subject: &Subject, except: Option<&SessionKey>) -> Result<u64> {
        let call = Call::DeleteAll {
            subject: subject.digest(),
            except: except.copied(),
        };
        match self.calls.write(call, self.write).await? {
            Answer::Count(count) => Ok(count),
            Answer::Verdict(_) => Err(error::unavailable("an answer belongs to another call")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use session_core::ErrorKind;

    use super::*;

    #[tokio::test]
    async fn list_that_finds_no_place_says_so() {
        let folder = std::env::temp_dir().join(format!("session-sqlite-lists-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let length = Duration::from_millis(250);
        let store = SqliteStore::builder(folder.join("s.db"))
            .read_deadline(length)
            .build()
            .unwrap();
        store.ready().await.unwrap();
        let subject = Subject::new("ada").unwrap();
        let others = store
            .node
            .lists
            .acquire_many(u32::try_from(READERS).unwrap())
            .await
            .unwrap();
        let late = store.list(&subject).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Unavailable);
        assert!(late.to_string().contains("other lists"), "{late}");
        drop(others);
        assert_eq!(store.list(&subject).await.unwrap(), []);
        drop(store);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
