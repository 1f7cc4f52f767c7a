//! The suite on Redis.

mod common;
mod resp;

session_conformance::main!(common::On<false>);
