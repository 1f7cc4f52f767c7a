//! The head of every stored value: put on and checked here, and nowhere else.
//!
//! | bytes | what |
//! |---|---|
//! | 0..3 | `SSN` |
//! | 3 | format, 1 |
//! | 4..20 | the first 16 bytes of the value's own [`SessionKey`] |
//! | 20..36 | [`Version`] |
//! | 36..44 | `not_after` in milliseconds since 1970, little endian; 0: none |
//! | 44..46 | length of the subject, little endian; 0: none |
//! | 46..50 | length of the data, little endian |
//! | 50.. | subject, then data, and nothing after it |
//!
//! A reply that belongs to another key (a connection whose replies got out of step) does not carry this key's bytes,
//! and a value that was cut does not have its length: both are `Corrupt`, never somebody else's session.

use std::ops::Range;

use bytes::Bytes;

use crate::{Error, ErrorKind, Record, Result, SessionKey, Subject, Timestamp, Version};

/// The format that this version writes. A value of a higher one is [`ErrorKind::NewerFormat`] and left alone.
pub const FORMAT: u8 = 1;

/// Bytes before the subject and the data.
pub const LEN: usize = 50;

/// Where the version stands, for stores that compare it on the server (by a script, say).
pub const VERSION: Range<usize> = 20..36;

const MAGIC: &[u8; 3] = b"SSN";
const KEY: Range<usize> = 4..20;
const NOT_AFTER: Range<usize> = 36..44;

/// Where the length of the subject stands, little endian: for stores that compare lengths on the server.
pub const SUBJECT_LEN: Range<usize> = 44..46;

/// Where the length of the data stands, little endian.
pub const DATA_LEN: Range<usize> = 46..50;

/// Bytes that [`seal`] makes of `record`.
#[must_use]
pub fn sealed_len(record: &Record) -> usize {
    LEN + record
        .subject
        .as_ref()
        .map_or(0, |subject| subject.as_str().len())
        + record.data.len()
}

/// The value to store for `record` under `key`, written as `version`.
///
/// # Errors
///
/// [`ErrorKind::TooLarge`] if the data is 4 GiB or more.
pub fn seal(backend: &'static str, key: &SessionKey, version: Version, record: &Record) -> Result<Vec<u8>> {
    let subject = record.subject.as_ref().map_or("", Subject::as_str).as_bytes();
    let size = record.data.len();
    let too_large = || {
        Error::new(
            ErrorKind::TooLarge {
                size,
                limit: u32::MAX as usize,
            },
            backend,
        )
    };
    let data_len = u32::try_from(size).map_err(|_| too_large())?;
    let subject_len = u16::try_from(subject.len()).map_err(|_| too_large())?;

    let mut value = Vec::with_capacity(sealed_len(record));
    value.extend_from_slice(MAGIC);
    value.push(FORMAT);
    value.extend_from_slice(&key.as_bytes()[..16]);
    value.extend_from_slice(version.as_bytes());
    value.extend_from_slice(&record.not_after.map_or(0, Timestamp::as_millis).to_le_bytes());
    value.extend_from_slice(&subject_len.to_le_bytes());
    value.extend_from_slice(&data_len.to_le_bytes());
    value.extend_from_slice(subject);
    value.extend_from_slice(&record.data);
    Ok(value)
}

/// The record and version in `value`, which a store found under `key`. The data is not copied.
///
/// # Errors
///
/// [`ErrorKind::NewerFormat`] if a newer version of this software wrote it; [`ErrorKind::Corrupt`] for anything else
/// that is not a whole value of this very key.
pub fn open(backend: &'static str, key: &SessionKey, value: &Bytes) -> Result<(Record, Version)> {
    let corrupt = |why: &str| Error::new(ErrorKind::Corrupt, backend).with_detail(why);
    if value.len() < 4 || &value[..3] != MAGIC {
        return Err(corrupt("the value does not begin as a session record does"));
    }
    match value[3] {
        FORMAT => {}
        0 => return Err(corrupt("there is no format 0")),
        format => {
            let detail = format!("format {format}; this version reads up to {FORMAT}");
            return Err(Error::new(ErrorKind::NewerFormat, backend).with_detail(detail));
        }
    }
    if value.len() < LEN {
        return Err(corrupt("the value was cut within its head"));
    }
    if value[KEY] != key.as_bytes()[..16] {
        return Err(corrupt("the value belongs to another key"));
    }
    let version = Version::from_bytes(array(&value[VERSION]));
    let not_after = match u64::from_le_bytes(array(&value[NOT_AFTER])) {
        0 => None,
        millis => Some(Timestamp::from_millis(millis)),
    };
    let (subject_len, data_len) = lengths(value);
    if value.len() - LEN != subject_len.saturating_add(data_len) {
        return Err(corrupt("the value's length is not the one that its head tells"));
    }
    let (subject, data) = (
        value.slice(LEN..LEN + subject_len),
        value.slice(LEN + subject_len..),
    );
    let subject = match subject_len {
        0 => None,
        _ => {
            let text = std::str::from_utf8(&subject).map_err(|_| corrupt("the subject is not UTF-8"))?;
            Some(Subject::new(text).map_err(|_| corrupt("the subject is too long"))?)
        }
    };
    Ok((
        Record {
            data,
            subject,
            not_after,
        },
        version,
    ))
}

