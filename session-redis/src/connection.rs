//! One connection that all calls share, and that is replaced when it breaks.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, RedisResult, ServerErrorKind, Value,
    aio::MultiplexedConnection,
};
use tokio::sync::watch;

/// How long after a failed attempt the next one is made: at random in between, so that the nodes of a site do not all
/// knock at once. Calls in the meantime fail at once.
const PAUSE: std::ops::Range<u64> = 10..100;

/// A connection that all calls share: `redis` pipelines what they send, and gives each its own reply, also when a call
/// was dropped before its reply came.
pub(crate) struct Connection {
    client: Client,
    connect: Duration,
    link: Mutex<Option<Link>>,
}

/// Commands and whether they may be sent twice.
#[derive(Clone, Copy)]
pub(crate) enum Request<'a> {
    /// One command, which another connection repeats when the first one broke: its second effect is its first.
    Again(&'a Cmd),
    /// Commands that travel together, and as many replies.
    Many(&'a Pipeline),
}

/// When a call ends, whatever it is at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: tokio::time::Instant,
    limit: Duration,
}

impl Deadline {
    /// `limit` from now.
    pub(crate) fn after(limit: Duration) -> Self {
        let at = tokio::time::Instant::now() + limit;
        Self { at, limit }
    }
}

/// A reply.
pub(crate) struct Reply {
    pub(crate) value: Value,
    /// The first try may have arrived too.
    pub(crate) repeated: bool,
}

/// Why there is no reply.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The client's error: no connection, a broken one, or what the server answered.
    Redis(RedisError),
    /// Connecting took too long.
    Connect(Duration),
    /// The reply took too long.
    Deadline(Duration),
    /// The runtime ended while it connected.
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
    Failed { failure: FailureOf, until: Instant },
}

/// [`Failure`] of an attempt, for each of the calls that waited for it.
#[derive(Clone)]
enum FailureOf {
    Redis(RedisError),
    Slow(Duration),
}

impl Connection {
    pub(crate) fn new(client: Client, connect: Duration) -> Self {
        Self {
            client,
            connect,
            link: Mutex::new(None),
        }
    }

    /// How long connecting may take.
    pub(crate) fn patience(&self) -> Duration {
        self.connect
    }

    /// Sends a request and waits for its reply until `deadline`, connecting included.
    ///
    /// A connection that did not answer in time is not used again: what it still has to say is nobody's.
    pub(crate) async fn ask(&self, deadline: Deadline, request: Request<'_>) -> Result<Reply, Failure> {
        let mut used = None;
        match tokio::time::timeout_at(deadline.at, self.tries(request, &mut used)).await {
            Ok(answer) => answer,
            Err(_) => {
                // Connecting goes on for the calls that come later.
                if let Some(number) = used {
                    self.forget(number);
                }
                Err(Failure::Deadline(deadline.limit))
            }
        }
    }

    async fn tries(&self, request: Request<'_>, used: &mut Option<u64>) -> Result<Reply, Failure> {
        let mut repeated = false;
        loop {
            let (number, mut connection) = self.connected().await?;
            *used = Some(number);
            let error = match request.send(&mut connection).await {
                Ok(value) => return Ok(Reply { value, repeated }),
                Err(error) => error,
            };
            // A replica: after a failover behind a name, the name leads to the new master.
            let replica = error.kind() == redis::ErrorKind::Server(ServerErrorKind::ReadOnly);
            if replica || error.is_unrecoverable_error() || error.is_io_error() {
                self.forget(number);
                // The server was restarted, say, and this is the first call since: no reason to fail it.
                if error.is_io_error() && !repeated {
                    repeated = true;
                    continue;
                }
            }
            return Err(Failure::Redis(error));
        }
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
            Some(Outcome::Failed { failure, .. }) => Err(match failure {
                FailureOf::Redis(error) => Failure::Redis(error),
                FailureOf::Slow(limit) => Failure::Connect(limit),
            }),
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
        let (client, limit) = (self.client.clone(), self.connect);
        // A task of its own: the call that began it may be dropped, or have less time than connecting takes.
        tokio::spawn(async move {
            sender.send_replace(Some(attempt(&client, limit).await));
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
        self.client.get_connection_info().addr().fmt(f)
    }
}

async fn attempt(client: &Client, limit: Duration) -> Outcome {
    // No time-out of the client's own for replies: every call has its deadline.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None);
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    let failure = match tokio::time::timeout(limit, connecting).await {
        Ok(Ok(connection)) => return Outcome::Ready(connection),
        Ok(Err(error)) => FailureOf::Redis(error),
        Err(_) => FailureOf::Slow(limit),
    };
    let until = Instant::now() + Duration::from_millis(fastrand::u64(PAUSE));
    Outcome::Failed { failure, until }
}

impl Link {
    fn is_over(&self) -> bool {
        matches!(&*self.outcome.borrow(), Some(Outcome::Failed { until, .. }) if Instant::now() >= *until)
    }
}

impl Request<'_> {
    async fn send(&self, connection: &mut MultiplexedConnection) -> RedisResult<Value> {
        match self {
            Self::Again(command) => connection.send_packed_command(command).await?.extract_error(),
            Self::Many(commands) => connection
                .send_packed_commands(commands, 0, commands.len())
                .await
                // One command's error is not the others'.
                .map(Value::Array),
        }
    }
}

impl Failure {
    /// The server does not have the script.
    pub(crate) fn is_no_script(&self) -> bool {
        matches!(self, Self::Redis(error) if error.kind() == redis::ErrorKind::Server(ServerErrorKind::NoScript))
    }
}
