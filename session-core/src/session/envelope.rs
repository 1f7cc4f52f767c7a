//! The bytes of a record's data: a session, or where a renewed one has gone. Coded by hand, checked before any
//! attribute is decoded.
//!
//! All numbers little endian, times and lengths in milliseconds. A byte more or less than this is `Corrupt`.
//!
//! | live session | bytes || retired id | bytes |
//! |---|---|---|---|---|
//! | format, 1 | 1 || format, 1 | 1 |
//! | kind, 0 | 1 || kind, 1 | 1 |
//! | flags: 1 confirmed | 1 || cause: 0 periodic, 1 privilege | 1 |
//! | created, authenticated (0: never), renewed, deadline | 4 × 8 || flags: 1 confirmed | 1 |
//! | idle, absolute length | 2 × 8 || new key | 32 |
//! | renewals | 4 || end of grace | 8 |
//! | number of write ids, at most 8; the ids, oldest first | 1 + n × 16 ||||
//! | number of attributes | 2 ||||
//! | each, names ascending: length of name, name, codec tag, length of value, value | 1 + n + 1 + 4 + m ||||

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Lengths,
    attributes::{Attributes, OutOfOrder},
    client::is_reserved,
    writes::{WRITE_IDS, Writes},
};
use crate::{SessionKey, Timestamp, clock::whole_millis};

const FORMAT: u8 = 1;
const LIVE: u8 = 0;
const RETIRED: u8 = 1;
const CONFIRMED: u8 = 1;

/// Bytes of a live envelope without attributes, all its write ids in use.
pub(super) const LIVE_LEN: usize = 3 + 4 * 8 + 2 * 8 + 4 + 1 + WRITE_IDS * 16 + 2;

/// What a record's data says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Envelope {
    Live(Arc<Live>),
    Retired(Retired),
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Live {
    pub(super) created_at: Timestamp,
    pub(super) authenticated_at: Option<Timestamp>,
    /// When the present id was made.
    pub(super) renewed_at: Timestamp,
    pub(super) deadline: Timestamp,
    pub(super) lengths: Lengths,
    pub(super) renewals: u32,
    /// Whether a client has come with the present id: then the response that carried it had arrived.
    pub(super) confirmed: bool,
    pub(super) writes: Writes,
    pub(super) attributes: Attributes,
}

/// What is left under the old key of a renewed session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Retired {
    pub(super) new_key: SessionKey,
    /// Until then the old id reaches the session.
    pub(super) grace_ends: Timestamp,
    pub(super) cause: Cause,
    /// Whether a client had come with the old id.
    pub(super) confirmed: bool,
}

/// Why an id was renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It had served long enough.
    Periodic,
    /// Log-in, or another change of privilege: the old id must not reach the new rights.
    Privilege,
}

impl Live {
    /// A session that begins now.
    pub(super) fn new(now: Timestamp, lengths: Lengths) -> Self {
        Self {
            created_at: now,
            authenticated_at: None,
            renewed_at: now,
            deadline: now.after(lengths.absolute()),
            lengths,
            renewals: 0,
            confirmed: true,
            writes: Writes::default(),
            attributes: Attributes::new(),
        }
    }

    /// Removes the application's attributes.
    pub(super) fn clear(&mut self) {
        self.attributes.retain(is_reserved);
    }

    /// Bytes that this becomes at most.
    pub(super) fn max_len(&self) -> usize {
        LIVE_LEN
            + self
                .attributes
                .iter()
                .map(|(name, value)| attribute_len(name, value.bytes))
                .sum::<usize>()
    }
}

/// Bytes of an attribute in the envelope, without its name and its value.
const ATTRIBUTE_LEN: usize = 1 + 1 + 4;

/// Bytes of one attribute in the envelope.
pub(super) fn attribute_len(name: &str, value: &[u8]) -> usize {
    ATTRIBUTE_LEN + name.len() + value.len()
}

