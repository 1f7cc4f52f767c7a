//! What is in the table: the attributes, put together and read here and nowhere else.
//!
//! | item | `pk` | `sk` | further attributes |
//! |---|---|---|---|
//! | a record | the session's key | `-` | `sealed`, `len`, `expires`, `ttl`, and with a subject `subject`, `noted` |
//! | a note in the index by subject | the subject's digest | the session's key | `written`, `ttl` |
//!
//! None of the names but `ttl` is a reserved word:
//! <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ReservedWords.html>

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use aws_sdk_dynamodb::{primitives::Blob, types::AttributeValue};
use bytes::Bytes;
use session_core::{ErrorKind, Record, Result, SessionKey, Timestamp, Version, clock::whole_millis, head};

use crate::{BACKEND, error::fail};

/// The partition key, 32 bytes.
pub(crate) const PK: &str = "pk";
/// The sort key.
pub(crate) const SK: &str = "sk";
/// The value, as [`head::seal`] makes it.
pub(crate) const SEALED: &str = "sealed";
/// The length of the value: what is compared with it is never a part of a value that was cut.
pub(crate) const LEN: &str = "len";
/// The end of a record's life by the client's clock, in milliseconds since 1970.
pub(crate) const EXPIRES: &str = "expires";
/// When DynamoDB may remove the item, in seconds since 1970.
pub(crate) const TTL: &str = "ttl";
/// The digest of the record's subject.
pub(crate) const SUBJECT: &str = "subject";
/// The `ttl` of the note that the index has of this record; none: it has no end.
pub(crate) const NOTED: &str = "noted";
/// When a note was written, by the client's clock, in milliseconds since 1970.
pub(crate) const WRITTEN: &str = "written";

/// The sort key of a record. No note has it: theirs are 32 bytes long.
pub(crate) const RECORD: &[u8] = b"-";

/// The largest item: 400 KB, with the names of its attributes.
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html>
const LARGEST_ITEM: usize = 400 * 1024;

/// Bytes of an item beside its data at most: names (35), keys (33), digest (32), four numbers of 21 bytes at most, the head
/// (50) and the longest subject (256), and some to spare.
const BESIDE: usize = 512;

/// The largest record that an item has room for.
pub(crate) const LARGEST_RECORD: usize = LARGEST_ITEM - BESIDE;

/// So much later than a record's end DynamoDB may remove its item. DynamoDB goes by its own clock and the record by the
/// client's, which may be behind it.
const LEEWAY: Duration = Duration::from_secs(60 * 60);

/// As the client has it.
pub(crate) type Item = HashMap<String, AttributeValue>;

pub(crate) fn bytes(bytes: impl AsRef<[u8]>) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes.as_ref()))
}

pub(crate) fn number(number: u64) -> AttributeValue {
    AttributeValue::N(number.to_string())
}

/// The key of a record's item.
pub(crate) fn key_of_record(key: &SessionKey) -> Item {
    HashMap::from([
        (PK.to_owned(), bytes(key.as_bytes())),
        (SK.to_owned(), bytes(RECORD)),
    ])
}

/// The key of a note.
pub(crate) fn key_of_note(subject: &[u8; 32], key: &SessionKey) -> Item {
    HashMap::from([
        (PK.to_owned(), bytes(subject)),
        (SK.to_owned(), bytes(key.as_bytes())),
    ])
}

/// The time, in whole milliseconds.
pub(crate) fn now() -> u64 {
    Timestamp::from(SystemTime::now()).as_millis()
}

/// The end of a life that begins now. The millisecond that has begun counts as over: a session lives at least its ttl.
pub(crate) fn end(now: u64, ttl: Duration) -> u64 {
    now.saturating_add(1).saturating_add(whole_millis(ttl))
}

/// When DynamoDB may remove what ends then: in whole seconds, rounded up, and an hour later.
pub(crate) fn ttl(end: u64) -> u64 {
    end.div_ceil(1000).saturating_add(LEEWAY.as_secs())
}

/// Bytes of an attribute.
pub(crate) fn blob<'a>(item: &'a Item, name: &str) -> Option<&'a [u8]> {
    match item.get(name)? {
        AttributeValue::B(blob) => Some(blob.as_ref()),
        _ => None,
    }
}

