//! What each codec carries, and how what it cannot carry is refused at the insert.
#![cfg(all(feature = "bincode", feature = "json"))]
#![allow(clippy::unwrap_used)] // The lint sees helpers of tests as no tests.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Debug,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use session_core::{
    Codec, CodecError, CodecErrorKind as Kind, Codecs, JsonCodec,
    codec::{Visit, erased_serde},
};

fn bincode() -> Codecs {
    Codecs::default()
}

fn json() -> Codecs {
    Codecs::new(Arc::new(JsonCodec))
}

#[track_caller]
fn carries<T: Serialize + DeserializeOwned + PartialEq + Debug>(codecs: &Codecs, value: &T) {
    let encoded = codecs.encode(value).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(&codecs.decode::<T>(encoded.tag, &encoded.bytes).unwrap(), value);
}

#[track_caller]
fn both_carry<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    carries(&bincode(), &value);
    carries(&json(), &value);
}

/// The error's text names every one of `words`.
#[track_caller]
fn refuses<T: Serialize + DeserializeOwned>(codecs: &Codecs, value: &T, words: &[&str]) {
    let error = codecs.encode(value).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "no {word:?} in: {error}");
    }
}

/// bincode refuses it and names JSON, and JSON carries it.
#[track_caller]
fn only_json_carries<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    refuses(&bincode(), &value, &["bincode", "use the JSON codec"]);
    carries(&json(), &value);
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
enum Colour {
    Red,
    Green,
}

#[test]
fn both_carry_what_std_has() {
    both_carry(());
    both_carry((true, 'ß', "𝄞 \0 \" \\ \u{2028}".to_owned()));
    both_carry([i8::MIN, -1, 0, i8::MAX]);
    both_carry((i64::MIN, i64::MAX, u64::MAX, i128::MIN, i128::MAX, u128::MAX));
    both_carry((
        f64::MIN,
        f64::MAX,
        f64::MIN_POSITIVE,
        f64::EPSILON,
        5e-324,
        0.1 + 0.2,
        f32::MIN_POSITIVE,
    ));
    both_carry(HashMap::from([
        ("zoë".to_owned(), vec![1, 2]),
        (String::new(), vec![]),
    ]));
    both_carry(HashMap::from([(-3_i16, Colour::Red), (7, Colour::Green)]));
    both_carry(BTreeMap::from([(u128::MAX, ()), (0, ())]));
    both_carry(BTreeMap::from([
        ('ß', Some(Duration::new(1, 999_999_999))),
        ('x', None),
    ]));
    both_carry(BTreeMap::from([(true, 1), (false, 0)]));
    both_carry(HashMap::from([(Colour::Red, Colour::Green)]));
    both_carry(HashSet::from(["a".to_owned(), "b".to_owned()]));
    both_carry(Some(Box::new(Ok::<u8, String>(1))));
    both_carry(Err::<u8, String>("no".into()));
    both_carry("192.0.2.1".parse::<IpAddr>().unwrap());
    both_carry("[2001:db8::1]:443".parse::<SocketAddr>().unwrap());
    both_carry(SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_123));
    both_carry(std::path::PathBuf::from("a/b"));
    both_carry(1..5);
    both_carry(std::num::NonZeroU32::MIN);
    both_carry([(); 0]);
    both_carry(std::borrow::Cow::<'static, str>::Owned("cow".into()));
}

#[test]
fn the_sign_of_zero_survives() {
    for codecs in [bincode(), json()] {
        let encoded = codecs.encode(&-0.0_f64).unwrap();
        let zero: f64 = codecs.decode(encoded.tag, &encoded.bytes).unwrap();
        assert!(zero.is_sign_negative());
    }
}

#[test]
fn only_bincode_carries_nan_and_infinity() {
    for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        refuses(&json(), &float, &["json", "NaN", "use the bincode codec"]);
        refuses(
            &json(),
            &Some(vec![float]),
            &["json", "NaN", "use the bincode codec"],
        );
        refuses(
            &json(),
            &(float as f32),
            &["json", "NaN", "use the bincode codec"],
        );
        let encoded = bincode().encode(&float).unwrap();
        let back: f64 = bincode().decode(encoded.tag, &encoded.bytes).unwrap();
        assert_eq!(back.to_bits(), float.to_bits());
    }
}

