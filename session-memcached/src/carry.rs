//! Commands in batches: what goes to a server in one round trip.

use std::{sync::Arc, time::Duration};

use memcache::exp::{Op, OpResult, Set};
use session_coalesce::{Carrier, Coalescer, Failure as Unsent, Limits};
use session_core::{Error, ErrorKind, Record};
use tokio::time::Instant;

use crate::{
    error::{self, Failure},
    node::{Link, Node},
};

/// Batches under way at once to one server, of reads and of writes each.
pub(crate) const LANES: usize = 2;

/// Bytes of values that a batch of writes carries at most, unless one has more.
const WRITTEN: usize = 1024 * 1024;

/// Bytes of values that a batch of reads brings at most, if all are as large as may be.
const READ: usize = 16 * 1024 * 1024;

/// How often a command is sent whose connection breaks. The first may be an old connection to a server that has restarted.
const TRIES: u32 = 3;

/// What the server keeps with each item, at most: its header, the CAS value, what ends key and value (72 bytes in 1.6),
/// and for one that is kept in pieces the first of them.
pub(crate) const ITEM: usize = 128;

/// A command.
#[derive(Clone)]
pub(crate) struct Command {
    pub(crate) op: Op,
    /// Bytes of data in the record that is written.
    pub(crate) data: usize,
}

impl Command {
    pub(crate) fn of_record(set: Set, record: &Record) -> Self {
        Self {
            op: set.into(),
            data: record.data.len(),
        }
    }
}

/// How a command came to its end.
pub(crate) struct Ended {
    pub(crate) result: OpResult,
    /// An earlier try may have been executed.
    pub(crate) repeated: bool,
}

/// Why a command has no result.
pub(crate) struct Broken {
    pub(crate) error: Error,
    /// It may have been executed.
    pub(crate) may_be_done: bool,
}

/// The calls to one server.
///
/// Reads and writes go apart. Together they could stop each other: a batch is sent whole before its replies are read, and
/// a server whose replies nobody reads does not read on.
pub(crate) struct Calls {
    node: Arc<Node>,
    reads: Coalescer<Pipeline>,
    writes: Coalescer<Pipeline>,
}

impl Calls {
    pub(crate) fn new(node: Node, max_record: usize) -> Self {
        let node = Arc::new(node);
        let limits = Limits::default().with_lanes(LANES).with_weight(WRITTEN);
        let of_reads = limits.with_batch(limits.batch.min(READ / max_record.max(1)));
        let pipeline = || Pipeline(Arc::clone(&node));
        Self {
            reads: Coalescer::new(pipeline(), of_reads),
            writes: Coalescer::new(pipeline(), limits),
            node,
        }
    }

    pub(crate) fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Sends a read until it has a result.
    pub(crate) async fn read(&self, op: Op, length: Duration) -> Result<OpResult, Error> {
        let ended = self
            .send(&self.reads, Command { op, data: 0 }, true, length)
            .await;
        ended.map(|ended| ended.result).map_err(|broken| broken.error)
    }

    /// Sends a write until it has a result. One that may have been executed is sent again if it `may_repeat`.
    pub(crate) async fn write(
        &self,
        command: Command,
        may_repeat: bool,
        length: Duration,
    ) -> Result<Ended, Broken> {
        self.send(&self.writes, command, may_repeat, length).await
    }

    async fn send(
        &self,
        coalescer: &Coalescer<Pipeline>,
        command: Command,
        may_repeat: bool,
        length: Duration,
    ) -> Result<Ended, Broken> {
        let deadline = Instant::now() + length;
        let (mut tries, mut repeated) = (0, false);
        loop {
            tries += 1;
            let (error, may_be_done, may_go_on) = match coalescer.call(command.clone(), deadline).await {
                Ok(Ok(result)) => return Ok(Ended { result, repeated }),
                Ok(Err(Failure::NotSent(error))) => (error, false, true),
                Ok(Err(Failure::Lost(error))) => (error, true, may_repeat),
                Ok(Err(Failure::Refused(error))) => (error, false, false),
                Err(unsent) => (self.of_unsent(&unsent, length), unsent.may_have_arrived(), false),
            };
            repeated |= may_be_done;
            if !may_go_on || tries == TRIES {
                return Err(Broken {
                    error,
                    may_be_done: repeated,
                });
            }
        }
    }

