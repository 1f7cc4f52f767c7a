//! The store.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use session_core::{
    Error, ErrorKind, Record, Result, SessionKey, SessionStore, StoreProfile, Stored, Subject, Subjects,
    Sweep, Sweeper, Version, async_trait, clock::whole_millis, head,
};
use sqlx::PgPool;
use tokio::time::timeout;

use crate::{
    BACKEND, ConnectError, PostgresStoreBuilder,
    carry::{Calls, Ended, Kind, Verdict, Write},
    error::{self, fail},
    node::Node,
    schema::{self, Table, Unfit},
    sweep, url,
};

/// Long enough for a node that makes the table while others wait for it.
const MIGRATING: Duration = Duration::from_secs(30);

/// Sessions in PostgreSQL: see the [crate's front page](crate).
///
/// An [`Arc`] shares it.
pub struct PostgresStore {
    pub(crate) node: Arc<Node>,
    pub(crate) calls: Calls,
    pub(crate) table: Table,
    pub(crate) unlogged: bool,
    pub(crate) read: Duration,
    pub(crate) write: Duration,
    pub(crate) sweep: Duration,
    pub(crate) profile: StoreProfile,
}

impl PostgresStore {
    /// A store with the defaults on the connections of a pool, of which it keeps up to eight at hand while it works, and
    /// leaves one to others. It connects at the first call; the table must be there by then: see
    /// [`PostgresStore::migrate`].
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self::builder(pool).assume_valid()
    }

    /// Names what [`PostgresStore::new`] leaves at its default.
    pub fn builder(pool: PgPool) -> PostgresStoreBuilder {
        PostgresStoreBuilder::new(pool)
    }

    /// A store in the database of a URL, `postgres://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE`, connected, with its table:
    /// [`PostgresStore::migrate`] is called unless the URL says `migrate=no`.
    ///
    /// What may follow as `?KEY=VALUE&…`:
    ///
    /// | key | is | default |
    /// |---|---|---|
    /// | `schema`, `table` | where the records are | the first of `search_path`, `sessions` |
    /// | `max_record` | bytes of data in the largest record | 65536 |
    /// | `read_ms`, `write_ms`, `connect_ms` | deadlines in milliseconds | 250, 500, 1000 |
    /// | `connections` | the most connections | 10 |
    /// | `unlogged`, `relaxed_touch` | `yes` or `no`: see [`PostgresStoreBuilder`] | `no` |
    /// | `migrate` | `yes` or `no` | `yes` |
    /// | `sslmode`, `sslrootcert`, `sslcert`, `sslkey` | as for libpq; `require` and above need the feature `tls` | `prefer` |
    /// | `host` | a folder with the server's socket | |
    /// | `application_name` | what the server's statistics call the connections | |
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: the URL says something that is not understood (an unknown key is not ignored), or the server
    /// does not answer, or not to this user and password, or the table cannot be made. None of it shows the password.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        let (builder, migrate) = url::read(url)?;
        let store = builder.build()?;
        match migrate {
            true => store.migrate().await?,
            false => drop(store.node.lane().await?),
        }
        Ok(store)
    }

    /// Makes the table, or brings it to this version: in one transaction, and once however many nodes start at once. A
    /// table that is as it must be is left alone, and no right to change tables is needed then.
    ///
    /// # Errors
    ///
    /// - `NewerFormat`: a newer version of this software made the table.
    /// - `Unavailable`: the server does not answer, the user may not make the table, or the user's transactions are not
    ///   `read committed` by default: with another level, of two writes that meet all would fail.
    pub async fn migrate(&self) -> Result<()> {
        let mut connection = self.node.acquire().await?;
        let migrated = timeout(
            MIGRATING,
            schema::migrate(&mut connection, &self.table, self.unlogged),
        )
        .await;
        match migrated {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Unfit::Newer(version))) => Err(fail(ErrorKind::NewerFormat).with_detail(format!(
                "the table {} is of version {version}, which this version does not know",
                self.table.quoted()
            ))),
            Ok(Err(Unfit::Isolation(level))) => Err(error::unavailable(format!(
                "default_transaction_isolation is {level:?} for this user, where \"read committed\" is needed: ALTER ROLE … \
                 SET default_transaction_isolation = 'read committed'"
            ))),
            Ok(Err(Unfit::Client(error))) => Err(error::of_connection(error)),
            Err(_) => {
                // It is in a transaction.
                drop(connection.detach());
                Err(error::unavailable(format!(
                    "the table was not made within {MIGRATING:?}"
                )))
            }
        }
    }

    /// The statements that [`PostgresStore::migrate`] executes for a new table, for whoever would rather execute them by
    /// other means. The note of the version is not among them.
    #[must_use]
    pub fn schema_sql(&self) -> String {
        schema::migrations(&self.table, self.unlogged).concat()
    }

    /// Starts to remove expired records in the background, about every `interval`, until the [`Sweeper`] is stopped or
    /// dropped. Several nodes may do so.
    ///
    /// It removes what ended before the hour that is running (a record that has expired is absent at once; this is about
    /// space), in small batches, and rests four times as long as each batch took, so that others are hardly disturbed.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn sweep_every(&self, interval: Duration) -> Sweeper {
        sweep::start(&self.node, interval, self.sweep)
    }

    async fn run(&self, kind: Kind, write: Write) -> std::result::Result<Ended, crate::carry::Broken> {
        self.calls.write(kind, write, self.write).await
    }

    fn written(&self, key: &SessionKey, version: Version, record: &Record, ttl: Duration) -> Result<Write> {
        self.profile.check(record, ttl)?;
        Ok(Write {
            key: *key,
            expected: None,
            value: Bytes::from(head::seal(BACKEND, key, version, record)?),
            subject: record.subject.as_ref().map(Subject::digest),
            ttl: millis(ttl),
        })
    }
}

