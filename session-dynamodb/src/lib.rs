#![doc = include_str!("../README.md")]

mod call;
mod config;
mod error;
mod item;
mod load;
mod node;
mod store;
mod subjects;
mod table;
mod url;
mod write;

pub use aws_sdk_dynamodb;

pub use self::{
    config::{ConfigError, ConnectError, DynamoDbStoreBuilder},
    store::DynamoDbStore,
    table::TableProblem,
};

/// The backend's name in errors and in the profile.
const BACKEND: &str = "dynamodb";
