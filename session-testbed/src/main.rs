//! A server to try things on: `cargo run -p session-testbed -- redis`, or `valkey`. It is gone when this ends.

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use session_testbed::{Error, Kind, RedisServer};

#[tokio::main]
async fn main() -> ExitCode {
    let kind = match env::args().nth(1).as_deref() {
        Some("redis") => Kind::Redis,
        Some("valkey") => Kind::Valkey,
        _ => return fail("usage: session-testbed redis|valkey"),
    };
    match run(kind).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

async fn run(kind: Kind) -> Result<(), Error> {
    let server = RedisServer::start(kind, &[]).await?;
    // Whoever does not read it cannot use it either.
    let _ = writeln!(io::stdout(), "{}", server.url());
    // Until standard input ends, or Ctrl-C ends the process.
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
    Ok(())
}

fn fail(text: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{text}");
    ExitCode::FAILURE
}
