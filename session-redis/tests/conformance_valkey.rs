//! The suite on Valkey.

mod common;

session_conformance::main!(common::On<true>);
