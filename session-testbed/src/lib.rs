#![doc = include_str!("../README.md")]

mod engine;
mod error;
mod images;
mod redis;

pub use self::{
    error::{Error, Result},
    redis::{Kind, RedisServer},
};
