//! The removal of expired records.

use std::{sync::Arc, time::Duration};

use session_core::{Error, Result, Sweeper};
use tokio::time::timeout;

use crate::{
    error::{self, Failure},
    node::{Node, nonce, read},
};

/// Records that one statement of the background task removes. While it is at work a call may have to wait for a core.
const BATCH: usize = 5;

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
        match lane.reply(nonce, statement).await {
            Ok(row) => {
                let count: i64 = read(&row, 1)?;
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

pub(crate) fn start(node: &Arc<Node>, interval: Duration, deadline: Duration) -> Sweeper {
    let node = Arc::clone(node);
    Sweeper::start(interval, move || {
        let node = Arc::clone(&node);
        async move { remove_expired(&node, BATCH, Until::ThisHour, deadline).await }
    })
}
