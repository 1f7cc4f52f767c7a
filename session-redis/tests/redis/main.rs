//! What is Redis's own, on Redis and on Valkey: the suite has the rest.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod acl;
mod batches;
mod cluster;
#[path = "../resp/mod.rs"]
mod resp;
mod scripted;
mod sentinel;
mod server;
mod support;
mod traffic;
