//! For callers that know the erased deserializer only.

use serde::de::{DeserializeSeed, Deserializer, Error};

use super::{Guard, Reason, read::Read};
use crate::codec::{CodecErrorKind, MAX_DEPTH, Visit};

/// Hands a guarded deserializer to a function that only knows the erased one.
pub(in crate::codec) struct DecodeWith<'g, 'v, 'f> {
    guard: &'g Guard,
    visit: &'v mut Visit<'f>,
}

impl<'g, 'v, 'f> DecodeWith<'g, 'v, 'f> {
    pub(in crate::codec) fn new(guard: &'g Guard, visit: &'v mut Visit<'f>) -> Self {
        Self { guard, visit }
    }
}

impl<'de> DeserializeSeed<'de> for DecodeWith<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<(), D::Error> {
        let Self { guard, visit } = self;
        let levels_left = MAX_DEPTH;
        let mut erased = <dyn erased_serde::Deserializer<'_>>::erase(Read {
            inner,
            guard,
            levels_left,
        });
        visit(&mut erased).map_err(|_| {
            // The erased error has nothing left but a text, which may quote.
            guard.keep(Reason::new(CodecErrorKind::Malformed));
            D::Error::custom("refused")
        })
    }
}
