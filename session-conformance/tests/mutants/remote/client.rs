//! The client. Without a fault: a connection carries one request at a time, is out of the pool while it does, and comes
//! back only when its reply has been read whole. A read is sent twice if its connection broke, a write never.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use session_conformance::async_trait;
use session_core::{
    Error, ErrorKind, Record, Result, SessionKey, SessionStore, StoreProfile, Stored, Subject, Subjects,
    Sweep, Version, head,
};
use tokio::{net::TcpStream, sync::Semaphore};

use super::frame::{self, Ask, Row, Say};
use crate::{list::Fault, naive::NAME};

const DEADLINE: Duration = Duration::from_millis(500);

/// Connections at most.
const POOL: usize = 8;

pub(super) struct RemoteStore {
    server: SocketAddr,
    namespace: String,
    password: String,
    profile: StoreProfile,
    fault: Option<Fault>,
    permits: Semaphore,
    idle: Mutex<Vec<TcpStream>>,
    /// What only some mutants have.
    has_connected: AtomicBool,
}

/// Why there is no reply.
#[derive(Debug)]
enum Failure {
    /// The connection broke, or there is none.
    Broken(io::Error),
    /// The server said something that is no answer to this.
    Strange,
    Denied,
    Late,
}

/// A connection that is in use.
struct Lease<'a> {
    store: &'a RemoteStore,
    connection: Option<TcpStream>,
    /// Nothing is on its way.
    is_clean: bool,
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let is_kept = self.is_clean || self.store.has(Fault::UnreadReplyIsKept);
        if let Some(connection) = self.connection.take().filter(|_| is_kept) {
            self.store.idle().push(connection);
        }
    }
}

impl RemoteStore {
    pub(super) fn new(
        server: SocketAddr,
        namespace: String,
        password: String,
        profile: StoreProfile,
        fault: Option<Fault>,
    ) -> Self {
        Self {
            server,
            namespace,
            password,
            profile,
            fault,
            permits: Semaphore::new(POOL),
            idle: Mutex::default(),
            has_connected: AtomicBool::new(false),
        }
    }

    fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<TcpStream>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, failure: Failure) -> Error {
        let error = Error::new(ErrorKind::Unavailable, NAME);
        match failure {
            Failure::Denied if self.has(Fault::PasswordInError) => {
                error.with_source(format!("cannot enter with {:?}", self.password))
            }
            Failure::Broken(source) => error.with_source(source),
            failure => error.with_detail(format!("{failure:?}")),
        }
    }

    /// One request and its reply, within the deadline.
    async fn ask(&self, ask: &Ask) -> Result<Say, Failure> {
        if self.has(Fault::PoolWaitHasNoLimit) {
            let _permit = self.permits.acquire().await.map_err(|_| Failure::Late)?;
            return self.within_deadline(self.round_trip(ask)).await;
        }
        self.within_deadline(async {
            let permit = self.permits.acquire().await.map_err(|_| Failure::Late)?;
            match self.has(Fault::LateCallKeepsItsPlace) {
                true => {
                    // Given back at the end, which a dropped future does not reach.
                    permit.forget();
                    let reply = self.round_trip(ask).await;
                    self.permits.add_permits(1);
                    reply
                }
                false => self.round_trip(ask).await,
            }
        })
        .await
    }

    async fn within_deadline(
        &self,
        reply: impl Future<Output = Result<Say, Failure>>,
    ) -> Result<Say, Failure> {
        match self.has(Fault::NoDeadlineForReplies) {
            true => reply.await,
            false => tokio::time::timeout(DEADLINE, reply)
                .await
                .unwrap_or(Err(Failure::Late)),
        }
    }

    async fn round_trip(&self, ask: &Ask) -> Result<Say, Failure> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let mut lease = Lease {
            store: self,
            connection: Some(connection),
            is_clean: false,
        };
        let reply = self.exchange(&mut lease, ask).await;
        match &reply {
            Ok(say) => lease.is_clean = self.is_in_step(ask, say) || self.has(Fault::OutOfStepIsKept),
            Err(_) => lease.is_clean = self.has(Fault::BrokenConnectionIsKept),
        }
        reply
    }

    async fn exchange(&self, lease: &mut Lease<'_>, ask: &Ask) -> Result<Say, Failure> {
        let Some(connection) = &mut lease.connection else {
            return Err(Failure::Strange);
        };
        let body = serde_json::to_vec(ask).map_err(|_| Failure::Strange)?;
        frame::write(connection, &body).await.map_err(Failure::Broken)?;
        let reply = match self.fault {
            Some(Fault::CutReplyIsWhole) => frame::read_what_comes(connection).await,
            Some(Fault::ChunkIsReply) => frame::read_once(connection).await,
            _ => frame::read(connection).await,
        };
        Say::read(&reply.map_err(Failure::Broken)?).ok_or(Failure::Strange)
    }

    async fn connect(&self) -> Result<TcpStream, Failure> {
        if self.has(Fault::NeverReconnects) && self.has_connected.swap(true, Ordering::SeqCst) {
            return Err(Failure::Strange);
        }
        let tries = if self.has(Fault::WrongPasswordIsRetried) {
            3
        } else {
            1
        };
        for _ in 0..tries {
            let mut connection = TcpStream::connect(self.server).await.map_err(Failure::Broken)?;
            let (namespace, password) = (self.namespace.clone(), self.password.clone());
            let enter = serde_json::to_vec(&Ask::Enter { namespace, password });
            let enter = enter.map_err(|_| Failure::Strange)?;
            frame::write(&mut connection, &enter)
                .await
                .map_err(Failure::Broken)?;
            let reply = frame::read(&mut connection).await.map_err(Failure::Broken)?;
            match Say::read(&reply) {
                Some(Say::Done) => return Ok(connection),
                Some(Say::Denied) => {}
                _ => return Err(Failure::Strange),
            }
        }
        Err(Failure::Denied)
    }

    /// Whether `say` may be the reply to `ask`, as far as one can tell.
    fn is_in_step(&self, ask: &Ask, say: &Say) -> bool {
        match (ask, say) {
            (Ask::Load { key }, Say::Found(_, value)) => {
                !head::is_of_another_key(&SessionKey::from_bytes(*key), value)
            }
            (Ask::Create { key, .. } | Ask::Update { key, .. }, Say::Written(written, _)) => {
                self.is_written(key, written)
            }
            (Ask::Load { .. }, Say::Absent)
            | (Ask::Touch { .. }, Say::Done)
            | (Ask::Delete { .. }, Say::Deleted(_))
            | (Ask::List { .. }, Say::Keys(_))
            | (Ask::DeleteAll { .. } | Ask::Sweep { .. }, Say::Count(_))
            | (_, Say::Refused(_)) => true,
            _ => false,
        }
    }

    /// A success is that of a write of this very key.
    fn is_written(&self, key: &[u8; 32], written: &[u8; 32]) -> bool {
        key == written || self.has(Fault::AnySuccessIsOwn)
    }

    /// A read: sent a second time if its connection broke.
    async fn read(&self, ask: Ask) -> Result<Say, Failure> {
        match self.ask(&ask).await {
            Err(Failure::Broken(_)) if self.has(Fault::CutReplyIsAbsent) => Ok(Say::Absent),
            Err(Failure::Broken(_)) => self.ask(&ask).await,
            reply => reply,
        }
    }

    /// A write: whether it arrived is unknown when its connection broke.
    async fn write(&self, ask: Ask) -> Result<Say, Failure> {
        let reply = self.ask(&ask).await;
        let Err(Failure::Broken(_)) = reply else {
            return reply;
        };
        let is_repeated = match (self.fault, &ask) {
            (Some(Fault::CreateIsRetried | Fault::OwnCreateIsRecognised), Ask::Create { .. })
            | (Some(Fault::UpdateIsRetried), Ask::Update { .. })
            | (Some(Fault::DeleteIsRetried), Ask::Delete { .. })
            | (Some(Fault::DeleteAllIsRetried), Ask::DeleteAll { .. }) => true,
            (Some(Fault::SentIsAcknowledged), Ask::Touch { .. }) => return Ok(Say::Done),
            (Some(Fault::SentIsAcknowledged), Ask::Delete { .. }) => return Ok(Say::Deleted(true)),
            _ => false,
        };
        match is_repeated {
            true => self.ask(&ask).await,
            false => reply,
        }
    }

    /// What is left of a reply when the one that was expected has been taken out.
    fn refuse<T>(&self, reply: Result<Say, Failure>) -> Result<T> {
        match reply {
            Ok(Say::Refused(kind)) => Err(Error::new(kind, NAME)),
            Ok(_) => Err(self.fail(Failure::Strange)),
            Err(failure) => Err(self.fail(failure)),
        }
    }
}