    fn of_unsent(&self, unsent: &Unsent<Error>, length: Duration) -> Error {
        let text = match unsent {
            Unsent::NoLane(error) => return error.clone(),
            Unsent::NotSent => {
                format!("no connection was free within {length:?}, or the server does not answer")
            }
            Unsent::NotAnswered => format!("no reply within {length:?}"),
            other => other.to_string(),
        };
        self.node.named(error::unavailable(text))
    }
}

/// Sends commands one after the other, and reads their replies then.
struct Pipeline(Arc<Node>);

impl Carrier for Pipeline {
    type Call = Command;
    type Answer = Result<OpResult, Failure>;
    type Key = ();
    type Lane = Link;
    type Error = Error;

    /// The server executes them in their order: two of one key may go together.
    fn key(_: &Command) -> Option<()> {
        None
    }

    fn weight(call: &Command) -> usize {
        match &call.op {
            Op::Set(set) => set.value.len(),
            _ => 0,
        }
    }

    async fn lane(&self) -> Result<Link, Error> {
        self.0.link().await
    }

    async fn carry(&self, link: Link, calls: Vec<Command>) -> Vec<Self::Answer> {
        let mut under_way = UnderWay {
            node: &self.0,
            ended_well: false,
        };
        // An item that is too large takes the one with it that was there, whatever its conditions say.
        let refusals: Vec<Option<Error>> = calls
            .iter()
            .map(|call| too_large(call, link.settings.item_size_max))
            .collect();
        let fitting = calls
            .into_iter()
            .zip(&refusals)
            .filter(|(_, refusal)| refusal.is_none());
        let ops: Vec<Op> = fitting.map(|(call, _)| call.op).collect();
        let mut results = match ops.is_empty() {
            true => Vec::new(),
            false => match link.client.run_batch(ops).await {
                Ok(results) => results,
                // Nothing was sent: one of them is none.
                Err(error) => {
                    let failure = error::of(error);
                    return refusals.iter().map(|_| Err(failure.clone())).collect();
                }
            },
        }
        .into_iter();
        let mut answers = Vec::with_capacity(refusals.len());
        let (mut has_failed, mut is_whole) = (false, true);
        for refusal in refusals {
            answers.push(match refusal {
                Some(error) => Err(Failure::Refused(error)),
                None => match results.next() {
                    Some(Ok(result)) => Ok(result),
                    Some(Err(error)) => {
                        let mut failure = error::of(error);
                        is_whole &= failure.is_full();
                        if has_failed {
                            failure = failure.of_later();
                        }
                        has_failed = true;
                        Err(failure.told(|error| self.0.named(error)))
                    }
                    None => Err(Failure::Lost(error::unavailable("a reply is missing"))),
                },
            });
        }
        under_way.ended_well = is_whole;
        answers
    }
}

/// Whether an item would be larger than the server takes.
fn too_large(call: &Command, item_size_max: usize) -> Option<Error> {
    let Op::Set(set) = &call.op else {
        return None;
    };
    let rest = set.key.len() + set.value.len() - call.data + ITEM;
    let limit = item_size_max.saturating_sub(rest);
    let size = call.data;
    (size > limit).then(|| error::fail(ErrorKind::TooLarge { size, limit }))
}

/// A batch is under way. If anything goes wrong with it, or nobody waits for its end any more, the server is asked before
/// the next one whether it is there.
struct UnderWay<'a> {
    node: &'a Node,
    ended_well: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if !self.ended_well {
            self.node.forget();
        }
    }
}
