//! One server that takes reads and writes: the only one, the primary that Sentinels name, or one of a Cluster's.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    connection::{Connection, Deadline, Failure, Target},
    replicas::Writer,
    reply::{Origin, Reply},
    request::Request,
    servers::Tuning,
};

/// The connections to one server.
pub(crate) struct Node {
    connection: Connection,
    /// With replicas to wait for, writes have a connection of their own.
    writer: Option<Writer>,
    /// Which of the connections for writes was the last one; 0: none yet.
    wrote_over: AtomicU64,
}

impl Node {
    pub(crate) fn new(to: Target, tuning: Tuning) -> Arc<Self> {
        let connect = || Connection::new(to.clone(), tuning.connect);
        Arc::new(Self {
            connection: connect(),
            writer: tuning.wait.map(|wait| Writer::new(connect(), wait)),
            wrote_over: AtomicU64::new(0),
        })
    }

    /// Sends a request and waits for its reply until `deadline`, connecting included.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        deadline: Deadline,
        request: Request<'_>,
    ) -> Result<Reply, Failure> {
        let answer = self.connection(request.writes).ask(deadline, request).await?;
        if request.writes && self.writer.is_some() {
            let before = self.wrote_over.swap(answer.number, Ordering::Relaxed);
            if before != 0 && before != answer.number {
                // Perhaps because the server is no primary any more: then reads must not stay there.
                self.connection.forget_current();
            }
        }
        let origin = Origin {
            node: Arc::clone(self),
            number: answer.number,
            writes: request.writes,
            repeated: answer.repeated,
        };
        let value = answer.value;
        Ok(Reply { value, origin })
    }

    pub(crate) fn forget(&self, origin: &Origin) {
        self.connection(origin.writes).forget(origin.number);
    }

    pub(crate) async fn confirm(&self, deadline: Deadline, origin: &Origin) -> Result<(), Failure> {
        match &self.writer {
            None => Ok(()),
            // What counted may have been the first try, over a connection that is gone.
            Some(_) if origin.repeated => Err(Failure::Unconfirmed),
            Some(writer) => writer.confirm(deadline, origin.number).await,
        }
    }

    fn connection(&self, writes: bool) -> &Connection {
        match &self.writer {
            Some(writer) if writes => &writer.connection,
            _ => &self.connection,
        }
    }
}

/// Where the server is, without user and password.
impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.connection.fmt(f)
    }
}
