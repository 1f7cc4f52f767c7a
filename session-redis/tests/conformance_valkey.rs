//! The suite on Valkey.

mod common;
#[path = "common/one.rs"]
mod one;

session_conformance::main!(common::On<one::One<true>>);
