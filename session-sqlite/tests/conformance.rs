//! The suite on files of this machine.

mod common;

session_conformance::main!(common::Files);
