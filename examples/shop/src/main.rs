//! The shop as a program: `shop --help` shows its options.

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use shop::{
    options::{self, Command, HELP, Options},
    serve::{self, ServeError},
    stores::StoreUrlError,
};
use tracing_subscriber::{Layer, fmt, layer::SubscriberExt, registry, util::SubscriberInitExt};

/// What was asked for cannot be done.
const FAILED: u8 = 1;

/// What was asked for makes no sense.
const USAGE: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    match options::parse(env::args_os().skip(1), env::var_os("RUST_LOG")) {
        Ok(Command::Serve(options)) => run(&options).await,
        Ok(Command::Help) => print(HELP),
        Ok(Command::Version) => print(concat!("shop ", env!("CARGO_PKG_VERSION"), "\n")),
        Err(error) => fail(USAGE, &error.to_string()),
    }
}

async fn run(options: &Options) -> ExitCode {
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(false);
    registry().with(lines.with_filter(options.log.clone())).init();
    match serve::serve(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ ServeError::Store(StoreUrlError::Unusable(_))) => fail(FAILED, &error.to_string()),
        Err(error @ (ServeError::Store(_) | ServeError::Keys(_))) => fail(USAGE, &error.to_string()),
        Err(error) => fail(FAILED, &error.to_string()),
    }
}

// Not `println!` and `eprintln!`, which panic when nobody reads.

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILED),
    }
}

fn fail(code: u8, text: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "shop: {text}");
    ExitCode::from(code)
}
