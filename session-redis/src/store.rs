//! The store.

use std::{fmt, time::Duration};

use bytes::Bytes;
use redis::{Client, Cmd, Pipeline, Value, cmd};
use session_core::{
    Error, ErrorKind, Record, Result, SessionKey, SessionStore, StoreProfile, Stored, Subjects, Sweep,
    Version, async_trait, clock::whole_millis, head,
};

use crate::{
    BACKEND, ConnectError, RedisStoreBuilder, config,
    connection::{Connection, Deadline, Request},
    error::{self, integer},
    script::{self, Verdict},
};

/// Sessions in Redis or Valkey: see the [crate's front page](crate).
///
/// It has one connection, which all calls share and which is replaced when it breaks; an [`Arc`](std::sync::Arc)
/// shares the store itself.
pub struct RedisStore {
    pub(crate) connection: Connection,
    pub(crate) prefix: Box<str>,
    pub(crate) read: Duration,
    pub(crate) write: Duration,
    pub(crate) profile: StoreProfile,
}

impl RedisStore {
    /// A store with the defaults on `client`'s server. It connects at the first call.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self::builder(client).assume_valid()
    }

    /// Names what [`RedisStore::new`] leaves at its default.
    pub fn builder(client: Client) -> RedisStoreBuilder {
        RedisStoreBuilder::new(client)
    }

    /// A store on the server of a URL, connected:
    /// `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE][?KEY=VALUE…]`, `rediss://…` with the feature `tls`, or
    /// `redis+unix:///PATH[?db=…&user=…&pass=…]`.
    ///
    /// | key | is | default |
    /// |---|---|---|
    /// | `prefix` | what every key begins with | `session:` |
    /// | `max_record` | bytes of data in the largest record | 65536 |
    /// | `read_ms`, `write_ms`, `connect_ms` | deadlines in milliseconds | 250, 500, 1000 |
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: the URL says something that is not understood (an unknown key is not ignored), or the server
    /// does not answer, or not to this user and password. None of it shows the password.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        let store = config::from_url(url)?.build()?;
        let ping = cmd("PING");
        // The first call connects: it has the time of both.
        let patience = Deadline::after(store.connection.patience() + store.read);
        store
            .connection
            .ask(patience, Request::Again(&ping))
            .await
            .map_err(Error::from)?;
        Ok(store)
    }

    /// Where a session's record is kept.
    pub(crate) fn record_key(&self, key: &SessionKey) -> Vec<u8> {
        format!("{}{key}", self.prefix).into_bytes()
    }

    fn fail(kind: ErrorKind) -> Error {
        Error::new(kind, BACKEND)
    }

    /// The outcome of a call that may have been sent twice, and whose first try may have been the one that counted.
    fn unknown() -> Error {
        Self::fail(ErrorKind::Unavailable).with_detail("the connection broke while the call was under way")
    }

    async fn send(&self, deadline: Deadline, command: &Cmd) -> Result<(Value, bool)> {
        let reply = self.connection.ask(deadline, Request::Again(command)).await?;
        Ok((reply.value, reply.repeated))
    }

    pub(crate) async fn read(&self, commands: &Pipeline) -> Result<Vec<Value>> {
        let reply = self
            .connection
            .ask(Deadline::after(self.read), Request::Many(commands))
            .await?;
        match reply.value {
            Value::Array(values) if values.len() == commands.len() => Ok(values),
            _ => Err(error::unexpected("the server gave another number of replies")),
        }
    }

    fn opened(&self, key: &SessionKey, value: Vec<u8>) -> Result<(Record, Version)> {
        let value = Bytes::from(value);
        head::open(BACKEND, key, &value).inspect_err(|error| {
            if head::is_of_another_key(key, &value) {
                // Either somebody copied a value, or replies are out of step: then no further one is to be trusted.
                self.connection.forget_current();
                tracing::error!(%key, server = %self.connection, "the reply belongs to another key");
            } else {
                tracing::error!(%key, server = %self.connection, %error, "the value cannot be read");
            }
        })
    }

    /// Whether the record under `key` is the one that was being written as `version`.
    async fn is_ours(&self, deadline: Deadline, key: &SessionKey, version: Version) -> Result<bool> {
        let mut command = cmd("GETRANGE");
        command
            .arg(self.record_key(key))
            .arg(head::VERSION.start)
            .arg(head::VERSION.end - 1);
        let (value, _) = self.send(deadline, &command).await?;
        Ok(matches!(value, Value::BulkString(bytes) if bytes == version.as_bytes()))
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("server", &format_args!("{}", self.connection))
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for RedisStore {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        self.profile.check(record, ttl)?;
        let deadline = Deadline::after(self.write);
        let version = new_version()?;
        let value = head::seal(BACKEND, key, version, record)?;
        if let Some(subject) = &record.subject {
            self.note(deadline, subject, key, record, ttl).await?;
        }
        let mut command = cmd("SET");
        command
            .arg(self.record_key(key))
            .arg(value)
            .arg("NX")
            .arg("PX")
            .arg(whole_millis(ttl));
        match self.send(deadline, &command).await? {
            (Value::Okay, _) => Ok(version),
            (Value::Nil, false) => Err(Self::fail(ErrorKind::AlreadyExists)),
            (Value::Nil, true) if self.is_ours(deadline, key, version).await? => Ok(version),
            (Value::Nil, true) => Err(Self::unknown()),
            _ => Err(error::unexpected("SET was not answered as it should be")),
        }
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let name = self.record_key(key);
        let mut commands = Pipeline::with_capacity(2);
        commands.cmd("GET").arg(&name).cmd("PTTL").arg(&name);
        let [value, remaining] = <[Value; 2]>::try_from(self.read(&commands).await?)
            .map_err(|_| error::unexpected("two replies were expected"))?;
        let value = match value {
            Value::Nil => return Ok(None),
            Value::BulkString(value) => value,
            Value::ServerError(error) => return Err(error::of(&error.into())),
            _ => return Err(error::unexpected("GET was not answered with a value")),
        };
        let remaining = match integer(remaining)? {
            // It expired, or was deleted, between the two.
            -2 | 0 => return Ok(None),
            -1 => None,
            millis => Some(Duration::from_millis(millis.unsigned_abs())),
        };
        let (record, version) = self.opened(key, value)?;
        // No write of ours leaves a record without an end: somebody else had his hands on it.
        let remaining = remaining
            .ok_or_else(|| Self::fail(ErrorKind::Corrupt).with_detail("the record has no time to live"))?;
        Ok(Some(Stored::new(record, version, remaining)))
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        self.profile.check(record, ttl)?;
        let deadline = Deadline::after(self.write);
        let version = new_version()?;
        let value = head::seal(BACKEND, key, version, record)?;
        let (name, mark, life) = (
            self.record_key(key),
            head::mark(key),
            whole_millis(ttl).to_string(),
        );
        let mut indexed = false;
        loop {
            let flag: &[u8] = if indexed { b"1" } else { b"0" };
            let arguments = [
                mark.as_slice(),
                expected.as_bytes(),
                &*value,
                life.as_bytes(),
                flag,
            ];
            let (answer, repeated) = script::UPDATE
                .run(&self.connection, deadline, &name, &arguments)
                .await?;
            return match (Verdict::of(answer)?, &record.subject) {
                (Verdict::Done, _) => Ok(version),
                (Verdict::IndexFirst, Some(subject)) if !indexed => {
                    self.note(deadline, subject, key, record, ttl).await?;
                    indexed = true;
                    continue;
                }
                // Ours may have been written, and changed by somebody else since.
                (Verdict::Conflict, _) if repeated => Err(Self::unknown()),
                (verdict, _) => Err(refusal(verdict)),
            };
        }
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.profile.check_ttl(ttl)?;
        let deadline = Deadline::after(self.write);
        let mut command = cmd("PEXPIRE");
        command.arg(self.record_key(key)).arg(whole_millis(ttl));
        let (value, _) = self.send(deadline, &command).await?;
        match integer(value)? {
            0 => Err(Self::fail(ErrorKind::NotFound)),
            _ => Ok(()),
        }
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        let deadline = Deadline::after(self.write);
        let name = self.record_key(key);
        let (verdict, repeated) = match expected {
            None => {
                let (value, repeated) = self.send(deadline, cmd("DEL").arg(name)).await?;
                match integer(value)? {
                    0 => (Verdict::Absent, repeated),
                    _ => (Verdict::Done, repeated),
                }
            }
            Some(expected) => {
                let mark = head::mark(key);
                let arguments = [mark.as_slice(), expected.as_bytes()];
                let (answer, repeated) = script::DELETE
                    .run(&self.connection, deadline, &name, &arguments)
                    .await?;
                (Verdict::of(answer)?, repeated)
            }
        };
        match verdict {
            Verdict::Done => Ok(true),
            // It is gone, but the first try may have found it: whether there was one is not known.
            Verdict::Absent if repeated => Err(Self::unknown()),
            Verdict::Absent => Ok(false),
            verdict => Err(refusal(verdict)),
        }
    }

    fn profile(&self) -> &StoreProfile {
        &self.profile
    }

    fn subjects(&self) -> Option<&dyn Subjects> {
        Some(self)
    }

    /// None: the server removes what has expired.
    fn sweep(&self) -> Option<&dyn Sweep> {
        None
    }
}

fn new_version() -> Result<Version> {
    Version::random().map_err(|error| Error::new(ErrorKind::Unavailable, BACKEND).with_source(error))
}

fn refusal(verdict: Verdict) -> Error {
    let kind = match verdict {
        Verdict::Absent => ErrorKind::NotFound,
        Verdict::Conflict => ErrorKind::Conflict,
        Verdict::Unreadable => ErrorKind::Corrupt,
        Verdict::Newer => ErrorKind::NewerFormat,
        Verdict::Done | Verdict::IndexFirst => return error::unexpected("a script contradicts itself"),
    };
    Error::new(kind, BACKEND)
}
