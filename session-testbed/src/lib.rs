#![doc = include_str!("../README.md")]

mod address;
mod cluster;
mod engine;
mod error;
mod group;
mod images;
mod redis;
mod sentinel;
mod topology;
mod wait;

pub use self::{
    cluster::RedisCluster,
    error::{Error, Result},
    redis::{Kind, RedisServer},
    sentinel::SentinelGroup,
};
