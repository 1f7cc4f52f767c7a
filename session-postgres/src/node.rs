//! The server, as this node reaches it: a pool, and the connections out of it that are at work.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use session_core::Error;
use sqlx::{
    Connection, Decode, PgConnection, PgPool, Postgres, Row, Type, pool::PoolConnection, postgres::PgRow,
    query::Query,
};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    error::{self, Failure},
    sql::Statements,
    stock::{Idle, Stock},
};

/// After so long without work, a connection is asked whether it is still there: a firewall may have forgotten it.
const FRESH: Duration = Duration::from_secs(5);

/// The most connections that are kept out of the pool.
const MOST_KEPT: usize = 8;

/// Between two tries to get another connection while there are some: the server may have as many as it takes.
const REST: Duration = Duration::from_millis(100);

pub(crate) type Args<'q> = Query<'q, Postgres, sqlx::postgres::PgArguments>;

/// A pool, and what is kept out of it.
///
/// A connection that is given back to the pool is pinged by it, and not there for others meanwhile: so those that are at
/// work are kept here.
pub(crate) struct Node {
    pub(crate) pool: PgPool,
    pub(crate) statements: Statements,
    pub(crate) connect: Duration,
    stock: Mutex<Stock>,
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
            stock: Mutex::new(Stock::new(keep.min(MOST_KEPT))),
        }
    }

    fn stock(&self) -> MutexGuard<'_, Stock> {
        self.stock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection: one at hand, or the first that is free, at work until then or out of the pool.
    pub(crate) async fn lane(self: &Arc<Self>) -> Result<Lane, Error> {
        loop {
            let found = {
                let mut stock = self.stock();
                match stock.idle() {
                    Some(idle) => Ok(idle),
                    None => {
                        let receiver = stock.wait();
                        self.grow(&mut stock);
                        Err(receiver)
                    }
                }
            };
            match found {
                Ok(Idle { connection, since }) => {
                    let mut lane = Lane::new(self, connection);
                    if since.elapsed() < FRESH || lane.is_there().await {
                        return Ok(lane);
                    }
                }
                Err(receiver) => {
                    return match timeout(self.connect, receiver).await {
                        Ok(Ok(lane)) => lane,
                        Ok(Err(_)) => Err(ended()),
                        Err(_) => Err(self.no_connection()),
                    };
                }
            }
        }
    }

    /// A connection that the node does not keep.
    pub(crate) async fn acquire(&self) -> Result<PoolConnection<Postgres>, Error> {
        match timeout(self.connect, self.pool.acquire()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(error::of_connection(error)),
            Err(_) => Err(self.no_connection()),
        }
    }

    fn no_connection(&self) -> Error {
        error::unavailable(format!(
            "no connection within {:?}: the server does not answer, or all {} connections of the pool are in use",
            self.connect,
            self.pool.options().get_max_connections()
        ))
    }

    /// Sees to it that somebody asks the pool for another one.
    fn grow(self: &Arc<Self>, stock: &mut Stock) {
        if !stock.growing {
            stock.growing = true;
            let growing = Growing {
                node: Arc::clone(self),
                is_over: false,
            };
            tokio::spawn(growing.run());
        }
    }

    /// Gives what is at hand up: when one connection breaks, the others are rarely whole.
    fn give_up_idle(&self) {
        let idle = self.stock().give_up_idle();
        for Idle { connection, .. } in idle {
            drop(connection.detach());
        }
    }

    /// Takes a connection out of the pool.
    fn take_new(self: &Arc<Self>, connection: PoolConnection<Postgres>) {
        let lane = Lane::new(self, connection);
        let left = {
            let mut stock = self.stock();
            stock.came();
            stock.hand_over(lane)
        };
        // It is free, as one that has done its work.
        drop(left);
    }

    /// Tells those who waited when `begun` that there is no connection. If some are at work, these will come back: then
    /// nobody hears of it, and the answer is no.
    fn fail(&self, begun: Instant, error: &Error) -> bool {
        let mut stock = self.stock();
        let fails = !stock.has_any();
        if fails {
            stock.fail(begun, error);
        }
        fails
    }

    /// Takes a connection that has done its work.
    fn take_back(self: &Arc<Self>, connection: PoolConnection<Postgres>) {
        let lane = Lane::new(self, connection);
        let mut stock = self.stock();
        let back = if stock.is_over() {
            stock.went();
            Some(lane)
        } else {
            let left = stock.hand_over(lane);
            if let Some(connection) = left.and_then(|mut lane| lane.connection.take()) {
                stock.keep(connection);
            }
            None
        };
        drop(stock);
        // To the pool.
        drop(back.and_then(|mut lane| lane.connection.take()));
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

/// The task that asks the pool while somebody waits. It asks for one connection at a time, which is gentle with a server
/// that has just started.
struct Growing {
    node: Arc<Node>,
    is_over: bool,
}

impl Growing {
    async fn run(mut self) {
        while self.is_wanted() {
            let begun = Instant::now();
            match self.node.acquire().await {
                Ok(connection) => self.node.take_new(connection),
                Err(error) if self.node.fail(begun, &error) => {}
                Err(_) => sleep(REST).await,
            }
        }
    }

    fn is_wanted(&mut self) -> bool {
        let mut stock = self.node.stock();
        self.is_over = !stock.is_wanted();
        stock.growing = !self.is_over;
        stock.growing
    }
}

impl Drop for Growing {
    /// With its runtime, perhaps: who waits in another one must not wait for ever.
    fn drop(&mut self) {
        if !self.is_over {
            let mut stock = self.node.stock();
            stock.growing = false;
            stock.fail(Instant::now(), &ended());
        }
    }
}

fn ended() -> Error {
    error::unavailable("the runtime has ended")
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

    /// The one row of a statement whose first parameter is `nonce`, which is also the row's first column: a reply that
    /// belongs to another statement has another one.
    pub(crate) async fn reply(&mut self, nonce: i64, statement: Args<'_>) -> Result<PgRow, Failure> {
        self.in_doubt = true;
        let answer = statement.fetch_all(self.connection()?).await;
        let mut rows = match answer {
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
        let row = rows.pop().filter(|_| rows.is_empty());
        let ours = row.filter(|row| read(row, 0).is_ok_and(|seen: i64| seen == nonce));
        let Some(row) = ours else {
            tracing::error!("a reply belongs to another statement");
            return Err(error::out_of_step());
        };
        self.in_doubt = false;
        Ok(row)
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
            self.node.stock().went();
            // Closes the socket. What was under way may still be executed.
            drop(connection.detach());
        } else {
            self.node.take_back(connection);
        }
    }
}

/// A column of a reply.
pub(crate) fn read<'r, T>(row: &'r PgRow, column: usize) -> Result<T, Failure>
where
    T: Decode<'r, Postgres> + Type<Postgres>,
{
    row.try_get(column).map_err(error::of)
}

/// A number that no other statement has.
pub(crate) fn nonce() -> i64 {
    fastrand::i64(..)
}
