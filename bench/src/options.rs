//! The command line.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use lexopt::{Arg, Parser, ValueExt};

use crate::contest::Operation;

/// What `--help` prints.
pub(crate) const HELP: &str = "\
What the stores of this repository cost, beside their peers.

Usage: session-bench COMMAND [OPTIONS]

Commands:
  memcached          session-memcached and its client, one command a call, on one server
  memory             MemoryStore and tower-sessions-memory-store, in this process
  memory-expiry      how long calls of MemoryStore take while many sessions expire
  postgres           session-postgres, tower-sessions-sqlx-store and the bare client on one server
  postgres-sweep     how long loads take while session-postgres removes expired records
  redis              session-redis, tower-sessions-redis-store, actix-session and the bare client on one server

Options:
  --url URL          an existing server [default: one in a container]: memcached://HOST:PORT or redis://HOST:PORT, to which
                     sessions are added, or postgres://USER:PASSWORD@HOST/DATABASE, in which the schema
                     session_bench is dropped, made and dropped
  --json FILE        writes the figures to a file, too
  --size BYTES       data of a session [default: 1024]
  --help             print this and stop

Options of memcached, memory, postgres and redis:
  --only OPERATION   load, update, touch, visit, create or delete (what was created); may come again
                     [default: all of them]
  --callers N        callers at once; one alone is measured anyway [default: 64; 2 in memory]
  --rounds N         rounds, of which the median is reported [default: 5]
  --seconds N        how long each operation of each contestant is called in a round [default: 2]

Options of memory, memory-expiry and postgres-sweep:
  --rows N           sessions, those that expire, expired records [default: 1000000]
  --seconds N        how long loads are measured before the sweep or the end [default: 15; 5]
";

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Memcached(Options),
    Memory(Options),
    MemoryExpiry(Options),
    Redis(Options),
    Postgres(Options),
    PostgresSweep(Options),
}

#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) url: Option<String>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) size: usize,
    /// In the order of [`Operation::ALL`].
    pub(crate) operations: Vec<Operation>,
    pub(crate) callers: usize,
    pub(crate) rounds: usize,
    pub(crate) length: Duration,
    pub(crate) rows: u32,
}

/// Reads a command line, without the program's name.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, lexopt::Error> {
    let mut parser = Parser::from_args(arguments);
    let Some(argument) = parser.next()? else {
        return Err("a command is expected".into());
    };
    let (command, seconds): (fn(Options) -> Command, f64) = match argument {
        Arg::Value(name) if name == "memcached" => (Command::Memcached, 2.0),
        Arg::Value(name) if name == "memory" => (Command::Memory, 2.0),
        Arg::Value(name) if name == "memory-expiry" => (Command::MemoryExpiry, 5.0),
        Arg::Value(name) if name == "redis" => (Command::Redis, 2.0),
        Arg::Value(name) if name == "postgres" => (Command::Postgres, 2.0),
        Arg::Value(name) if name == "postgres-sweep" => (Command::PostgresSweep, 15.0),
        Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
        other => return Err(other.unexpected()),
    };
    // Nobody waits in memory: more callers than threads would only stand in line.
    let in_memory = matches!(command(Options::default()), Command::Memory(_));
    let mut options = Options {
        url: None,
        json: None,
        size: 1024,
        operations: Vec::new(),
        callers: if in_memory { 2 } else { 64 },
        rounds: 5,
        length: Duration::from_secs_f64(seconds),
        rows: 1_000_000,
    };
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Long("url") => options.url = Some(parser.value()?.parse()?),
            Arg::Long("json") => options.json = Some(parser.value()?.into()),
            Arg::Long("size") => options.size = parser.value()?.parse()?,
            Arg::Long("only") => options.operations.push(operation(&mut parser)?),
            Arg::Long("callers") => options.callers = positive(&mut parser)?,
            Arg::Long("rounds") => options.rounds = positive(&mut parser)?,
            Arg::Long("seconds") => options.length = length(&mut parser)?,
            Arg::Long("rows") => options.rows = parser.value()?.parse()?,
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            other => return Err(other.unexpected()),
        }
    }
    let asked = options.operations;
    options.operations = Operation::ALL
        .into_iter()
        .filter(|operation| asked.is_empty() || asked.contains(operation))
        .collect();
    Ok(command(options))
}

fn operation(parser: &mut Parser) -> Result<Operation, lexopt::Error> {
    let name = parser.value()?.string()?;
    Operation::ALL
        .into_iter()
        .find(|operation| operation.name() == name)
        .ok_or_else(|| "--only: load, update, touch, visit, create or delete is expected".into())
}

fn positive(parser: &mut Parser) -> Result<usize, lexopt::Error> {
    match parser.value()?.parse()? {
        0 => Err("one is the least".into()),
        number => Ok(number),
    }
}

fn length(parser: &mut Parser) -> Result<Duration, lexopt::Error> {
    let seconds: f64 = parser.value()?.parse()?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(length) if !length.is_zero() => Ok(length),
        _ => Err("--seconds: a positive number is expected".into()),
    }
}
