//! What came back, and from where.

use std::sync::Arc;

use redis::Value;
use session_core::{Error, Result};

use crate::{
    connection::{Deadline, Failure},
    error,
    node::Node,
};

/// A reply.
pub(crate) struct Reply {
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

/// Where a reply came from.
#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) node: Arc<Node>,
    /// Which of the connections that were one after the other.
    pub(crate) number: u64,
    /// Whether it was the connection for writes.
    pub(crate) writes: bool,
    /// The first try may have arrived too.
    pub(crate) repeated: bool,
}

impl Reply {
    /// The number in a reply.
    pub(crate) fn integer(self) -> Result<i64> {
        self.origin.integer(self.value)
    }

    /// The 0 or 1 in a reply.
    pub(crate) fn flag(self) -> Result<bool> {
        self.origin.flag(self.value)
    }

    /// The replies to so many commands.
    pub(crate) fn many(self, count: usize) -> Result<(Vec<Value>, Origin), Failure> {
        match self.value {
            Value::Array(values) if values.len() == count => Ok((values, self.origin)),
            _ => {
                let what = "another number of replies was given";
                self.origin.out_of_step(what);
                Err(Failure::Strange(what))
            }
        }
    }
}

impl Origin {
    /// The number in a reply of its.
    pub(crate) fn integer(&self, value: Value) -> Result<i64> {
        match value {
            Value::Int(number) => Ok(number),
            Value::ServerError(error) => Err(error::of(&error.into())),
            _ => Err(self.out_of_step("something else than a number was answered")),
        }
    }

    /// The 0 or 1 in a reply of its: any other number answers another request.
    pub(crate) fn flag(&self, value: Value) -> Result<bool> {
        match self.integer(value)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.out_of_step("another number than 0 or 1 was answered")),
        }
    }

    /// A reply that no server gives to this request: something else answers, or the connection is out of step, and
    /// then no further reply on it is to be trusted.
    pub(crate) fn out_of_step(&self, what: &str) -> Error {
        self.give_up();
        tracing::error!(server = %self.node, what, "the reply is not one to this request");
        error::unexpected(what)
    }

    /// The connection is not to be used again.
    pub(crate) fn give_up(&self) {
        self.node.forget(self);
    }

    /// The same connection, and as sure.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        let parts = |of: &Self| (of.number, of.writes, of.repeated);
        Arc::ptr_eq(&self.node, &other.node) && parts(self) == parts(other)
    }

    /// Waits until as many replicas have the write as the store was told to wait for.
    pub(crate) async fn confirm(&self, deadline: Deadline) -> Result<(), Failure> {
        self.node.confirm(deadline, self).await
    }
}
