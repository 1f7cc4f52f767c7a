//! The index by subject: one sorted set for each, scored by when a session was noted, on the server's clock.
//!
//! A session is noted before its record is written, so none is missing; what is noted is believed only once its record
//! has been looked at. What has gone is pruned when a list finds it gone, but never by its age: a session that was
//! touched outlives what was known when it was noted.

use std::{collections::HashMap, time::Duration};

use redis::{Pipeline, Value, cmd};
use session_core::{
    Error, ErrorKind, Record, Result, SessionKey, Subject, Subjects, Timestamp, async_trait,
    clock::whole_millis, head,
};

use crate::{
    BACKEND, RedisStore,
    connection::Deadline,
    error,
    reply::{Origin, Reply},
    script,
};

/// Records that one round trip looks at or deletes.
const BATCH: usize = 256;

/// Times that a subject's sessions are listed and ended, until none is found.
const MOST_ROUNDS: usize = 1_000;

/// How long a note without its record is left alone; longer where a write may take longer.
const ON_ITS_WAY: Duration = Duration::from_secs(60);

/// A session has been noted.
pub(crate) struct Noted {
    /// Where.
    pub(crate) origin: Origin,
    /// The index has become so long that it should be gone through.
    pub(crate) crowded: bool,
}

/// Sessions come and go, and only a list forgets the notes of those that have gone. So that an index does not grow for
/// ever which nobody lists, it is gone through at 256 notes and then at each quarter that it grows by.
fn is_crowded(count: u64) -> bool {
    const FEW: u64 = 256;
    count >= FEW && count.is_multiple_of(count.next_power_of_two() / 4)
}

/// What is kept under a key that is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// A record of the subject's.
    Live,
    /// Not yet, or not any more.
    Nothing,
    /// A record of nobody's (retired by a renewal) or of somebody else's, or something that is no record.
    Another,
}

impl RedisStore {
    /// Notes that `key` is about to be `subject`'s. Replicas may not have that yet: see [`RedisStore::confirmed`].
    pub(crate) async fn note(
        &self,
        deadline: Deadline,
        subject: &Subject,
        key: &SessionKey,
        record: &Record,
        ttl: Duration,
    ) -> Result<Noted> {
        let end = record.not_after.map_or(0, Timestamp::as_millis);
        // A server counts in signed numbers: an end in 300 million years is none.
        let end = if i64::try_from(end).is_ok_and(|end| end < i64::MAX / 2) {
            end
        } else {
            0
        };
        let (life, end) = (whole_millis(ttl).to_string(), end.to_string());
        let arguments = [key.as_bytes().as_slice(), life.as_bytes(), end.as_bytes()];
        let Reply { value, origin } = script::INDEX
            .run(&self.servers, deadline, &[&self.index_key(subject)], &arguments)
            .await?;
        match value {
            // It names what it noted: no other call takes it for its own.
            Value::Array(parts) => match &parts[..] {
                [Value::BulkString(noted), Value::Int(count)] if noted == key.as_bytes() => Ok(Noted {
                    crowded: is_crowded(count.unsigned_abs()),
                    origin,
                }),
                _ => Err(origin.out_of_step("a note was answered as another's")),
            },
            _ => Err(origin.out_of_step("a note was answered with something else")),
        }
    }

    /// Where a subject's index is kept: under a digest, because a user's name may be personal, and names are chosen.
    pub(crate) fn index_key(&self, subject: &Subject) -> Vec<u8> {
        let digest = SessionKey::from_bytes(subject.digest());
        format!("{}subject/{digest}", self.prefix).into_bytes()
    }

    /// What is noted, and the server's time in milliseconds before it was read.
    async fn noted(&self, index: &[u8]) -> Result<(u64, Vec<SessionKey>)> {
        let mut commands = Pipeline::with_capacity(2);
        commands.cmd("TIME");
        commands.cmd("ZRANGE").arg(index).arg(0).arg(-1);
        let (replies, origin) = self.read(index, &commands).await?;
        let (now, members) = match <[Value; 2]>::try_from(replies) {
            Ok([_, Value::ServerError(error)] | [Value::ServerError(error), _]) => {
                return Err(error::of(&error.into()));
            }
            Ok([Value::Array(time), Value::Array(members)]) => (millis(&time), members),
            _ => (None, Vec::new()),
        };
        let now =
            now.ok_or_else(|| origin.out_of_step("TIME and ZRANGE were answered with something else"))?;
        let key = |member| match member {
            Value::BulkString(bytes) => <[u8; 32]>::try_from(bytes).map(SessionKey::from_bytes).ok(),
            _ => None,
        };
        // Anything else was put there by somebody else.
        Ok((now, members.into_iter().filter_map(key).collect()))
    }

