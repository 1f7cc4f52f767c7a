//! The store.

use std::{fmt, time::Duration};

use bytes::Bytes;
use redis::{Pipeline, Value, cmd};
use session_core::{
    Error, ErrorKind, Record, Result, SessionKey, SessionStore, StoreProfile, Stored, Subject, Subjects,
    Sweep, Version, async_trait, clock::whole_millis, head,
};

use tokio::task::JoinSet;

use crate::{
    BACKEND, ConnectError, RedisStoreBuilder, Servers, Warning,
    carry::{Update, Updates},
    check,
    connection::Deadline,
    error,
    reply::{Origin, Reply},
    request::Request,
    script::{self, Verdict},
    servers::Opened,
    subjects::Noted,
    url,
};

/// Sessions in Redis or Valkey: see the [crate's front page](crate).
///
/// It has one connection to each server, which all calls share and which is replaced when it breaks; an
/// [`Arc`](std::sync::Arc) shares the store itself.
pub struct RedisStore {
    pub(crate) servers: Opened,
    pub(crate) updates: Updates,
    /// Where the servers are, without user and password.
    pub(crate) place: Box<str>,
    pub(crate) may_fail_over: bool,
    /// Whether replicas must have a write.
    pub(crate) waits: bool,
    pub(crate) prefix: Box<str>,
    pub(crate) read: Duration,
    pub(crate) write: Duration,
    pub(crate) connect: Duration,
    pub(crate) profile: StoreProfile,
}

impl RedisStore {
    /// A store with the defaults on a [`Client`](redis::Client)'s server, or on other [`Servers`]. It connects at the
    /// first call.
    #[must_use]
    pub fn new(servers: impl Into<Servers>) -> Self {
        Self::builder(servers).assume_valid()
    }

    /// Names what [`RedisStore::new`] leaves at its default.
    pub fn builder(servers: impl Into<Servers>) -> RedisStoreBuilder {
        RedisStoreBuilder::new(servers.into())
    }

