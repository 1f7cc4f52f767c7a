//! The suite on PostgreSQL 15, in a database with another time zone and another text form of bytes than usual.

mod common;

session_conformance::main!(common::On<15>);
