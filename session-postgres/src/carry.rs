//! Calls in batches: what goes to the server in one statement.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use session_coalesce::{Carrier, Coalescer, Failure as Unsent, Limits};
use session_core::{Error, SessionKey};
use sqlx::postgres::PgRow;
use tokio::time::{Instant, sleep_until};

use crate::{
    error::{self, Failure},
    node::{Lane, Node, nonce, read},
    sql::HEAD,
};

/// Bytes of values that a batch of writes carries at most.
const WRITTEN: usize = 2 * 1024 * 1024;

/// Bytes of values that a batch of reads brings at most, if all are as large as may be: the server has them in memory
/// together, some times over.
const READ: usize = 16 * 1024 * 1024;

/// How often a call is sent whose connection breaks. The first may be an old connection to a server that has restarted.
const TRIES: u32 = 3;

/// The four kinds of writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Create,
    Update,
    Touch,
    Delete,
}

/// A write. What its kind does not need is empty.
#[derive(Clone)]
pub(crate) struct Write {
    pub(crate) key: SessionKey,
    /// What the value must begin with.
    pub(crate) expected: Option<[u8; HEAD]>,
    pub(crate) value: Bytes,
    pub(crate) subject: Option<[u8; 32]>,
    pub(crate) ttl: i64,
}

/// What became of a write.
pub(crate) enum Verdict {
    Done,
    /// Nothing was written: what is there begins so.
    Seen(Bytes),
    Absent,
}

/// What became of it, unless it is to be tried again.
enum Answer {
    Verdict(Verdict),
    Busy,
}

/// How a call came to its end.
pub(crate) struct Ended {
    pub(crate) verdict: Verdict,
    /// An earlier try may have been executed.
    pub(crate) repeated: bool,
}

/// Why a call has no verdict.
pub(crate) struct Broken {
    pub(crate) error: Error,
    /// It may have been executed.
    pub(crate) may_be_done: bool,
}

/// A value and the milliseconds that it lives.
pub(crate) type Found = Option<(Bytes, i64)>;

pub(crate) struct Calls {
    loads: Coalescer<Loads>,
    creates: Coalescer<Writes>,
    updates: Coalescer<Writes>,
    touches: Coalescer<Writes>,
    deletes: Coalescer<Writes>,
}

impl Calls {
    pub(crate) fn new(node: &Arc<Node>, lanes: usize, max_record: usize) -> Self {
        let limits = Limits::default().with_lanes(lanes).with_weight(WRITTEN);
        let of_loads = limits.with_batch(limits.batch.min(READ / max_record.max(1)));
        let writes = |kind| {
            let node = Arc::clone(node);
            Coalescer::new(Writes { kind, node }, limits)
        };
        Self {
            loads: Coalescer::new(Loads(Arc::clone(node)), of_loads),
            creates: writes(Kind::Create),
            updates: writes(Kind::Update),
            touches: writes(Kind::Touch),
            deletes: writes(Kind::Delete),
        }
    }

    pub(crate) async fn load(&self, key: SessionKey, length: Duration) -> Result<Found, Error> {
        let deadline = Instant::now() + length;
        let mut tries = 0;
        loop {
            tries += 1;
            let failure = match self.loads.call(key, deadline).await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(failure)) => failure,
                Err(unsent) => return Err(of_unsent(unsent, length).error),
            };
            match failure {
                Failure::Lost(_) if tries < TRIES => {}
                Failure::Busy => pause(tries, deadline).await.map_err(|Late| error::locked())?,
                failure => return Err(failure.into()),
            }
        }
    }

    /// Sends a write until it has a verdict. One whose connection breaks is sent again, if its second effect is its
    /// first: all but `create`, which might bring back what was deleted since.
    pub(crate) async fn write(&self, kind: Kind, write: Write, length: Duration) -> Result<Ended, Broken> {
        let deadline = Instant::now() + length;
        let coalescer = match kind {
            Kind::Create => &self.creates,
            Kind::Update => &self.updates,
            Kind::Touch => &self.touches,
            Kind::Delete => &self.deletes,
        };
        let (mut tries, mut waits, mut repeated) = (0, 0, false);
        loop {
            tries += 1;
            let answer = coalescer.call(write.clone(), deadline).await;
            match answer {
                Ok(Ok(Answer::Verdict(verdict))) => return Ok(Ended { verdict, repeated }),
                Ok(Ok(Answer::Busy) | Err(Failure::Busy)) => {
                    waits += 1;
                    if let Err(Late) = pause(waits, deadline).await {
                        return Err(Broken {
                            error: error::locked(),
                            may_be_done: repeated,
                        });
                    }
                }
                Ok(Err(Failure::Lost(_))) if kind != Kind::Create && tries - waits < TRIES => repeated = true,
                Ok(Err(failure)) => {
                    let may_be_done = repeated || matches!(failure, Failure::Lost(_));
                    let error = failure.into();
                    return Err(Broken { error, may_be_done });
                }
                Err(unsent) => {
                    let mut broken = of_unsent(unsent, length);
                    broken.may_be_done |= repeated;
                    return Err(broken);
                }
            }
        }
    }
}

