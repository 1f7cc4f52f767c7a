//! The file, as this process reaches it: connections, one of which writes.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use session_core::Error;
use sqlx::{
    ConnectOptions, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteRow},
};
use tokio::{
    sync::{OnceCell, Semaphore},
    time::{Instant, sleep, timeout},
};

use crate::{
    Synchronous,
    error::{self, Failure, unavailable},
    schema,
    sql::Statements,
};

/// Batches of reads at once, on connections of their own; as many lists at once; and as many connections that are kept.
pub(crate) const READERS: usize = 4;

/// So long after others have written, a pause is left between two batches.
const COMPANY: Duration = Duration::from_secs(1);

pub(crate) type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

pub(crate) struct Node {
    pub(crate) path: PathBuf,
    pub(crate) statements: Statements,
    pub(crate) connect: Duration,
    /// How long is tried to begin a transaction.
    pub(crate) write: Duration,
    pub(crate) synchronous: Synchronous,
    pub(crate) max_size: Option<u64>,
    /// Has a permit for each list that may run at once: lists do not go together, and a connection is a thread and two
    /// open files.
    pub(crate) lists: Semaphore,
    ready: OnceCell<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    writer: Option<SqliteConnection>,
    readers: Vec<SqliteConnection>,
    /// The writer's count of what others have written.
    seen: Option<i64>,
    /// When others were last seen to write.
    company: Option<Instant>,
    /// When the lock was last found taken.
    met: Option<Instant>,
    /// Whether another process has had it since, and not a connection of this one.
    others_have_it: bool,
    /// Writers that there have been.
    writers: u64,
    /// The one that may have the lock. One that was given up on its way has it until the disk lets its connection end.
    holder: Option<u64>,
    /// Whether the last batch of writes was one call.
    alone: bool,
}

/// What this process has met of the lock that one process has at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    Free,
    /// It was taken for a while, or a connection of this process may have it.
    Met,
    /// Another process has it still.
    Kept,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Reader,
    /// In no transaction yet.
    Idle,
    /// In a transaction that has the lock.
    Writer,
}

/// A connection for one batch. One that is dropped is closed, and its transaction undone; [`Lane::keep`] keeps it.
pub(crate) struct Lane {
    connection: SqliteConnection,
    node: Arc<Node>,
    role: Role,
    /// Tells a writer from the others.
    number: u64,
}

