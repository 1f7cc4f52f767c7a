//! The scripts. Each touches one key, so each runs on a Cluster too.

use std::sync::LazyLock;

use redis::{Cmd, Pipeline, Value};
use session_core::Result;

use crate::{
    connection::{Connection, Deadline, Request},
    error,
};

/// A script and its SHA-1.
pub(crate) struct Script {
    code: &'static str,
    hash: String,
}

/// What the scripts on a record answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Absent,
    Done,
    Conflict,
    IndexFirst,
    Unreadable,
    Newer,
}

pub(crate) static UPDATE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("scripts/check.lua"),
        include_str!("scripts/update.lua")
    ))
});
pub(crate) static DELETE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(
        include_str!("scripts/check.lua"),
        include_str!("scripts/delete.lua")
    ))
});
pub(crate) static END: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/end.lua")));
pub(crate) static INDEX: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/index.lua")));
pub(crate) static PRUNE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/prune.lua")));

impl Script {
    fn new(code: &'static str) -> Self {
        let hash = redis::Script::new(code).get_hash().to_owned();
        Self { code, hash }
    }

    /// Runs the script on one key, by its hash; with its text when the server does not have it (a restart, a failover,
    /// SCRIPT FLUSH), after which it does. Tells whether an earlier try may have arrived too.
    pub(crate) async fn run(
        &self,
        connection: &Connection,
        deadline: Deadline,
        key: &[u8],
        arguments: &[&[u8]],
    ) -> Result<(i64, bool)> {
        let by_hash = command("EVALSHA", &self.hash, key, arguments);
        let seen = match connection.ask(deadline, Request::Again(&by_hash)).await {
            Err(failure) if failure.is_no_script() => {
                let by_text = command("EVAL", self.code, key, arguments);
                connection.ask(deadline, Request::Again(&by_text)).await
            }
            seen => seen,
        };
        let reply = seen?;
        Ok((error::integer(reply.value)?, reply.repeated))
    }

    /// Runs the script once for each key and its arguments, in one round trip, and adds up the answers.
    pub(crate) async fn run_each(
        &self,
        connection: &Connection,
        deadline: Deadline,
        calls: &[(Vec<u8>, [&[u8]; 2])],
    ) -> Result<u64> {
        let pipeline = |name: &str, script: &str| {
            let mut commands = Pipeline::with_capacity(calls.len());
            for (key, arguments) in calls {
                commands.add_command(command(name, script, key, arguments));
            }
            commands
        };
        let by_hash = pipeline("EVALSHA", &self.hash);
        let mut replies = many(connection.ask(deadline, Request::Many(&by_hash)).await?.value)?;
        // Those that have been answered do nothing a second time, but count.
        let is_missing =
            |reply: &Value| matches!(reply, Value::ServerError(error) if error.code() == "NOSCRIPT");
        if replies.iter().any(is_missing) {
            replies.retain(|reply| !is_missing(reply));
            let by_text = pipeline("EVAL", self.code);
            replies.extend(many(
                connection.ask(deadline, Request::Many(&by_text)).await?.value,
            )?);
        }
        replies
            .into_iter()
            .map(|reply| error::integer(reply).map(i64::unsigned_abs))
            .sum()
    }
}

fn command(name: &str, script: &str, key: &[u8], arguments: &[&[u8]]) -> Cmd {
    let mut command = Cmd::new();
    command.arg(name).arg(script).arg(1).arg(key).arg(arguments);
    command
}

fn many(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(error::unexpected("several replies were expected")),
    }
}

impl Verdict {
    pub(crate) fn of(answer: i64) -> Result<Self> {
        Ok(match answer {
            0 => Self::Absent,
            1 => Self::Done,
            2 => Self::Conflict,
            3 => Self::IndexFirst,
            4 => Self::Unreadable,
            5 => Self::Newer,
            _ => return Err(error::unexpected("a script answered with an unknown number")),
        })
    }
}
