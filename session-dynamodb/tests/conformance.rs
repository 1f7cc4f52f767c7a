//! The suite on DynamoDB: that of the environment, or an emulator.

mod common;

use std::process::ExitCode;

fn main() -> ExitCode {
    // This very program is the server that is killed.
    match common::serves() {
        Some(ended) => ended,
        None => session_conformance::run::<common::DynamoDb>(),
    }
}
