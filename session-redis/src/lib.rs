#![doc = include_str!("../README.md")]

mod address;
mod carry;
mod check;
mod cluster;
mod config;
mod connection;
mod error;
mod node;
mod replicas;
mod reply;
mod request;
mod script;
mod sentinel;
mod servers;
mod slots;
mod store;
mod subjects;
mod url;

pub use redis;

pub use self::{
    check::Warning,
    config::{ConfigError, ConnectError, RedisStoreBuilder},
    servers::Servers,
    store::RedisStore,
};

/// The backend's name in errors and in the profile.
const BACKEND: &str = "redis";
