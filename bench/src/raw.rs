//! The clients alone: what somebody writes who needs no store, one request for each call.

pub(crate) mod memcached;
pub(crate) mod postgres;
pub(crate) mod redis;
