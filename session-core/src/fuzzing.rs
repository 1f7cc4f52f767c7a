//! What the fuzz targets in `fuzz/` call with any bytes. The tests below call the same, so that a change that breaks
//! one is found without a fuzzer. Not part of the interface.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};

use crate::{
    ClientAction, Clock, CodecErrorKind, Codecs, ErrorKind, JsonCodec, MemoryStore, Record, SessionError,
    SessionId, SessionKey, SessionStore, Sessions, Timestamp, head,
};

/// Any bytes are opened as a stored value of a key, or refused; what is opened, seals to the same bytes.
///
/// # Panics
///
/// If that does not hold.
pub fn head(bytes: &[u8]) {
    let key = SessionKey::from_bytes([7; 32]);
    // Most inputs would die at the key; half of them get past it.
    let value = match bytes.split_first() {
        Some((flag, rest)) if flag & 1 == 1 => [b"SSN\x01", &key.as_bytes()[..16], rest].concat(),
        _ => bytes.to_vec(),
    };
    let value = Bytes::from(value);
    match head::open("fuzz", &key, &value) {
        Ok((record, version)) => {
            let sealed = head::seal("fuzz", &key, version, &record).map(Bytes::from);
            assert_eq!(sealed.ok(), Some(value), "what was opened seals to other bytes");
            assert_sane(&record);
        }
        Err(error) => assert!(
            matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NewerFormat),
            "refused by {error}"
        ),
    }
}

/// Any bytes are read as a session's record, or refused as unreadable and left as they are; a session that was read
/// can be changed and is read again with everything that it had. Whether it came so far.
///
/// # Panics
///
/// If that does not hold, or without randomness.
pub fn envelope(bytes: &[u8]) -> bool {
    ready(async {
        let store: Arc<dyn SessionStore> = Arc::new(MemoryStore::new());
        let sessions = Sessions::builder(store.clone()).clock(Arc::new(Still)).build();
        let (Ok(sessions), Ok(id)) = (sessions, SessionId::random()) else {
            panic!("no sessions, or no randomness")
        };
        let key = id.key(sessions.namespace());
        let record = Record::new(bytes.to_vec());
        if let Err(error) = store.create(&key, &record, Duration::from_secs(3_600)).await {
            assert!(matches!(error.kind(), ErrorKind::TooLarge { .. }), "{error}");
            return false;
        }

        let session = sessions.open(Some(id.clone()));
        match session.info().await {
            Ok(Some(_)) => {}
            // A retired id whose grace is over, or a session whose time is.
            Ok(None) => return false,
            Err(SessionError::Store(error)) => {
                assert!(
                    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NewerFormat),
                    "{error}"
                );
                let stored = store.load(&key).await.ok().flatten();
                assert_eq!(
                    stored.map(|stored| stored.record),
                    Some(record),
                    "it was not left alone"
                );
                return false;
            }
            Err(error) => panic!("{error}"),
        }
        let Ok(names) = session.names().await else {
            panic!("read once and not again")
        };
        for name in &names {
            match session.get::<Tree>(name).await {
                Ok(Some(_)) | Err(SessionError::Decode { .. }) => {}
                other => panic!("an attribute that is there: {other:?}"),
            }
        }

        let changed = session.insert("fuzz", &7_u8).await;
        let client = match changed.and(session.commit().await) {
            Ok(committed) => committed.client,
            Err(SessionError::TooLarge { .. }) => return false,
            Err(error) => panic!("{error}"),
        };
        let id = match client {
            ClientAction::Store { id, .. } => id,
            _ => id,
        };
        let session = sessions.open(Some(id));
        assert_eq!(session.get::<u8>("fuzz").await.ok(), Some(Some(7)));
        let mut expected = names;
        expected.push("fuzz".into());
        expected.sort();
        expected.dedup();
        assert_eq!(session.names().await.ok(), Some(expected));
        true
    })
}

/// Runs what never waits: the memory store answers at once.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits for something"),
    }
}

/// A clock that stands still, in 2027.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(1)
    }
}

fn assert_sane(record: &Record) {
    if let Some(subject) = &record.subject {
        assert!((1..=crate::Subject::MAX_LEN).contains(&subject.as_str().len()));
    }
    assert_ne!(record.not_after.map(Timestamp::as_millis), Some(0));
}