struct Late;

/// Waits a little longer each time, at random, so that those who met do not meet again.
async fn pause(times: u32, deadline: Instant) -> Result<(), Late> {
    let most = 1_000_u64 << times.min(4);
    let moment = Instant::now() + Duration::from_micros(fastrand::u64(most / 2..=most));
    if moment >= deadline {
        sleep_until(deadline).await;
        return Err(Late);
    }
    sleep_until(moment).await;
    Ok(())
}

fn of_unsent(unsent: Unsent<Error>, length: Duration) -> Broken {
    let may_be_done = unsent.may_have_arrived();
    let error = match unsent {
        Unsent::NoLane(error) => error,
        Unsent::NotSent => error::unavailable(format!(
            "no connection was free within {length:?}, or the server does not answer"
        )),
        Unsent::NotAnswered => error::unavailable(format!("no reply within {length:?}")),
        other => error::unavailable(other.to_string()),
    };
    Broken { error, may_be_done }
}

/// Reads.
struct Loads(Arc<Node>);

impl Carrier for Loads {
    type Call = SessionKey;
    type Answer = Result<Found, Failure>;
    type Key = ();
    type Lane = Lane;
    type Error = Error;

    /// Reads of one key go together.
    fn key(_: &SessionKey) -> Option<()> {
        None
    }

    /// What the answer weighs is not known before: there is a limit to how many go together.
    fn weight(_: &SessionKey) -> usize {
        0
    }

    async fn lane(&self) -> Result<Lane, Error> {
        self.0.lane().await
    }

    async fn carry(&self, mut lane: Lane, calls: Vec<SessionKey>) -> Vec<Self::Answer> {
        match load(&mut lane, &calls).await {
            Ok(found) => found.into_iter().map(Ok).collect(),
            Err(Failure::Refused(_)) if calls.len() > 1 => {
                let mut answers = Vec::with_capacity(calls.len());
                for call in &calls {
                    answers.push(load(&mut lane, &[*call]).await.and_then(only));
                }
                answers
            }
            Err(failure) => calls.iter().map(|_| Err(failure.clone())).collect(),
        }
    }
}

async fn load(lane: &mut Lane, keys: &[SessionKey]) -> Result<Vec<Found>, Failure> {
    let (nonce, sql) = (nonce(), lane.node().statements.load.clone());
    let bytes: Vec<&[u8]> = keys.iter().map(|key| key.as_bytes().as_slice()).collect();
    let row = lane
        .reply(nonce, sqlx::query(sql).bind(nonce).bind(bytes))
        .await?;
    let found = || {
        let mut values: &[u8] = read::<Option<&[u8]>>(&row, 2)?.unwrap_or_default();
        let (lens, lives): (Vec<Option<i32>>, Vec<Option<i64>>) = (read(&row, 3)?, read(&row, 4)?);
        if lens.len() != lives.len() {
            return Err(error::out_of_step());
        }
        let mut found = Vec::with_capacity(lens.len());
        for (len, life) in lens.into_iter().zip(lives) {
            let value = match len.map(|len| values.split_at_checked(usize::try_from(len).ok()?)) {
                // Its own: a session that is kept for long keeps no other.
                Some(Some((value, others))) => {
                    values = others;
                    Some(Bytes::copy_from_slice(value))
                }
                Some(None) => return Err(error::out_of_step()),
                None => None,
            };
            found.push(value.zip(life));
        }
        if !values.is_empty() {
            return Err(error::out_of_step());
        }
        placed(&row, keys.len(), found.into_iter())
    };
    found().inspect_err(|_| lane.distrust())
}

