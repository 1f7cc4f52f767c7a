//! The suite on Valkey.

mod common;
mod resp;

session_conformance::main!(common::On<true>);
