//! Whole requests through axum, tower and the manager, over a memory store that is watched.

// All of this is tests, helpers included.
#![allow(clippy::unwrap_used)]

mod budget;
mod client;
mod cookies;
mod csrf;
mod failures;
mod identity;
mod manager;
mod outage;
mod renewal;
mod streams;
mod support;
#[cfg(feature = "jwt")]
mod tokens;
mod transports;
mod urls;
