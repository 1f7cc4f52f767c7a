//! What passes: frames of a length in four bytes and as many bytes. Requests are JSON; a reply is a byte and what
//! belongs to it, so that half of one still looks like one.

use std::{io, time::Duration};

use serde::{Deserialize, Serialize};
use session_core::{ErrorKind, Record, SessionKey, Subject, Timestamp, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const HEAD: usize = 4;

/// A request.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Ask {
    Enter {
        namespace: String,
        password: String,
    },
    Create {
        key: [u8; 32],
        row: Row,
    },
    Load {
        key: [u8; 32],
    },
    Update {
        key: [u8; 32],
        expected: [u8; 16],
        row: Row,
    },
    Touch {
        key: [u8; 32],
        ttl: Duration,
    },
    Delete {
        key: [u8; 32],
        expected: Option<[u8; 16]>,
    },
    List {
        subject: String,
    },
    DeleteAll {
        subject: String,
        except: Option<[u8; 32]>,
    },
    Sweep {
        most: usize,
    },
}

/// A record and its life.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Row {
    data: Vec<u8>,
    subject: Option<String>,
    not_after: Option<u64>,
    pub(super) ttl: Duration,
}

impl Row {
    pub(super) fn new(record: &Record, ttl: Duration) -> Self {
        Self {
            data: record.data.to_vec(),
            subject: record.subject.as_ref().map(|subject| subject.as_str().to_owned()),
            not_after: record.not_after.map(Timestamp::as_millis),
            ttl,
        }
    }

    pub(super) fn record(&self) -> Record {
        Record::new(self.data.clone())
            .with_subject(self.subject.as_deref().and_then(|text| Subject::new(text).ok()))
            .with_not_after(self.not_after.map(Timestamp::from_millis))
    }
}

/// A reply.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Say {
    Absent,
    Done,
    /// What was written, and as which version: so nobody takes it for his own.
    Written([u8; 32], Version),
    /// The remaining life and the sealed value.
    Found(Duration, Vec<u8>),
    Deleted(bool),
    Keys(Vec<SessionKey>),
    Count(u64),
    Refused(ErrorKind),
    Denied,
}

const REFUSALS: [ErrorKind; 6] = [
    ErrorKind::Unavailable,
    ErrorKind::AlreadyExists,
    ErrorKind::NotFound,
    ErrorKind::Conflict,
    ErrorKind::Corrupt,
    ErrorKind::NewerFormat,
];

impl Say {
    pub(super) fn bytes(&self) -> Vec<u8> {
        let (tag, rest) = match self {
            Self::Absent => (0, Vec::new()),
            Self::Done => (1, Vec::new()),
            Self::Written(key, version) => (2, [key.as_slice(), version.as_bytes()].concat()),
            Self::Found(remaining, value) => {
                let millis = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX);
                (3, [&millis.to_le_bytes(), value.as_slice()].concat())
            }
            Self::Deleted(found) => (4, vec![u8::from(*found)]),
            Self::Keys(keys) => (5, keys.iter().flat_map(|key| *key.as_bytes()).collect()),
            Self::Count(count) => (6, count.to_le_bytes().to_vec()),
            Self::Refused(kind) => {
                let at = REFUSALS.iter().position(|refusal| refusal == kind);
                (7, vec![at.unwrap_or(0) as u8])
            }
            Self::Denied => (8, Vec::new()),
        };
        [&[tag], rest.as_slice()].concat()
    }

    /// As careless as only a mutant needs it: what is missing at the end is zero.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        Some(match tag {
            0 => Self::Absent,
            1 => Self::Done,
            2 => {
                let version = rest.get(32..).unwrap_or_default();
                Self::Written(padded(rest), Version::from_bytes(padded(version)))
            }
            3 => {
                let value = rest.get(8..).unwrap_or_default().to_vec();
                Self::Found(Duration::from_millis(u64::from_le_bytes(padded(rest))), value)
            }
            4 => Self::Deleted(padded::<1>(rest) == [1]),
            5 => Self::Keys(
                rest.chunks(32)
                    .map(|key| SessionKey::from_bytes(padded(key)))
                    .collect(),
            ),
            6 => Self::Count(u64::from_le_bytes(padded(rest))),
            7 => Self::Refused(*REFUSALS.get(usize::from(padded::<1>(rest)[0]))?),
            8 => Self::Denied,
            _ => return None,
        })
    }
}

fn padded<const N: usize>(bytes: &[u8]) -> [u8; N] {
    std::array::from_fn(|at| bytes.get(at).copied().unwrap_or(0))
}

/// The length of the first whole frame.
pub(super) fn length(bytes: &[u8]) -> Option<usize> {
    let length = HEAD + u32::from_le_bytes(bytes.get(..HEAD)?.try_into().ok()?) as usize;
    (bytes.len() >= length).then_some(length)
}

pub(super) async fn write(to: &mut (impl AsyncWriteExt + Unpin), body: &[u8]) -> io::Result<()> {
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    to.write_all(&[&length.to_le_bytes(), body].concat()).await
}

pub(super) async fn read(from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let length = from.read_u32_le().await?;
    let mut body = vec![0; length as usize];
    from.read_exact(&mut body).await?;
    Ok(body)
}

/// What one read gives.
pub(super) async fn read_once(from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(64 * 1024);
    from.read_buf(&mut bytes).await?;
    Ok(bytes.split_off(HEAD.min(bytes.len())))
}

/// What there is until the frame or the connection ends.
pub(super) async fn read_what_comes(from: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while length(&bytes).is_none() && from.read_buf(&mut bytes).await? > 0 {}
    match bytes.len() {
        0..=HEAD => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(bytes.split_off(HEAD)),
    }
}