#[test]
fn only_bincode_carries_some_of_nothing() {
    let words = ["json", "Some(None)", "use the bincode codec"];
    refuses(&json(), &Some(None::<u8>), &words);
    refuses(&json(), &Some(()), &words);
    refuses(&json(), &Some(Some(None::<u8>)), &words);
    carries(&bincode(), &Some(None::<u8>));
    carries(&bincode(), &Some(()));
    both_carry(None::<Option<u8>>);
    both_carry(Some(Some(1)));
    both_carry(Some(vec![None, Some(1)]));
}

#[test]
fn only_bincode_carries_maps_by_anything() {
    let pairs = BTreeMap::from([((1, 2), 3)]);
    refuses(&json(), &pairs, &["json", "key", "bincode"]);
    carries(&bincode(), &pairs);
    let lists = BTreeMap::from([(vec![1], 3)]);
    refuses(&json(), &lists, &["json", "key", "bincode"]);
    carries(&bincode(), &lists);
}

#[test]
fn only_json_carries_its_values() {
    only_json_carries(serde_json::json!({"a": [1, -2.5, null, true, "x"]}));
    only_json_carries(vec![serde_json::Value::Null]);
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: u8,
    #[serde(flatten)]
    rest: BTreeMap<String, u8>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(u8),
    Text(String),
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Tagged {
    Card { number: u8 },
    Cash,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "is")]
enum Adjacent {
    Card(u8),
}

#[test]
fn only_json_carries_self_describing_types() {
    only_json_carries(Flat {
        id: 1,
        rest: BTreeMap::from([("a".into(), 2)]),
    });
    only_json_carries(Untagged::Number(1));
    only_json_carries(Untagged::Text("x".into()));
    only_json_carries(Tagged::Card { number: 1 });
    only_json_carries(Tagged::Cash);
    only_json_carries(vec![Some(Tagged::Cash)]);
    // Found even where no value of the type is there yet? No: only what is there is written and read.
    both_carry(Vec::<Tagged>::new());
}

#[test]
fn adjacent_tags_are_carried_by_json_and_not_spoilt_by_bincode() {
    carries(&json(), &Adjacent::Card(1));
    match bincode().encode(&Adjacent::Card(1)) {
        Ok(encoded) => assert_eq!(bincode().decode(1, &encoded.bytes), Ok(Adjacent::Card(1))),
        Err(error) => assert_eq!(error.kind(), Kind::Unsupported, "{error}"),
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Skipping {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nickname: Option<u8>,
    visits: Option<u8>,
    last: u8,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum SkippingVariant {
    One {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        items: Vec<u8>,
        name: String,
    },
}

#[test]
fn only_json_carries_fields_that_are_left_out() {
    let skipping = Skipping {
        nickname: None,
        visits: Some(0),
        last: 0,
    };
    refuses(
        &bincode(),
        &skipping,
        &["`nickname`", "skip_serializing_if", "use the JSON codec"],
    );
    only_json_carries(skipping);
    only_json_carries(vec![SkippingVariant::One {
        items: vec![],
        name: "x".into(),
    }]);
    // Nothing left out this time.
    both_carry(Skipping {
        nickname: Some(1),
        visits: None,
        last: 3,
    });
}

/// Two fields are written, three are read.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct WritesLess {
    #[serde(default, skip_serializing)]
    cached: u8,
    a: u8,
    b: u8,
}

/// Three fields are written, two are read.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ReadsLess {
    #[serde(skip_deserializing)]
    cached: u8,
    a: u8,
    b: u8,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Skipped {
    #[serde(skip)]
    cached: u8,
    a: u8,
    b: u8,
}

#[test]
fn fields_written_and_not_read_do_not_shift_the_others() {
    refuses(
        &bincode(),
        &WritesLess {
            cached: 0,
            a: 1,
            b: 2,
        },
        &["use the JSON codec"],
    );
    refuses(
        &bincode(),
        &ReadsLess {
            cached: 0,
            a: 1,
            b: 2,
        },
        &["use the JSON codec"],
    );
    // As many bytes are written as read, and everything in the wrong place: only the number of fields tells.
    let shifted = (
        WritesLess {
            cached: 0,
            a: 1,
            b: 2,
        },
        ReadsLess {
            cached: 3,
            a: 4,
            b: 5,
        },
    );
    refuses(&bincode(), &shifted, &["skip_serializing", "use the JSON codec"]);
    let both = Skipped {
        cached: 0,
        a: 1,
        b: 2,
    };
    both_carry(both);
}

/// Older field names do not count as fields.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Aliased {
    #[serde(alias = "surname", alias = "last_name")]
    name: String,
    #[serde(default)]
    visits: u8,
}

#[test]
fn both_carry_aliases_and_defaults() {
    both_carry(vec![Aliased {
        name: "x".into(),
        visits: 1,
    }]);
}

/// An application's codec, in front of a built-in one.
#[derive(Debug)]
struct Reversed {
    tag: u8,
    inner: Arc<dyn Codec>,
}

impl Codec for Reversed {
    fn tag(&self) -> u8 {
        self.tag
    }

    fn name(&self) -> &'static str {
        "reversed"
    }

    fn is_self_describing(&self) -> bool {
        self.inner.is_self_describing()
    }

    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, CodecError> {
        let mut bytes = self.inner.encode(value)?;
        bytes.reverse();
        Ok(bytes)
    }

    fn decode(&self, bytes: &[u8], visit: &mut Visit<'_>) -> Result<(), CodecError> {
        let mut bytes = bytes.to_vec();
        bytes.reverse();
        self.inner.decode(&bytes, visit)
    }
}