fn millis(ttl: Duration) -> i64 {
    i64::try_from(whole_millis(ttl)).unwrap_or(i64::MAX)
}

fn new_version() -> Result<Version> {
    Version::random().map_err(|error| fail(ErrorKind::Unavailable).with_source(error))
}

/// The outcome of a call that was sent twice, and whose first try may have been the one that counted.
fn unknown() -> Error {
    error::unavailable("the connection broke while the call was under way")
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = self.node.pool.connect_options();
        f.debug_struct("PostgresStore")
            .field(
                "server",
                &format_args!("{}:{}", options.get_host(), options.get_port()),
            )
            .field("table", &self.table.quoted())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for PostgresStore {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        let version = new_version()?;
        let write = self.written(key, version, record, ttl)?;
        let begun = tokio::time::Instant::now();
        match self.run(Kind::Create, write).await {
            Ok(ended) => match ended.verdict {
                Verdict::Done => Ok(version),
                // A try whose answer was lost had arrived.
                Verdict::Seen(seen) if *seen == head::mark_of(key, version) => Ok(version),
                Verdict::Seen(_) => Err(fail(ErrorKind::AlreadyExists)),
                Verdict::Absent => Err(unknown()),
            },
            // It may have arrived, and then it is there. It is not sent again: one that arrives late would bring back
            // a session that was ended since.
            Err(broken) if broken.may_be_done => {
                let left = self.write.saturating_sub(begun.elapsed());
                match self.calls.load(*key, left).await {
                    Ok(Some((value, _))) if value.starts_with(&head::mark_of(key, version)) => Ok(version),
                    _ => Err(broken.error),
                }
            }
            Err(broken) => Err(broken.error),
        }
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let Some((value, remaining)) = self.calls.load(*key, self.read).await? else {
            return Ok(None);
        };
        let (record, version) = head::open(BACKEND, key, &value)
            .inspect_err(|error| tracing::error!(%key, %error, "the value cannot be read"))?;
        let remaining = Duration::from_millis(remaining.unsigned_abs());
        Ok(Some(Stored::new(record, version, remaining)))
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        let version = new_version()?;
        let mut write = self.written(key, version, record, ttl)?;
        write.expected = Some(head::mark_of(key, expected));
        let Ended { verdict, repeated } = self
            .run(Kind::Update, write)
            .await
            .map_err(|broken| broken.error)?;
        match verdict {
            Verdict::Done => Ok(version),
            Verdict::Seen(seen) if *seen == head::mark_of(key, version) => Ok(version),
            // Ours may have been written, and changed, replaced or deleted by somebody else since.
            _ if repeated => Err(unknown()),
            Verdict::Seen(seen) => Err(head::refusal(BACKEND, key, &seen)),
            Verdict::Absent => Err(fail(ErrorKind::NotFound)),
        }
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.profile.check_ttl(ttl)?;
        let write = Write {
            key: *key,
            expected: None,
            value: Bytes::new(),
            subject: None,
            ttl: millis(ttl),
        };
        let ended = self
            .run(Kind::Touch, write)
            .await
            .map_err(|broken| broken.error)?;
        match ended.verdict {
            Verdict::Done => Ok(()),
            Verdict::Absent => Err(fail(ErrorKind::NotFound)),
            Verdict::Seen(_) => Err(unknown()),
        }
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        let write = Write {
            key: *key,
            expected: expected.map(|version| head::mark_of(key, version)),
            value: Bytes::new(),
            subject: None,
            ttl: 0,
        };
        let Ended { verdict, repeated } = self
            .run(Kind::Delete, write)
            .await
            .map_err(|broken| broken.error)?;
        match verdict {
            Verdict::Done => Ok(true),
            // The first try may have found it, and what is there now came later: whether there was one is not known.
            _ if repeated => Err(unknown()),
            Verdict::Absent => Ok(false),
            Verdict::Seen(seen) => Err(head::refusal(BACKEND, key, &seen)),
        }
    }

    fn profile(&self) -> &StoreProfile {
        &self.profile
    }

    fn subjects(&self) -> Option<&dyn Subjects> {
        Some(self)
    }

    fn sweep(&self) -> Option<&dyn Sweep> {
        Some(self)
    }
}

#[async_trait]
impl Sweep for PostgresStore {
    /// Removes what ended in the hour that is running, too: where that hour has many live records, they are looked at.
    async fn remove_expired(&self, max: usize) -> Result<usize> {
        sweep::remove_expired(&self.node, max, self.sweep).await
    }
}
