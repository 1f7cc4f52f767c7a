//! Which server is the primary: as Sentinels say, and as the server says itself.
//!
//! All Sentinels are asked at once, and every server that one of them names is asked at once whether it is a primary;
//! the first that is one counts. So neither a Sentinel that hangs with its machine nor one that is behind the others
//! is in the way (the protocol: <https://redis.io/docs/latest/develop/reference/sentinel-clients/>).

use std::{collections::HashSet, fmt};

use redis::{Client, ErrorKind, RedisError, Value, aio::MultiplexedConnection, cmd};
use tokio::task::JoinSet;

use crate::{
    address::{Address, Template},
    connection::{Failure, open},
};

/// Sentinels, the name under which they watch a primary, and how to log in there.
pub(crate) struct Sentinels {
    sentinels: Vec<Client>,
    service: String,
    server: Template,
}

/// What came of asking somebody.
enum Step {
    /// A Sentinel names a server.
    Named(Address),
    /// A server is the primary.
    Primary(MultiplexedConnection),
    Failed(Failure),
}

impl Sentinels {
    pub(crate) fn new(sentinels: Vec<Client>, service: String, server: Template) -> Self {
        Self {
            sentinels,
            service,
            server,
        }
    }

    /// A connection to the primary. Takes as long as it takes: the caller has a deadline.
    pub(crate) async fn connect(&self) -> Result<MultiplexedConnection, Failure> {
        let mut steps = JoinSet::new();
        for sentinel in &self.sentinels {
            steps.spawn(name(sentinel.clone(), self.service.clone()));
        }
        let (mut named, mut why) = (HashSet::new(), None);
        while let Some(step) = steps.join_next().await {
            match step {
                Ok(Step::Primary(connection)) => return Ok(connection),
                Ok(Step::Named(address)) => {
                    if named.insert(address.clone()) {
                        steps.spawn(log_in(self.server.client(&address), address));
                    }
                }
                // What a server said tells more than what a Sentinel did not say.
                Ok(Step::Failed(failure)) if why.is_none() || !named.is_empty() => why = Some(failure),
                Ok(Step::Failed(_)) => {}
                Err(_) => why = Some(Failure::Ended),
            }
        }
        Err(why.unwrap_or_else(|| Failure::Nowhere("there is no Sentinel to ask".to_owned())))
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
        Ok((connection, true)) => Step::Primary(connection),
        Ok((_, false)) => {
            let text =
                format!("Sentinel names {address}, which is no primary (yet): a failover is under way");
            Step::Failed(Failure::Nowhere(text))
        }
        Err(error) => Step::Failed(error.into()),
    }
}

/// `sessions of Sentinel 127.0.0.1:26379, 127.0.0.1:26380`
impl fmt::Display for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of Sentinel ", self.service)?;
        for (at, sentinel) in self.sentinels.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{}", sentinel.get_connection_info().addr())?;
        }
        Ok(())
    }
}
