//! The scripts. Each needs one key, so each runs on a Cluster too.

use std::sync::LazyLock;

use redis::{Cmd, Value};
use session_core::{Result, Version};

use crate::{
    connection::Deadline,
    error,
    reply::{Origin, Reply},
    request::Request,
    servers::Opened,
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

    /// Runs the script on keys of one server, by its hash; with its text when the server does not have it (a restart, a
    /// failover, SCRIPT FLUSH), after which it does.
    pub(crate) async fn run(
        &self,
        servers: &Opened,
        deadline: Deadline,
        keys: &[&[u8]],
        arguments: &[&[u8]],
    ) -> Result<Reply> {
        let first = keys.first().copied().unwrap_or_default();
        let by_hash = command("EVALSHA", &self.hash, keys, arguments);
        let missing = match servers.ask(deadline, first, Request::write(&by_hash)).await {
            Err(failure) if failure.is_no_script() => failure,
            seen => return Ok(seen?),
        };
        let by_text = command("EVAL", self.code, keys, arguments);
        let mut reply = servers.ask(deadline, first, Request::write(&by_text)).await?;
        // The server that lost its scripts may have run this one before it did.
        reply.origin.repeated |= missing.repeated();
        Ok(reply)
    }

    /// Runs the script once for each key and its arguments, in as few round trips as there are servers; the sum of
    /// the answers, 0 or 1 each, and where they came from, each once.
    pub(crate) async fn run_each(
        &self,
        servers: &Opened,
        deadline: Deadline,
        calls: &[(Vec<u8>, [&[u8]; 2])],
    ) -> Result<(u64, Vec<Origin>)> {
        let commands = |name: &str, script: &str, calls: &[&(Vec<u8>, [&[u8]; 2])]| -> Vec<_> {
            let of =
                |call: &&(Vec<u8>, [&[u8]; 2])| (call.0.clone(), command(name, script, &[&call.0], &call.1));
            calls.iter().map(of).collect()
        };
        let all: Vec<_> = calls.iter().collect();
        let by_hash = commands("EVALSHA", &self.hash, &all);
        let mut replies = servers.ask_each(deadline, &by_hash, true).await?;
        let is_missing =
            |reply: &Reply| matches!(&reply.value, Value::ServerError(error) if error.code() == "NOSCRIPT");
        let missing: Vec<_> = all
            .into_iter()
            .zip(&replies)
            .filter_map(|(call, reply)| is_missing(reply).then_some(call))
            .collect();
        if !missing.is_empty() {
            // A server that lost its scripts may have run them before it did.
            let repeated = replies.iter().any(|reply| reply.origin.repeated);
            replies.retain(|reply| !is_missing(reply));
            let by_text = commands("EVAL", self.code, &missing);
            for mut reply in servers.ask_each(deadline, &by_text, true).await? {
                reply.origin.repeated |= repeated;
                replies.push(reply);
            }
        }
        let mut origins: Vec<Origin> = Vec::new();
        for Reply { origin, .. } in &replies {
            if !origins.iter().any(|known| known.is_same(origin)) {
                origins.push(origin.clone());
            }
        }
        let sum = replies
            .into_iter()
            .map(|reply| reply.flag().map(u64::from))
            .sum::<Result<u64>>()?;
        Ok((sum, origins))
    }
}

fn command(name: &str, script: &str, keys: &[&[u8]], arguments: &[&[u8]]) -> Cmd {
    let mut command = Cmd::new();
    command
        .arg(name)
        .arg(script)
        .arg(keys.len())
        .arg(keys)
        .arg(arguments);
    command
}

impl Verdict {
    /// What a script on a record answered; `done` is the version with which it tells that it did what it was to do.
    /// So the success of one call is never taken for another's.
    pub(crate) fn of(reply: Reply, done: Version) -> Result<(Self, Origin)> {
        let Reply { value, origin } = reply;
        let verdict = match &value {
            Value::BulkString(told) if told == done.as_bytes() => Self::Done,
            Value::Int(0) => Self::Absent,
            Value::Int(2) => Self::Conflict,
            Value::Int(3) => Self::IndexFirst,
            Value::Int(4) => Self::Unreadable,
            Value::Int(5) => Self::Newer,
            Value::ServerError(error) => return Err(error::of(&error.clone().into())),
            _ => return Err(origin.out_of_step("a script answered what it never does")),
        };
        Ok((verdict, origin))
    }
}
