//! The suite on PostgreSQL 17.

mod common;

session_conformance::main!(common::On<17>);
