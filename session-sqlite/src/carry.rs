//! Calls in batches: what goes to the file in one transaction.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use session_coalesce::{Carrier, Coalescer, Failure as Unsent, Limits};
use session_core::{Error, SessionKey};
use sqlx::Row;
use tokio::time::Instant;

use crate::{
    error::{self, Failure},
    node::{Lane, Lock, Node, Query, READERS, pause},
    plan::{Change, Deed, Found, Life, Verdict, Write, plan},
    store::now,
};

/// What a file has under a key: value and end.
pub(crate) type Kept = Option<(Bytes, i64)>;

/// Whatever changes the file.
#[derive(Clone)]
pub(crate) enum Call {
    Write(Write),
    DeleteAll {
        subject: [u8; 32],
        except: Option<SessionKey>,
    },
    /// Removes what has expired, at most so many, of the hours up to this one.
    Sweep {
        max: usize,
        hour: i64,
    },
}

#[derive(Clone)]
pub(crate) enum Answer {
    Verdict(Verdict),
    Count(u64),
}

pub(crate) struct Calls {
    node: Arc<Node>,
    loads: Coalescer<Loads>,
    writes: Coalescer<Writes>,
}

impl Calls {
    pub(crate) fn new(node: &Arc<Node>) -> Self {
        let limits = Limits::default();
        Self {
            node: Arc::clone(node),
            loads: Coalescer::new(Loads(Arc::clone(node)), limits.with_lanes(READERS)),
            // SQLite has one writer at a time.
            writes: Coalescer::new(Writes(Arc::clone(node)), limits.with_lanes(1)),
        }
    }

    pub(crate) async fn load(&self, key: SessionKey, length: Duration) -> Result<Kept, Error> {
        let deadline = Instant::now() + length;
        loop {
            match self.loads.call(key, deadline).await {
                Ok(Ok(kept)) => return Ok(kept),
                // A file that is being recovered, or closed by its last process.
                Ok(Err(Failure::Busy)) if Instant::now() < deadline => pause().await,
                Ok(Err(failure)) => return Err(failure.into()),
                // Reads wait for no lock.
                Err(unsent) => return Err(of_unsent(unsent, length, Lock::Free)),
            }
        }
    }

    pub(crate) async fn write(&self, call: Call, length: Duration) -> Result<Answer, Error> {
        let begin = Instant::now();
        match self.writes.call(call, begin + length).await {
            Ok(answer) => answer.map_err(Error::from),
            Err(unsent) => Err(of_unsent(unsent, length, self.node.lock_since(begin))),
        }
    }
}

/// A write may wait for the lock before it is sent or after: what it met of it tells who kept it waiting.
fn of_unsent(unsent: Unsent<Error>, length: Duration, lock: Lock) -> Error {
    match (unsent, lock) {
        (Unsent::NoLane(error), _) => error,
        (Unsent::NotSent | Unsent::NotAnswered, Lock::Kept) => error::locked(),
        (Unsent::NotSent, _) => error::not_begun(length),
        (Unsent::NotAnswered, Lock::Met) => error::unavailable(format!(
            "not ended within {length:?}: another process kept the file locked for a while, or the disk is slow"
        )),
        (Unsent::NotAnswered, Lock::Free) => {
            error::unavailable(format!("not ended within {length:?}: the disk is slow"))
        }
        (other, _) => error::unavailable(other.to_string()),
    }
}

/// Reads.
struct Loads(Arc<Node>);

impl Carrier for Loads {
    type Call = SessionKey;
    type Answer = Result<Kept, Failure>;
    type Key = ();
    type Lane = Lane;
    type Error = Error;

    fn key(_: &SessionKey) -> Option<()> {
        None
    }

    fn weight(_: &SessionKey) -> usize {
        0
    }

    async fn lane(&self) -> Result<Lane, Error> {
        self.0.reader().await
    }

    async fn carry(&self, mut lane: Lane, calls: Vec<SessionKey>) -> Vec<Self::Answer> {
        match load(&mut lane, &calls).await {
            Ok(kept) => {
                lane.keep();
                calls
                    .iter()
                    .map(|key| Ok(kept.get(key.as_bytes()).cloned()))
                    .collect()
            }
            Err(failure) => {
                if matches!(failure, Failure::Busy) {
                    lane.keep();
                }
                calls.iter().map(|_| Err(failure.clone())).collect()
            }
        }
    }
}

