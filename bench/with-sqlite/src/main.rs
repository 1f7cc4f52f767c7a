//! What the stores that need SQLite, and HTTP, cost: see README.md.

mod dynamodb;
mod http;
mod raw;
mod sqlite;

use std::{env, ffi::OsString, process::ExitCode};

use lexopt::{Arg, Parser};
use session_bench::{
    Result,
    options::{self, Options},
    report::Progress,
};

/// What `--help` prints before the options.
const HELP: &str = "\
What the stores that need SQLite, and HTTP, cost beside their peers.

Usage: session-bench-sqlite COMMAND [OPTIONS]

Contests:
  dynamodb           session-dynamodb and its client, one request a call, on an emulator
  sqlite             session-sqlite, tower-sessions-sqlx-store, tower-sessions-rusqlite-store and the bare client, each with a
                     file in a temporary folder, which TMPDIR names: let it be on a disk

Other commands:
  http               a page without sessions, with session-http and with tower-sessions, called by wrk

";

/// What it prints after them.
const MORE: &str = "
Options of dynamodb:
  --url URL          dynamodb://KEY:SECRET@REGION/TABLE?endpoint=http://HOST:PORT, an existing server; the table is made, and
                     sessions are added to it [default: an emulator]

";

enum Command {
    Dynamodb(Options),
    Http(http::Options),
    /// A server of `http`, which starts it.
    Serve(Parser),
    Sqlite(Options),
}

impl Command {
    async fn run(self) -> Result<()> {
        let mut progress = Progress::begin();
        match self {
            Self::Dynamodb(options) => {
                let arena = dynamodb::open(&options, &mut progress).await?;
                arena.contest(&options, progress).await
            }
            Self::Http(options) => http::run(&options, progress).await,
            Self::Serve(parser) => http::serve(parser).await,
            Self::Sqlite(options) => {
                let arena = sqlite::open(&options, &mut progress).await?;
                arena.contest(&options, progress).await
            }
        }
    }
}

/// What the command line asks for; `None`: help.
fn parse(
    arguments: impl IntoIterator<Item = OsString>,
) -> std::result::Result<Option<Command>, lexopt::Error> {
    let mut parser = Parser::from_args(arguments);
    let name = match parser.next()? {
        Some(Arg::Value(name)) => name,
        Some(Arg::Long("help") | Arg::Short('h')) => return Ok(None),
        Some(other) => return Err(other.unexpected()),
        None => return Err("a command is expected".into()),
    };
    let contest = Options::default();
    Ok(match name.to_str() {
        Some("dynamodb") => contest.read(parser)?.map(Command::Dynamodb),
        Some("http") => http::Options::read(parser)?.map(Command::Http),
        Some("serve") => Some(Command::Serve(parser)),
        Some("sqlite") => contest.read(parser)?.map(Command::Sqlite),
        _ => return Err(format!("there is no command {}", name.display()).into()),
    })
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = match parse(env::args_os().skip(1)) {
        Ok(Some(command)) => command,
        Ok(None) => {
            print!("{HELP}{}{MORE}{}", options::HELP, http::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{HELP}{}{MORE}{}", options::HELP, http::HELP);
            return ExitCode::from(2);
        }
    };
    match command.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