/// A whole number that is not negative.
pub(crate) fn natural(item: &Item, name: &str) -> Option<u64> {
    match item.get(name)? {
        AttributeValue::N(text) => text.parse().ok(),
        _ => None,
    }
}

/// A key of 32 bytes.
pub(crate) fn key(item: &Item, name: &str) -> Option<SessionKey> {
    let bytes = <[u8; 32]>::try_from(blob(item, name)?).ok()?;
    Some(SessionKey::from_bytes(bytes))
}

/// Whether the item is that of this key.
pub(crate) fn is_of(item: &Item, key: &SessionKey) -> bool {
    blob(item, PK) == Some(key.as_bytes())
}

/// Whether its life has ended. One without a readable end has not: it is no record.
pub(crate) fn is_expired(item: &Item, now: u64) -> bool {
    natural(item, EXPIRES).is_some_and(|end| end <= now)
}

/// Whether the item holds this version of `key`, whole.
pub(crate) fn is_version(item: &Item, key: &SessionKey, version: Version) -> bool {
    blob(item, SEALED).is_some_and(|value| {
        value.starts_with(&head::mark_of(key, version)) && head::is_whole(value, value.len())
    })
}

/// What a record's item holds.
pub(crate) fn open(item: Item, key: &SessionKey, now: u64) -> Result<Option<(Record, Version, Duration)>> {
    let corrupt = |why: &str| Err(fail(ErrorKind::Corrupt).with_detail(why));
    let Some(end) = natural(&item, EXPIRES) else {
        return corrupt("the item has no readable end");
    };
    if end <= now {
        return Ok(None);
    }
    let value = take(item, SEALED)?;
    let (record, version) = head::open(BACKEND, key, &value)?;
    Ok(Some((record, version, Duration::from_millis(end - now))))
}

/// Why the item is not the version of `key` that a write expected. It is there and has not expired.
pub(crate) fn refusal(item: Item, key: &SessionKey, expected: Version) -> session_core::Error {
    let is_expected = is_version(&item, key, expected);
    match take(item, SEALED) {
        // What the store compares beside the version is not as it writes it.
        Ok(_) if is_expected => {
            fail(ErrorKind::Corrupt).with_detail("the item's attributes contradict each other")
        }
        Ok(value) => head::refusal(BACKEND, key, &value),
        Err(error) => error,
    }
}

/// Bytes of an attribute, without a copy.
fn take(mut item: Item, name: &str) -> Result<Bytes> {
    match item.remove(name) {
        Some(AttributeValue::B(blob)) => Ok(Bytes::from(blob.into_inner())),
        _ => Err(fail(ErrorKind::Corrupt).with_detail("the item has no value")),
    }
}

#[cfg(test)]
mod tests {
    use session_core::Subject;

    use super::*;

    /// As DynamoDB counts: names, bytes, and 21 bytes at most for a number.
    fn size(item: &Item) -> usize {
        let value = |value: &AttributeValue| match value {
            AttributeValue::B(blob) => blob.as_ref().len(),
            _ => 21,
        };
        item.iter().map(|(name, held)| name.len() + value(held)).sum()
    }

    #[test]
    fn largest_record_has_room_in_the_largest_item() {
        let key = SessionKey::from_bytes([7; 32]);
        let subject = Subject::new("s".repeat(Subject::MAX_LEN)).unwrap();
        let record = Record::new(vec![1; LARGEST_RECORD]).with_subject(subject.clone());
        let version = Version::from_bytes([1; 16]);
        let mut item = key_of_record(&key);
        item.insert(
            SEALED.to_owned(),
            bytes(head::seal(BACKEND, &key, version, &record).unwrap()),
        );
        for name in [LEN, EXPIRES, TTL, NOTED] {
            item.insert(name.to_owned(), number(u64::MAX));
        }
        item.insert(SUBJECT.to_owned(), bytes(subject.digest()));
        assert!(size(&item) <= LARGEST_ITEM, "{}", size(&item));
    }

    #[test]
    fn life_is_never_shorter_than_its_ttl() {
        assert_eq!(end(1_000, Duration::from_micros(1)), 1_002);
        assert_eq!(ttl(1_001), 2 + 3_600);
        assert_eq!(end(u64::MAX, Duration::MAX), u64::MAX);
    }
}
