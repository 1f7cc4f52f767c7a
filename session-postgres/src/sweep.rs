//! The removal of expired records.

use std::{sync::Arc, time::Duration};

use session_core::{Error, Result};
use sqlx::Row;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::{
    error::{self, Failure},
    node::{Node, nonce},
};

/// Records that one statement of the background task removes.
const BATCH: usize = 500;

/// Rests so many times as long as a batch took.
const REST: u32 = 4;

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    /// What ended by now, among the live records that end in this hour.
    Now,
    /// What ended before this hour: no live record is looked at.
    ThisHour,
}

pub(crate) async fn remove_expired(
    node: &Arc<Node>,
    max: usize,
    until: Until,
    deadline: Duration,
) -> Result<usize> {
    let one = async {
        let mut lane = node.lane().await?;
        let nonce = nonce();
        let statement = sqlx::query(node.statements.sweep.clone())
            .bind(nonce)
            .bind(i64::try_from(max).unwrap_or(i64::MAX))
            .bind(match until {
                Until::Now => 0_i32,
                Until::ThisHour => 1,
            });
        match lane.rows(nonce, statement).await {
            Ok(rows) => {
                let count: i64 = rows[0].try_get(1).map_err(error::of)?;
                Ok(usize::try_from(count).unwrap_or(0))
            }
            // Others are at work on the same ones.
            Err(Failure::Busy) => Ok(0),
            Err(failure) => Err(Error::from(failure)),
        }
    };
    timeout(deadline, one)
        .await
        .unwrap_or_else(|_| Err(error::unavailable(format!("no reply within {deadline:?}"))))
}

/// Removes expired records in the background: see [`PostgresStore::sweep_every`](crate::PostgresStore::sweep_every).
#[derive(Debug)]
pub struct Sweeper {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Sweeper {
    pub(crate) fn start(node: Arc<Node>, interval: Duration, deadline: Duration) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            loop {
                // Nodes that were started together do not sweep together.
                let wait = interval.mul_f64(0.75 + fastrand::f64() / 2.0);
                tokio::select! {
                    _ = stopped.changed() => return,
                    () = sleep(wait) => {}
                }
                loop {
                    let begun = Instant::now();
                    match remove_expired(&node, BATCH, Until::ThisHour, deadline).await {
                        Ok(0) => break,
                        Ok(count) => tracing::debug!(count, "expired records removed"),
                        Err(error) => {
                            tracing::warn!(%error, "expired records were not removed");
                            break;
                        }
                    }
                    tokio::select! {
                        _ = stopped.changed() => return,
                        () = sleep(begun.elapsed() * REST) => {}
                    }
                }
            }
        });
        Self { stop, task }
    }

    /// Stops, after the batch that is under way.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let _ = (&mut self.task).await;
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        // Also what the task would notice by itself; a batch that is under way ends on the server.
        let _ = self.stop.send(true);
    }
}
