//! The suite on Redis.

mod common;

session_conformance::main!(common::On<false>);
