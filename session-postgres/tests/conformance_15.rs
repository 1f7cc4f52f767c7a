//! The suite on PostgreSQL 15, in a database whose time zone and isolation are others than the server's own.

mod common;

session_conformance::main!(common::On<15>);
