//! Whole requests through axum, tower and the manager, over a memory store that is watched.

mod budget;
mod cookies;
mod failures;
mod identity;
mod manager;
mod renewal;
mod support;
