//! Bytes that somebody made up, and values that nobody should store: each is refused, without a panic, an overflowing
//! stack, a reserved gigabyte or an endless loop.
#![cfg(all(feature = "bincode", feature = "json"))]
#![allow(clippy::unwrap_used)] // The lint sees helpers of tests as no tests.

use std::{cell::Cell, collections::BTreeMap, fmt, sync::Arc, thread};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use session_core::{
    CodecErrorKind as Kind, Codecs, JsonCodec,
    codec::{self, erased_serde},
};

const BINCODE: u8 = 1;
const JSON: u8 = 2;

fn decode<T: de::DeserializeOwned>(tag: u8, bytes: &[u8]) -> Result<T, Kind> {
    Codecs::default().decode(tag, bytes).map_err(|error| error.kind())
}

fn both() -> [Codecs; 2] {
    [Codecs::default(), Codecs::new(Arc::new(JsonCodec))]
}

/// Runs on a stack of 2 MiB, as tokio's workers and std's threads have.
fn on_a_small_stack<T: Send>(run: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = thread::Builder::new().stack_size(2 << 20);
        thread.spawn_scoped(scope, run).unwrap().join().unwrap()
    })
}

/// A length of 2^n in bincode.
fn claim(length: u64) -> Vec<u8> {
    [&[253][..], &length.to_le_bytes()].concat()
}

thread_local! {
    static LARGEST_HINT: Cell<usize> = const { Cell::new(0) };
}

/// A sequence that remembers for how many elements it was told to reserve.
struct Reserving;