async fn load(lane: &mut Lane, keys: &[SessionKey]) -> Result<HashMap<[u8; 32], (Bytes, i64)>, Failure> {
    let node = lane.node();
    let mut found = HashMap::with_capacity(keys.len());
    let mut rest = keys;
    while !rest.is_empty() {
        let (sql, size) = node.statements.load.padded(rest.len());
        let (these, others) = rest.split_at(size.min(rest.len()));
        let rows = lane.rows(of_keys(sql, size, these).bind(now())).await?;
        for row in rows {
            let value: Vec<u8> = row.try_get(1).map_err(error::of)?;
            found.insert(key_of(&row)?, (value.into(), row.try_get(2).map_err(error::of)?));
        }
        rest = others;
    }
    Ok(found)
}

/// A statement whose first parameters are `size` keys.
fn of_keys(sql: sqlx::SqlStr, size: usize, keys: &[SessionKey]) -> Query<'static> {
    let mut query = sqlx::query(sql);
    for at in 0..size {
        query = query.bind(keys.get(at).map(|key| key.as_bytes().to_vec()));
    }
    query
}

fn key_of(row: &sqlx::sqlite::SqliteRow) -> Result<[u8; 32], Failure> {
    let bytes: Vec<u8> = row.try_get(0).map_err(error::of)?;
    // All zero is nobody's: another length is none of ours.
    Ok(bytes.try_into().unwrap_or_default())
}

/// Writes of all kinds.
struct Writes(Arc<Node>);

impl Carrier for Writes {
    type Call = Call;
    type Answer = Result<Answer, Failure>;
    type Key = ();
    type Lane = Lane;
    type Error = Error;

    /// Those of one key go together: the plan keeps their order.
    fn key(_: &Call) -> Option<()> {
        None
    }

    fn weight(call: &Call) -> usize {
        match call {
            Call::Write(write) => write.weight(),
            _ => 0,
        }
    }

    /// With its transaction begun, where there may be company: who comes while the lock is waited for goes along.
    async fn lane(&self) -> Result<Lane, Error> {
        self.0.writer().await
    }

    async fn carry(&self, mut lane: Lane, calls: Vec<Call>) -> Vec<Self::Answer> {
        lane.collected(calls.len());
        if lane.is_idle()
            && let [Call::Write(write)] = &calls[..]
        {
            match alone(&mut lane, write).await {
                Ok(true) => {
                    lane.keep();
                    return vec![Ok(Answer::Verdict(Verdict::Done))];
                }
                // Nothing was written. Why not is found out below, where others are waited for, too.
                Ok(false) | Err(Failure::Busy) => {}
                Err(failure) => return vec![Err(failure)],
            }
        }
        match transact(lane, &calls).await {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            // Nothing was written. Alone, some may have room, or make it.
            Err(Failure::Full) if calls.len() > 1 => {
                let mut answers = Vec::with_capacity(calls.len());
                for call in &calls {
                    let answer = match self.0.writer().await {
                        Ok(lane) => transact(lane, std::slice::from_ref(call)).await,
                        Err(error) => Err(Failure::Lost(error)),
                    };
                    answers.push(answer.and_then(|one| one.into_iter().next().ok_or(Failure::Busy)));
                }
                answers
            }
            Err(failure) => calls.iter().map(|_| Err(failure.clone())).collect(),
        }
    }
}

/// A write that shares its transaction with no other: one statement, which is its own. `false` if it changed nothing.
async fn alone(lane: &mut Lane, write: &Write) -> Result<bool, Failure> {
    let (node, time) = (lane.node(), now());
    let statements = &node.statements.alone;
    let query = |sql: &sqlx::SqlStr| sqlx::query(sql.clone()).bind(write.key.as_bytes().to_vec());
    let query = match &write.deed {
        Deed::Create(life) => with_life(query(&statements.create), life, time.saturating_add(life.ttl)),
        Deed::Update(expected, life) => {
            let query = query(&statements.update).bind(time).bind(expected.to_vec());
            with_life(query, life, time.saturating_add(life.ttl))
        }
        Deed::Touch(ttl) => {
            let end = time.saturating_add(*ttl);
            with_end(query(&statements.touch).bind(time), end)
        }
        Deed::Delete(expected) => {
            let expected = expected.map(Vec::from);
            query(&statements.delete).bind(time).bind(expected)
        }
    };
    lane.write_alone(query).await
}

