//! The store.

use std::{
    fmt,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use session_core::{
    ErrorKind, Record, Result, SessionKey, SessionStore, StoreProfile, Stored, Subject, Subjects, Sweep,
    Sweeper, Timestamp, Version, async_trait, clock::whole_millis, head,
};

use crate::{
    BACKEND, ConnectError, SqliteStoreBuilder,
    carry::{Answer, Call, Calls, hour},
    error::{self, fail},
    node::Node,
    plan::{Deed, Life, Verdict, Write},
    url,
};

/// Records that one transaction of the background task removes.
const BATCH: usize = 500;

/// Sessions in an SQLite file: see the [crate's front page](crate).
///
/// An [`Arc`] shares it.
pub struct SqliteStore {
    pub(crate) node: Arc<Node>,
    pub(crate) calls: Arc<Calls>,
    pub(crate) read: Duration,
    pub(crate) write: Duration,
    pub(crate) sweep: Duration,
    pub(crate) profile: StoreProfile,
}

impl SqliteStore {
    /// A store in the file at `path`, with the defaults. It opens the file, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// `Unavailable`: the file cannot be made, opened or written, or is no database, or another program's; its text says
    /// which. `NewerFormat`: a newer version of this software made it.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        let store = Self::builder(path).assume_valid();
        store.ready().await?;
        Ok(store)
    }

    /// Names what [`SqliteStore::open`] leaves at its default.
    pub fn builder(path: impl AsRef<Path>) -> SqliteStoreBuilder {
        SqliteStoreBuilder::new(path.as_ref().to_owned())
    }

    /// A store in the file of a URL, `sqlite:PATH`, opened and made if it is not there. `//` may stand before the path; it is
    /// taken as it stands, without percent-encoding.
    ///
    /// What may follow as `?KEY=VALUE&…`:
    ///
    /// | key | is | default |
    /// |---|---|---|
    /// | `max_record` | bytes of data in the largest record | 65536 |
    /// | `max_size` | bytes of the largest file | what the disk has |
    /// | `read_ms`, `write_ms`, `connect_ms` | deadlines in milliseconds | 250, 500, 1000 |
    /// | `synchronous` | `full` or `normal`: see [`Synchronous`](crate::Synchronous) | `full` |
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: the URL says something that is not understood (an unknown key is not ignored), or the file
    /// cannot be used: see [`SqliteStore::open`].
    pub async fn connect(url: &str) -> std::result::Result<Self, ConnectError> {
        let store = url::read(url)?.build()?;
        store.ready().await?;
        Ok(store)
    }

    /// Opens the file, and makes it if it is not there, as the first call would. May be called as often as one likes.
    ///
    /// # Errors
    ///
    /// See [`SqliteStore::open`].
    pub async fn ready(&self) -> Result<()> {
        self.node.ready().await
    }

    /// Starts to remove expired records in the background, about every `interval`, until the [`Sweeper`] is stopped or
    /// dropped. Several processes may do so.
    ///
    /// It removes what ended before the hour that is running (a record that has expired is absent at once; this is about
    /// space), in batches of 500, and rests four times as long as each batch took, so that others are hardly disturbed.
    /// The file does not shrink: its space is used again.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn sweep_every(&self, interval: Duration) -> Sweeper {
        let (calls, length) = (Arc::clone(&self.calls), self.sweep);
        Sweeper::start(interval, move || {
            let calls = Arc::clone(&calls);
            async move { remove_expired(&calls, BATCH, hour(now()) - 1, length).await }
        })
    }

    async fn verdict(&self, key: &SessionKey, deed: Deed) -> Result<Verdict> {
        let call = Call::Write(Write { key: *key, deed });
        match self.calls.write(call, self.write).await? {
            Answer::Verdict(verdict) => Ok(verdict),
            Answer::Count(_) => Err(error::unavailable("an answer belongs to another call")),
        }
    }

    fn life(&self, key: &SessionKey, version: Version, record: &Record, ttl: Duration) -> Result<Life> {
        self.profile.check(record, ttl)?;
        Ok(Life {
            value: Bytes::from(head::seal(BACKEND, key, version, record)?),
            subject: record.subject.as_ref().map(Subject::digest),
            ttl: millis(ttl),
        })
    }
}

pub(crate) async fn remove_expired(calls: &Calls, max: usize, hour: i64, length: Duration) -> Result<usize> {
    match calls.write(Call::Sweep { max, hour }, length).await? {
        Answer::Count(count) => Ok(usize::try_from(count).unwrap_or(usize::MAX)),
        Answer::Verdict(_) => Err(error::unavailable("an answer belongs to another call")),
    }
}

/// Milliseconds since 1970, by this machine's clock.
pub(crate) fn now() -> i64 {
    i64::try_from(Timestamp::from(SystemTime::now()).as_millis()).unwrap_or(i64::MAX)
}

fn millis(ttl: Duration) -> i64 {
    i64::try_from(whole_millis(ttl)).unwrap_or(i64::MAX)
}

fn new_version() -> Result<Version> {
    Version::random().map_err(|error| fail(ErrorKind::Unavailable).with_source(error))
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore")
            .field("path", &self.node.path)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for SqliteStore {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        let version = new_version()?;
        let life = self.life(key, version, record, ttl)?;
        match self.verdict(key, Deed::Create(life)).await? {
            Verdict::Done => Ok(version),
            Verdict::Seen(_) | Verdict::Absent => Err(fail(ErrorKind::AlreadyExists)),
        }
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let Some((value, end)) = self.calls.load(*key, self.read).await? else {
            return Ok(None);
        };
        let (record, version) = head::open(BACKEND, key, &value)
            .inspect_err(|error| tracing::error!(%key, %error, "the value cannot be read"))?;
        match u64::try_from(end - now()) {
            Ok(millis @ 1..) => Ok(Some(Stored::new(record, version, Duration::from_millis(millis)))),
            // It ended while it was read.
            _ => Ok(None),
        }
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        let version = new_version()?;
        let life = self.life(key, version, record, ttl)?;
        match self
            .verdict(key, Deed::Update(head::mark_of(key, expected), life))
            .await?
        {
            Verdict::Done => Ok(version),
            Verdict::Seen(seen) => Err(head::refusal(BACKEND, key, &seen)),
            Verdict::Absent => Err(fail(ErrorKind::NotFound)),
        }
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.profile.check_ttl(ttl)?;
        match self.verdict(key, Deed::Touch(millis(ttl))).await? {
            Verdict::Done => Ok(()),
            Verdict::Seen(_) | Verdict::Absent => Err(fail(ErrorKind::NotFound)),
        }
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        let expected = expected.map(|version| head::mark_of(key, version));
        match self.verdict(key, Deed::Delete(expected)).await? {
            Verdict::Done => Ok(true),
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
impl Sweep for SqliteStore {
    /// Removes what ended in the hour that is running, too: where that hour has many live records, they are looked at.
    async fn remove_expired(&self, max: usize) -> Result<usize> {
        remove_expired(&self.calls, max, hour(now()), self.sweep).await
    }
}
