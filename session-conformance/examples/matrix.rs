//! Writes the table of guarantees and backends into a README, between its marks:
//! `cargo run -p session-conformance --example matrix -- [--check] README.md DIR`
//!
//! `DIR` is what `CONFORMANCE_REPORT_DIR` was when the suites ran. With `--check` nothing is written, and a table that
//! is not the one of the results is an error.

use std::{env, fs, path::Path, process::ExitCode};

use session_conformance::{BoxError, groups, matrix};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["--check", readme, dir] => run(readme, dir, true),
        [readme, dir] if !readme.starts_with('-') => run(readme, dir, false),
        _ => Err("usage: matrix [--check] README.md DIR".into()),
    };
    match done {
        Ok(message) => {
            println!("{message}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(readme: &str, dir: &str, check: bool) -> Result<String, BoxError> {
    let table = matrix::render(groups(), &matrix::read(Path::new(dir))?)?;
    let old = fs::read_to_string(readme).map_err(|error| format!("{readme}: {error}"))?;
    let new = matrix::splice(&old, &table).map_err(|error| format!("{readme}: {error}"))?;
    match (old == new, check) {
        (true, _) => Ok(format!("{readme}: the matrix is up to date")),
        (false, false) => {
            fs::write(readme, new).map_err(|error| format!("{readme}: {error}"))?;
            Ok(format!("{readme}: the matrix is written"))
        }
        (false, true) => Err(format!(
            "{readme}: the matrix is stale; write it with \
             `cargo run -p session-conformance --example matrix -- {readme} {dir}`"
        )
        .into()),
    }
}
