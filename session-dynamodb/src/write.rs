//! The writes, each one conditional request: what the condition compares, and what is made of a refusal.

use std::{collections::HashMap, time::Duration};

use session_core::{Error, ErrorKind, Record, Result, SessionKey, Subject, Timestamp, Version, head};

use crate::{
    BACKEND,
    call::{Broken, Tries},
    error::{fail, unavailable},
    item::{
        self, EXPIRES, Item, LEN, NOTED, PK, SEALED, SUBJECT, WRITTEN, bytes, end, is_expired, is_version,
        key_of_note, key_of_record, now, number,
    },
    node::{Change, Node, Proof, Seen},
};

/// A record to be written under a key.
pub(crate) struct Writing<'a> {
    pub(crate) key: &'a SessionKey,
    pub(crate) version: Version,
    pub(crate) value: Vec<u8>,
    pub(crate) ttl: Duration,
    pub(crate) note: Option<Note>,
}

/// What the index by subject has of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) subject: [u8; 32],
    /// When DynamoDB may remove it, in seconds since 1970. `None`: it has no end.
    pub(crate) until: Option<u64>,
}

impl<'a> Writing<'a> {
    pub(crate) fn new(key: &'a SessionKey, record: &Record, ttl: Duration) -> Result<Self> {
        let version = Version::random().map_err(|error| fail(ErrorKind::Unavailable).with_source(error))?;
        Ok(Self {
            key,
            version,
            value: head::seal(BACKEND, key, version, record)?,
            ttl,
            note: record.subject.as_ref().map(|subject| Note {
                subject: Subject::digest(subject),
                until: record.not_after.map(Timestamp::as_millis).map(item::ttl),
            }),
        })
    }

    /// The change that writes it at `now`, without its condition. The note is written, or left as it is.
    fn change(&self, now: u64, writes_note: bool) -> Change {
        let end = end(now, self.ttl);
        let mut expression = format!("SET {SEALED} = :sealed, {LEN} = :len, {EXPIRES} = :end, #ttl = :ttl");
        let mut values = HashMap::from([
            (":sealed".to_owned(), bytes(&self.value)),
            (":len".to_owned(), number(self.value.len() as u64)),
            (":end".to_owned(), number(end)),
            (":ttl".to_owned(), number(item::ttl(end))),
        ]);
        match &self.note {
            None => expression.push_str(&format!(" REMOVE {SUBJECT}, {NOTED}")),
            Some(note) if writes_note => {
                expression.push_str(&format!(", {SUBJECT} = :subject"));
                values.insert(":subject".to_owned(), bytes(note.subject));
                match note.until {
                    Some(until) => {
                        expression.push_str(&format!(", {NOTED} = :noted"));
                        values.insert(":noted".to_owned(), number(until));
                    }
                    None => expression.push_str(&format!(" REMOVE {NOTED}")),
                }
            }
            Some(_) => {}
        }
        Change {
            key: key_of_record(self.key),
            expression,
            condition: None,
            values,
            proof: Proof::Begins(SEALED, head::mark_of(self.key, self.version).to_vec()),
        }
    }
}

impl Note {
    /// The condition that the record is noted already, for as long as it has to be.
    fn condition(&self, values: &mut Item) -> String {
        values.insert(":subject".to_owned(), bytes(self.subject));
        match self.until {
            Some(until) => {
                values.insert(":noted".to_owned(), number(until));
                format!("{SUBJECT} = :subject AND (attribute_not_exists({NOTED}) OR {NOTED} >= :noted)")
            }
            None => format!("{SUBJECT} = :subject AND attribute_not_exists({NOTED})"),
        }
    }
}

/// The condition that an item is live and holds one version, whole.
fn is_whole_version(values: &mut Item, key: &SessionKey, version: Version, now: u64) -> String {
    values.insert(":now".to_owned(), number(now));
    values.insert(":mark".to_owned(), bytes(head::mark_of(key, version)));
    format!("{EXPIRES} > :now AND begins_with({SEALED}, :mark) AND size({SEALED}) = {LEN}")
}