/// The one answer to one call.
fn only<T>(answers: Vec<T>) -> Result<T, Failure> {
    answers.into_iter().next().ok_or_else(error::out_of_step)
}

/// Answers in the order of the calls. The second column of a reply says whose each of them is, and each is somebody's.
fn placed<T>(row: &PgRow, count: usize, answers: impl Iterator<Item = T>) -> Result<Vec<T>, Failure> {
    let mut all: Vec<Option<T>> = (0..count).map(|_| None).collect();
    let mut left = read::<Vec<i64>>(row, 1)?.into_iter();
    for answer in answers {
        let at = left.next().and_then(|at| usize::try_from(at - 1).ok());
        match at.and_then(|at| all.get_mut(at)) {
            Some(place @ None) => *place = Some(answer),
            _ => return Err(error::out_of_step()),
        }
    }
    let all: Option<Vec<T>> = all.into_iter().collect();
    all.filter(|_| left.next().is_none())
        .ok_or_else(error::out_of_step)
}

/// Writes of one kind.
struct Writes {
    kind: Kind,
    node: Arc<Node>,
}

impl Carrier for Writes {
    type Call = Write;
    type Answer = Result<Answer, Failure>;
    type Key = SessionKey;
    type Lane = Lane;
    type Error = Error;

    fn key(call: &Write) -> Option<SessionKey> {
        Some(call.key)
    }

    fn weight(call: &Write) -> usize {
        call.value.len()
    }

    async fn lane(&self) -> Result<Lane, Error> {
        self.node.lane().await
    }

    async fn carry(&self, mut lane: Lane, calls: Vec<Write>) -> Vec<Self::Answer> {
        let all: Vec<&Write> = calls.iter().collect();
        match self.send(&mut lane, &all).await {
            Ok(answers) => answers,
            // Nothing was written. One of them may be what the server does not like: each by itself then.
            Err(Failure::Refused(_)) if all.len() > 1 => {
                let mut answers = Vec::with_capacity(all.len());
                for call in all {
                    answers.push(self.send(&mut lane, &[call]).await.and_then(only).flatten());
                }
                answers
            }
            Err(failure) => all.iter().map(|_| Err(failure.clone())).collect(),
        }
    }
}

impl Writes {
    async fn send(&self, lane: &mut Lane, calls: &[&Write]) -> Result<Vec<Result<Answer, Failure>>, Failure> {
        let statements = &self.node.statements;
        let sql = match self.kind {
            Kind::Create => &statements.create,
            Kind::Update => &statements.update,
            Kind::Touch => &statements.touch,
            Kind::Delete => &statements.delete,
        };
        let done = self.ask(lane, sql, calls).await?;
        let open = calls.iter().zip(&done).filter(|(_, done)| !**done);
        let open: Vec<&Write> = open.map(|(call, _)| *call).collect();
        let mut of_open = match open.is_empty() {
            true => Vec::new(),
            false => self.answers_to(lane, &open).await,
        }
        .into_iter();
        let answers = done.into_iter().map(|done| match done {
            true => Ok(Answer::Verdict(Verdict::Done)),
            false => of_open.next().unwrap_or(Ok(Answer::Busy)),
        });
        Ok(answers.collect())
    }

    /// The answers to calls for which nothing was done: why, or what becomes of them after all. Whatever goes wrong here is
    /// theirs: the others are done, and must hear of it.
    async fn answers_to(&self, lane: &mut Lane, calls: &[&Write]) -> Vec<Result<Answer, Failure>> {
        let heads = match look(lane, calls).await {
            Ok(heads) => heads,
            // They may be tried again, for still nothing was done.
            Err(Failure::Lost(_) | Failure::Busy) => return calls.iter().map(|_| Ok(Answer::Busy)).collect(),
            Err(refused) => return calls.iter().map(|_| Err(refused.clone())).collect(),
        };
        if self.kind == Kind::Create {
            return self.create_over(lane, calls, heads).await;
        }
        let told = calls
            .iter()
            .zip(heads)
            .map(|(call, head)| match (head, &call.expected) {
                (None, _) => Answer::Verdict(Verdict::Absent),
                (Some(head), Some(expected)) if *head != expected[..] => Answer::Verdict(Verdict::Seen(head)),
                // It is what the call wants: locked by another transaction, or there since a moment ago.
                (Some(_), _) => Answer::Busy,
            });
        told.map(Ok).collect()
    }

