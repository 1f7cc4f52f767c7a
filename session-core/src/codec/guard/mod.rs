//! The limits around every codec, and the reasons that a codec's own error type would lose or spoil.
//!
//! [`read::Read`] stands between a codec's deserializer and the type, [`write::Write`] between the type and a codec's serializer.
//! Both count levels and elements; both keep the reason of a failure in [`Guard`], because the codecs' errors carry
//! nothing but a text, and serde's texts quote values.

mod read;
#[cfg(any(feature = "bincode", feature = "json"))]
mod visit;
mod write;

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
};

#[cfg(any(feature = "bincode", feature = "json"))]
pub(super) use self::visit::DecodeWith;
pub(super) use self::{
    read::DecodeAs,
    write::{Rules, Write},
};
use super::{CodecError, CodecErrorKind, MAX_ELEMENTS};

/// What is known of one encoding or decoding while it runs.
#[derive(Debug)]
pub(super) struct Guard {
    elements_left: Cell<u32>,
    shape: Cell<u64>,
    reason: RefCell<Option<Reason>>,
}

impl Guard {
    pub(super) fn new() -> Self {
        Self {
            elements_left: Cell::new(MAX_ELEMENTS),
            shape: Cell::new(0),
            reason: RefCell::new(None),
        }
    }

    /// How many fields each struct and tuple had, in order, as one number. A codec that does not name fields reads
    /// what was written only if reader and writer agree on it.
    pub(super) fn shape(&self) -> u64 {
        self.shape.get()
    }

    /// The reason of the failure that the codec just reported.
    pub(super) fn take(&self) -> Option<Reason> {
        self.reason.take()
    }

    /// Keeps the reason on its way through the codec's error type.
    fn keep(&self, reason: Reason) {
        self.reason.replace(Some(reason));
    }

    fn count_element(&self) -> Result<(), Reason> {
        match self.elements_left.get().checked_sub(1) {
            Some(left) => {
                self.elements_left.set(left);
                Ok(())
            }
            None => Err(Reason::new(CodecErrorKind::TooManyElements)),
        }
    }

    fn mix_fields(&self, fields: u32) {
        // Any number that depends on the order will do.
        const PRIME: u64 = 0x0100_0000_01b3;
        let shape = self.shape.get().rotate_left(7) ^ (u64::from(fields) + 1);
        self.shape.set(shape.wrapping_mul(PRIME));
    }
}

/// The levels below one of `levels_left`.
fn descend(levels_left: u32) -> Result<u32, Reason> {
    levels_left
        .checked_sub(1)
        .ok_or_else(|| Reason::new(CodecErrorKind::TooDeep))
}

/// A reason, safe to show. Boxed, because every value read passes by in a `Result`.
#[derive(Debug)]
pub(super) struct Reason(Box<(CodecErrorKind, Option<Cow<'static, str>>)>);

impl Reason {
    pub(super) fn new(kind: CodecErrorKind) -> Self {
        Self(Box::new((kind, None)))
    }

    /// `detail` must be made of names in the program, numbers and positions alone.
    pub(super) fn with_detail(mut self, detail: impl Into<Cow<'static, str>>) -> Self {
        self.0.1 = Some(detail.into());
        self
    }

    pub(super) fn into_error(self, codec: &'static str) -> CodecError {
        let (kind, detail) = *self.0;
        CodecError::new(kind, codec).with_safe_detail(detail)
    }
}
