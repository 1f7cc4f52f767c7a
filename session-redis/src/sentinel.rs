//! Which server is the primary: as Sentinels say, and as the server says itself.
//!
//! All Sentinels are asked at once, and every server that one of them names is asked at once whether it is a primary.
//! The one that most Sentinels name counts; without most of them, the one that is named most often a moment later. So
//! neither a Sentinel that hangs with its machine is in the way, nor one that is behind the others, together with the old
//! primary that has just come back and still takes itself for one (the protocol: <https://redis.io/docs/latest/develop/reference/sentinel-clients/>).

use std::{collections::HashMap, fmt, time::Duration};

use redis::{Client, ErrorKind, RedisError, Value, aio::MultiplexedConnection, cmd};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use crate::{
    address::{Address, Template},
    connection::{Failure, open},
};

/// How long a primary that not most Sentinels have named waits for the others to speak.
const MOMENT: Duration = Duration::from_millis(100);

/// Sentinels, the name under which they watch a primary, and how to log in there.
pub(crate) struct Sentinels {
    sentinels: Vec<Client>,
    service: String,
    server: Template,
    /// Where they are, without user and password.
    place: String,
}

/// What came of asking somebody.
enum Step {
    /// A Sentinel names a server.
    Named(Address),
    /// A server is the primary.
    Primary(Address, MultiplexedConnection),
    Failed(Failure),
}

impl Sentinels {
    pub(crate) fn new(sentinels: Vec<Client>, service: String, server: Template, place: String) -> Self {
        Self {
            sentinels,
            service,
            server,
            place,
        }
    }

    /// A connection to the primary. Takes as long as it takes: the caller has a deadline.
    pub(crate) async fn connect(&self) -> Result<MultiplexedConnection, Failure> {
        let mut steps = JoinSet::new();
        for sentinel in &self.sentinels {
            steps.spawn(name(sentinel.clone(), self.service.clone()));
        }
        let mut named: HashMap<Address, usize> = HashMap::new();
        let (mut primaries, mut until, mut why) = (Vec::new(), None, None);
        loop {
            let most = |(at, _): &(Address, _)| named.get(at).is_some_and(|by| by * 2 > self.sentinels.len());
            if let Some(found) = primaries.iter().position(most) {
                return Ok(primaries.swap_remove(found).1);
            }
            let step = match until {
                None => steps.join_next().await,
                // The others are silent: then they are not waited for.
                Some(until) => timeout_at(until, steps.join_next()).await.unwrap_or(None),
            };
            match step {
                None => break,
                Some(Ok(Step::Primary(at, connection))) => {
                    primaries.push((at, connection));
                    until.get_or_insert_with(|| Instant::now() + MOMENT);
                }
                Some(Ok(Step::Named(address))) => {
                    let by = named.entry(address.clone()).or_insert(0);
                    *by += 1;
                    if *by == 1 {
                        steps.spawn(log_in(self.server.client(&address), address));
                    }
                }
                // What a server said tells more than what a Sentinel did not say.
                Some(Ok(Step::Failed(failure))) if why.is_none() || !named.is_empty() => why = Some(failure),
                Some(Ok(Step::Failed(_))) => {}
                Some(Err(_)) => why = Some(Failure::Ended),
            }
        }
        let by = |(at, _): &(Address, _)| named.get(at).copied();
        match primaries.into_iter().max_by_key(by) {
            Some((_, connection)) => Ok(connection),
            None => Err(why.unwrap_or_else(|| Failure::Nowhere("there is no Sentinel to ask".to_owned()))),
        }
    }
}

/// Asks a Sentinel.
async fn name(sentinel: Client, service: String) -> Step {
    let at = sentinel.get_connection_info().addr().to_string();
    let asked = async {
        let mut connection = open(&sentinel).await?;
        let mut ask = cmd("SENTINEL");
        ask.arg("GET-MASTER-ADDR-BY-NAME").arg(&service);
        ask.query_async::<Option<(String, u16)>>(&mut connection).await
    };
    match asked.await {
        Ok(Some((host, port))) => Step::Named(Address::new(host, port)),
        Ok(None) => Step::Failed(Failure::Nowhere(format!(
            "Sentinel {at} knows no service {service:?}"
        ))),
        Err(error) => Step::Failed(error.into()),
    }
}

/// Connects to a server, and asks whether it is a primary.
async fn log_in(client: Result<Client, RedisError>, address: Address) -> Step {
    let asked = async {
        let mut connection = open(&client?).await?;
        let role: Value = cmd("ROLE").query_async(&mut connection).await?;
        let is_primary = match &role {
            Value::Array(parts) => {
                matches!(parts.first(), Some(Value::BulkString(role)) if role == b"master")
            }
            _ => {
                return Err(RedisError::from((
                    ErrorKind::UnexpectedReturnType,
                    "ROLE tells no role",
                )));
            }
        };
        Ok((connection, is_primary))
    };
    match asked.await {
        Ok((connection, true)) => Step::Primary(address, connection),
        Ok((_, false)) => {
            let text =
                format!("Sentinel names {address}, which is no primary (yet): a failover is under way");
            Step::Failed(Failure::Nowhere(text))
        }
        Err(error) => Step::Failed(error.into()),
    }
}

impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.place)
    }
}
