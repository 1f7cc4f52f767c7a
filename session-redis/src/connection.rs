//! One connection that all calls share, and that is replaced when it breaks.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redis::{
    AsyncConnectionConfig, Client, RedisError, RedisResult, ServerErrorKind, Value,
    aio::MultiplexedConnection,
};
use tokio::sync::watch;

use crate::{request::Request, sentinel::Sentinels};

/// How long after a failed attempt the next one is made: at random in between, so that the nodes of a site do not all
/// knock at once. Calls in the meantime fail at once.
pub(crate) const PAUSE: std::ops::Range<u64> = 10..100;

/// A connection that all calls share: `redis` pipelines what they send, and gives each its own reply, also when a call
/// was dropped before its reply came.
pub(crate) struct Connection {
    to: Target,
    connect: Duration,
    link: Mutex<Option<Link>>,
}

/// Whom it is a connection to.
#[derive(Clone)]
pub(crate) enum Target {
    /// This server.
    Server(Arc<Client>),
    /// Whichever server is the primary, as Sentinels say.
    Primary(Arc<Sentinels>),
}

/// When a call ends, whatever it is at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: tokio::time::Instant,
    pub(crate) limit: Duration,
}

impl Deadline {
    /// `limit` from now; a hundred years from now, if no clock goes that far.
    pub(crate) fn after(limit: Duration) -> Self {
        const LONG: Duration = Duration::from_secs(100 * 366 * 24 * 60 * 60);
        let now = tokio::time::Instant::now();
        let at = now.checked_add(limit).unwrap_or_else(|| now + LONG);
        Self { at, limit }
    }
}

/// A request that waits for its reply, over the connection of this number. Whoever gives up at its deadline, be it by dropping the
/// call, forgets the connection; connecting goes on for the calls that come later. A call that is dropped before disturbs
/// nobody.
struct Waiting<'a> {
    connection: &'a Connection,
    number: Option<u64>,
    until: tokio::time::Instant,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number
            && tokio::time::Instant::now() >= self.until
        {
            self.connection.forget(number);
        }
    }
}

/// What was answered.
pub(crate) struct Answer {
    pub(crate) value: Value,
    /// The first try may have arrived too.
    pub(crate) repeated: bool,
    /// Which of the connections that were one after the other it came over.
    pub(crate) number: u64,
}

/// Why there is no reply.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// The client's error: no connection, a broken one, or what the server answered.
    Redis {
        error: RedisError,
        /// An earlier try may have arrived.
        repeated: bool,
    },
    /// Connecting took too long.
    Connect(Duration),
    /// The reply took too long.
    Deadline(Duration),
    /// No server to send it to; why.
    Nowhere(String),
    /// What came is no reply to this request; what is wrong with it.
    Strange(&'static str),
    /// Written, but not yet by as many replicas as were asked for.
    Replicas {
        confirmed: u64,
        wanted: u64,
        within: Duration,
    },
    /// Whether replicas have it cannot be asked any more: the connection that wrote it is gone.
    Unconfirmed,
    /// As many calls wait for the server as may wait. Nothing was sent.
    Full,
    /// The runtime ended that connected, or that had it under way.
    Ended,
}

/// An attempt to connect, and its outcome once there is one.
#[derive(Clone)]
struct Link {
    number: u64,
    outcome: watch::Receiver<Option<Outcome>>,
}

#[derive(Clone)]
enum Outcome {
    Ready(MultiplexedConnection),
    Failed { failure: Failure, until: Instant },
}

impl Connection {
    pub(crate) fn new(to: Target, connect: Duration) -> Self {
        Self {
            to,
            connect,
            link: Mutex::new(None),
        }
    }

    /// Sends a request and waits for its reply until `deadline`, connecting included.
    ///
    /// A connection that did not answer in time is not used again: what it still has to say is nobody's.
    pub(crate) async fn ask(&self, deadline: Deadline, request: Request<'_>) -> Result<Answer, Failure> {
        let mut waiting = Waiting {
            connection: self,
            number: None,
            until: deadline.at,
        };
        let answer = tokio::time::timeout_at(deadline.at, self.tries(request, &mut waiting.number)).await;
        let answer = answer.map_err(|_| Failure::Deadline(deadline.limit))?;
        waiting.number = None;
        answer
    }

    async fn tries(&self, request: Request<'_>, used: &mut Option<u64>) -> Result<Answer, Failure> {
        let (mut repeated, mut moved) = (false, false);
        loop {
            let (number, mut connection) = self.connected().await?;
            *used = Some(number);
            let error = match request.send(&mut connection).await {
                Ok(value) => {
                    if request.is_refused_by_replica(&value) {
                        self.forget(number);
                    }
                    return Ok(Answer {
                        value,
                        repeated,
                        number,
                    });
                }
                Err(error) => error,
            };
            // A replica: after a failover the name, or Sentinel, leads to the new primary. Nothing was written.
            let replica = error.kind() == redis::ErrorKind::Server(ServerErrorKind::ReadOnly);
            if replica || error.is_unrecoverable_error() || error.is_io_error() {
                self.forget(number);
            }
            if replica && !moved {
                moved = true;
                continue;
            }
            // The server was restarted, say, and this is the first call since: no reason to fail it.
            if error.is_io_error() && request.repeatable && !repeated {
                repeated = true;
                continue;
            }
            return Err(Failure::Redis { error, repeated });
        }
    }