pub(super) fn encode_live(live: &Live) -> Vec<u8> {
    let mut out = Vec::with_capacity(live.max_len());
    out.extend([FORMAT, LIVE, if live.confirmed { CONFIRMED } else { 0 }]);
    let authenticated = live.authenticated_at.map_or(0, Timestamp::as_millis);
    for number in [
        live.created_at.as_millis(),
        authenticated,
        live.renewed_at.as_millis(),
        live.deadline.as_millis(),
        whole_millis(live.lengths.idle()),
        whole_millis(live.lengths.absolute()),
    ] {
        out.extend(number.to_le_bytes());
    }
    out.extend(live.renewals.to_le_bytes());
    // The counts are bounded where they grow: by `Writes::push`, and by the check of names and sizes at insert.
    out.push(live.writes.len() as u8);
    for write in live.writes.iter() {
        out.extend(write);
    }
    out.extend((live.attributes.len() as u16).to_le_bytes());
    for (name, value) in live.attributes.iter() {
        out.push(name.len() as u8);
        out.extend(name.as_bytes());
        out.push(value.tag);
        out.extend((value.bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(value.bytes);
    }
    out
}

pub(super) fn encode_retired(retired: &Retired) -> Vec<u8> {
    let mut out = Vec::with_capacity(44);
    let cause = match retired.cause {
        Cause::Periodic => 0,
        Cause::Privilege => 1,
    };
    out.extend([
        FORMAT,
        RETIRED,
        cause,
        if retired.confirmed { CONFIRMED } else { 0 },
    ]);
    out.extend(retired.new_key.as_bytes());
    out.extend(retired.grace_ends.as_millis().to_le_bytes());
    out
}

/// Why data is no envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// A newer version of this software wrote it.
    Newer(u8),
    /// It is not what any version writes.
    Corrupt(&'static str),
}

/// Reads an envelope. Attributes are places in `data`, not copies, and not decoded yet.
pub(crate) fn decode(data: &Bytes) -> Result<Envelope, Unreadable> {
    let mut reader = Reader { data, at: 0 };
    match reader.u8()? {
        FORMAT => {}
        0 => return Err(Unreadable::Corrupt("there is no envelope format 0")),
        format => return Err(Unreadable::Newer(format)),
    }
    let envelope = match reader.u8()? {
        LIVE => Envelope::Live(Arc::new(live(&mut reader)?)),
        RETIRED => Envelope::Retired(retired(&mut reader)?),
        _ => return Err(Unreadable::Corrupt("unknown kind of envelope")),
    };
    match reader.rest() {
        0 => Ok(envelope),
        _ => Err(Unreadable::Corrupt("bytes after the envelope's end")),
    }
}

fn live(reader: &mut Reader<'_>) -> Result<Live, Unreadable> {
    let confirmed = reader.confirmed()?;
    let created_at = reader.timestamp()?;
    let authenticated_at = match reader.timestamp()? {
        Timestamp::UNIX_EPOCH => None,
        at => Some(at),
    };
    let (renewed_at, deadline) = (reader.timestamp()?, reader.timestamp()?);
    let (idle, absolute) = (reader.length()?, reader.length()?);
    let lengths = Lengths::new(idle, absolute);
    if (lengths.idle(), lengths.absolute()) != (idle, absolute) {
        return Err(Unreadable::Corrupt("lengths that no session has"));
    }
    let renewals = u32::from_le_bytes(reader.array()?);
    let count = usize::from(reader.u8()?);
    if count > WRITE_IDS {
        return Err(Unreadable::Corrupt("more write ids than a record keeps"));
    }
    let mut writes = Writes::default();
    for _ in 0..count {
        writes.push(reader.array()?);
    }
    let count = usize::from(u16::from_le_bytes(reader.array()?));
    // What is claimed need not be there.
    let mut attributes = Attributes::of(reader.data.clone(), count.min(reader.rest() / ATTRIBUTE_LEN));
    for _ in 0..count {
        let len = usize::from(reader.u8()?);
        let name = reader.next(len)?;
        let tag = reader.u8()?;
        let len = u32::from_le_bytes(reader.array()?) as usize;
        let value = reader.next(len)?;
        attributes.push(name, tag, value).map_err(|OutOfOrder| {
            Unreadable::Corrupt("names are empty, not UTF-8 or not in ascending order")
        })?;
    }
    Ok(Live {
        created_at,
        authenticated_at,
        renewed_at,
        deadline,
        lengths,
        renewals,
        confirmed,
        writes,
        attributes,
    })
}

fn retired(reader: &mut Reader<'_>) -> Result<Retired, Unreadable> {
    let cause = match reader.u8()? {
        0 => Cause::Periodic,
        1 => Cause::Privilege,
        _ => return Err(Unreadable::Corrupt("unknown cause of a renewal")),
    };
    let confirmed = reader.confirmed()?;
    let new_key = SessionKey::from_bytes(reader.array()?);
    Ok(Retired {
        new_key,
        grace_ends: reader.timestamp()?,
        cause,
        confirmed,
    })
}

/// Data, and how far it was read.
struct Reader<'a> {
    data: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> usize {
        self.data.len() - self.at
    }

    /// Where the next `len` bytes are. They are read with that.
    fn next(&mut self, len: usize) -> Result<Range<usize>, Unreadable> {
        if len > self.rest() {
            return Err(Unreadable::Corrupt("the envelope was cut"));
        }
        let begin = self.at;
        self.at += len;
        Ok(begin..self.at)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let place = self.next(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.data[place]);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, Unreadable> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u64(&mut self) -> Result<u64, Unreadable> {
        self.array().map(u64::from_le_bytes)
    }

    fn timestamp(&mut self) -> Result<Timestamp, Unreadable> {
        self.u64().map(Timestamp::from_millis)
    }

    fn length(&mut self) -> Result<Duration, Unreadable> {
        self.u64().map(Duration::from_millis)
    }

    fn confirmed(&mut self) -> Result<bool, Unreadable> {
        match self.u8()? {
            0 => Ok(false),
            CONFIRMED => Ok(true),
            _ => Err(Unreadable::Corrupt("unknown flags")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::{super::attributes::Attribute, *};

    fn sample() -> Live {
        let mut live = Live::new(
            Timestamp::from_millis(1_800_000_000_000),
            Lengths::new(Duration::from_secs(1800), Duration::from_secs(28_800)),
        );
        live.authenticated_at = Some(Timestamp::from_millis(1_800_000_000_001));
        live.renewals = 3;
        live.writes.remember([9; 16]);
        live.attributes.insert(
            "cart",
            Attribute {
                tag: 1,
                bytes: Bytes::from_static(&[1, 2, 3]),
            },
        );
        live.attributes.insert(
            "thème",
            Attribute {
                tag: 2,
                bytes: Bytes::from_static(b"\"dark\""),
            },
        );
        live
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Bytes of every format ever released: they are read for ever.
    #[test]
    fn golden_bytes_of_format_1() {
        let golden = concat!(
            "010001",
            "00505c18a3010000",
            "01505c18a3010000",
            "00505c18a3010000",
            "00c4131aa3010000",
            "40771b0000000000",
            "0074b70100000000",
            "03000000",
            "01",
            "09090909090909090909090909090909",
            "0200",
            "04",
            "63617274",
            "01",
            "03000000",
            "010203",
            "06",
            "7468c3a86d65",
            "02",
            "06000000",
            "226461726b22",
        );
        assert_eq!(hex(&encode_live(&sample())), golden);
        let retired = Retired {
            new_key: SessionKey::from_bytes([7; 32]),
            grace_ends: Timestamp::from_millis(1_800_000_000_000),
            cause: Cause::Privilege,
            confirmed: true,
        };
        let golden = format!("01010101{}00505c18a3010000", "07".repeat(32));
        assert_eq!(hex(&encode_retired(&retired)), golden);
        assert_eq!(
            decode(&encode_live(&sample()).into()),
            Ok(Envelope::Live(Arc::new(sample())))
        );
        assert_eq!(
            decode(&encode_retired(&retired).into()),
            Ok(Envelope::Retired(retired))
        );
    }

    #[test]
    fn every_truncation_is_corrupt() {
        let data = Bytes::from(encode_live(&sample()));
        for end in 0..data.len() {
            assert!(
                matches!(decode(&data.slice(..end)), Err(Unreadable::Corrupt(_))),
                "cut at {end}"
            );
        }
        let mut longer = data.to_vec();
        longer.push(0);
        assert!(matches!(decode(&longer.into()), Err(Unreadable::Corrupt(_))));
    }

    #[test]
    fn newer_format_is_told_apart() {
        let mut data = encode_live(&sample());
        data[0] = 2;
        assert_eq!(decode(&data.into()), Err(Unreadable::Newer(2)));
    }

    #[test]
    fn only_the_newest_writes_are_remembered() {
        let mut live = sample();
        for id in 0..20 {
            live.writes.remember([id; 16]);
        }
        assert_eq!(*live.writes, (12..20).map(|id| [id; 16]).collect::<Vec<_>>());
        assert_eq!(encode_live(&live).len(), live.max_len());
    }

    proptest! {
        #[test]
        fn round_trips(
            attributes in collection::btree_map("\\PC{1,60}", (any::<u8>(), any::<Vec<u8>>()), 0..20),
            writes in collection::vec(any::<[u8; 16]>(), 0..=8),
            times in any::<[u32; 6]>(),
        ) {
            let time = |at: usize| Timestamp::from_millis(u64::from(times[at]) + 1);
            let lengths = Lengths::new(time(4).since(Timestamp::UNIX_EPOCH), time(5).since(Timestamp::UNIX_EPOCH));
            let mut kept = Writes::default();
            writes.into_iter().for_each(|write| kept.push(write));
            let live = Live {
                created_at: time(0),
                authenticated_at: Some(time(1)),
                renewed_at: time(2),
                deadline: time(3),
                lengths,
                renewals: times[0],
                confirmed: times[0] % 2 == 0,
                writes: kept,
                attributes: attributes
                    .into_iter()
                    .map(|(name, (tag, bytes))| (name, Attribute { tag, bytes: bytes.into() }))
                    .collect(),
            };
            prop_assert_eq!(decode(&encode_live(&live).into()), Ok(Envelope::Live(Arc::new(live))));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>, kind in 0_u8..3) {
            let _ = decode(&bytes.clone().into());
            let mut plausible = vec![FORMAT, kind];
            plausible.extend(bytes);
            let plausible = Bytes::from(plausible);
            // What is read is written again to the same bytes: one text for one meaning.
            match decode(&plausible) {
                Ok(Envelope::Live(live)) => prop_assert_eq!(encode_live(&live), plausible),
                Ok(Envelope::Retired(retired)) => prop_assert_eq!(encode_retired(&retired), plausible),
                Err(_) => {}
            }
        }
    }
}