/// Whether a value that begins with `begin` and has `len` bytes has the length that its head tells, for stores that
/// compare a version without reading the whole value.
#[must_use]
pub fn is_whole(begin: &[u8], len: usize) -> bool {
    begin.len() >= LEN && len >= LEN && {
        let (subject, data) = lengths(begin);
        len - LEN == subject.saturating_add(data)
    }
}

/// Of the subject and of the data, as a whole head tells them.
fn lengths(value: &[u8]) -> (usize, usize) {
    let subject = u16::from_le_bytes(array(&value[SUBJECT_LEN]));
    let data = u32::from_le_bytes(array(&value[DATA_LEN]));
    (usize::from(subject), data as usize)
}

/// What every value of `key` begins with in this format, up to its version: for scripts that check it on the server.
#[must_use]
pub fn mark(key: &SessionKey) -> [u8; VERSION.start] {
    let mut mark = [0; VERSION.start];
    mark[..3].copy_from_slice(MAGIC);
    mark[3] = FORMAT;
    mark[KEY].copy_from_slice(&key.as_bytes()[..16]);
    mark
}

/// What the value of `key` in this version begins with: for stores that compare a version on the server.
#[must_use]
pub fn mark_of(key: &SessionKey, version: Version) -> [u8; VERSION.end] {
    let mut begin = [0; VERSION.end];
    begin[..VERSION.start].copy_from_slice(&mark(key));
    begin[VERSION].copy_from_slice(version.as_bytes());
    begin
}

/// Why a value that begins with `begin` is not the version of `key` that a write expected, for stores that read no more
/// than that of it.
///
/// [`ErrorKind::Conflict`] if it is another version; [`ErrorKind::Corrupt`] or [`ErrorKind::NewerFormat`] if it is none.
#[must_use]
pub fn refusal(backend: &'static str, key: &SessionKey, begin: &Bytes) -> Error {
    if begin.starts_with(&mark(key)) {
        return Error::new(ErrorKind::Conflict, backend);
    }
    match open(backend, key, begin) {
        Err(error) => error,
        Ok(_) => Error::new(ErrorKind::Conflict, backend),
    }
}

/// Whether `value` begins as a session record of another key: what a reply that belongs to somebody else looks like.
#[must_use]
pub fn is_of_another_key(key: &SessionKey, value: &[u8]) -> bool {
    value.starts_with(MAGIC) && value.get(KEY).is_some_and(|bytes| bytes != &key.as_bytes()[..16])
}

/// Whether `begin`, the first [`LEN`] bytes of `key`'s value and as many more as `subject` has, belong to a record of
/// `subject`'s: for an index that verifies its entries without loading the records.
///
/// A newer format cannot be looked into, and counts as the subject's: who logs out everywhere wants it gone.
#[must_use]
pub fn begins_with_subject(key: &SessionKey, begin: &[u8], subject: &Subject) -> bool {
    if begin.len() >= 4 && begin.starts_with(MAGIC) && begin[3] > FORMAT {
        return true;
    }
    let text = subject.as_str().as_bytes();
    begin.len() == LEN + text.len()
        && begin.starts_with(MAGIC)
        && begin[3] == FORMAT
        && begin[KEY] == key.as_bytes()[..16]
        && usize::from(u16::from_le_bytes(array(&begin[SUBJECT_LEN]))) == text.len()
        && &begin[LEN..] == text
}

