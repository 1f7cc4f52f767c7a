//! What can be asked for.

use std::{ffi::OsString, time::Duration};

use lexopt::{Arg, Parser, ValueExt};
use session_bench::{
    Result,
    arena::Arena,
    footprint::{self, Taken},
    options::{self, Options},
    report::Progress,
    requests::Requests,
    workload,
};

use crate::{chart::Chart, memcached, memory, postgres, redis};

/// What `--help` prints before the options.
const HELP: &str = "\
What the stores of this repository cost, beside their peers.

Usage: session-bench COMMAND [OPTIONS]

Contests of stores:
  memcached          session-memcached and its client, one command a call, on one server
  memory             MemoryStore and tower-sessions-memory-store, in this process
  postgres           session-postgres, tower-sessions-sqlx-store and the bare client on one server
  redis              session-redis, tower-sessions-redis-store, actix-session and the bare client on one server

Other commands; BACKEND is memcached, memory, postgres or redis:
  requests BACKEND   whole requests through the session objects: read-only, changed, and contended by 16 callers
  workload BACKEND   100,000 sessions of 400 to 600 bytes, four loads to one update, some sessions far more often than others,
                     at rising rates
  footprint BACKEND  bytes that sessions of 100 B, 1 KiB and 32 KiB take
  growth BACKEND     how long loads of our store take with 1,000 to 1,000,000 sessions
  memory-expiry      how long calls of MemoryStore take while many sessions expire
  postgres-sweep     how long loads take while session-postgres removes expired records
  chart DIR          draws DIR/chart.svg from what --json saved in DIR, and prints tables

";

/// What it prints after them.
const MORE: &str = "
Options of chart:
  --readme FILE      writes chart and tables between <!-- bench:begin --> and <!-- bench:end -->
  --scale FILE       writes what 100,000,000 sessions take, calculated, between <!-- scale:begin --> and <!-- scale:end -->

Options of all on a server:
  --url URL          an existing server [default: one in a container]: memcached://HOST:PORT or redis://HOST:PORT, to which
                     sessions are added, or postgres://USER:PASSWORD@HOST/DATABASE, in which the schema
                     session_bench is dropped, made and dropped

Options of workload:
  --rates N,N,…      calls per second, rising [default: 1000,2000,5000,10000,20000,40000,80000,160000]; a contestant that answers
                     less than 95 % of them is asked for no more
  --seconds N        how long each rate is offered [default: 2]
  --callers N        calls at once, at most [default: 256]

Options of footprint memory:
  --contestant N     measures one contestant, by its number from 0, at --size, and prints the bytes alone

Options of growth:
  --rows N           sessions at most [default: 1000000]
  --rounds N, --seconds N, --callers N
                     as in a contest [default: 3; 1; 64, in memory 2]

Options of workload, footprint, memory, memory-expiry and postgres-sweep:
  --rows N           sessions [default: 100000], sessions at most, sessions, those that expire, expired records [default: 1000000]
  --seconds N        of the last two, how long loads are measured before the end or the sweep [default: 5; 15]
";

/// What `--help` prints.
pub(crate) fn help() -> String {
    format!("{HELP}{}{MORE}", options::HELP)
}

/// Where sessions are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    Memcached,
    Memory,
    Postgres,
    Redis,
}

impl Backend {
    const ALL: [(&str, Self); 4] = [
        ("memcached", Self::Memcached),
        ("memory", Self::Memory),
        ("postgres", Self::Postgres),
        ("redis", Self::Redis),
    ];

    async fn stores(self, options: &Options, progress: &mut Progress) -> Result<Arena> {
        match self {
            Self::Memcached => memcached::open(options, progress).await,
            Self::Memory => memory::open(options),
            Self::Postgres => postgres::open(options, progress).await,
            Self::Redis => redis::open(options, progress).await,
        }
    }

    async fn requests(self, options: &Options, progress: &mut Progress) -> Result<Arena<dyn Requests>> {
        match self {
            Self::Memcached => memcached::requests(options, progress).await,
            Self::Memory => memory::requests(options),
            Self::Postgres => postgres::requests(options, progress).await,
            Self::Redis => redis::requests(options, progress).await,
        }
    }
}

impl Backend {
    /// Each contestant at each size, on a server that nobody has used before: tables that grow by doubling grow for their own.
    async fn footprint(self, options: &Options, mut progress: Progress) -> Result<()> {
        let mut all = Vec::new();
        let mut told = None;
        for size in footprint::SIZES {
            let options = Options {
                size,
                ..options.clone()
            };
            let (mut each, count) = (Vec::new(), footprint::count(size).min(options.rows as usize));
            loop {
                let arena = self.stores(&options, &mut progress).await?;
                let Some(contestant) = arena.contestants.get(each.len()) else {
                    told = Some((arena.ground.told(), arena.who, arena.ground.taken_is()));
                    break;
                };
                let name = contestant.name().to_owned();
                let bytes = footprint::measure(&arena, each.len(), count, &mut progress).await?;
                each.push((name, bytes));
                drop(arena.contestants);
                arena.ground.clean().await?;
            }
            all.push(Taken { size, count, each });
        }
        progress.end();
        let (server, who, is) = told.unwrap_or_default();
        footprint::conclude(&server, who, is, &all, options.json.as_deref())
    }
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Contest(Backend),
    Footprint(Backend),
    Growth(Backend),
    MemoryExpiry,
    PostgresSweep,
    Requests(Backend),
    Workload(Backend),
}

