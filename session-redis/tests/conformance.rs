//! The suite on Redis.

mod common;
#[path = "common/one.rs"]
mod one;

session_conformance::main!(common::On<one::One<false>>);
