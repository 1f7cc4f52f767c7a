//! The removal of expired records.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use session_core::{Error, Result, Sweeper};
use sqlx::postgres::PgRow;
use tokio::time::timeout;

use crate::{
    error::{self, Failure},
    node::{Args, Node, nonce, read},
};

/// Records that one statement of the background task removes. While it is at work a call may have to wait for a core.
const BATCH: usize = 10;

/// Records that it finds at once. What was removed stays in the index until the next vacuum, and is passed over each time
/// that somebody looks: that takes longer than to remove a batch.
const FOUND: i64 = 500;

pub(crate) async fn remove_expired(node: &Arc<Node>, max: usize, deadline: Duration) -> Result<usize> {
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let nonce = nonce();
    let statement = sqlx::query(node.statements.sweep.clone()).bind(nonce).bind(max);
    let row = ask(node, nonce, statement, deadline).await?;
    row.map_or(Ok(0), |row| count(&row))
}

pub(crate) fn start(node: &Arc<Node>, interval: Duration, deadline: Duration) -> Sweeper {
    let round = Arc::new(Round {
        node: Arc::clone(node),
        deadline,
        found: Mutex::default(),
    });
    Sweeper::start(interval, move || {
        let round = Arc::clone(&round);
        async move { round.batch().await }
    })
}

/// What the background task does, batch by batch.
struct Round {
    node: Arc<Node>,
    deadline: Duration,
    /// Where expired records were.
    found: Mutex<Vec<String>>,
}

impl Round {
    /// Removes some records. None: there are none, or others are at work on those there are.
    async fn batch(&self) -> Result<usize> {
        let mut looked = false;
        loop {
            let places = {
                let mut found = self.found();
                let rest = found.len().saturating_sub(BATCH);
                found.split_off(rest)
            };
            if places.is_empty() {
                if looked {
                    return Ok(0);
                }
                looked = true;
                let found = self.look().await?;
                *self.found() = found;
                continue;
            }
            match self.remove(places).await? {
                0 => {}
                count => return Ok(count),
            }
        }
    }

    fn found(&self) -> MutexGuard<'_, Vec<String>> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn look(&self) -> Result<Vec<String>> {
        let nonce = nonce();
        let statement = sqlx::query(self.node.statements.find_expired.clone())
            .bind(nonce)
            .bind(FOUND);
        let row = ask(&self.node, nonce, statement, self.deadline).await?;
        let places = row.map(|row| read::<Option<Vec<String>>>(&row, 1)).transpose()?;
        Ok(places.flatten().unwrap_or_default())
    }

    async fn remove(&self, places: Vec<String>) -> Result<usize> {
        let nonce = nonce();
        let statement = sqlx::query(self.node.statements.sweep_found.clone())
            .bind(nonce)
            .bind(places);
        let row = ask(&self.node, nonce, statement, self.deadline).await?;
        row.map_or(Ok(0), |row| count(&row))
    }
}

/// The one row of a statement's reply; `None`: others are at work on the same records.
async fn ask(node: &Arc<Node>, nonce: i64, statement: Args<'_>, deadline: Duration) -> Result<Option<PgRow>> {
    let one = async {
        let mut lane = node.lane().await?;
        match lane.reply(nonce, statement).await {
            Ok(row) => Ok(Some(row)),
            Err(Failure::Busy) => Ok(None),
            Err(failure) => Err(Error::from(failure)),
        }
    };
    timeout(deadline, one)
        .await
        .unwrap_or_else(|_| Err(error::unavailable(format!("no reply within {deadline:?}"))))
}

fn count(row: &PgRow) -> Result<usize> {
    let count: i64 = read(row, 1)?;
    Ok(usize::try_from(count).unwrap_or(0))
}
