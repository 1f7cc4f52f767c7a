//! Why a value could not be encoded or decoded, without a word of the value.

use std::{borrow::Cow, error, fmt};

use super::{MAX_BYTES, MAX_DEPTH, MAX_ELEMENTS};

/// Why a value could not be encoded or decoded. Holds nothing of what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodecError {
    kind: CodecErrorKind,
    codec: &'static str,
    type_name: Option<&'static str>,
    detail: Option<Cow<'static, str>>,
}

impl CodecError {
    /// An error of `kind`, met by the codec of that name.
    #[must_use]
    pub fn new(kind: CodecErrorKind, codec: &'static str) -> Self {
        Self {
            kind,
            codec,
            type_name: None,
            detail: None,
        }
    }

    /// Adds what a developer should know. A constant, so that it cannot quote a value.
    #[must_use]
    pub fn with_detail(self, detail: &'static str) -> Self {
        self.with_safe_detail(Some(Cow::Borrowed(detail)))
    }

    /// What happened, to match on.
    #[must_use]
    pub fn kind(&self) -> CodecErrorKind {
        self.kind
    }

    /// The codec that met the error (`"bincode"`, `"json"` …).
    #[must_use]
    pub fn codec(&self) -> &'static str {
        self.codec
    }

    /// The Rust type that was to be encoded or decoded.
    #[must_use]
    pub fn type_name(&self) -> Option<&'static str> {
        self.type_name
    }

    /// `detail` must be made of names in the program, numbers and positions alone.
    pub(super) fn with_safe_detail(mut self, detail: Option<Cow<'static, str>>) -> Self {
        self.detail = detail;
        self
    }

    pub(super) fn for_type<T: ?Sized>(mut self) -> Self {
        self.type_name = Some(std::any::type_name::<T>());
        self
    }

    /// The same failure, met while the codec read its own encoding back at an insert: it cannot carry the type.
    /// (Unless a limit is the reason: JSON bytes, say, are elements when they are read.)
    pub(super) fn into_unsupported(self, hint: &str) -> Self {
        use CodecErrorKind::{TooDeep, TooLarge, TooManyElements};
        if matches!(self.kind, TooDeep | TooLarge | TooManyElements) {
            return self;
        }
        let why = self.detail.unwrap_or_else(|| self.kind.to_string().into());
        let detail = format!("it could not be read back ({why}){hint}");
        Self {
            kind: CodecErrorKind::Unsupported,
            detail: Some(detail.into()),
            ..self
        }
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.codec)?;
        if let Some(name) = self.type_name {
            write!(f, ", {name}")?;
        }
        write!(f, ": {}", self.kind)?;
        match &self.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl error::Error for CodecError {}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CodecErrorKind {
    /// The value was written with a codec that is not here.
    UnknownTag {
        /// The tag stored with the value.
        tag: u8,
    },
    /// An application's codec has a tag that belongs to this crate.
    ReservedTag {
        /// The tag that it has.
        tag: u8,
    },
    /// The codec cannot carry this value or its type. The detail says what to do.
    Unsupported,
    /// The type's own `Serialize` or `Deserialize` refused the value.
    Refused,
    /// One encoded value has more than [`MAX_BYTES`] bytes.
    TooLarge,
    /// The value has more than [`MAX_DEPTH`] levels.
    TooDeep,
    /// The value has more than [`MAX_ELEMENTS`] elements.
    TooManyElements,
    /// The bytes are not an encoding of this codec, or were cut.
    Malformed,
    /// Something follows the value.
    TrailingBytes,
    /// The bytes hold a value of another type.
    Mismatch,
}

impl fmt::Display for CodecErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTag { tag: 1 } => {
                f.write_str("the value was written with bincode, and the feature `bincode` is off")
            }
            Self::UnknownTag { tag: 2 } => {
                f.write_str("the value was written with JSON, and the feature `json` is off")
            }
            Self::UnknownTag { tag } => write!(
                f,
                "the value was written with codec {tag}, which is not here: add it as a reader"
            ),
            Self::ReservedTag { tag } => write!(
                f,
                "tag {tag} is not for applications: give the codec one from 128 to 255"
            ),
            Self::Unsupported => f.write_str("this codec cannot carry the value"),
            Self::Refused => f.write_str("the type's own serde implementation refused the value"),
            Self::TooLarge => write!(f, "an encoded value has {MAX_BYTES} bytes at most, this one more"),
            Self::TooDeep => write!(f, "a value has {MAX_DEPTH} levels at most, this one more"),
            Self::TooManyElements => {
                write!(f, "a value has {MAX_ELEMENTS} elements at most, this one more")
            }
            Self::Malformed => f.write_str("the bytes are not a whole value of this codec"),
            Self::TrailingBytes => f.write_str("something follows the value"),
            Self::Mismatch => f.write_str("the bytes hold a value of another type"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_tells_codec_type_kind_and_detail() {
        let error = CodecError::new(CodecErrorKind::Unsupported, "bincode")
            .for_type::<Vec<u8>>()
            .with_detail("use the JSON codec");
        assert_eq!(
            error.to_string(),
            "bincode, alloc::vec::Vec<u8>: this codec cannot carry the value: use the JSON codec"
        );
        assert_eq!(error.kind(), CodecErrorKind::Unsupported);
        assert_eq!(error.codec(), "bincode");
    }
}