/// Any bytes are decoded as values of several types by each codec, or refused; what is decoded, is encoded and
/// decoded again as the same.
///
/// # Panics
///
/// If that does not hold.
pub fn codecs(bytes: &[u8]) {
    let [which, bytes @ ..] = bytes else { return };
    let tag = which % 2 + 1;
    match which / 2 % 8 {
        0 => round_trip::<Tree>(tag, bytes),
        1 => round_trip::<Vec<Tree>>(tag, bytes),
        2 => round_trip::<BTreeMap<String, Tree>>(tag, bytes),
        3 => round_trip::<Vec<()>>(tag, bytes),
        4 => round_trip::<Vec<Vec<u64>>>(tag, bytes),
        5 => round_trip::<(BTreeSet<i32>, Blob, Option<Option<char>>)>(tag, bytes),
        6 => round_trip::<Chain>(tag, bytes),
        _ => round_trip::<serde_json::Value>(tag, bytes),
    }
}

fn round_trip<T: Serialize + DeserializeOwned + fmt::Debug>(tag: u8, bytes: &[u8]) {
    let codecs = match tag {
        1 => Codecs::default(),
        _ => Codecs::new(Arc::new(JsonCodec)),
    };
    let Ok(value) = codecs.decode::<T>(tag, bytes) else {
        return;
    };
    let encoded = match codecs.encode(&value) {
        Ok(encoded) => encoded,
        // JSON has longer and shorter ways to write a number.
        Err(error) if error.kind() == CodecErrorKind::TooLarge => return,
        Err(error) => panic!("what was decoded cannot be encoded: {error}"),
    };
    assert_eq!(encoded.tag, tag);
    let again = codecs.decode::<T>(tag, &encoded.bytes);
    // By their text, because NaN is not equal to itself.
    assert_eq!(again.map(|again| format!("{again:?}")), Ok(format!("{value:?}")));
}

/// One of everything that serde knows and both codecs carry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Tree {
    /// A unit variant.
    Nothing,
    /// A boolean.
    Flag(bool),
    /// A negative one, too.
    Signed(i64),
    /// Up to the largest.
    Unsigned(u64),
    /// Integers of the other sizes.
    Sizes(i8, i16, i32, u8, u16, u32),
    /// Two integers of 16 bytes.
    Wide(i128, u128),
    /// A float of 4 and one of 8 bytes.
    Floats(f32, f64),
    /// A character.
    Char(char),
    /// A string.
    Text(String),
    /// A byte string.
    Blob(Blob),
    /// An option.
    Maybe(Option<Box<Tree>>),
    /// A sequence.
    List(Vec<Tree>),
    /// A map by strings.
    Map(BTreeMap<String, Tree>),
    /// A map by integers.
    Numbered(BTreeMap<i32, Tree>),
    /// A struct variant.
    Fields {
        /// A tuple.
        pair: (Box<Tree>, u8),
        /// A unit struct.
        unit: Unit,
        /// A newtype.
        newtype: Newtype,
    },
}

/// A unit struct.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unit;

/// A newtype struct.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Newtype(pub Option<u16>);

/// As deep as the bytes say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chain(pub Option<Box<Chain>>);

