//! bincode 2.0.1, standard configuration: the only file that uses it. Why and how it is contained: see the module
//! above.

use ::bincode::{
    config,
    enc::write::Writer,
    error::{DecodeError, EncodeError},
    serde as bincode_serde,
};
use serde::{Serialize, de::DeserializeSeed};

use super::{
    Codec, CodecError, CodecErrorKind, MAX_BYTES, Visit,
    guard::{DecodeWith, Guard, Reason, Rules, Write},
};

/// Stored with every value, for ever.
pub(super) const TAG: u8 = 1;

pub(super) const NAME: &str = "bincode";

pub(super) const HINT: &str =
    "; if it is a serde_json::Value, or uses flatten, untagged or tag, use the JSON codec";

/// bincode's own limit, a second line behind the guard. It counts what a value takes in memory, and an integer of
/// 16 bytes can come of one: 65,536 would refuse 60 KiB of short strings, each with a length of 8 bytes.
const LIMIT: usize = 16 * MAX_BYTES;

/// What bincode would write and then read as something else. Fields have no names in it.
const RULES: Rules = Rules {
    skipped_fields: true,
    non_finite: false,
    some_nothing: false,
};

/// [bincode 2](https://docs.rs/bincode/2.0.1) in its standard configuration (little endian, integers of variable
/// length): compact and quick, for types with a fixed shape.
///
/// It cannot carry types whose shape is found at run time (`serde_json::Value`, `flatten`, `untagged`, `tag`) or that
/// leave fields out (`skip_serializing_if`): inserting one is an error. A field that was added to a type since makes
/// older values unreadable, even with `#[serde(default)]`: give the attribute another name, or use [JSON].
///
/// [JSON]: super::JsonCodec
#[derive(Debug, Clone, Copy, Default)]
pub struct BincodeCodec;

impl Codec for BincodeCodec {
    fn tag(&self) -> u8 {
        TAG
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, CodecError> {
        encode(value, &Guard::new())
    }

    fn decode(&self, bytes: &[u8], visit: &mut Visit<'_>) -> Result<(), CodecError> {
        let guard = Guard::new();
        decode(bytes, DecodeWith::new(&guard, visit), &guard)
    }
}

pub(super) fn encode<T: Serialize + ?Sized>(value: &T, guard: &Guard) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Bounded(Vec::new());
    match bincode_serde::encode_into_writer(Write::new(value, guard, RULES), &mut bytes, config::standard()) {
        Ok(()) => Ok(bytes.0),
        Err(error) => Err(guard
            .take()
            .unwrap_or_else(|| encode_reason(&error))
            .into_error(NAME)),
    }
}

/// What `seed` makes of all of `bytes`; `guard` is the one that `seed` reads through.
pub(super) fn decode<'de, S: DeserializeSeed<'de>>(
    bytes: &'de [u8],
    seed: S,
    guard: &Guard,
) -> Result<S::Value, CodecError> {
    if bytes.len() > MAX_BYTES {
        return Err(CodecError::new(CodecErrorKind::TooLarge, NAME));
    }
    let config = config::standard().with_limit::<LIMIT>();
    match bincode_serde::seed_decode_from_slice(seed, bytes, config) {
        Ok((value, read)) if read == bytes.len() => Ok(value),
        Ok(_) => Err(CodecError::new(CodecErrorKind::TrailingBytes, NAME)),
        Err(error) => Err(guard
            .take()
            .unwrap_or_else(|| decode_reason(&error))
            .into_error(NAME)),
    }
}

/// A buffer that does not outgrow the limit.
struct Bounded(Vec<u8>);

impl Writer for Bounded {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        if bytes.len() > MAX_BYTES - self.0.len() {
            return Err(EncodeError::UnexpectedEnd);
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

fn encode_reason(error: &EncodeError) -> Reason {
    match error {
        EncodeError::UnexpectedEnd => Reason::new(CodecErrorKind::TooLarge),
        EncodeError::Serde(bincode_serde::EncodeError::SequenceMustHaveLength) => {
            Reason::new(CodecErrorKind::Unsupported).with_detail(
                "it has a map or sequence of unknown length (flatten, or an iterator); use the JSON codec",
            )
        }
        _ => Reason::new(CodecErrorKind::Refused),
    }
}

fn decode_reason(error: &DecodeError) -> Reason {
    let malformed = Reason::new(CodecErrorKind::Malformed);
    match error {
        DecodeError::UnexpectedEnd { .. } => malformed.with_detail("the bytes end too early"),
        DecodeError::LimitExceeded => malformed.with_detail("a length is larger than a value may be"),
        DecodeError::Utf8 { .. } => malformed.with_detail("a string is not UTF-8"),
        DecodeError::InvalidCharEncoding(_) => malformed.with_detail("a character is none"),
        DecodeError::InvalidBooleanValue(_) => malformed.with_detail("a boolean is neither 0 nor 1"),
        DecodeError::UnexpectedVariant { .. } => malformed.with_detail("an option is neither 0 nor 1"),
        DecodeError::InvalidIntegerType { .. } => malformed.with_detail("an integer is of another size"),
        DecodeError::Serde(
            bincode_serde::DecodeError::AnyNotSupported
            | bincode_serde::DecodeError::IdentifierNotSupported
            | bincode_serde::DecodeError::IgnoredAnyNotSupported,
        ) => Reason::new(CodecErrorKind::Unsupported)
            .with_detail("the type asks what the bytes hold (serde_json::Value, flatten, untagged, tag)"),
        _ => malformed,
    }
}