impl Node {
    pub(crate) fn new(
        path: PathBuf,
        connect: Duration,
        write: Duration,
        synchronous: Synchronous,
        max_size: Option<u64>,
    ) -> Self {
        Self {
            path,
            statements: Statements::new(),
            connect,
            write,
            synchronous,
            max_size,
            lists: Semaphore::new(READERS),
            ready: OnceCell::new(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the file and its table, unless they are there.
    pub(crate) async fn ready(&self) -> Result<(), Error> {
        self.ready
            .get_or_try_init(|| self.in_time(self.prepare()))
            .await?;
        Ok(())
    }

    async fn prepare(&self) -> Result<(), Error> {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || schema::make(&path))
            .await
            .map_err(|_| unavailable("the runtime is shutting down"))??;
        loop {
            // Closed each time: what it holds is in doubt.
            let tried = async {
                let mut connection = self.connection().await?;
                schema::migrate(&mut connection).await?;
                Ok(connection)
            };
            match tried.await {
                Ok(connection) => {
                    self.state().writer = Some(connection);
                    return Ok(());
                }
                Err(Failure::Busy) => pause().await,
                Err(failure) => return Err(failure.into()),
            }
        }
    }

    async fn connection(&self) -> Result<SqliteConnection, Failure> {
        let mut options = SqliteConnectOptions::new()
            .filename(&self.path)
            .create_if_missing(false)
            // A connection that waits for a lock inside SQLite cannot be told to stop.
            .busy_timeout(Duration::ZERO)
            .synchronous(self.synchronous.into())
            // What is deleted is overwritten where that costs no further write to the disk.
            .pragma("secure_delete", "FAST")
            .thread_name(|number| format!("session-sqlite-{number}"))
            .disable_statement_logging();
        if let Some(bytes) = self.max_size {
            options = options.pragma("max_page_count", (bytes / schema::PAGE).max(1).to_string());
        }
        options.connect().await.map_err(error::of)
    }

    /// [`Node::connection`], once nobody is in the way: the last connection to a file locks all of it when it is closed.
    async fn opened(&self) -> Result<SqliteConnection, Error> {
        self.in_time(async {
            loop {
                match self.connection().await {
                    Err(Failure::Busy) => pause().await,
                    opened => return Ok(opened?),
                }
            }
        })
        .await
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        timeout(self.connect, work).await.unwrap_or_else(|_| {
            Err(unavailable(format!(
                "the file was not opened within {:?}: another process keeps it locked, or the disk does not answer",
                self.connect
            )))
        })
    }

    pub(crate) async fn reader(self: &Arc<Self>) -> Result<Lane, Error> {
        self.ready().await?;
        let idle = self.state().readers.pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.opened().await?,
        };
        Ok(Lane {
            connection,
            node: Arc::clone(self),
            role: Role::Reader,
            number: 0,
        })
    }

    /// The connection that writes, in a transaction; where one call is likely to be the whole batch, in none yet.
    pub(crate) async fn writer(self: &Arc<Self>) -> Result<Lane, Error> {
        self.ready().await?;
        let (idle, alone, company, number) = {
            let mut state = self.state();
            state.writers += 1;
            let company = state.company.is_some_and(|seen| seen.elapsed() < COMPANY);
            (state.writer.take(), state.alone, company, state.writers)
        };
        let connection = match idle {
            Some(connection) => connection,
            None => self.opened().await?,
        };
        let lane = Lane {
            connection,
            node: Arc::clone(self),
            role: Role::Idle,
            number,
        };
        // Who tries again is not heard by SQLite: whoever has just written leaves others a moment, or they would never
        // meet the gap between two of its batches.
        if company {
            pause().await;
        } else if alone {
            return Ok(lane);
        }
        lane.begun().await
    }

    /// What has been met of the lock since then, as far as is known.
    pub(crate) fn lock_since(&self, begin: Instant) -> Lock {
        let state = self.state();
        match state.met.is_some_and(|met| met >= begin) {
            true if state.others_have_it => Lock::Kept,
            true => Lock::Met,
            false => Lock::Free,
        }
    }
}

/// As others in such a state wait: about a millisecond, at random, so that who met does not meet again.
pub(crate) async fn pause() {
    sleep(Duration::from_micros(fastrand::u64(500..2_000))).await;
}

impl Lane {
    pub(crate) fn node(&self) -> Arc<Node> {
        Arc::clone(&self.node)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.role == Role::Idle
    }

    /// That so many calls have been collected for it, which it writes from here on.
    pub(crate) fn collected(&self, calls: usize) {
        let mut state = self.node.state();
        state.alone = calls == 1;
        state.holder.get_or_insert(self.number);
    }