/// Does the calls and ends the transaction. If anything fails, the connection is closed, and nothing was done; only a
/// commit that fails may have been one.
async fn transact(lane: Lane, calls: &[Call]) -> Result<Vec<Answer>, Failure> {
    let mut lane = lane.begun().await.map_err(Failure::Lost)?;
    let mut answers = Vec::with_capacity(calls.len());
    let mut rest = calls;
    while let Some(first) = rest.first() {
        let writes: Vec<Write> = rest
            .iter()
            .map_while(|call| match call {
                Call::Write(write) => Some(write.clone()),
                _ => None,
            })
            .collect();
        let done = match first {
            Call::Write(_) => {
                answers.extend(write(&mut lane, &writes).await?.into_iter().map(Answer::Verdict));
                writes.len()
            }
            Call::DeleteAll { subject, except } => {
                let query = sqlx::query(lane.node().statements.delete_all.clone())
                    .bind(subject.to_vec())
                    .bind(now())
                    .bind(except.map(|key| key.as_bytes().to_vec()));
                answers.push(Answer::Count(lane.run(query).await?));
                1
            }
            Call::Sweep { max, hour } => {
                let query = sqlx::query(lane.node().statements.sweep.clone())
                    .bind(*hour)
                    .bind(now())
                    .bind(i64::try_from(*max).unwrap_or(i64::MAX));
                answers.push(Answer::Count(lane.run(query).await?));
                1
            }
        };
        rest = &rest[done..];
    }
    lane.commit().await?;
    lane.keep();
    Ok(answers)
}

async fn write(lane: &mut Lane, writes: &[Write]) -> Result<Vec<Verdict>, Failure> {
    let node = lane.node();
    let keys: Vec<SessionKey> = writes.iter().map(|write| write.key).collect();
    let mut found = Vec::with_capacity(keys.len());
    let mut rest = &keys[..];
    while !rest.is_empty() {
        let (sql, size) = node.statements.look.padded(rest.len());
        let (these, others) = rest.split_at(size.min(rest.len()));
        for row in lane.rows(of_keys(sql, size, these)).await? {
            let begin: Vec<u8> = row.try_get(1).map_err(error::of)?;
            let len: i64 = row.try_get(2).map_err(error::of)?;
            let end: i64 = row.try_get(3).map_err(error::of)?;
            let found_here = Found {
                begin: begin.into(),
                len: usize::try_from(len).unwrap_or(0),
                end,
            };
            found.push((key_of(&row)?, found_here));
        }
        rest = others;
    }
    let (verdicts, changes) = plan(writes, found, now());
    let (mut puts, mut touches, mut removed) = (Vec::new(), Vec::new(), Vec::new());
    for (key, change) in changes {
        match change {
            Change::Put(life, end) => puts.push((key, life, end)),
            Change::Touch(end) => touches.push((key, end)),
            Change::Remove => removed.push(key),
        }
    }
    let mut rest = &puts[..];
    while !rest.is_empty() {
        let (sql, size) = node.statements.put.filled(rest.len());
        let (these, others) = rest.split_at(size);
        let mut query = sqlx::query(sql);
        for (key, life, end) in these {
            query = with_life(query.bind(key.as_bytes().to_vec()), life, *end);
        }
        lane.run(query).await?;
        rest = others;
    }
    let mut rest = &touches[..];
    while !rest.is_empty() {
        let (sql, size) = node.statements.touch.filled(rest.len());
        let (these, others) = rest.split_at(size);
        let mut query = sqlx::query(sql);
        for (key, end) in these {
            query = with_end(query.bind(key.as_bytes().to_vec()), *end);
        }
        lane.run(query).await?;
        rest = others;
    }
    let mut rest = &removed[..];
    while !rest.is_empty() {
        let (sql, size) = node.statements.remove.padded(rest.len());
        let (these, others) = rest.split_at(size.min(rest.len()));
        lane.run(of_keys(sql, size, these)).await?;
        rest = others;
    }
    Ok(verdicts)
}

