//! JSON, for types that bincode cannot carry.

use std::io;

use serde::{Serialize, de::DeserializeSeed};
use serde_json::error::Category;

use super::{
    Codec, CodecError, CodecErrorKind, MAX_BYTES, Visit,
    guard::{DecodeWith, Guard, Reason, Rules, Write},
};

/// Stored with every value, for ever.
pub(super) const TAG: u8 = 2;

pub(super) const NAME: &str = "json";

pub(super) const HINT: &str = "; a type with a fixed shape fits the bincode codec";

/// What serde_json writes as `null`, and reads as something else or not at all.
const RULES: Rules = Rules {
    skipped_fields: false,
    non_finite: true,
    some_nothing: true,
};

/// JSON: larger and slower than bincode, and it carries self-describing types (`serde_json::Value`, `flatten`,
/// `untagged`, `tag`), left-out fields (`skip_serializing_if`) and, by `#[serde(default)]`, fields added later.
///
/// It cannot carry NaN, infinities, maps whose keys are not strings, numbers, booleans, characters or unit variants,
/// and `Some(None)` (which it would read as `None`): inserting one is an error.
#[derive(Debug, Clone, Copy, Default)]
pub struct JsonCodec;

impl Codec for JsonCodec {
    fn tag(&self) -> u8 {
        TAG
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn is_self_describing(&self) -> bool {
        true
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
    match serde_json::to_writer(&mut bytes, &Write::new(value, guard, RULES)) {
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
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = seed.deserialize(&mut deserializer).map_err(|error| {
        guard
            .take()
            .unwrap_or_else(|| decode_reason(&error))
            .into_error(NAME)
    })?;
    match deserializer.end() {
        Ok(()) => Ok(value),
        Err(_) => Err(CodecError::new(CodecErrorKind::TrailingBytes, NAME)),
    }
}

/// A buffer that does not outgrow the limit.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > MAX_BYTES - self.0.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn encode_reason(error: &serde_json::Error) -> Reason {
    match error.classify() {
        Category::Io => Reason::new(CodecErrorKind::TooLarge),
        // serde_json's own refusals are of map keys; a type's own refusal looks the same.
        _ => Reason::new(CodecErrorKind::Unsupported).with_detail(
            "a map's key is no string, number, boolean, character or unit variant (the bincode codec carries \
             such keys), or the type's own Serialize refused the value",
        ),
    }
}

fn decode_reason(error: &serde_json::Error) -> Reason {
    let kind = match error.classify() {
        Category::Data => CodecErrorKind::Mismatch,
        Category::Io | Category::Syntax | Category::Eof => CodecErrorKind::Malformed,
    };
    Reason::new(kind).with_detail(format!("at line {}, column {}", error.line(), error.column()))
}
