//! The clients alone: what somebody writes who needs no store, one request for each call.

pub(crate) mod dynamodb;
pub(crate) mod sqlite;
