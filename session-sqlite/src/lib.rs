#![doc = include_str!("../README.md")]

mod carry;
mod config;
mod error;
mod node;
mod plan;
mod schema;
mod sql;
mod store;
mod subjects;
mod url;

pub use session_core::Sweeper;
pub use sqlx;

pub use self::{
    config::{ConfigError, ConnectError, SqliteStoreBuilder, Synchronous},
    store::SqliteStore,
};

/// The backend's name in errors and in the profile.
const BACKEND: &str = "sqlite";