    /// Sends a request over exactly the connection `number`, if it is still the one in use.
    pub(crate) async fn ask_same(
        &self,
        number: u64,
        deadline: Deadline,
        request: Request<'_>,
    ) -> Result<Value, Failure> {
        let known = self.link().clone().filter(|link| link.number == number);
        let ready = known.and_then(|link| link.outcome.borrow().clone());
        let Some(Outcome::Ready(mut connection)) = ready else {
            return Err(Failure::Unconfirmed);
        };
        let sent = tokio::time::timeout_at(deadline.at, request.send(&mut connection)).await;
        let outcome = match sent {
            Ok(outcome) => outcome.map_err(Failure::from),
            Err(_) => Err(Failure::Deadline(deadline.limit)),
        };
        outcome.inspect_err(|_| self.forget(number))
    }

    /// The connection is not to be used again; calls that wait for a reply on it may still have it.
    pub(crate) fn forget(&self, number: u64) {
        let mut link = self.link();
        if link.as_ref().is_some_and(|link| link.number == number) {
            *link = None;
            tracing::debug!(server = %self, "connection given up");
        }
    }

    /// The connection, whichever it is, is not to be used again.
    pub(crate) fn forget_current(&self) {
        *self.link() = None;
    }

    async fn connected(&self) -> Result<(u64, MultiplexedConnection), Failure> {
        let Link { number, mut outcome } = self.current();
        let known = match outcome.wait_for(Option::is_some).await {
            Ok(known) => known.clone(),
            Err(_) => None,
        };
        match known {
            Some(Outcome::Ready(connection)) => Ok((number, connection)),
            Some(Outcome::Failed { failure, .. }) => Err(failure),
            None => {
                self.forget(number);
                Err(Failure::Ended)
            }
        }
    }

    /// The attempt that counts: a new one if there is none, or if the last one failed long enough ago.
    fn current(&self) -> Link {
        let mut link = self.link();
        let number = match &*link {
            Some(known) if !known.is_over() => return known.clone(),
            Some(known) => known.number + 1,
            None => fastrand::u64(..u64::MAX / 2),
        };
        let (sender, outcome) = watch::channel(None);
        let (to, limit) = (self.to.clone(), self.connect);
        // A task of its own: the call that began it may be dropped, or have less time than connecting takes.
        tokio::spawn(async move {
            sender.send_replace(Some(attempt(&to, limit).await));
        });
        let new = Link { number, outcome };
        *link = Some(new.clone());
        new
    }

    fn link(&self) -> MutexGuard<'_, Option<Link>> {
        // Nothing under this lock can panic half-way.
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where the server is, without user and password.
impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.to {
            Target::Server(client) => client.get_connection_info().addr().fmt(f),
            Target::Primary(sentinels) => sentinels.fmt(f),
        }
    }
}

async fn attempt(to: &Target, limit: Duration) -> Outcome {
    let connecting = async {
        match to {
            Target::Server(client) => open(client).await.map_err(Failure::from),
            Target::Primary(sentinels) => sentinels.connect().await,
        }
    };
    let failure = match tokio::time::timeout(limit, connecting).await {
        Ok(Ok(connection)) => return Outcome::Ready(connection),
        Ok(Err(failure)) => failure,
        Err(_) => Failure::Connect(limit),
    };
    let until = Instant::now() + Duration::from_millis(fastrand::u64(PAUSE));
    Outcome::Failed { failure, until }
}

/// A connection without time-outs of the client's own: every call has its deadline.
pub(crate) async fn open(client: &Client) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}

impl Link {
    fn is_over(&self) -> bool {
        matches!(&*self.outcome.borrow(), Some(Outcome::Failed { until, .. }) if Instant::now() >= *until)
    }
}

impl From<RedisError> for Failure {
    fn from(error: RedisError) -> Self {
        Self::Redis {
            error,
            repeated: false,
        }
    }
}

impl Failure {
    /// The server does not have the script.
    pub(crate) fn is_no_script(&self) -> bool {
        let kind = redis::ErrorKind::Server(ServerErrorKind::NoScript);
        matches!(self, Self::Redis { error, .. } if error.kind() == kind)
    }

    /// The server that should have answered may not be the one to ask any more.
    pub(crate) fn is_of_the_server(&self) -> bool {
        use ServerErrorKind::{ClusterDown, MasterDown, ReadOnly};
        match self {
            Self::Redis { error, .. } => match error.kind() {
                redis::ErrorKind::Server(kind) => matches!(kind, ClusterDown | MasterDown | ReadOnly),
                _ => true,
            },
            Self::Connect(_) | Self::Deadline(_) => true,
            _ => false,
        }
    }

    /// There was no reply, and the request may have arrived all the same.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Redis { error, .. } if error.is_io_error())
    }

    /// An earlier try than the one that failed may have arrived.
    pub(crate) fn repeated(&self) -> bool {
        matches!(self, Self::Redis { repeated: true, .. })
    }
}
