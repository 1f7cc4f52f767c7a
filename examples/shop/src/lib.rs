#![doc = include_str!("../README.md")]

mod cart;
mod catalogue;
mod failure;
mod health;
mod metrics;
pub mod mode;
pub mod options;
mod pages;
mod preferences;
mod routes;
pub mod serve;
mod shop;
pub mod stores;
mod users;
mod visitor;

pub use self::shop::{SetupError, shop};
