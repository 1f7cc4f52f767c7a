//! What is memcached's own.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod memory;
mod scripted;
mod servers;
mod support;
