#![doc = include_str!("../README.md")]

mod carry;
mod config;
mod error;
mod node;
mod schema;
mod sql;
mod stock;
mod store;
mod subjects;
mod sweep;
mod url;

pub use session_core::Sweeper;
pub use sqlx;

pub use self::{
    config::{ConfigError, ConnectError, PostgresStoreBuilder},
    store::PostgresStore,
};

/// The backend's name in errors and in the profile.
const BACKEND: &str = "postgres";