/// The outcome of a call that was sent twice, and whose first try may have been the one that counted.
fn unknown() -> Error {
    unavailable("the connection broke while the call was under way, and somebody else has written since")
}

impl Node {
    pub(crate) async fn create(&self, writing: &Writing<'_>, limit: Duration) -> Result<Version> {
        let (key, version) = (writing.key, writing.version);
        let mut tries = Tries::new(limit);
        if let Some(note) = &writing.note {
            self.note(key, note, tries.afresh()).await?;
        }
        loop {
            let now = now();
            let mut change = writing.change(now, true);
            change.values.insert(":now".to_owned(), number(now));
            change.condition = Some(format!("attribute_not_exists({PK}) OR {EXPIRES} <= :now"));
            let failure = match tries.once(&self.asked("UpdateItem"), self.update(change)).await {
                Ok(Seen::Done) => return Ok(version),
                // The first try of a client that sends twice had arrived.
                Ok(Seen::Refused(Some(item))) if is_version(&item, key, version) => return Ok(version),
                Ok(Seen::Refused(_)) => return Err(fail(ErrorKind::AlreadyExists)),
                Err(failure) => failure,
            };
            // One that may have arrived is not sent again: a second that comes late would bring back a session that was ended
            // since.
            match tries.again_if_not_done(failure).await {
                Ok(()) => {}
                Err(broken) if broken.may_be_done => {
                    return self.is_created(writing, broken, &mut tries).await;
                }
                Err(broken) => return Err(broken.error),
            }
        }
    }

    /// A creation whose reply did not come has been made if it is there now.
    async fn is_created(&self, writing: &Writing<'_>, broken: Broken, tries: &mut Tries) -> Result<Version> {
        loop {
            let asked = self.asked("GetItem");
            match tries.once(&asked, self.get(writing.key)).await {
                Ok(Some(item)) if is_version(&item, writing.key, writing.version) => {
                    return Ok(writing.version);
                }
                Ok(_) => return Err(broken.error),
                Err(failure) => {
                    if tries.again(failure).await.is_err() {
                        return Err(broken.error);
                    }
                }
            }
        }
    }

    pub(crate) async fn replace(
        &self,
        writing: &Writing<'_>,
        expected: Version,
        limit: Duration,
    ) -> Result<Version> {
        let (key, version) = (writing.key, writing.version);
        let mut tries = Tries::new(limit);
        let mut writes_note = false;
        loop {
            let now = now();
            let mut change = writing.change(now, writes_note);
            let mut condition = is_whole_version(&mut change.values, key, expected, now);
            if let (Some(note), false) = (&writing.note, writes_note) {
                condition = format!("{condition} AND {}", note.condition(&mut change.values));
            }
            change.condition = Some(condition);
            let item = match tries.once(&self.asked("UpdateItem"), self.update(change)).await {
                Ok(Seen::Done) => return Ok(version),
                Ok(Seen::Refused(item)) => item,
                Err(failure) => {
                    tries.again(failure).await?;
                    continue;
                }
            };
            let is_there = item.filter(|item| is_version(item, key, version) || !is_expired(item, now));
            match (is_there, &writing.note) {
                // The first try had arrived.
                (Some(item), _) if is_version(&item, key, version) => return Ok(version),
                // The subject is another one than before, or the end is later: the index comes first.
                (Some(item), Some(note)) if !writes_note && is_unnoted(&item, key, expected, note) => {
                    self.note(key, note, tries.afresh()).await?;
                    writes_note = true;
                }
                // Ours may have been written, and changed, replaced or deleted by somebody else since.
                _ if tries.is_repeated() => return Err(unknown()),
                (Some(item), _) => return Err(item::refusal(item, key, expected)),
                (None, _) => return Err(fail(ErrorKind::NotFound)),
            }
        }
    }

