//! What the stores cost, beside their peers: see README.md.

mod actix;
mod contest;
mod memcached;
mod memory;
mod options;
mod ours;
mod peer;
mod postgres;
mod raw;
mod redis;
mod report;
mod sweep;

use std::{env, error::Error, process::ExitCode};

use options::Command;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> ExitCode {
    let command = match options::parse(env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("{error}\n\n{}", options::HELP);
            return ExitCode::from(2);
        }
    };
    let ended = match command {
        Command::Help => {
            print!("{}", options::HELP);
            Ok(())
        }
        Command::Memcached(options) => memcached::contest(&options).await,
        Command::Memory(options) => memory::contest(&options).await,
        Command::MemoryExpiry(options) => memory::expiry(&options).await,
        Command::Redis(options) => redis::contest(&options).await,
        Command::Postgres(options) => postgres::contest(&options).await,
        Command::PostgresSweep(options) => postgres::sweep(&options).await,
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
