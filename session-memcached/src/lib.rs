#![doc = include_str!("../README.md")]

mod carry;
mod config;
mod error;
mod life;
mod node;
mod servers;
mod settings;
mod store;
mod url;

pub use memcache;

pub use self::{
    config::{ConfigError, ConnectError, MemcachedStoreBuilder},
    servers::Servers,
    store::MemcachedStore,
};

/// The backend's name in errors, events and reports.
const BACKEND: &str = "memcached";
