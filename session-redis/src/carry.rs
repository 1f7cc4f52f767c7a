//! Updates in batches: one script replaces the records of many callers.
//!
//! A script costs the server most for being begun: `bench` has twice as many updates in a second where scripts are shared as
//! with a script for each. Everything else is sent as it comes: the client pipelines it, and batches of loads were no faster.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use redis::Value;
use session_coalesce::{Carrier, Coalescer, Failure as Unsent, Limits};
use session_core::{Result, Version, clock::whole_millis};

use crate::{
    connection::{Deadline, Failure},
    reply::{Origin, Reply},
    script,
    servers::Opened,
};

/// Batches under way at once: the server works on one while the replies of the other are read.
const LANES: usize = 2;

/// Records in a batch: the server answers nobody else meanwhile.
const RECORDS: usize = 16;

/// Bytes of values in a batch, unless one has more.
const BYTES: usize = 256 * 1024;

/// How often an update is sent again whose batch ended with another caller's runtime.
const MOST_LOST: u32 = 3;

/// A record that is to be replaced.
#[derive(Clone)]
pub(crate) struct Update {
    pub(crate) key: Bytes,
    pub(crate) expected: Version,
    pub(crate) value: Bytes,
    pub(crate) life: Duration,
    /// The index knows its subject.
    pub(crate) is_indexed: bool,
    pub(crate) deadline: Deadline,
}

/// The updates of all callers.
pub(crate) struct Updates {
    servers: Opened,
    /// None in a Cluster, where a script has the keys of one slot.
    shared: Option<Coalescer<Batches>>,
}

impl Updates {
    pub(crate) fn new(servers: Opened) -> Self {
        let limits = Limits::default()
            .with_lanes(LANES)
            .with_batch(RECORDS)
            .with_weight(BYTES);
        let shared = match &servers {
            Opened::One(_) => Some(Coalescer::new(Batches(servers.clone()), limits)),
            Opened::Cluster(_) => None,
        };
        Self { servers, shared }
    }

    /// Sends an update, with others where they come together, and gives the reply to it.
    pub(crate) async fn send(&self, update: Update) -> Result<Reply> {
        let deadline = update.deadline;
        let Some(shared) = &self.shared else {
            let (mut replies, origin) = run(&self.servers, deadline, std::slice::from_ref(&update)).await?;
            let value = replies
                .pop()
                .ok_or_else(|| origin.out_of_step("no reply was given"))?;
            return Ok(Reply { value, origin });
        };
        let mut lost = 0;
        loop {
            match shared.call(update.clone(), deadline.at).await {
                Ok(reply) => {
                    let mut reply = reply?;
                    reply.origin.repeated |= lost > 0;
                    return Ok(reply);
                }
                // With the runtime of whoever was the first of them, which may begin another batch before it has ended; this
                // caller's goes on.
                Err(Unsent::Lost) if lost < MOST_LOST => lost += 1,
                Err(Unsent::Lost) => return Err(Failure::Ended.into()),
                Err(Unsent::NotSent | Unsent::NotAnswered) => {
                    return Err(Failure::Deadline(deadline.limit).into());
                }
                Err(_) => return Err(Failure::Full.into()),
            }
        }
    }
}

/// Updates that travel together.
struct Batches(Opened);

impl Carrier for Batches {
    type Call = Update;
    type Answer = Result<Reply>;
    type Key = ();
    type Lane = ();
    type Error = Infallible;

    /// The script replaces them in their order: two of one key may go together.
    fn key(_: &Update) -> Option<()> {
        None
    }

    fn weight(update: &Update) -> usize {
        update.value.len()
    }

    async fn lane(&self) -> std::result::Result<(), Infallible> {
        Ok(())
    }

    async fn carry(&self, (): (), updates: Vec<Update>) -> Vec<Result<Reply>> {
        let deadlines = updates.iter().map(|update| update.deadline);
        // Then nobody waits any more.
        let Some(last) = deadlines.max_by_key(|deadline| deadline.at) else {
            return Vec::new();
        };
        match run(&self.0, last, &updates).await {
            Ok((values, origin)) => {
                let reply = |value| {
                    Ok(Reply {
                        value,
                        origin: origin.clone(),
                    })
                };
                values.into_iter().map(reply).collect()
            }
            Err(error) => updates.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

/// Runs the script on all of them: as many answers.
async fn run(servers: &Opened, deadline: Deadline, updates: &[Update]) -> Result<(Vec<Value>, Origin)> {
    let lives: Vec<String> = updates
        .iter()
        .map(|update| whole_millis(update.life).to_string())
        .collect();
    let (mut keys, mut arguments) = (
        Vec::with_capacity(updates.len()),
        Vec::with_capacity(4 * updates.len()),
    );
    for (update, life) in updates.iter().zip(&lives) {
        keys.push(&*update.key);
        let is_indexed: &[u8] = if update.is_indexed { b"1" } else { b"0" };
        arguments.extend([
            update.expected.as_bytes(),
            &*update.value,
            life.as_bytes(),
            is_indexed,
        ]);
    }
    let reply = script::UPDATE.run(servers, deadline, &keys, &arguments).await?;
    Ok(reply.many(updates.len())?)
}