fn with_life(query: Query<'static>, life: &Life, end: i64) -> Query<'static> {
    let subject = life.subject.map(Vec::from);
    with_end(query.bind(life.value.to_vec()).bind(subject), end)
}

fn with_end(query: Query<'_>, end: i64) -> Query<'_> {
    query.bind(end).bind(hour(end))
}

/// The hour in which a life ends, rounded up, since 1970.
pub(crate) fn hour(end: i64) -> i64 {
    const HOUR: i64 = 60 * 60 * 1000;
    end / HOUR + i64::from(end % HOUR > 0)
}

#[cfg(test)]
mod tests {
    use session_core::{Record, SessionId, Version, head};
    use sqlx::{Connection, SqlSafeStr};

    use super::*;
    use crate::{BACKEND, Synchronous};

    fn key() -> SessionKey {
        SessionId::random().unwrap().key("test")
    }

    fn life(key: &SessionKey, version: Version) -> Life {
        Life {
            value: Bytes::from(head::seal(BACKEND, key, version, &Record::new("a cart")).unwrap()),
            subject: None,
            ttl: 60_000,
        }
    }

    /// A caller cannot tell whether a write was one statement, so nothing else shows that it can be.
    #[tokio::test]
    async fn write_that_is_alone_is_one_statement() {
        let folder = std::env::temp_dir().join(format!("session-sqlite-alone-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let long = Duration::from_secs(60);
        let node = Arc::new(Node::new(
            folder.join("s.db"),
            long,
            long,
            Synchronous::default(),
            None,
        ));
        let key = key();
        let life = |version| life(&key, version);
        let [first, second] = [(); 2].map(|()| Version::random().unwrap());
        let nothing = Write {
            key,
            deed: Deed::Delete(None),
        };
        let answer = Calls::new(&node).write(Call::Write(nothing), long).await.unwrap();
        assert!(matches!(answer, Answer::Verdict(Verdict::Absent)));
        for deed in [
            Deed::Create(life(first)),
            Deed::Touch(90_000),
            Deed::Update(head::mark_of(&key, first), life(second)),
            Deed::Delete(Some(head::mark_of(&key, second))),
        ] {
            let mut lane = node.writer().await.unwrap();
            assert!(lane.is_idle(), "the last one was alone, and so this one is to be");
            assert!(alone(&mut lane, &Write { key, deed }).await.unwrap());
            lane.keep();
        }
        drop(node);
        std::fs::remove_dir_all(&folder).unwrap();
    }

    /// What comes after `Busy` takes it so. The number that is asked for is made another file's here, which is locked.
    #[tokio::test]
    async fn write_that_is_alone_and_busy_wrote_nothing() {
        let folder = std::env::temp_dir().join(format!("session-sqlite-busy-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let locked = folder.join("locked.db");
        let mut other = sqlx::SqliteConnection::connect_with(
            &sqlx::sqlite::SqliteConnectOptions::new()
                .filename(&locked)
                .create_if_missing(true),
        )
        .await
        .unwrap();
        sqlx::raw_sql("CREATE TABLE x (x)")
            .execute(&mut other)
            .await
            .unwrap();

        let path = folder.join("s.db");
        let long = Duration::from_secs(60);
        let node = || Node::new(path.clone(), long, long, Synchronous::default(), None);
        let calls = Calls::new(&Arc::new(node()));
        let (there, new) = (key(), key());
        let [first, second] = [(); 2].map(|()| Version::random().unwrap());
        let create = Write {
            key: there,
            deed: Deed::Create(life(&there, first)),
        };
        calls.write(Call::Write(create), long).await.unwrap();
        let before = calls.load(there, long).await.unwrap();

        let mut node = node();
        let alone_statements = &mut node.statements.alone;
        for sql in [
            &mut alone_statements.create,
            &mut alone_statements.update,
            &mut alone_statements.touch,
            &mut alone_statements.delete,
        ] {
            let of_locked = sql
                .as_str()
                .replace("PRAGMA data_version", "PRAGMA locked.data_version");
            assert_ne!(of_locked, sql.as_str());
            *sql = sqlx::AssertSqlSafe(of_locked).into_sql_str();
        }
        let mut lane = Arc::new(node).writer().await.unwrap();
        lane.commit().await.unwrap();
        let attach = sqlx::query("ATTACH ? AS locked").bind(locked.to_str().unwrap().to_owned());
        lane.run(attach).await.unwrap();
        sqlx::raw_sql("BEGIN EXCLUSIVE")
            .execute(&mut other)
            .await
            .unwrap();
        for (key, deed) in [
            (new, Deed::Create(life(&new, first))),
            (there, Deed::Touch(90_000)),
            (
                there,
                Deed::Update(head::mark_of(&there, first), life(&there, second)),
            ),
            (there, Deed::Delete(None)),
        ] {
            let failure = alone(&mut lane, &Write { key, deed }).await.unwrap_err();
            assert!(matches!(failure, Failure::Busy), "{failure:?}");
            assert_eq!(calls.load(there, long).await.unwrap(), before);
            assert_eq!(calls.load(new, long).await.unwrap(), None);
        }
        drop((calls, lane, other));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