    /// Creates where an expired record is in the way, which is rare: so the others need not look for it. Where that ends
    /// without a reply it may be done, and must not be tried again.
    async fn create_over(
        &self,
        lane: &mut Lane,
        calls: &[&Write],
        heads: Vec<Option<Bytes>>,
    ) -> Vec<Result<Answer, Failure>> {
        let free = calls.iter().zip(&heads).filter(|(_, head)| head.is_none());
        let free: Vec<&Write> = free.map(|(call, _)| *call).collect();
        let done = match free.is_empty() {
            true => Ok(Vec::new()),
            false => self.ask(lane, &self.node.statements.replace_expired, &free).await,
        };
        let mut done = done.map(Vec::into_iter);
        let told = heads.into_iter().map(|head| match (head, &mut done) {
            (Some(head), _) => Ok(Answer::Verdict(Verdict::Seen(head))),
            (None, Ok(done)) => Ok(match done.next() {
                Some(true) => Answer::Verdict(Verdict::Done),
                _ => Answer::Busy,
            }),
            // The disk is full, say.
            (None, Err(failure)) => Err(failure.clone()),
        });
        told.collect()
    }

    /// Which of the calls were done.
    async fn ask(&self, lane: &mut Lane, sql: &sqlx::SqlStr, calls: &[&Write]) -> Result<Vec<bool>, Failure> {
        let nonce = nonce();
        let expected = || -> Vec<Option<&[u8]>> {
            calls
                .iter()
                .map(|call| call.expected.as_ref().map(|head| head.as_slice()))
                .collect()
        };
        let values = || -> Vec<&[u8]> { calls.iter().map(|call| &*call.value).collect() };
        let subjects = || -> Vec<Option<&[u8]>> {
            calls
                .iter()
                .map(|call| call.subject.as_ref().map(|subject| subject.as_slice()))
                .collect()
        };
        let ttls = || -> Vec<i64> { calls.iter().map(|call| call.ttl).collect() };
        let statement = sqlx::query(sql.clone()).bind(nonce).bind(keys(calls));
        let statement = match self.kind {
            Kind::Create => statement.bind(values()).bind(subjects()).bind(ttls()),
            Kind::Update => statement
                .bind(expected())
                .bind(values())
                .bind(subjects())
                .bind(ttls()),
            Kind::Touch => statement.bind(ttls()),
            Kind::Delete => statement.bind(expected()),
        };
        let row = lane.reply(nonce, statement).await?;
        let done = || {
            let mut done = vec![false; calls.len()];
            // No array: none was done.
            for at in read::<Option<Vec<i64>>>(&row, 1)?.unwrap_or_default() {
                match usize::try_from(at - 1).ok().and_then(|at| done.get_mut(at)) {
                    Some(place @ false) => *place = true,
                    _ => return Err(error::out_of_step()),
                }
            }
            Ok(done)
        };
        done().inspect_err(|_| lane.distrust())
    }
}

fn keys<'a>(calls: &[&'a Write]) -> Vec<&'a [u8]> {
    calls.iter().map(|call| call.key.as_bytes().as_slice()).collect()
}

/// What the live records of these keys begin with.
async fn look(lane: &mut Lane, calls: &[&Write]) -> Result<Vec<Option<Bytes>>, Failure> {
    let (nonce, sql) = (nonce(), lane.node().statements.look.clone());
    let row = lane
        .reply(nonce, sqlx::query(sql).bind(nonce).bind(keys(calls)))
        .await?;
    let heads = || {
        let heads: Vec<Option<Vec<u8>>> = read(&row, 2)?;
        placed(
            &row,
            calls.len(),
            heads.into_iter().map(|head| head.map(Bytes::from)),
        )
    };
    heads().inspect_err(|_| lane.distrust())
}