fn reversed(tag: u8, inner: impl Codec) -> Arc<dyn Codec> {
    let inner = Arc::new(inner);
    Arc::new(Reversed { tag, inner })
}

#[test]
fn an_applications_codec_is_held_to_the_same() {
    let codecs = Codecs::new(reversed(128, session_core::BincodeCodec));
    carries(
        &codecs,
        &BTreeMap::from([("a".to_owned(), (1, vec![Some(-2.5)]))]),
    );
    let skipping = Skipping {
        nickname: None,
        visits: Some(0),
        last: 0,
    };
    refuses(&codecs, &skipping, &["`nickname`"]);
    refuses(
        &codecs,
        &Flat {
            id: 1,
            rest: BTreeMap::new(),
        },
        &["JSON codec"],
    );
    refuses(&codecs, &serde_json::json!([1]), &[]);
    let shifted = (
        WritesLess {
            cached: 0,
            a: 1,
            b: 2,
        },
        ReadsLess {
            cached: 3,
            a: 4,
            b: 5,
        },
    );
    refuses(&codecs, &shifted, &["skip_serializing"]);

    let codecs = Codecs::new(reversed(255, JsonCodec));
    carries(&codecs, &skipping);
    carries(&codecs, &serde_json::json!({"a": [1]}));
    refuses(&codecs, &Some(None::<u8>), &["Some(None)"]);
    refuses(&codecs, &f64::NAN, &["NaN"]);
}

#[test]
fn what_one_codec_wrote_stays_readable_after_another_became_the_default() {
    let value = BTreeMap::from([("cart".to_owned(), vec![3, -4])]);
    let own = || reversed(130, JsonCodec);
    let writers = [bincode(), json(), Codecs::new(own())];
    let readers = [bincode(), json(), Codecs::new(reversed(131, JsonCodec))];
    for writer in &writers {
        let encoded = writer.encode(&value).unwrap();
        for reader in &readers {
            let reader = reader.clone().with_reader(own());
            assert_eq!(
                reader
                    .decode::<BTreeMap<_, _>>(encoded.tag, &encoded.bytes)
                    .as_ref(),
                Ok(&value)
            );
        }
    }
}

#[test]
fn an_unknown_codec_is_an_error_of_its_own() {
    for tag in [0, 3, 127, 128, 255] {
        let error = bincode().decode::<u8>(tag, b"1").unwrap_err();
        assert_eq!(error.kind(), Kind::UnknownTag { tag });
        assert!(error.to_string().contains(&tag.to_string()), "{error}");
    }
}

#[test]
fn tags_of_this_crate_are_not_for_applications() {
    for tag in [0, 1, 2, 3, 127] {
        let error = Codecs::new(reversed(tag, JsonCodec)).encode(&1).unwrap_err();
        assert_eq!(error.kind(), Kind::ReservedTag { tag });
    }
    // Nor does one take the place of a built-in codec when it reads.
    let codecs = bincode().with_reader(reversed(2, JsonCodec));
    assert_eq!(codecs.decode::<u8>(2, b"12"), Ok(12));
}

#[test]
fn debug_names_the_codecs() {
    let codecs = json().with_reader(reversed(200, JsonCodec));
    assert_eq!(
        format!("{codecs:?}"),
        r#"Codecs { writes: "json", reads: ["reversed"] }"#
    );
}