impl<'de> Deserialize<'de> for Reserving {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Reserving;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a sequence or a map")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Reserving, A::Error> {
                LARGEST_HINT.set(LARGEST_HINT.get().max(seq.size_hint().unwrap()));
                while seq.next_element::<u64>()?.is_some() {}
                Ok(Reserving)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Reserving, A::Error> {
                LARGEST_HINT.set(LARGEST_HINT.get().max(map.size_hint().unwrap()));
                while map.next_entry::<u64, u64>()?.is_some() {}
                Ok(Reserving)
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

#[test]
fn a_claimed_length_reserves_no_memory() {
    // 17 bytes that claim 2^32 integers.
    let bytes = [claim(1 << 32), vec![1; 8]].concat();
    assert_eq!(bytes.len(), 17);
    assert_eq!(decode::<Vec<u64>>(BINCODE, &bytes), Err(Kind::Malformed));
    assert_eq!(
        decode::<BTreeMap<u64, u64>>(BINCODE, &bytes),
        Err(Kind::Malformed)
    );
    assert_eq!(decode::<String>(BINCODE, &bytes), Err(Kind::Malformed));
    LARGEST_HINT.set(0);
    assert_eq!(decode::<Reserving>(BINCODE, &bytes).err(), Some(Kind::Malformed));
    let hint = LARGEST_HINT.get();
    assert!((1..=64).contains(&hint), "told to reserve {hint} elements");
}

#[test]
fn elements_without_a_size_are_counted() {
    for length in [10_001, 1 << 28, 1 << 40, u64::MAX] {
        let bytes = claim(length);
        assert_eq!(bytes.len(), 9);
        assert_eq!(
            decode::<Vec<()>>(BINCODE, &bytes),
            Err(Kind::TooManyElements),
            "{length}"
        );
        assert_eq!(
            decode::<BTreeMap<(), ()>>(BINCODE, &bytes),
            Err(Kind::TooManyElements),
            "{length}"
        );
    }
    assert_eq!(
        decode::<Vec<()>>(BINCODE, &claim(10_000)).map(|units| units.len()),
        Ok(10_000)
    );
    // All levels together.
    let many = [claim(100), claim(100).repeat(100)].concat();
    assert_eq!(decode::<Vec<Vec<()>>>(BINCODE, &many), Err(Kind::TooManyElements));
    let json = format!("[{}null]", "null,".repeat(10_000));
    assert_eq!(
        decode::<Vec<()>>(JSON, json.as_bytes()),
        Err(Kind::TooManyElements)
    );
    assert_eq!(
        decode::<serde_json::Value>(JSON, json.as_bytes()),
        Err(Kind::TooManyElements)
    );
}

#[test]
fn elements_are_counted_at_the_insert() {
    for codecs in both() {
        for length in [10_001, 1 << 28] {
            let error = codecs.encode(&vec![(); length]).unwrap_err();
            assert_eq!(error.kind(), Kind::TooManyElements, "{error}");
        }
        assert!(codecs.encode(&vec![(); 10_000]).is_ok());
        let square = vec![vec![true; 100]; 100];
        assert_eq!(codecs.encode(&square).unwrap_err().kind(), Kind::TooManyElements);
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Nested {
    Leaf,
    Node(Box<Nested>),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Chain(Option<Box<Chain>>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Named {
    next: Vec<Named>,
}

#[test]
fn nested_bytes_end_at_the_limit_and_not_at_the_stack() {
    on_a_small_stack(|| {
        for depth in [65, 20_000, 60_000] {
            let levels = vec![1; depth];
            assert_eq!(decode::<Nested>(BINCODE, &levels), Err(Kind::TooDeep), "{depth}");
            assert_eq!(decode::<Chain>(BINCODE, &levels), Err(Kind::TooDeep), "{depth}");
            assert_eq!(decode::<Named>(BINCODE, &levels), Err(Kind::TooDeep), "{depth}");
            let brackets = "[".repeat(depth);
            assert_eq!(
                decode::<serde_json::Value>(JSON, brackets.as_bytes()),
                Err(Kind::TooDeep),
                "{depth}"
            );
            let nodes = r#"{"Node":"#.repeat(depth.min(8_000));
            assert_eq!(
                decode::<Nested>(JSON, nodes.as_bytes()),
                Err(Kind::TooDeep),
                "{depth}"
            );
            let named = r#"{"next":["#.repeat(depth.min(7_000));
            assert_eq!(
                decode::<Named>(JSON, named.as_bytes()),
                Err(Kind::TooDeep),
                "{depth}"
            );
        }
    });
}

#[test]
fn ignored_json_may_be_deep_and_costs_no_stack() {
    on_a_small_stack(|| {
        let (open, close) = ("[".repeat(20_000), "]".repeat(20_000));
        let bytes = format!(r#"{{"unknown":{open}{close},"next":[]}}"#);
        assert!(matches!(
            decode::<Named>(JSON, bytes.as_bytes()),
            Ok(Named { next }) if next.is_empty()
        ));
    });
}

#[test]
fn sixty_four_levels_fit_in_both_directions() {
    let value = |levels: usize| {
        let text = [vec![b'['; levels], vec![b']'; levels]].concat();
        serde_json::from_slice::<serde_json::Value>(&text).unwrap()
    };
    let json = Codecs::new(Arc::new(JsonCodec));
    let encoded = json.encode(&value(64)).unwrap();
    assert_eq!(
        json.decode::<serde_json::Value>(JSON, &encoded.bytes),
        Ok(value(64))
    );
    assert_eq!(json.encode(&value(65)).unwrap_err().kind(), Kind::TooDeep);

    let nested = |levels: usize| (1..levels).fold(Nested::Leaf, |inner, _| Nested::Node(Box::new(inner)));
    for codecs in both() {
        let encoded = codecs.encode(&nested(64)).unwrap();
        assert_eq!(
            codecs.decode::<Nested>(encoded.tag, &encoded.bytes),
            Ok(nested(64))
        );
        assert_eq!(codecs.encode(&nested(65)).unwrap_err().kind(), Kind::TooDeep);
    }
}

#[test]
fn nested_values_are_refused_at_the_insert_and_not_by_the_stack() {
    let mut chain = Chain(None);
    let mut nested = Nested::Leaf;
    let mut value = serde_json::Value::Null;
    for _ in 0..20_000 {
        chain = Chain(Some(Box::new(chain)));
        nested = Nested::Node(Box::new(nested));
        value = serde_json::Value::Array(vec![value]);
    }
    for codecs in both() {
        on_a_small_stack(|| {
            assert_eq!(codecs.encode(&chain).unwrap_err().kind(), Kind::TooDeep);
            assert_eq!(codecs.encode(&nested).unwrap_err().kind(), Kind::TooDeep);
            assert_eq!(codecs.encode(&value).unwrap_err().kind(), Kind::TooDeep);
        });
    }
    // Dropping one of them level by level in the compiler's way would need the stack that this test is about.
    while let Chain(Some(inner)) = chain {
        chain = *inner;
    }
    while let Nested::Node(inner) = nested {
        nested = *inner;
    }
    while let serde_json::Value::Array(mut inner) = value {
        value = inner.pop().unwrap();
    }
}

#[test]
fn what_follows_the_value_is_refused() {
    for codecs in both() {
        let encoded = codecs.encode(&vec![1_u8, 2, 3]).unwrap();
        let longer = [&encoded.bytes[..], b"0"].concat();
        assert_eq!(decode::<Vec<u8>>(encoded.tag, &longer), Err(Kind::TrailingBytes));
    }
    assert_eq!(decode::<u8>(JSON, b"1 2"), Err(Kind::TrailingBytes));
    assert_eq!(decode::<u8>(JSON, b"1 \n"), Ok(1));
}

#[test]
fn too_large_a_value_is_refused_in_both_directions() {
    for codecs in both() {
        // A length of three bytes before it in bincode, quotes around it in JSON; both fit up to the last byte.
        let room =
            |codec: &Codecs| codec::MAX_BYTES - (codec.encode(&"x".repeat(300)).unwrap().bytes.len() - 300);
        let most = "x".repeat(room(&codecs));
        let encoded = codecs.encode(&most).unwrap();
        assert_eq!(encoded.bytes.len(), codec::MAX_BYTES);
        assert_eq!(
            codecs.decode::<String>(encoded.tag, &encoded.bytes).as_ref(),
            Ok(&most)
        );
        assert_eq!(codecs.encode(&(most + "x")).unwrap_err().kind(), Kind::TooLarge);
        let padded = [&encoded.bytes[..], b" "].concat();
        assert_eq!(decode::<String>(encoded.tag, &padded), Err(Kind::TooLarge));
    }
}

#[test]
fn many_small_values_fit_as_long_as_their_bytes_do() {
    let integers = vec![1_u128; 10_000];
    let strings = vec!["a short one".to_owned(); 5_000];
    for codecs in both() {
        let encoded = codecs.encode(&integers).unwrap();
        assert_eq!(
            codecs.decode::<Vec<u128>>(encoded.tag, &encoded.bytes).as_ref(),
            Ok(&integers)
        );
    }
    let bincode = Codecs::default();
    let encoded = bincode.encode(&strings).unwrap();
    assert_eq!(
        bincode.decode::<Vec<String>>(encoded.tag, &encoded.bytes),
        Ok(strings)
    );
}

#[test]
fn an_endless_value_is_refused_at_the_insert() {
    /// Would write strings for ever.
    #[derive(Debug, Deserialize)]
    struct Endless;
    impl Serialize for Endless {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map(std::iter::repeat(("key", "x".repeat(1_000))))
        }
    }
    let json = Codecs::new(Arc::new(JsonCodec));
    assert_eq!(json.encode(&Endless).unwrap_err().kind(), Kind::TooLarge);
}

#[test]
fn an_integer_in_more_bytes_than_needed_is_read_as_that_integer() {
    assert_eq!(decode::<u64>(BINCODE, &claim(5)), Ok(5));
    // But not in more than the type has.
    assert_eq!(decode::<u16>(BINCODE, &claim(5)), Err(Kind::Malformed));
}

#[test]
fn of_two_entries_with_one_key_the_last_counts() {
    let last = BTreeMap::from([(1_u8, 3_u8)]);
    assert_eq!(
        decode::<BTreeMap<u8, u8>>(BINCODE, &[2, 1, 2, 1, 3]),
        Ok(last.clone())
    );
    assert_eq!(decode::<BTreeMap<u8, u8>>(JSON, br#"{"1":2,"1":3}"#), Ok(last));
    // A struct's field is there once.
    assert_eq!(
        decode::<Named>(JSON, br#"{"next":[],"next":[]}"#),
        Err(Kind::Mismatch)
    );
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Short {
    name: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Long {
    name: String,
    #[serde(default)]
    visits: u32,
}

#[test]
fn a_struct_with_a_common_prefix_is_not_the_same_in_bincode() {
    let (short, long) = (
        Short { name: "zoë".into() },
        Long {
            name: "zoë".into(),
            visits: 7,
        },
    );
    let bincode = Codecs::default();
    let (short, long) = (bincode.encode(&short).unwrap(), bincode.encode(&long).unwrap());
    assert_eq!(decode::<Long>(BINCODE, &short.bytes), Err(Kind::Malformed));
    assert_eq!(decode::<Short>(BINCODE, &long.bytes), Err(Kind::TrailingBytes));
}

#[test]
fn json_reads_a_struct_with_added_and_removed_fields() {
    assert_eq!(
        decode::<Long>(JSON, br#"{"name":"zo\u00eb"}"#),
        Ok(Long {
            name: "zoë".into(),
            visits: 0
        })
    );
    assert_eq!(
        decode::<Short>(JSON, br#"{"name":"zo\u00eb","visits":7}"#),
        Ok(Short { name: "zoë".into() })
    );
}

#[test]
fn no_bytes_are_no_value() {
    for tag in [BINCODE, JSON] {
        assert_eq!(decode::<Long>(tag, b""), Err(Kind::Malformed));
    }
    // Of a type without a size bincode writes nothing.
    assert_eq!(decode::<()>(BINCODE, b""), Ok(()));
}

/// Every kind of failure for which serde or a codec would quote what it read.
#[test]
fn no_error_shows_what_is_stored() {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[allow(dead_code)]
        number: u8,
    }
    #[derive(Debug, Deserialize)]
    enum Choice {
        A,
    }
    #[derive(Debug)]
    struct Quoting;
    impl<'de> Deserialize<'de> for Quoting {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            Err(de::Error::custom(format!("unacceptable: {text}")))
        }
    }

    let codecs = Codecs::default().with_reader(Arc::new(Other));
    let seen = Cell::new(0);
    let check = |error: session_core::CodecError| {
        let shown = format!("{error} {error:?} {error:#?}");
        for secret in ["tr0ub4dor", "6174", "116, 114"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(error.type_name().is_some() && std::error::Error::source(&error).is_none());
        seen.set(seen.get() + 1);
    };
    for tag in [JSON, OTHER] {
        let text = br#""tr0ub4dor""#;
        check(codecs.decode::<u8>(tag, text).unwrap_err());
        check(codecs.decode::<Choice>(tag, text).unwrap_err());
        check(codecs.decode::<Quoting>(tag, text).unwrap_err());
        check(codecs.decode::<char>(tag, text).unwrap_err());
        check(codecs.decode::<u8>(tag, b"6174").unwrap_err());
        check(codecs.decode::<bool>(tag, b"6174").unwrap_err());
        check(
            codecs
                .decode::<Strict>(tag, br#"{"tr0ub4dor":6174}"#)
                .unwrap_err(),
        );
        check(
            codecs
                .decode::<Strict>(tag, br#"{"number":"tr0ub4dor"}"#)
                .unwrap_err(),
        );
        check(
            codecs
                .decode::<BTreeMap<u8, u8>>(tag, br#"{"tr0ub4dor":1}"#)
                .unwrap_err(),
        );
        check(codecs.decode::<String>(tag, br#""tr0ub4dor"#).unwrap_err());
        check(codecs.decode::<String>(tag, br#""tr0ub4dor" 6174"#).unwrap_err());
        check(
            codecs
                .decode::<serde_json::Value>(tag, br#"["tr0ub4dor", x]"#)
                .unwrap_err(),
        );
    }
    let text = b"\x09tr0ub4dor";
    check(codecs.decode::<Quoting>(BINCODE, text).unwrap_err());
    check(codecs.decode::<Vec<bool>>(BINCODE, text).unwrap_err());
    check(codecs.decode::<[char; 2]>(BINCODE, text).unwrap_err());
    check(codecs.decode::<Choice>(BINCODE, text).unwrap_err());
    check(codecs.decode::<std::num::NonZeroU8>(BINCODE, &[0]).unwrap_err());
    check(codecs.decode::<String>(BINCODE, b"\x09tr0ub4do\xff").unwrap_err());
    assert_eq!(seen.get(), 30);
    // At the insert, too.
    #[derive(Debug, Deserialize)]
    struct Unwritable;
    impl Serialize for Unwritable {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("unacceptable: tr0ub4dor"))
        }
    }
    for codecs in both() {
        check(codecs.encode(&Unwritable).unwrap_err());
        check(codecs.encode(&Reflecting("tr0ub4dor".into())).unwrap_err());
    }
    let encoded = Codecs::default().encode(&String::from("tr0ub4dor")).unwrap();
    assert_eq!(format!("{encoded:?}"), "Encoded(codec 1, 10 bytes)");
}

/// Is written and cannot be read back.
#[derive(Debug)]
struct Reflecting(String);

impl Serialize for Reflecting {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Reflecting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Err(de::Error::invalid_value(
            de::Unexpected::Str(&text),
            &"something else",
        ))
    }
}

const OTHER: u8 = 200;

/// An application's codec, as careless as the trait allows: it quotes nothing, and limits nothing.
#[derive(Debug)]
struct Other;

impl session_core::Codec for Other {
    fn tag(&self) -> u8 {
        OTHER
    }

    fn name(&self) -> &'static str {
        "other"
    }

    fn is_self_describing(&self) -> bool {
        true
    }

    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, session_core::CodecError> {
        serde_json::to_vec(value).map_err(|_| session_core::CodecError::new(Kind::Unsupported, "other"))
    }

    fn decode(&self, bytes: &[u8], visit: &mut codec::Visit<'_>) -> Result<(), session_core::CodecError> {
        let error = || session_core::CodecError::new(Kind::Malformed, "other");
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        visit(&mut <dyn erased_serde::Deserializer<'_>>::erase(
            &mut deserializer,
        ))
        .map_err(|_| error())?;
        deserializer.end().map_err(|_| error())
    }
}

#[test]
fn the_limits_hold_around_an_applications_codec() {
    let codecs = Codecs::new(Arc::new(Other));
    on_a_small_stack(|| {
        let brackets = "[".repeat(20_000);
        let error = codecs
            .decode::<serde_json::Value>(OTHER, brackets.as_bytes())
            .unwrap_err();
        assert_eq!((error.kind(), error.codec()), (Kind::TooDeep, "other"));
    });
    let json = format!("[{}null]", "null,".repeat(10_000));
    assert_eq!(
        codecs
            .decode::<Vec<()>>(OTHER, json.as_bytes())
            .unwrap_err()
            .kind(),
        Kind::TooManyElements
    );
    assert_eq!(
        codecs.encode(&vec![(); 10_001]).unwrap_err().kind(),
        Kind::TooManyElements
    );
    let large = vec![b' '; codec::MAX_BYTES + 1];
    assert_eq!(
        codecs.decode::<()>(OTHER, &large).unwrap_err().kind(),
        Kind::TooLarge
    );
    assert_eq!(
        codecs.encode(&"x".repeat(codec::MAX_BYTES)).unwrap_err().kind(),
        Kind::TooLarge
    );
}