    /// A store on the servers of a URL, connected:
    ///
    /// | URL | leads to |
    /// |---|---|
    /// | `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]` | one server |
    /// | `redis+unix:///PATH[?db=…&user=…&pass=…]` | one server, by a socket of this machine |
    /// | `redis+sentinel://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]/SERVICE[/DATABASE]` | the primary that these Sentinels (port 26379) name |
    /// | `redis+cluster://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]…]` | the Cluster of these nodes |
    /// | `rediss://…`, `rediss+sentinel://…`, `rediss+cluster://…` | the same by TLS, with the feature `tls` |
    ///
    /// What may follow as `?KEY=VALUE&…`:
    ///
    /// | key | is | default |
    /// |---|---|---|
    /// | `prefix` | what every key begins with | `session:` |
    /// | `max_record` | bytes of data in the largest record | 65536 |
    /// | `read_ms`, `write_ms`, `connect_ms` | deadlines in milliseconds | 250, 500, 1000 |
    /// | `wait_replicas`, `wait_ms` | replicas that must have a write, and how long that may take | 0, 100 |
    /// | `may_evict` | `false`: the server's `maxmemory-policy` is `noeviction`, and the store says so | true |
    /// | `sentinel_user`, `sentinel_pass` | how to log in to the Sentinels | not at all |
    ///
    /// It asks the servers for their configuration once, and warns through `tracing` of what loses sessions: see
    /// [`RedisStore::check_servers`].
    ///
    /// # Errors
    ///
    /// [`ConnectError`]: the URL says something that is not understood (an unknown key is not ignored), or the server
    /// does not answer, or not to this user and password. None of it shows the password.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        let store = url::read(url)?.build()?;
        // The first call connects: it has the time of both.
        let patience = Deadline::after(store.connect.saturating_add(store.read));
        let mut pinged = JoinSet::new();
        for node in store.servers.nodes(patience).await.map_err(Error::from)? {
            pinged.spawn(async move {
                let answer = node.ask(patience, Request::read(&cmd("PING"))).await;
                answer.map(drop).map_err(|failure| (node, Error::from(failure)))
            });
        }
        while let Some(answer) = pinged.join_next().await {
            match answer {
                // The others may serve their share while this one is away.
                Ok(Err((node, error))) if matches!(store.servers, Opened::Cluster(_)) => {
                    tracing::warn!(server = %node, %error, "a node of the Cluster does not answer");
                }
                Ok(Err((_, error))) => return Err(error.into()),
                _ => {}
            }
        }
        store.tell_warnings().await;
        Ok(store)
    }

    /// What in the servers' configuration loses sessions: a policy that evicts them, no persistence, a failover that
    /// may forget what was acknowledged. Nothing, where all is well.
    ///
    /// [`RedisStore::connect`] calls it and tells the outcome through `tracing`; an application that would rather not
    /// start calls it by itself.
    ///
    /// # Errors
    ///
    /// `Unavailable`: a server does not answer. That a user may not ask is a [`Warning::NotChecked`].
    pub async fn check_servers(&self) -> Result<Vec<Warning>> {
        check::servers(self).await
    }

    async fn tell_warnings(&self) {
        match self.check_servers().await {
            Ok(warnings) => {
                for warning in warnings {
                    match warning {
                        Warning::NotChecked { .. } => tracing::info!("{warning}"),
                        _ => tracing::warn!("{warning}"),
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "the servers' configuration was not checked"),
        }
    }

    /// Where a session's record is kept.
    pub(crate) fn record_key(&self, key: &SessionKey) -> Vec<u8> {
        format!("{}{key}", self.prefix).into_bytes()
    }

    fn fail(kind: ErrorKind) -> Error {
        Error::new(kind, BACKEND)
    }

    /// The outcome of a call that may have been sent twice, and whose first try may have been the one that counted.
    pub(crate) fn unknown() -> Error {
        Self::fail(ErrorKind::Unavailable).with_detail("the connection broke while the call was under way")
    }

    /// Replies about one key to commands that only read.
    pub(crate) async fn read(&self, key: &[u8], commands: &Pipeline) -> Result<(Vec<Value>, Origin)> {
        let request = Request::read_many(commands);
        let reply = self.servers.ask(Deadline::after(self.read), key, request).await?;
        Ok(reply.many(commands.len())?)
    }

    /// The write is where it was to be: on the server, and on as many replicas as the store waits for. So is the note
    /// that was made for it, of which another server's replicas, or an older connection, may know.
    async fn confirmed(&self, deadline: Deadline, written: &Origin, noted: Option<&Noted>) -> Result<()> {
        written.confirm(deadline).await?;
        match noted {
            Some(noted) if !noted.origin.is_same(written) => Ok(noted.origin.confirm(deadline).await?),
            _ => Ok(()),
        }
    }

    /// A subject's session has been written: its index is gone through, should it have become long.
    async fn tidied(&self, deadline: Deadline, subject: Option<&Subject>, noted: Option<Noted>) {
        if let (Some(subject), Some(Noted { crowded: true, .. })) = (subject, noted) {
            // The session is there, whatever becomes of this; and there is no more time for it than for the call.
            let _ = tokio::time::timeout_at(deadline.at, self.list(subject)).await;
        }
    }

    fn opened(&self, key: &SessionKey, value: Vec<u8>, origin: &Origin) -> Result<(Record, Version)> {
        let value = Bytes::from(value);
        head::open(BACKEND, key, &value).inspect_err(|error| {
            if head::is_of_another_key(key, &value) {
                // Either somebody copied a value, or replies are out of step: then no further one is to be trusted.
                origin.give_up();
                tracing::error!(%key, server = %origin.node, "the reply belongs to another key");
            } else {
                tracing::error!(%key, server = %origin.node, %error, "the value cannot be read");
            }
        })
    }

    /// Whether the record under `key` is the one that was being written as `version`.
    async fn is_ours(&self, deadline: Deadline, key: &SessionKey, version: Version) -> Result<bool> {
        let name = self.record_key(key);
        let mut command = cmd("GETRANGE");
        command
            .arg(&name)
            .arg(head::VERSION.start)
            .arg(head::VERSION.end - 1);
        let reply = self.servers.ask(deadline, &name, Request::read(&command)).await?;
        Ok(matches!(reply.value, Value::BulkString(bytes) if bytes == version.as_bytes()))
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore")
            .field("servers", &format_args!("{}", self.place))
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
        let noted = match &record.subject {
            Some(subject) => Some(self.note(deadline, subject, key, record, ttl).await?),
            None => None,
        };
        let name = self.record_key(key);
        let mut command = cmd("SET");
        command
            .arg(&name)
            .arg(value)
            .arg("NX")
            .arg("PX")
            .arg(whole_millis(ttl));
        // Once: a first try that arrives late would bring back a session that was ended since.
        let reply = match self
            .servers
            .ask(deadline, &name, Request::write_once(&command))
            .await
        {
            Ok(reply) => reply,
            // It may have arrived, and then it is there.
            Err(failure) if failure.is_lost() && !self.waits => {
                return match self.is_ours(deadline, key, version).await {
                    Ok(true) => Ok(version),
                    _ => Err(failure.into()),
                };
            }
            Err(failure) => return Err(failure.into()),
        };
        match reply.value {
            Value::Okay => {
                self.confirmed(deadline, &reply.origin, noted.as_ref()).await?;
                self.tidied(deadline, record.subject.as_ref(), noted).await;
                Ok(version)
            }
            Value::Nil => Err(Self::fail(ErrorKind::AlreadyExists)),
            _ => Err(reply.origin.out_of_step("SET was not answered as it should be")),
        }
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let name = self.record_key(key);
        let mut commands = Pipeline::with_capacity(2);
        commands.cmd("GET").arg(&name).cmd("PTTL").arg(&name);
        let (replies, origin) = self.read(&name, &commands).await?;
        let [value, remaining] =
            <[Value; 2]>::try_from(replies).map_err(|_| origin.out_of_step("two replies were expected"))?;
        let value = match value {
            Value::Nil => None,
            Value::BulkString(value) => Some(value),
            Value::ServerError(error) => return Err(error::of(&error.into())),
            _ => return Err(origin.out_of_step("GET was not answered with a value")),
        };
        let remaining = origin.integer(remaining)?;
        let (Some(value), false) = (value, matches!(remaining, -2 | 0)) else {
            // Absent; or it expired, or was deleted, between the two.
            return Ok(None);
        };
        let remaining = (remaining != -1).then(|| Duration::from_millis(remaining.unsigned_abs()));
        let (record, version) = self.opened(key, value, &origin)?;
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
        let mut update = Update {
            key: self.record_key(key).into(),
            expected,
            value: head::seal(BACKEND, key, version, record)?.into(),
            life: ttl,
            is_indexed: false,
            deadline,
        };
        let mut noted = None;
        loop {
            let reply = self.updates.send(update.clone()).await?;
            let (verdict, origin) = Verdict::of(reply, version)?;
            return match (verdict, &record.subject) {
                (Verdict::Done, subject) => {
                    self.confirmed(deadline, &origin, noted.as_ref()).await?;
                    self.tidied(deadline, subject.as_ref(), noted).await;
                    Ok(version)
                }
                (Verdict::IndexFirst, Some(subject)) if noted.is_none() => {
                    noted = Some(self.note(deadline, subject, key, record, ttl).await?);
                    update.is_indexed = true;
                    continue;
                }
                // Ours may have been written, and changed, replaced or deleted by somebody else since.
                _ if origin.repeated => Err(Self::unknown()),
                (verdict, _) => Err(refusal(verdict)),
            };
        }
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.profile.check_ttl(ttl)?;
        let deadline = Deadline::after(self.write);
        let name = self.record_key(key);
        let mut command = cmd("PEXPIRE");
        command.arg(&name).arg(whole_millis(ttl));
        let reply = self
            .servers
            .ask(deadline, &name, Request::write(&command))
            .await?;
        match reply.flag()? {
            true => Ok(()),
            false => Err(Self::fail(ErrorKind::NotFound)),
        }
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        let deadline = Deadline::after(self.write);
        let name = self.record_key(key);
        let (verdict, origin) = match expected {
            None => {
                let mut command = cmd("DEL");
                command.arg(&name);
                let Reply { value, origin } = self
                    .servers
                    .ask(deadline, &name, Request::write(&command))
                    .await?;
                match origin.flag(value)? {
                    true => (Verdict::Done, origin),
                    false => (Verdict::Absent, origin),
                }
            }
            Some(expected) => {
                let mark = head::mark(key);
                let arguments = [mark.as_slice(), expected.as_bytes()];
                let reply = script::DELETE
                    .run(&self.servers, deadline, &[&name], &arguments)
                    .await?;
                Verdict::of(reply, expected)?
            }
        };
        match verdict {
            Verdict::Done => self.confirmed(deadline, &origin, None).await.map(|()| true),
            // The first try may have found it, and what is there now came later: whether there was one is not known.
            _ if origin.repeated => Err(Self::unknown()),
            // Perhaps it was deleted a moment ago, by a call which was told that no replica knew of that yet.
            Verdict::Absent => self.confirmed(deadline, &origin, None).await.map(|()| false),
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
