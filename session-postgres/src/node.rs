//! The server, as this node reaches it: a pool, and the connections out of it that are at work.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use session_core::Error;
use sqlx::{Connection, PgConnection, PgPool, Postgres, pool::PoolConnection, postgres::PgRow, query::Query};
use tokio::time::{Instant, timeout};

use crate::{
    error::{self, Failure},
    sql::Statements,
};

/// After so long without work, a connection is asked whether it is still there: a firewall may have forgotten it.
const FRESH: Duration = Duration::from_secs(5);

/// The most connections that are kept at hand.
const MOST_IDLE: usize = 8;

pub(crate) type Args<'q> = Query<'q, Postgres, sqlx::postgres::PgArguments>;

/// A pool, and what is kept out of it.
///
/// A connection that is given back to the pool is pinged by it, and not there for others meanwhile: so those that are at
/// work are kept here.
pub(crate) struct Node {
    pub(crate) pool: PgPool,
    pub(crate) statements: Statements,
    pub(crate) connect: Duration,
    idle: Mutex<Vec<Idle>>,
    keep: usize,
}

struct Idle {
    connection: PoolConnection<Postgres>,
    since: Instant,
}

/// A connection for one statement at a time.
pub(crate) struct Lane {
    /// There until it is dropped.
    connection: Option<PoolConnection<Postgres>>,
    node: Arc<Node>,
    /// A statement is under way, or ended in a way that leaves the connection in doubt.
    in_doubt: bool,
}

impl Node {
    pub(crate) fn new(pool: PgPool, statements: Statements, connect: Duration) -> Self {
        // One is left to whoever shares the pool.
        let keep = (pool.options().get_max_connections() as usize).saturating_sub(1);
        Self {
            pool,
            statements,
            connect,
            idle: Mutex::new(Vec::new()),
            keep: keep.min(MOST_IDLE),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) async fn lane(self: &Arc<Self>) -> Result<Lane, Error> {
        loop {
            // The one that worked last: its caches are warm, and the others may be given back.
            let Some(Idle { connection, since }) = self.idle().pop() else {
                break;
            };
            let mut lane = Lane::new(self, connection);
            if since.elapsed() < FRESH || lane.is_there().await {
                return Ok(lane);
            }
        }
        match timeout(self.connect, self.pool.acquire()).await {
            Ok(Ok(connection)) => Ok(Lane::new(self, connection)),
            Ok(Err(error)) => Err(error::of_connection(error)),
            Err(_) => Err(error::unavailable(format!(
                "no connection within {:?}: the server does not answer, or all {} connections of the pool are in use",
                self.connect,
                self.pool.options().get_max_connections()
            ))),
        }
    }

    /// Gives what is at hand up: when one connection breaks, the others are rarely whole.
    fn give_up_idle(&self) {
        let idle = std::mem::take(&mut *self.idle());
        for Idle { connection, .. } in idle {
            drop(connection.detach());
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Back to the pool, which may be somebody else's; without a runtime, closed.
        if tokio::runtime::Handle::try_current().is_err() {
            self.give_up_idle();
        }
    }
}

impl Lane {
    fn new(node: &Arc<Node>, connection: PoolConnection<Postgres>) -> Self {
        Self {
            connection: Some(connection),
            node: Arc::clone(node),
            in_doubt: false,
        }
    }

    pub(crate) fn node(&self) -> Arc<Node> {
        Arc::clone(&self.node)
    }

    fn connection(&mut self) -> Result<&mut PgConnection, Failure> {
        match &mut self.connection {
            Some(connection) => Ok(connection),
            None => Err(error::out_of_step()),
        }
    }

    async fn is_there(&mut self) -> bool {
        self.in_doubt = true;
        let Ok(connection) = self.connection() else {
            return false;
        };
        let answer = timeout(Duration::from_millis(100), connection.ping()).await;
        self.in_doubt = !matches!(answer, Ok(Ok(())));
        !self.in_doubt
    }

    /// The rows of a statement whose first parameter is `nonce`, which is also the first column of each row: a reply
    /// that belongs to another statement has another one.
    pub(crate) async fn rows(&mut self, nonce: i64, statement: Args<'_>) -> Result<Vec<PgRow>, Failure> {
        use sqlx::Row;
        self.in_doubt = true;
        let answer = statement.fetch_all(self.connection()?).await;
        let rows = match answer {
            Ok(rows) => rows,
            Err(error) => {
                let failure = error::of(error);
                match failure {
                    Failure::Lost(_) => self.node.give_up_idle(),
                    Failure::Refused(_) | Failure::Busy => self.in_doubt = false,
                }
                return Err(failure);
            }
        };
        let is_ours = |row: &PgRow| row.try_get::<i64, _>(0).is_ok_and(|seen| seen == nonce);
        if rows.is_empty() || !rows.iter().all(is_ours) {
            tracing::error!("a reply belongs to another statement");
            return Err(error::out_of_step());
        }
        self.in_doubt = false;
        Ok(rows)
    }

    /// What was read from a row makes no sense: the connection is not used again.
    pub(crate) fn distrust(&mut self) {
        self.in_doubt = true;
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if self.in_doubt {
            // Closes the socket. What was under way may still be executed.
            drop(connection.detach());
            return;
        }
        let mut idle = self.node.idle();
        if idle.len() < self.node.keep {
            idle.push(Idle {
                connection,
                since: Instant::now(),
            });
        } else {
            drop(idle);
            // To the pool.
            drop(connection);
        }
    }
}

/// A number that no other statement has.
pub(crate) fn nonce() -> i64 {
    fastrand::i64(..)
}