/// `slice` as an array; the callers' ranges have that length.
fn array<const N: usize>(slice: &[u8]) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(slice);
    array
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: SessionKey = SessionKey::from_bytes([7; 32]);

    fn sample() -> Record {
        Record::new(&b"data\0\r\n\xff"[..])
            .with_subject(Subject::new("zoë").unwrap())
            .with_not_after(Timestamp::from_millis(1_800_000_000_000))
    }

    /// Bytes of every format ever released: they are read for ever.
    #[test]
    fn golden_bytes_of_format_1() {
        let golden = concat!(
            "53534e01",
            "07070707070707070707070707070707",
            "000102030405060708090a0b0c0d0e0f",
            "00505c18a3010000",
            "0400",
            "08000000",
            "7a6fc3ab",
            "64617461000d0aff",
        );
        let version = Version::from_bytes(std::array::from_fn(|at| at as u8));
        let value = seal("test", &KEY, version, &sample()).unwrap();
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden);
        assert_eq!(open("test", &KEY, &value.into()).unwrap(), (sample(), version));
    }

    #[test]
    fn every_truncation_is_corrupt() {
        let value = Bytes::from(seal("test", &KEY, Version::random().unwrap(), &sample()).unwrap());
        for end in 0..value.len() {
            let error = open("test", &KEY, &value.slice(..end)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "cut at {end}");
        }
        let mut longer = value.to_vec();
        longer.push(0);
        assert_eq!(
            open("test", &KEY, &longer.into()).unwrap_err().kind(),
            ErrorKind::Corrupt
        );
    }

    #[test]
    fn another_key_is_corrupt_and_a_newer_format_is_told_apart() {
        let mut value = seal("test", &KEY, Version::random().unwrap(), &sample()).unwrap();
        let other = SessionKey::from_bytes([8; 32]);
        assert_eq!(
            open("test", &other, &value.clone().into()).unwrap_err().kind(),
            ErrorKind::Corrupt
        );
        value[3] = FORMAT + 1;
        assert_eq!(
            open("test", &KEY, &value.into()).unwrap_err().kind(),
            ErrorKind::NewerFormat
        );
    }

    #[test]
    fn begin_of_a_value_tells_its_key_and_subject() {
        let (zoe, other) = (Subject::new("zoë").unwrap(), Subject::new("zoe").unwrap());
        let other_key = SessionKey::from_bytes([8; 32]);
        let mut value = seal("test", &KEY, Version::random().unwrap(), &sample()).unwrap();
        let begin = |value: &[u8], subject: &Subject| value[..LEN + subject.as_str().len()].to_vec();
        assert_eq!(value[..VERSION.start], mark(&KEY));
        assert!(begins_with_subject(&KEY, &begin(&value, &zoe), &zoe));
        assert!(!begins_with_subject(&KEY, &begin(&value, &other), &other));
        assert!(!begins_with_subject(&other_key, &begin(&value, &zoe), &zoe));
        assert!(!begins_with_subject(&KEY, &value[..LEN], &zoe) && !begins_with_subject(&KEY, b"", &zoe));
        // The longer name of which this is the beginning is another subject.
        let longer = sample().with_subject(Subject::new("zoë!").unwrap());
        let long = seal("test", &KEY, Version::random().unwrap(), &longer).unwrap();
        assert!(!begins_with_subject(&KEY, &begin(&long, &zoe), &zoe));

        assert!(is_of_another_key(&other_key, &value) && !is_of_another_key(&KEY, &value));
        assert!(!is_of_another_key(&other_key, b"SSN") && !is_of_another_key(&other_key, &[0; 60]));
        value[3] = FORMAT + 1;
        assert!(begins_with_subject(&KEY, &begin(&value, &other), &other));
    }

    proptest! {
        #[test]
        fn round_trips(data: Vec<u8>, subject in proptest::option::of("\\PC{1,60}"), millis in 0_u64..u64::MAX / 2) {
            let not_after = (millis > 0).then(|| Timestamp::from_millis(millis));
            let subject = subject.map(|text| Subject::new(text).unwrap());
            let record = Record::new(data).with_subject(subject).with_not_after(not_after);
            let version = Version::random().unwrap();
            let value = seal("test", &KEY, version, &record).unwrap();
            prop_assert_eq!(value.len(), sealed_len(&record));
            prop_assert_eq!(open("test", &KEY, &value.into()).unwrap(), (record, version));
        }

        #[test]
        fn any_bytes_are_read_or_refused(mut bytes: Vec<u8>, plausible: bool) {
            if plausible {
                let mut head = b"SSN\x01".to_vec();
                head.extend([7; 16]);
                head.append(&mut bytes);
                bytes = head;
            }
            if let Err(error) = open("test", &KEY, &bytes.into()) {
                prop_assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NewerFormat));
            }
        }
    }
}
