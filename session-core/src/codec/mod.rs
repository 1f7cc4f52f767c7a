//! How attributes become bytes, and bytes attributes again.
//!
//! A [`Codec`] turns one value into bytes. [`Codecs`] holds the one that writes and all that read: every stored value
//! carries the tag of its codec, so what one codec wrote stays readable after another became the default.
//!
//! | tag | codec | carries |
//! |---|---|---|
//! | 1 | [`BincodeCodec`] (feature `bincode`), the default | types with a fixed shape, compactly |
//! | 2 | [`JsonCodec`] (feature `json`) | self-describing types too: `serde_json::Value`, `flatten`, `untagged`, `tag`, `skip_serializing_if` |
//! | 128 to 255 | your own | |
//!
//! What a codec cannot carry is found at the insert, by an error that says what to do: the encoding is decoded again
//! as the same type before it is kept.
//!
//! # Limits
//!
//! What is stored may have been changed by somebody else. Whatever the codec, one value has at most [`MAX_BYTES`]
//! bytes, [`MAX_DEPTH`] levels and [`MAX_ELEMENTS`] elements, when written and when read; a length that the bytes only
//! claim reserves no memory, and nothing may follow the value. Bytes that break a limit are an error: never a panic,
//! an overflowing stack or an endless loop.
//!
//! # What errors tell
//!
//! [`CodecError`] names the codec, the type, the kind of failure and, where there is one, the position. It never holds
//! what is stored: the messages of serde and of the codecs, which quote values, are dropped.
//!
//! # bincode
//!
//! bincode is no longer maintained ([RUSTSEC-2025-0141](https://rustsec.org/advisories/RUSTSEC-2025-0141)), and stays
//! the default for its size and speed, contained:
//!
//! - pinned to 2.0.1, whose format is specified and frozen; nothing of it is in this crate's interface, and one file
//!   uses it;
//! - its own limit is not enough (17 bytes can make it reserve 1 MiB, 9 bytes make it count to 2^28, and nested
//!   values overflow the stack), so the limits above are kept outside of it;
//! - leaving is tested: with another default, values that bincode wrote are read as before, golden bytes must decode
//!   for ever, and a second implementation of the format reads them too.

#[cfg(feature = "bincode")]
mod bincode;
mod codecs;
mod error;
mod guard;
#[cfg(feature = "json")]
mod json;

use std::{any::Any, fmt};

/// The crate whose types [`Codec`] speaks of.
pub use erased_serde;

#[cfg(feature = "bincode")]
pub use self::bincode::BincodeCodec;
#[cfg(feature = "json")]
pub use self::json::JsonCodec;
pub use self::{
    codecs::{Codecs, Encoded},
    error::{CodecError, CodecErrorKind},
};

/// Bytes that one encoded value has at most (64 KiB).
pub const MAX_BYTES: usize = 65_536;

/// Levels that one value has at most. A sequence, map, struct, tuple, enum, newtype and `Some` are a level each.
pub const MAX_DEPTH: u32 = 64;

/// Elements of sequences and entries of maps that one value has at most, all of its levels together, those without
/// a size too. Fields of structs and tuples do not count: their number is in the type. (Bytes do count unless
/// the type serializes as bytes, as `bytes::Bytes` and `serde_bytes` do.)
pub const MAX_ELEMENTS: u32 = 10_000;

/// One way to turn values into bytes and back.
///
/// An implementation need not limit what it reads: [`Codecs`] keeps the limits around every codec. It must not panic
/// on any bytes, and must not reserve memory for lengths that the bytes only claim.
pub trait Codec: Any + fmt::Debug + Send + Sync {
    /// Stored with every value, and how its codec is found again. 1 to 127 belong to this crate (1: bincode 2
    /// standard, 2: JSON); 128 to 255 are for applications. It must never change.
    fn tag(&self) -> u8;

    /// What messages call this codec.
    fn name(&self) -> &'static str;

    /// Whether the bytes name fields and tell types, so that fields left out and types found at run time survive.
    /// If not (the default), a value that leaves fields out is refused when inserted.
    fn is_self_describing(&self) -> bool {
        false
    }

    /// The bytes of `value`.
    ///
    /// # Errors
    ///
    /// [`CodecErrorKind::Unsupported`] if the codec cannot carry the value. The error must not quote it.
    fn encode(&self, value: &dyn erased_serde::Serialize) -> Result<Vec<u8>, CodecError>;

    /// Hands `visit` a deserializer over all of `bytes`; trailing bytes are an error.
    ///
    /// # Errors
    ///
    /// [`CodecErrorKind::Malformed`] or [`CodecErrorKind::TrailingBytes`] for bytes that are not one whole value.
    /// For an error of `visit` any kind will do: [`Codecs`] knows the reason. The error must not quote what is stored.
    fn decode(&self, bytes: &[u8], visit: &mut Visit<'_>) -> Result<(), CodecError>;
}

/// What [`Codec::decode`] calls with its deserializer, once.
pub type Visit<'v> =
    dyn FnMut(&mut dyn erased_serde::Deserializer<'_>) -> Result<(), erased_serde::Error> + 'v;
