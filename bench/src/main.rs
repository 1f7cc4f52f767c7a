//! What the stores on servers and in memory cost: see README.md.

mod actix;
mod chart;
mod command;
mod memcached;
mod memory;
mod postgres;
mod raw;
mod redis;
mod slabs;
mod sweep;

use std::{env, process::ExitCode};

#[tokio::main]
async fn main() -> ExitCode {
    let asked = match command::parse(env::args_os().skip(1)) {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            print!("{}", command::help());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{error}\n\n{}", command::help());
            return ExitCode::from(2);
        }
    };
    match asked.run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
