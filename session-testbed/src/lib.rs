#![doc = include_str!("../README.md")]

mod address;
#[cfg(feature = "allocations")]
mod allocations;
mod clock;
mod cluster;
#[cfg(feature = "dynamodb")]
mod dynamodb;
mod engine;
mod error;
mod group;
mod images;
mod memcached;
#[cfg(feature = "postgres")]
mod pgbouncer;
mod ports;
#[cfg(feature = "postgres")]
mod postgres;
mod redis;
mod sentinel;
mod topology;
mod wait;

#[cfg(feature = "allocations")]
pub use self::allocations::Counted;
#[cfg(feature = "dynamodb")]
pub use self::dynamodb::DynamoDbServer;
pub use self::{
    clock::Clock,
    cluster::RedisCluster,
    error::{Error, Result},
    memcached::{Memcached, MemcachedServer},
    ports::free_port,
    redis::{Kind, RedisServer},
    sentinel::SentinelGroup,
};
#[cfg(feature = "postgres")]
pub use self::{
    pgbouncer::PgBouncer,
    postgres::{PostgresServer, Version},
};