/// A byte string: serialized as bytes, not as a sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }

            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Blob, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = seq.next_element()? {
                    bytes.push(byte);
                }
                Ok(Blob(bytes))
            }
        }

        deserializer.deserialize_byte_buf(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use proptest::{
        collection::{btree_map, vec},
        option,
        prelude::*,
    };

    use super::*;

    fn tree() -> impl Strategy<Value = Tree> {
        let finite32 = any::<f32>().prop_filter("JSON has no others", |float| float.is_finite());
        let finite64 = any::<f64>().prop_filter("JSON has no others", |float| float.is_finite());
        let leaf = prop_oneof![
            Just(Tree::Nothing),
            any::<bool>().prop_map(Tree::Flag),
            any::<i64>().prop_map(Tree::Signed),
            any::<u64>().prop_map(Tree::Unsigned),
            any::<(i8, i16, i32, u8, u16, u32)>()
                .prop_map(|(a, b, c, d, e, f)| Tree::Sizes(a, b, c, d, e, f)),
            any::<(i128, u128)>().prop_map(|(signed, unsigned)| Tree::Wide(signed, unsigned)),
            (finite32, finite64).prop_map(|(single, double)| Tree::Floats(single, double)),
            any::<char>().prop_map(Tree::Char),
            ".{0,20}".prop_map(Tree::Text),
            vec(any::<u8>(), 0..40).prop_map(|bytes| Tree::Blob(Blob(bytes))),
        ];
        leaf.prop_recursive(6, 60, 6, |inner| {
            prop_oneof![
                option::of(inner.clone()).prop_map(|tree| Tree::Maybe(tree.map(Box::new))),
                vec(inner.clone(), 0..6).prop_map(Tree::List),
                btree_map(".{0,8}", inner.clone(), 0..6).prop_map(Tree::Map),
                btree_map(any::<i32>(), inner.clone(), 0..6).prop_map(Tree::Numbered),
                (inner, any::<u8>(), any::<Option<u16>>()).prop_map(|(tree, byte, newtype)| Tree::Fields {
                    pair: (Box::new(tree), byte),
                    unit: Unit,
                    newtype: Newtype(newtype),
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]

        #[test]
        fn values_round_trip_through_both_codecs(tree in tree()) {
            for codecs in [Codecs::default(), Codecs::new(Arc::new(JsonCodec))] {
                let encoded = codecs.encode(&tree).unwrap();
                prop_assert_eq!(&codecs.decode::<Tree>(encoded.tag, &encoded.bytes).unwrap(), &tree);
            }
        }

        #[test]
        fn cut_values_are_refused(tree in tree(), at: prop::sample::Index) {
            for codecs in [Codecs::default(), Codecs::new(Arc::new(JsonCodec))] {
                let encoded = codecs.encode(&tree).unwrap();
                let cut = &encoded.bytes[..at.index(encoded.bytes.len())];
                prop_assert!(codecs.decode::<Tree>(encoded.tag, cut).is_err());
            }
        }

        #[test]
        fn spoilt_values_are_decoded_or_refused(tree in tree(), at: prop::sample::Index, with: u8) {
            for (which, codecs) in [(0, Codecs::default()), (1, Codecs::new(Arc::new(JsonCodec)))] {
                let mut bytes = vec![which];
                bytes.extend_from_slice(&codecs.encode(&tree).unwrap().bytes);
                let at = 1 + at.index(bytes.len() - 1);
                bytes[at] = with;
                codecs_body(&bytes);
            }
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in vec(any::<u8>(), 0..300)) {
            codecs_body(&bytes);
        }

        #[test]
        fn any_text_is_decoded_or_refused(which: u8, text in r#"[-0-9a-zA-Z{}\[\]",:.\\ ]{0,200}"#) {
            let mut bytes = vec![which | 1];
            bytes.extend_from_slice(text.as_bytes());
            codecs_body(&bytes);
        }

        #[test]
        fn spoilt_sessions_are_read_or_refused(at: prop::sample::Index, with: u8, cut: prop::sample::Index) {
            let mut bytes = session().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = with;
            envelope(&bytes);
            envelope(&session()[..cut.index(session().len())]);
        }

        #[test]
        fn any_bytes_are_read_as_a_session_or_refused(mut bytes in vec(any::<u8>(), 0..300), kind in 0_u8..3) {
            bytes.splice(..0, [1, kind]);
            envelope(&bytes);
        }

        #[test]
        fn any_bytes_are_opened_or_refused(bytes in vec(any::<u8>(), 0..300)) {
            head(&bytes);
        }
    }

    use super::codecs as codecs_body;

    #[test]
    fn a_whole_session_is_read() {
        assert!(envelope(session()));
    }

    /// The record of a session with an attribute of each codec.
    fn session() -> &'static [u8] {
        static SESSION: OnceLock<Vec<u8>> = OnceLock::new();
        SESSION.get_or_init(|| {
            ready(async {
                let store: Arc<dyn SessionStore> = Arc::new(MemoryStore::new());
                let builder = || Sessions::builder(store.clone()).clock(Arc::new(Still));
                let sessions = builder().build().unwrap();
                let session = sessions.open(None);
                session
                    .insert("tree", &Tree::Text("bincode".into()))
                    .await
                    .unwrap();
                let ClientAction::Store { id, .. } = session.commit().await.unwrap().client else {
                    panic!("a new session has a new id")
                };
                let session = builder().codec(JsonCodec).build().unwrap().open(Some(id.clone()));
                session.insert("other", &Tree::Maybe(None)).await.unwrap();
                let _ = session.commit().await.unwrap();
                let stored = store.load(&id.key(sessions.namespace())).await.unwrap().unwrap();
                stored.record.data.to_vec()
            })
        })
    }
}
