#![doc = include_str!("../README.md")]

mod config;
mod connection;
mod error;
mod script;
mod store;
mod subjects;

pub use redis;

pub use self::{
    config::{ConfigError, ConnectError, RedisStoreBuilder},
    store::RedisStore,
};

/// The backend's name in errors and in the profile.
const BACKEND: &str = "redis";