impl Command {
    fn named(name: &str, parser: &mut Parser) -> std::result::Result<Self, lexopt::Error> {
        let on = |name: &str| Backend::ALL.into_iter().find(|(known, _)| name == *known);
        if let Some((_, backend)) = on(name) {
            return Ok(Self::Contest(backend));
        }
        let of_backend = match name {
            "memory-expiry" => return Ok(Self::MemoryExpiry),
            "postgres-sweep" => return Ok(Self::PostgresSweep),
            "footprint" => Self::Footprint,
            "growth" => Self::Growth,
            "requests" => Self::Requests,
            "workload" => Self::Workload,
            _ => return Err(format!("there is no command {name}").into()),
        };
        let expected = || format!("{name}: memcached, memory, postgres or redis is expected next");
        match parser.next()? {
            Some(Arg::Value(value)) => {
                let (_, backend) = on(&value.string()?).ok_or_else(expected)?;
                Ok(of_backend(backend))
            }
            _ => Err(expected().into()),
        }
    }

    fn defaults(self) -> Options {
        let mut options = Options::default();
        match self {
            Self::Growth(backend) => {
                options.callers = if backend == Backend::Memory { 2 } else { 64 };
                options.operations = vec![options::Operation::Load];
                options.rounds = 3;
                options.length = Duration::from_secs(1);
            }
            Self::Contest(Backend::Memory) | Self::Requests(Backend::Memory) => {
                // Nobody waits in memory: more callers than threads would only stand in line.
                options.callers = 2;
            }
            Self::MemoryExpiry => options.length = Duration::from_secs(5),
            Self::PostgresSweep => options.length = Duration::from_secs(15),
            Self::Workload(_) => {
                options.callers = 256;
                options.sizes = Some(workload::sizes());
                options.rates = workload::rates();
                options.rows = workload::SESSIONS as u32;
            }
            Self::Contest(_) | Self::Footprint(_) | Self::Requests(_) => {}
        }
        if let Self::Requests(_) = self {
            options.operations = options::Operation::REQUESTS.to_vec();
        }
        options
    }

    /// Does it.
    pub(crate) async fn run(self, options: &Options) -> Result<()> {
        let mut progress = Progress::begin();
        match self {
            Self::Contest(backend) => {
                let arena = backend.stores(options, &mut progress).await?;
                arena.contest(options, progress).await
            }
            Self::Footprint(Backend::Memory) => memory::footprint(options, progress).await,
            Self::Footprint(backend) => backend.footprint(options, progress).await,
            Self::Growth(backend) => {
                let arena = backend.stores(options, &mut progress).await?;
                arena.growth(options, progress).await
            }
            Self::MemoryExpiry => memory::expiry(options, progress).await,
            Self::PostgresSweep => postgres::sweep(options, progress).await,
            Self::Requests(backend) => {
                let arena = backend.requests(options, &mut progress).await?;
                arena.requests(options, progress).await
            }
            Self::Workload(backend) => {
                let arena = backend.stores(options, &mut progress).await?;
                arena.workload(options, progress).await
            }
        }
    }
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    Measure(Command, Box<Options>),
    Chart(Chart),
}

impl Asked {
    /// Does it.
    pub(crate) async fn run(self) -> Result<()> {
        match self {
            Self::Measure(command, options) => command.run(&options).await,
            Self::Chart(chart) => chart.make(),
        }
    }
}

/// What the command line asks for; `None`: help.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
) -> std::result::Result<Option<Asked>, lexopt::Error> {
    let mut parser = Parser::from_args(arguments);
    let name = match parser.next()? {
        Some(Arg::Value(name)) => name.string()?,
        Some(Arg::Long("help") | Arg::Short('h')) => return Ok(None),
        Some(other) => return Err(other.unexpected()),
        None => return Err("a command is expected".into()),
    };
    if name == "chart" {
        return Ok(Chart::read(parser)?.map(Asked::Chart));
    }
    let command = Command::named(&name, &mut parser)?;
    let options = command.defaults().read(parser)?;
    Ok(options.map(|options| Asked::Measure(command, Box::new(options))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> std::result::Result<Option<Asked>, lexopt::Error> {
        parse(line.split(' ').map(OsString::from))
    }

    fn command(line: &str) -> Option<Command> {
        match parsed(line).unwrap() {
            Some(Asked::Measure(command, _)) => Some(command),
            _ => None,
        }
    }

    #[test]
    fn a_command_may_need_a_backend() {
        assert_eq!(command("requests redis"), Some(Command::Requests(Backend::Redis)));
        assert_eq!(command("memory"), Some(Command::Contest(Backend::Memory)));
        assert!(parsed("requests").is_err());
        assert!(parsed("requests sqlite").is_err());
        assert!(parsed("redis --help").unwrap().is_none());
        assert!(parsed("reddis").is_err());
    }

    #[test]
    fn a_chart_needs_a_directory() {
        assert!(matches!(parsed("chart bench/results"), Ok(Some(Asked::Chart(_)))));
        assert!(parsed("chart").is_err());
        assert!(parsed("chart a b").is_err());
    }

    #[test]
    fn rates_rise() {
        assert!(parsed("workload redis --rates 1,2").is_ok());
        assert!(parsed("workload redis --rates 2,1").is_err());
        assert!(parsed("workload redis --rates 0").is_err());
        assert!(parsed("workload redis --rates x").is_err());
    }
}
