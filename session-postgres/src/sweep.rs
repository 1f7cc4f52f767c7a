//! The removal of expired records.

use std::{sync::Arc, time::Duration};

use session_core::{Error, Result, Sweeper};
use tokio::time::timeout;

use crate::{
    error::{self, Failure},
    node::{Args, Node, nonce, read},
};

/// Records that one statement of the background task removes. While it is at work a call may have to wait for a core.
pub(crate) const BATCH: usize = 20;

/// Removes what ended by now, among the live records that end in this hour: at most so many.
pub(crate) async fn remove_expired(node: &Arc<Node>, max: usize, deadline: Duration) -> Result<usize> {
    let max = i64::try_from(max).unwrap_or(i64::MAX);
    let asked = |nonce| {
        sqlx::query(node.statements.sweep.clone())
            .bind(nonce)
            .bind(0_i32)
            .bind(max)
    };
    run(node, asked, deadline).await
}

async fn run(
    node: &Arc<Node>,
    statement: impl Fn(i64) -> Args<'static>,
    deadline: Duration,
) -> Result<usize> {
    let one = async {
        let mut lane = node.lane().await?;
        let nonce = nonce();
        match lane.reply(nonce, statement(nonce)).await {
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

/// Removes what ended before this hour, again and again: no live record is looked at.
pub(crate) fn start(node: &Arc<Node>, interval: Duration, deadline: Duration) -> Sweeper {
    let node = Arc::clone(node);
    Sweeper::start(interval, move || {
        let node = Arc::clone(&node);
        async move {
            let asked = |nonce| {
                sqlx::query(node.statements.sweep_batch.clone())
                    .bind(nonce)
                    .bind(1_i32)
            };
            run(&node, asked, deadline).await
        }
    })
}
