//! Waiting until replicas have what was written.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use redis::{Value, cmd};
use tokio::sync::Mutex;

use crate::{
    connection::{Connection, Deadline, Failure},
    request::Request,
};

/// How many replicas must have a write, and how long that may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) replicas: u64,
    pub(crate) within: Duration,
}

/// The writing connection of a server, and what its replicas have confirmed.
///
/// `WAIT` keeps the connection busy until it is answered and covers all that was written on it before: while one is
/// under way others write, and the next one covers them all. Reads travel elsewhere, and wait for nobody.
pub(crate) struct Writer {
    pub(crate) connection: Connection,
    wait: Wait,
    /// Numbers the writes that have been answered.
    written: AtomicU64,
    confirmed: Mutex<Confirmed>,
}

/// The newest `WAIT`: which writes it covers, over which connection, and what came of it.
#[derive(Default)]
struct Confirmed {
    number: u64,
    up_to: u64,
    replicas: u64,
}

impl Writer {
    pub(crate) fn new(connection: Connection, wait: Wait) -> Self {
        Self {
            connection,
            wait,
            written: AtomicU64::new(0),
            confirmed: Mutex::default(),
        }
    }

    /// Waits until enough replicas have what was answered over the connection `number`.
    pub(crate) async fn confirm(&self, deadline: Deadline, number: u64) -> Result<(), Failure> {
        let mine = self.written.fetch_add(1, Ordering::SeqCst) + 1;
        match tokio::time::timeout_at(deadline.at, self.turn(mine, deadline, number)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::Deadline(deadline.limit)),
        }
    }

    async fn turn(&self, mine: u64, deadline: Deadline, number: u64) -> Result<(), Failure> {
        let mut confirmed = self.confirmed.lock().await;
        if confirmed.number != number || confirmed.up_to < mine {
            let up_to = self.written.load(Ordering::SeqCst);
            let Wait { replicas, within } = self.wait;
            let mut wait = cmd("WAIT");
            wait.arg(replicas).arg(within.as_millis().max(1).to_string());
            let answer = self
                .connection
                .ask_same(number, deadline, Request::read(&wait))
                .await?;
            let Value::Int(replicas) = answer else {
                self.connection.forget(number);
                return Err(Failure::Unconfirmed);
            };
            *confirmed = Confirmed {
                number,
                up_to,
                replicas: replicas.unsigned_abs(),
            };
        }
        if confirmed.replicas >= self.wait.replicas {
            return Ok(());
        }
        Err(Failure::Replicas {
            confirmed: confirmed.replicas,
            wanted: self.wait.replicas,
            within: self.wait.within,
        })
    }
}