    /// In a transaction: waits for the lock that one process has at a time.
    pub(crate) async fn begun(mut self) -> Result<Self, Error> {
        let end = Instant::now() + self.node.write;
        while self.is_idle() {
            match self.begin().await {
                Ok(()) => self.role = Role::Writer,
                Err(Failure::Busy) => {
                    // It is in no transaction.
                    let now = Instant::now();
                    let others_have_it = self.node.state().meet(self.number, now);
                    if now >= end {
                        let length = self.node.write;
                        self.keep();
                        return Err(match others_have_it {
                            true => error::locked(),
                            false => error::not_begun(length),
                        });
                    }
                    pause().await;
                }
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(self)
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        let rows = sqlx::raw_sql(self.node.statements.begin.clone())
            .fetch_all(&mut self.connection)
            .await
            .map_err(error::of)?;
        self.look_around(rows.first().ok_or(Failure::Busy)?)
    }

    /// After a statement that had the lock: notes whether others have written since, which the number tells.
    fn look_around(&self, row: &SqliteRow) -> Result<(), Failure> {
        let count: i64 = row.try_get(0).map_err(error::of)?;
        let mut state = self.node.state();
        state.others_have_it = false;
        state.holder = Some(self.number);
        if state.seen.replace(count).is_some_and(|seen| seen != count) {
            state.company = Some(Instant::now());
        }
        Ok(())
    }

    /// A write that is a transaction by itself, follows that number, and returns a row for each record that it changed.
    /// Whether it changed any.
    pub(crate) async fn write_alone(&mut self, statement: Query<'_>) -> Result<bool, Failure> {
        let rows = self.rows(statement).await?;
        self.look_around(rows.first().ok_or(Failure::Busy)?)?;
        Ok(rows.len() > 1)
    }

    pub(crate) async fn rows(&mut self, statement: Query<'_>) -> Result<Vec<SqliteRow>, Failure> {
        statement.fetch_all(&mut self.connection).await.map_err(error::of)
    }

    /// How many records it changed.
    pub(crate) async fn run(&mut self, statement: Query<'_>) -> Result<u64, Failure> {
        let done = statement.execute(&mut self.connection).await.map_err(error::of)?;
        Ok(done.rows_affected())
    }

    pub(crate) async fn commit(&mut self) -> Result<(), Failure> {
        let commit = sqlx::query(self.node.statements.commit.clone());
        self.run(commit).await.map(drop)
    }

    /// Keeps the connection, which is in no transaction, for the next batch. Readers beyond [`READERS`] are closed.
    pub(crate) fn keep(self) {
        let Self {
            connection,
            node,
            role,
            number,
        } = self;
        let mut state = node.state();
        if state.holder == Some(number) {
            state.holder = None;
        }
        match role {
            Role::Reader if state.readers.len() < READERS => state.readers.push(connection),
            Role::Reader => {}
            Role::Idle | Role::Writer => state.writer = Some(connection),
        }
    }
}

impl State {
    /// A writer, which does not have the lock, found it taken. Whether another process has it.
    fn meet(&mut self, number: u64, now: Instant) -> bool {
        if self.holder == Some(number) {
            self.holder = None;
        }
        self.company = Some(now);
        self.met = Some(now);
        self.others_have_it = self.holder.is_none();
        self.others_have_it
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use sqlx::Connection;

    use super::*;

    /// A node for a file in an empty folder, and the folder.
    fn node(name: &str, write: Duration) -> (Arc<Node>, PathBuf) {
        let folder = std::env::temp_dir().join(format!("session-sqlite-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let long = Duration::from_secs(60);
        let node = Node::new(folder.join("s.db"), long, write, Synchronous::default(), None);
        (Arc::new(node), folder)
    }

    #[tokio::test]
    async fn no_more_readers_are_kept_than_work_at_once() {
        let (node, folder) = node("readers", Duration::from_secs(60));
        let mut lanes = Vec::new();
        for _ in 0..READERS + 2 {
            lanes.push(node.reader().await.unwrap());
        }
        lanes.into_iter().for_each(Lane::keep);
        assert_eq!(node.state().readers.len(), READERS);
        drop(node);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn lock_that_was_met_is_remembered() {
        let (node, folder) = node("met", Duration::from_millis(50));
        let begin = Instant::now();
        node.ready().await.unwrap();
        assert_eq!(node.lock_since(begin), Lock::Free);
        let mut other = SqliteConnection::connect(node.path.to_str().unwrap())
            .await
            .unwrap();
        sqlx::raw_sql("BEGIN IMMEDIATE")
            .execute(&mut other)
            .await
            .unwrap();
        let refused = node.writer().await.map(drop).unwrap_err();
        assert!(refused.to_string().contains("locked"), "{refused}");
        assert_eq!(node.lock_since(begin), Lock::Kept);
        sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
        let lane = node.writer().await.unwrap();
        assert_eq!(node.lock_since(begin), Lock::Met);
        let later = Instant::now();
        assert_eq!(node.lock_since(later), Lock::Free);
        // A connection of this process has the lock, which no other one is to be blamed for.
        let refused = node.writer().await.map(drop).unwrap_err();
        assert!(refused.to_string().contains("the disk is slow"), "{refused}");
        assert_eq!(node.lock_since(later), Lock::Met);
        drop((node, lane, other));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
