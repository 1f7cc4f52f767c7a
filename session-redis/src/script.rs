//! The scripts. Each touches one key, so each runs on a Cluster too.

use std::sync::LazyLock;

use redis::Cmd;
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
        let command = |name: &str, script: &str| {
            let mut command = Cmd::new();
            command.arg(name).arg(script).arg(1).arg(key).arg(arguments);
            command
        };
        let by_hash = command("EVALSHA", &self.hash);
        let seen = match connection.ask(deadline, Request::Again(&by_hash)).await {
            Err(failure) if failure.is_no_script() => {
                let by_text = command("EVAL", self.code);
                connection.ask(deadline, Request::Again(&by_text)).await
            }
            seen => seen,
        };
        let reply = seen?;
        Ok((error::integer(reply.value)?, reply.repeated))
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
