//! The codec that writes, and all that read.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned, de::DeserializeSeed};

#[cfg(feature = "bincode")]
use super::bincode;
#[cfg(feature = "json")]
use super::json;
use super::{
    Codec, CodecError, CodecErrorKind, MAX_BYTES,
    guard::{DecodeAs, Guard, Rules, Write},
};

/// One codec that writes, and all that read. Cheap to clone.
///
/// The built-in codecs whose features are on are always read, so that what was stored before the default changed
/// stays readable.
#[derive(Clone)]
pub struct Codecs {
    writes: AnyCodec,
    reads: Arc<[Arc<dyn Codec>]>,
}

impl Codecs {
    /// Writes with this codec, reads with it and with the built-in ones.
    #[must_use]
    pub fn new(writes: Arc<dyn Codec>) -> Self {
        Self {
            writes: AnyCodec::from(writes),
            reads: Arc::new([]),
        }
    }

    /// Also reads with `codec`, what an application's earlier codec wrote. The first one with a tag is asked.
    #[must_use]
    pub fn with_reader(mut self, codec: Arc<dyn Codec>) -> Self {
        self.reads = self.reads.iter().cloned().chain([codec]).collect();
        self
    }

    /// [`Codec::tag`] of the codec that writes.
    #[must_use]
    pub fn tag(&self) -> u8 {
        self.writes.tag()
    }

    /// The bytes of `value`, after they were decoded again as a `T`.
    ///
    /// # Errors
    ///
    /// [`CodecErrorKind::Unsupported`] if the codec cannot carry the value, the detail says what to do;
    /// [`TooLarge`](CodecErrorKind::TooLarge), [`TooDeep`](CodecErrorKind::TooDeep),
    /// [`TooManyElements`](CodecErrorKind::TooManyElements); [`Refused`](CodecErrorKind::Refused) by the type's own
    /// `Serialize`; [`ReservedTag`](CodecErrorKind::ReservedTag) if the codec's tag is not for applications.
    pub fn encode<T: Serialize + DeserializeOwned>(&self, value: &T) -> Result<Encoded, CodecError> {
        self.writes.encode(value).map_err(CodecError::for_type::<T>)
    }

    /// The value that was encoded with the codec of that tag.
    ///
    /// # Errors
    ///
    /// [`CodecErrorKind::UnknownTag`] if no such codec is here; any other kind if the bytes cannot be read as a `T`
    /// within the limits.
    pub fn decode<T: DeserializeOwned>(&self, tag: u8, bytes: &[u8]) -> Result<T, CodecError> {
        self.decode_tagged(tag, bytes).map_err(CodecError::for_type::<T>)
    }

    fn decode_tagged<T: DeserializeOwned>(&self, tag: u8, bytes: &[u8]) -> Result<T, CodecError> {
        let guard = Guard::new();
        match tag {
            #[cfg(feature = "bincode")]
            bincode::TAG => return bincode::decode(bytes, DecodeAs::new(&guard), &guard),
            #[cfg(feature = "json")]
            json::TAG => return json::decode(bytes, DecodeAs::new(&guard), &guard),
            _ => {}
        }
        let written = self.writes.other().filter(|codec| codec.tag() == tag);
        match written.or_else(|| self.reads.iter().find(|codec| codec.tag() == tag)) {
            Some(codec) => {
                check_tag(&**codec)?;
                decode_erased(&**codec, bytes, &guard)
            }
            None => Err(CodecError::new(CodecErrorKind::UnknownTag { tag }, "codec")),
        }
    }
}

#[cfg(any(feature = "bincode", feature = "json"))]
impl Default for Codecs {
    /// bincode writes if its feature is on, else JSON.
    fn default() -> Self {
        Self {
            #[cfg(feature = "bincode")]
            writes: AnyCodec::Bincode,
            #[cfg(not(feature = "bincode"))]
            writes: AnyCodec::Json,
            reads: Arc::new([]),
        }
    }
}

impl fmt::Debug for Codecs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reads: Vec<_> = self.reads.iter().map(|codec| codec.name()).collect();
        f.debug_struct("Codecs")
            .field("writes", &self.writes.name())
            .field("reads", &reads)
            .finish()
    }
}

/// An encoded value and the tag of its codec. `Debug` shows the length only.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Encoded {
    /// [`Codec::tag`] of the codec that wrote.
    pub tag: u8,
    /// What it wrote.
    pub bytes: Bytes,
}

impl Encoded {
    /// What the codec of that tag wrote.
    #[must_use]
    pub fn new(tag: u8, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { tag, bytes }
    }
}

impl fmt::Debug for Encoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encoded(codec {}, {} bytes)", self.tag, self.bytes.len())
    }
}

/// A codec; the built-in ones without the cost of erased types.
#[derive(Clone)]
enum AnyCodec {
    #[cfg(feature = "bincode")]
    Bincode,
    #[cfg(feature = "json")]
    Json,
    Other(Arc<dyn Codec>),
}