    pub(crate) async fn set_life(&self, key: &SessionKey, ttl: Duration, limit: Duration) -> Result<()> {
        let mut tries = Tries::new(limit);
        loop {
            let now = now();
            let end = end(now, ttl);
            let change = Change {
                key: key_of_record(key),
                expression: format!("SET {EXPIRES} = :end, #ttl = :ttl"),
                // Without it, the touch of an absent session would make an item.
                condition: Some(format!("{EXPIRES} > :now")),
                values: HashMap::from([
                    (":now".to_owned(), number(now)),
                    (":end".to_owned(), number(end)),
                    (":ttl".to_owned(), number(item::ttl(end))),
                ]),
                proof: Proof::Is(EXPIRES, end),
            };
            match tries.once(&self.asked("UpdateItem"), self.update(change)).await {
                Ok(Seen::Done) => return Ok(()),
                Ok(Seen::Refused(Some(item))) if !is_expired(&item, now) => {
                    return Err(fail(ErrorKind::Corrupt).with_detail("the item has no readable end"));
                }
                Ok(Seen::Refused(_)) => return Err(fail(ErrorKind::NotFound)),
                Err(failure) => tries.again(failure).await?,
            }
        }
    }

    pub(crate) async fn remove(
        &self,
        key: &SessionKey,
        expected: Option<Version>,
        limit: Duration,
    ) -> Result<bool> {
        let mut tries = Tries::new(limit);
        loop {
            let now = now();
            let mut values = HashMap::new();
            let condition = match expected {
                Some(expected) => is_whole_version(&mut values, key, expected, now),
                None => {
                    values.insert(":now".to_owned(), number(now));
                    // What has no readable end is no record, and goes.
                    format!("attribute_exists({PK}) AND (NOT {EXPIRES} <= :now)")
                }
            };
            let deleting = self.delete(key_of_record(key), &condition, values);
            let item = match tries.once(&self.asked("DeleteItem"), deleting).await {
                Ok(Seen::Done) => return Ok(true),
                Ok(Seen::Refused(item)) => item,
                Err(failure) => {
                    tries.again(failure).await?;
                    continue;
                }
            };
            // The first try may have found it, and what is there now came later: whether there was one is not known.
            if tries.is_repeated() {
                return Err(unknown());
            }
            return match (item, expected) {
                (Some(item), Some(expected)) if !is_expired(&item, now) => {
                    Err(item::refusal(item, key, expected))
                }
                _ => Ok(false),
            };
        }
    }

    /// Notes a record in the index by subject.
    async fn note(&self, key: &SessionKey, note: &Note, mut tries: Tries) -> Result<()> {
        loop {
            let now = now();
            let mut values = HashMap::from([(":written".to_owned(), number(now))]);
            let expression = match note.until {
                Some(until) => {
                    values.insert(":ttl".to_owned(), number(until));
                    format!("SET {WRITTEN} = :written, #ttl = :ttl")
                }
                None => format!("SET {WRITTEN} = :written REMOVE #ttl"),
            };
            let change = Change {
                key: key_of_note(&note.subject, key),
                expression,
                condition: None,
                values,
                proof: Proof::Is(WRITTEN, now),
            };
            match tries.once(&self.asked("UpdateItem"), self.update(change)).await {
                Ok(_) => return Ok(()),
                Err(failure) => tries.again(failure).await?,
            }
        }
    }
}

/// Whether the item holds the version that was expected, and is not noted as it has to be.
fn is_unnoted(item: &Item, key: &SessionKey, expected: Version, note: &Note) -> bool {
    let until = item::natural(item, NOTED);
    let is_long_enough = match (until, note.until) {
        (None, _) => true,
        (Some(until), Some(wanted)) => until >= wanted,
        (Some(_), None) => false,
    };
    let is_noted = item::blob(item, SUBJECT) == Some(&note.subject) && is_long_enough;
    is_version(item, key, expected) && !is_noted
}