    /// What is kept under each of `keys`, in their order.
    async fn looked_at(&self, subject: &Subject, keys: &[SessionKey]) -> Result<Vec<Seen>> {
        let calls: Vec<_> = keys
            .iter()
            .map(|key| {
                let (name, end) = (self.record_key(key), head::LEN + subject.as_str().len() - 1);
                let mut command = cmd("GETRANGE");
                command.arg(&name).arg(0).arg(end);
                (name, command)
            })
            .collect();
        let ask = || self.servers.ask_each(Deadline::after(self.read), &calls, false);
        let mut begins = ask().await?;
        let is_foreign = |(key, begin): (&SessionKey, &Reply)| match &begin.value {
            Value::BulkString(value) => head::is_of_another_key(key, value),
            _ => false,
        };
        if keys.iter().zip(&begins).any(is_foreign) {
            // Either replies are out of step, and then another connection tells it right; or somebody copied a value.
            begins.iter().for_each(|begin| begin.origin.give_up());
            begins = ask().await?;
        }
        keys.iter()
            .zip(begins)
            .map(|(key, begin)| match begin.value {
                Value::BulkString(begin) if begin.is_empty() => Ok(Seen::Nothing),
                Value::BulkString(begin) if head::begins_with_subject(key, &begin, subject) => Ok(Seen::Live),
                Value::BulkString(_) => Ok(Seen::Another),
                // A value of another type is no session.
                Value::ServerError(error) if error.code() == "WRONGTYPE" => Ok(Seen::Another),
                Value::ServerError(error) => Err(error::of(&error.into())),
                _ => Err(begin.origin.out_of_step("GETRANGE was not answered with a value")),
            })
            .collect()
    }

    /// Deletes those of `keys` that are still `subject`'s; how many.
    async fn end(&self, subject: &Subject, keys: &[SessionKey]) -> Result<u64> {
        let marks: Vec<_> = keys.iter().map(head::mark).collect();
        let calls: Vec<_> = keys
            .iter()
            .zip(&marks)
            .map(|(key, mark)| {
                (
                    self.record_key(key),
                    [mark.as_slice(), subject.as_str().as_bytes()],
                )
            })
            .collect();
        let deadline = Deadline::after(self.write);
        let (ended, origins) = script::END.run_each(&self.servers, deadline, &calls).await?;
        let repeated = origins.iter().any(|origin| origin.repeated);
        if repeated && ended < keys.len() as u64 {
            // The first try may have ended those that the second one did not find.
            return Err(Self::unknown());
        }
        for origin in origins {
            origin.confirm(deadline).await?;
        }
        Ok(ended)
    }

    /// What is kept under each key that is noted, and the server's time in milliseconds before the first look.
    async fn gone_through(
        &self,
        index: &[u8],
        subject: &Subject,
    ) -> Result<(u64, HashMap<SessionKey, Seen>)> {
        let mut known: HashMap<SessionKey, Seen> = HashMap::new();
        let mut begun = None;
        for _ in 0..MOST_ROUNDS {
            let (now, mut noted) = self.noted(index).await?;
            let begun = *begun.get_or_insert(now);
            // What had no record may have one by now: it is noted before it is written.
            noted.retain(|key| known.get(key).is_none_or(|seen| *seen == Seen::Nothing));
            let mut moved = false;
            for batch in noted.chunks(BATCH) {
                for (key, seen) in batch.iter().zip(self.looked_at(subject, batch).await?) {
                    moved |= seen == Seen::Another;
                    known.insert(*key, seen);
                }
            }
            // A record that is another's now may have been renewed after the list was read and before it was looked
            // at; its new key was noted by then, but not yet written when that was looked at. So once more. Without
            // such a one, each session that was there when the list was read has been seen.
            if !moved {
                return Ok((begun, known));
            }
        }
        let text = "sessions are renewed as fast as they are listed";
        Err(Error::new(ErrorKind::Unavailable, BACKEND).with_detail(text))
    }

    /// Forgets those of `gone` that were noted long before `now`, the server's time before they were looked at.
    async fn prune(&self, index: &[u8], gone: &[SessionKey], now: u64) -> Result<()> {
        let on_its_way = ON_ITS_WAY.max(self.write.saturating_mul(2));
        let newest = now.saturating_sub(whole_millis(on_its_way)).to_string();
        for batch in gone.chunks(BATCH) {
            let mut arguments = vec![newest.as_bytes()];
            arguments.extend(batch.iter().map(|key| key.as_bytes().as_slice()));
            script::PRUNE
                .run(&self.servers, Deadline::after(self.write), &[index], &arguments)
                .await?
                .integer()?;
        }
        Ok(())
    }
}

/// The reply to `TIME`: seconds, and microseconds of the next one.
fn millis(time: &[Value]) -> Option<u64> {
    let number = |part: &Value| match part {
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse::<u64>().ok(),
        _ => None,
    };
    let [seconds, micros] = time else { return None };
    number(seconds)?
        .checked_mul(1_000)?
        .checked_add(number(micros)? / 1_000)
}

#[async_trait]
impl Subjects for RedisStore {
    async fn list(&self, subject: &Subject) -> Result<Vec<SessionKey>> {
        let index = self.index_key(subject);
        let (begun, found) = self.gone_through(&index, subject).await?;
        let (live, gone): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, seen)| *seen == Seen::Live);
        let keys = |found: Vec<(SessionKey, Seen)>| found.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        if let Err(error) = self.prune(&index, &keys(gone), begun).await {
            // The list is right without it; the next one tries again.
            tracing::debug!(%error, "the index was not pruned");
        }
        Ok(keys(live))
    }

    async fn delete_all(&self, subject: &Subject, except: Option<&SessionKey>) -> Result<u64> {
        let mut deleted = 0;
        for _ in 0..MOST_ROUNDS {
            let mut keys = self.list(subject).await?;
            keys.retain(|key| Some(key) != except);
            if keys.is_empty() {
                return Ok(deleted);
            }
            for batch in keys.chunks(BATCH) {
                deleted += self.end(subject, batch).await?;
            }
        }
        let detail = format!("{deleted} sessions ended, and new ones are made as fast");
        Err(Error::new(ErrorKind::Unavailable, BACKEND).with_detail(detail))
    }
}