impl fmt::Debug for RemoteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RemoteStore");
        debug.field("server", &self.server);
        if self.has(Fault::PasswordInDebug) {
            debug.field("password", &self.password);
        }
        debug.finish_non_exhaustive()
    }
}

#[async_trait]
impl SessionStore for RemoteStore {
    async fn create(&self, key: &SessionKey, record: &Record, ttl: Duration) -> Result<Version> {
        self.profile.check(record, ttl)?;
        let (row, at) = (Row::new(record, ttl), *key.as_bytes());
        match self.write(Ask::Create { key: at, row }).await {
            Ok(Say::Written(written, version)) if self.is_written(&at, &written) => Ok(version),
            Ok(Say::Refused(ErrorKind::AlreadyExists)) if self.has(Fault::OwnCreateIsRecognised) => {
                match self.load(key).await? {
                    Some(stored) if stored.record == *record => Ok(stored.version),
                    _ => Err(Error::new(ErrorKind::AlreadyExists, NAME)),
                }
            }
            reply => self.refuse(reply),
        }
    }

    async fn load(&self, key: &SessionKey) -> Result<Option<Stored>> {
        let at = *key.as_bytes();
        match self.read(Ask::Load { key: at }).await {
            Ok(Say::Absent) => Ok(None),
            Ok(Say::Found(remaining, mut value)) => {
                if self.has(Fault::ReplyIsTakenByItsPlace) && value.len() >= head::LEN {
                    value[4..20].copy_from_slice(&at[..16]);
                }
                let (record, version) = head::open(NAME, key, &value.into())?;
                Ok(Some(Stored::new(record, version, remaining)))
            }
            reply => self.refuse(reply),
        }
    }

    async fn update(
        &self,
        key: &SessionKey,
        expected: Version,
        record: &Record,
        ttl: Duration,
    ) -> Result<Version> {
        self.profile.check(record, ttl)?;
        let (key, expected, row) = (*key.as_bytes(), *expected.as_bytes(), Row::new(record, ttl));
        match self.write(Ask::Update { key, expected, row }).await {
            Ok(Say::Written(written, version)) if self.is_written(&key, &written) => Ok(version),
            reply => self.refuse(reply),
        }
    }

    async fn touch(&self, key: &SessionKey, ttl: Duration) -> Result<()> {
        self.profile.check_ttl(ttl)?;
        let key = *key.as_bytes();
        match self.write(Ask::Touch { key, ttl }).await {
            Ok(Say::Done) => Ok(()),
            reply => self.refuse(reply),
        }
    }

    async fn delete(&self, key: &SessionKey, expected: Option<Version>) -> Result<bool> {
        let (key, expected) = (*key.as_bytes(), expected.map(|expected| *expected.as_bytes()));
        match self.write(Ask::Delete { key, expected }).await {
            Ok(Say::Deleted(found)) => Ok(found),
            reply => self.refuse(reply),
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
impl Subjects for RemoteStore {
    async fn list(&self, subject: &Subject) -> Result<Vec<SessionKey>> {
        let subject = subject.as_str().to_owned();
        match self.read(Ask::List { subject }).await {
            Ok(Say::Keys(keys)) => Ok(keys),
            reply => self.refuse(reply),
        }
    }

    async fn delete_all(&self, subject: &Subject, except: Option<&SessionKey>) -> Result<u64> {
        let (subject, except) = (
            subject.as_str().to_owned(),
            except.map(|except| *except.as_bytes()),
        );
        match self.write(Ask::DeleteAll { subject, except }).await {
            Ok(Say::Count(count)) => Ok(count),
            reply => self.refuse(reply),
        }
    }
}

#[async_trait]
impl Sweep for RemoteStore {
    async fn remove_expired(&self, max: usize) -> Result<usize> {
        match self.write(Ask::Sweep { most: max }).await {
            Ok(Say::Count(count)) => Ok(count as usize),
            reply => self.refuse(reply),
        }
    }
}