impl From<Arc<dyn Codec>> for AnyCodec {
    fn from(codec: Arc<dyn Codec>) -> Self {
        #[cfg(any(feature = "bincode", feature = "json"))]
        let any: &dyn std::any::Any = &*codec;
        #[cfg(feature = "bincode")]
        if any.is::<bincode::BincodeCodec>() {
            return Self::Bincode;
        }
        #[cfg(feature = "json")]
        if any.is::<json::JsonCodec>() {
            return Self::Json;
        }
        Self::Other(codec)
    }
}

impl AnyCodec {
    fn name(&self) -> &'static str {
        match self {
            #[cfg(feature = "bincode")]
            Self::Bincode => bincode::NAME,
            #[cfg(feature = "json")]
            Self::Json => json::NAME,
            Self::Other(codec) => codec.name(),
        }
    }

    fn tag(&self) -> u8 {
        match self {
            #[cfg(feature = "bincode")]
            Self::Bincode => bincode::TAG,
            #[cfg(feature = "json")]
            Self::Json => json::TAG,
            Self::Other(codec) => codec.tag(),
        }
    }

    fn other(&self) -> Option<&Arc<dyn Codec>> {
        match self {
            Self::Other(codec) => Some(codec),
            #[cfg(any(feature = "bincode", feature = "json"))]
            _ => None,
        }
    }

    fn encode<T: Serialize + DeserializeOwned>(&self, value: &T) -> Result<Encoded, CodecError> {
        let (written, read) = (Guard::new(), Guard::new());
        let (tag, bytes) = match self {
            #[cfg(feature = "bincode")]
            Self::Bincode => {
                let bytes = bincode::encode(value, &written)?;
                bincode::decode(&bytes, DecodeAs::<T>::new(&read), &read)
                    .map_err(|error| error.into_unsupported(bincode::HINT))?;
                check_shape(&written, &read, bincode::NAME)?;
                (bincode::TAG, bytes)
            }
            #[cfg(feature = "json")]
            Self::Json => {
                let bytes = json::encode(value, &written)?;
                json::decode(&bytes, DecodeAs::<T>::new(&read), &read)
                    .map_err(|error| error.into_unsupported(json::HINT))?;
                (json::TAG, bytes)
            }
            Self::Other(codec) => {
                check_tag(&**codec)?;
                let bytes = encode_erased(&**codec, value, &written)?;
                decode_erased::<T>(&**codec, &bytes, &read).map_err(|error| error.into_unsupported(""))?;
                if !codec.is_self_describing() {
                    check_shape(&written, &read, codec.name())?;
                }
                (codec.tag(), bytes)
            }
        };
        let bytes = Bytes::from(bytes);
        Ok(Encoded { tag, bytes })
    }
}

fn encode_erased<T: Serialize>(codec: &dyn Codec, value: &T, guard: &Guard) -> Result<Vec<u8>, CodecError> {
    let rules = Rules {
        skipped_fields: !codec.is_self_describing(),
        non_finite: false,
        some_nothing: false,
    };
    let encoded = codec.encode(&Write::new(value, guard, rules));
    if let Some(reason) = guard.take() {
        return Err(reason.into_error(codec.name()));
    }
    let bytes = encoded?;
    if bytes.len() > MAX_BYTES {
        return Err(CodecError::new(CodecErrorKind::TooLarge, codec.name()));
    }
    Ok(bytes)
}

fn decode_erased<T: DeserializeOwned>(
    codec: &dyn Codec,
    bytes: &[u8],
    guard: &Guard,
) -> Result<T, CodecError> {
    if bytes.len() > MAX_BYTES {
        return Err(CodecError::new(CodecErrorKind::TooLarge, codec.name()));
    }
    let mut value = None;
    let decoded = codec.decode(bytes, &mut |deserializer| {
        value = Some(DecodeAs::<T>::new(guard).deserialize(deserializer)?);
        Ok(())
    });
    if let Some(reason) = guard.take() {
        return Err(reason.into_error(codec.name()));
    }
    decoded?;
    value.ok_or_else(|| {
        CodecError::new(CodecErrorKind::Malformed, codec.name()).with_detail("the codec found no value")
    })
}

fn check_tag(codec: &dyn Codec) -> Result<(), CodecError> {
    match codec.tag() {
        128.. => Ok(()),
        tag => Err(CodecError::new(CodecErrorKind::ReservedTag { tag }, codec.name())),
    }
}

/// Without names, a field that is written and not read (or the other way round) gives its place to the next one.
fn check_shape(written: &Guard, read: &Guard, codec: &'static str) -> Result<(), CodecError> {
    if written.shape() == read.shape() {
        return Ok(());
    }
    Err(CodecError::new(CodecErrorKind::Unsupported, codec).with_detail(
        "a struct or tuple writes other fields than it reads (skip_serializing, skip_deserializing), and this \
         codec does not name fields; use the JSON codec",
    ))
}
