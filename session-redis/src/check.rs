//! What in the servers' configuration loses sessions.

use std::{collections::HashMap, fmt, sync::Arc};

use redis::{Pipeline, Value};
use session_core::Result;

use crate::{RedisStore, connection::Deadline, error, node::Node, request::Request};

/// Something in a server's configuration loses sessions. Its text says what to change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// `maxmemory-policy` is not `noeviction`: when memory runs short, the server drops sessions that are in use.
    Evicts {
        /// The server's address.
        server: String,
        /// The policy.
        policy: String,
    },
    /// Nothing is written to disk: a restart ends every session.
    NotPersistent {
        /// The server's address.
        server: String,
    },
    /// Only snapshots are written to disk: a crash loses what came after the last one, log-outs among it.
    SnapshotsOnly {
        /// The server's address.
        server: String,
    },
    /// The group fails over, and its primary takes writes without any replica: what it acknowledged while it was cut
    /// off is lost.
    WritesAlone {
        /// The server's address.
        server: String,
    },
    /// The user may not ask for the configuration.
    NotChecked {
        /// The server's address.
        server: String,
        /// What the server answered.
        why: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Evicts { server, policy } => write!(
                f,
                "{server} drops sessions when memory runs short (maxmemory-policy {policy}): set noeviction, on a \
                 server of its own"
            ),
            Self::NotPersistent { server } => write!(
                f,
                "{server} keeps sessions in memory alone, and a restart ends them all: set appendonly yes"
            ),
            Self::SnapshotsOnly { server } => write!(
                f,
                "{server} writes snapshots alone, and a crash loses minutes of sessions: set appendonly yes"
            ),
            Self::WritesAlone { server } => write!(
                f,
                "{server} acknowledges writes that no replica has, and a failover loses them: set \
                 min-replicas-to-write 1"
            ),
            Self::NotChecked { server, why } => write!(
                f,
                "the configuration of {server} was not checked ({why}): allow the user info and config|get"
            ),
        }
    }
}

/// Asks every server that has sessions.
pub(crate) async fn servers(store: &RedisStore) -> Result<Vec<Warning>> {
    let patience = || Deadline::after(store.connect.saturating_add(store.read));
    let mut warnings = Vec::new();
    for node in store.servers.nodes(patience()).await? {
        warnings.extend(server(store, &node, patience()).await?);
    }
    Ok(warnings)
}

async fn server(store: &RedisStore, node: &Arc<Node>, deadline: Deadline) -> Result<Vec<Warning>> {
    let mut commands = Pipeline::with_capacity(2);
    commands.cmd("INFO").arg("memory").arg("persistence");
    commands
        .cmd("CONFIG")
        .arg("GET")
        .arg("save")
        .arg("min-replicas-to-write");
    let (replies, _) = node.ask(deadline, Request::read_many(&commands)).await?.many(2)?;
    let server = node.to_string();
    let (mut told, mut warnings) = (HashMap::new(), Vec::new());
    for reply in replies {
        match reply {
            Value::ServerError(error) => warnings.push(Warning::NotChecked {
                server: server.clone(),
                why: error::detail(&error.into()),
            }),
            reply => told.extend(settings(reply)),
        }
    }
    let is = |name: &str, value: &str| told.get(name).is_some_and(|told| told == value);
    if let Some(policy) = told
        .get("maxmemory_policy")
        .filter(|policy| *policy != "noeviction")
    {
        warnings.push(Warning::Evicts {
            server: server.clone(),
            policy: policy.clone(),
        });
    }
    if is("aof_enabled", "0") {
        if is("save", "") {
            warnings.push(Warning::NotPersistent {
                server: server.clone(),
            });
        } else if told.contains_key("save") {
            warnings.push(Warning::SnapshotsOnly {
                server: server.clone(),
            });
        }
    }
    if store.may_fail_over && is("min-replicas-to-write", "0") {
        warnings.push(Warning::WritesAlone { server });
    }
    Ok(warnings)
}

/// The lines of `INFO` (`name:value`), or the pairs of `CONFIG GET`.
fn settings(reply: Value) -> Vec<(String, String)> {
    let text = |value: Value| match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Value::SimpleString(text) => text,
        Value::VerbatimString { text, .. } => text,
        _ => String::new(),
    };
    match reply {
        Value::Array(parts) => {
            let mut parts = parts.into_iter();
            std::iter::from_fn(|| Some((text(parts.next()?), text(parts.next()?)))).collect()
        }
        Value::Map(pairs) => pairs
            .into_iter()
            .map(|(name, value)| (text(name), text(value)))
            .collect(),
        reply => {
            let pair = |line: &str| {
                let (name, value) = line.split_once(':')?;
                Some((name.to_owned(), value.to_owned()))
            };
            text(reply).lines().filter_map(pair).collect()
        }
    }
}
