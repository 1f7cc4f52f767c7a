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
    sync::OnceCell,
    time::{Instant, sleep, timeout},
};

use crate::{
    Synchronous,
    error::{self, Failure, unavailable},
    schema,
    sql::Statements,
};

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
    /// Whether the last batch of writes was one call.
    alone: bool,
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
        })
    }

    /// The connection that writes, in a transaction; where one call is likely to be the whole batch, in none yet.
    pub(crate) async fn writer(self: &Arc<Self>) -> Result<Lane, Error> {
        self.ready().await?;
        let (idle, alone, company) = {
            let mut state = self.state();
            let company = state.company.is_some_and(|seen| seen.elapsed() < COMPANY);
            (state.writer.take(), state.alone, company)
        };
        let connection = match idle {
            Some(connection) => connection,
            None => self.opened().await?,
        };
        let lane = Lane {
            connection,
            node: Arc::clone(self),
            role: Role::Idle,
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

    /// That a batch of so many calls has been collected.
    pub(crate) fn collected(&self, calls: usize) {
        self.state().alone = calls == 1;
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

    /// In a transaction: waits for the lock that one process has at a time.
    pub(crate) async fn begun(mut self) -> Result<Self, Error> {
        let end = Instant::now() + self.node.write;
        while self.is_idle() {
            match self.begin().await {
                Ok(()) => self.role = Role::Writer,
                Err(Failure::Busy) => {
                    // It is in no transaction.
                    self.node.state().company = Some(Instant::now());
                    if Instant::now() >= end {
                        self.keep();
                        return Err(error::locked());
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

    /// Notes whether others have written since, which the number tells.
    fn look_around(&self, row: &SqliteRow) -> Result<(), Failure> {
        let count: i64 = row.try_get(0).map_err(error::of)?;
        let mut state = self.node.state();
        if state.seen.replace(count).is_some_and(|seen| seen != count) {
            state.company = Some(Instant::now());
        }
        Ok(())
    }

    /// A write that is a transaction by itself, returns a row for each record that it changed, and is followed by that number.
    /// Whether it changed any.
    pub(crate) async fn write_alone(&mut self, statement: Query<'_>) -> Result<bool, Failure> {
        let rows = self.rows(statement).await?;
        self.look_around(rows.last().ok_or(Failure::Busy)?)?;
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

    /// Keeps the connection, which is in no transaction, for the next batch.
    pub(crate) fn keep(self) {
        let Self {
            connection,
            node,
            role,
        } = self;
        let mut state = node.state();
        match role {
            Role::Reader => state.readers.push(connection),
            Role::Idle | Role::Writer => state.writer = Some(connection),
        }
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
