//! Between a codec's deserializer and the type.

use std::{cell::Cell, error, fmt, marker::PhantomData};

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, Expected, MapAccess, SeqAccess,
    Unexpected, VariantAccess, Visitor,
};

use super::{Guard, Reason, descend};
use crate::codec::{CodecErrorKind, MAX_DEPTH};

/// Elements for which a claimed length may reserve memory ahead. Longer sequences grow as they really arrive.
const RESERVED_ELEMENTS: usize = 64;

/// Reads a `T` through the guard.
pub(in crate::codec) struct DecodeAs<'g, T> {
    guard: &'g Guard,
    value: PhantomData<T>,
}

impl<'g, T> DecodeAs<'g, T> {
    pub(in crate::codec) fn new(guard: &'g Guard) -> Self {
        Self {
            guard,
            value: PhantomData,
        }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for DecodeAs<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        ReadSeed {
            seed: PhantomData,
            guard: self.guard,
            levels_left: MAX_DEPTH,
        }
        .deserialize(deserializer)
    }
}

/// An error on its way from a codec to the type and back.
pub(super) enum ReadError<E> {
    /// The codec's own, kept for the codec to explain.
    Codec(E),
    Reason(Reason),
}

impl<E> From<Reason> for ReadError<E> {
    fn from(reason: Reason) -> Self {
        Self::Reason(reason)
    }
}

impl<E: Error> ReadError<E> {
    /// From the codec's side: its own error, or the reason that travelled through it.
    fn raise(error: E, guard: &Guard) -> Self {
        match guard.take() {
            Some(reason) => Self::Reason(reason),
            None => Self::Codec(error),
        }
    }

    /// To the codec's side; a reason waits in the guard meanwhile.
    fn lower(self, guard: &Guard) -> E {
        match self {
            Self::Codec(error) => error,
            Self::Reason(reason) => {
                guard.keep(reason);
                E::custom("refused")
            }
        }
    }
}

/// Takes the kind of what serde reports and the names in the program; drops what was read.
impl<E: Error> Error for ReadError<E> {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::Reason(Reason::new(CodecErrorKind::Refused))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        mismatch(format!("found {}, expected {expected}", kind_of(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        mismatch(format!(
            "found {} out of range, expected {expected}",
            kind_of(found)
        ))
    }

    fn invalid_length(len: usize, expected: &dyn Expected) -> Self {
        mismatch(format!("found {len} elements, expected {expected}"))
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        mismatch(format!("found an unknown variant, expected one of {expected:?}"))
    }

    fn unknown_field(_: &str, expected: &'static [&'static str]) -> Self {
        mismatch(format!("found an unknown field, expected one of {expected:?}"))
    }

    fn missing_field(field: &'static str) -> Self {
        mismatch(format!("field `{field}` is missing"))
    }

    fn duplicate_field(field: &'static str) -> Self {
        mismatch(format!("field `{field}` is there twice"))
    }
}

fn mismatch<E>(detail: String) -> ReadError<E> {
    ReadError::Reason(Reason::new(CodecErrorKind::Mismatch).with_detail(detail))
}

fn kind_of(found: Unexpected<'_>) -> &'static str {
    match found {
        Unexpected::Bool(_) => "a boolean",
        Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
        Unexpected::Float(_) => "a floating point number",
        Unexpected::Char(_) => "a character",
        Unexpected::Str(_) => "a string",
        Unexpected::Bytes(_) => "bytes",
        Unexpected::Unit => "nothing",
        Unexpected::Option => "an option",
        Unexpected::NewtypeStruct => "a newtype",
        Unexpected::Seq => "a sequence",
        Unexpected::Map => "a map",
        Unexpected::Enum => "an enum",
        Unexpected::UnitVariant => "a unit variant",
        Unexpected::NewtypeVariant => "a newtype variant",
        Unexpected::TupleVariant => "a tuple variant",
        Unexpected::StructVariant => "a struct variant",
        _ => "something else",
    }
}

impl<E> fmt::Debug for ReadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<E> fmt::Display for ReadError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value could not be read")
    }
}

impl<E> error::Error for ReadError<E> {}

/// A codec's deserializer, guarded.
pub(super) struct Read<'g, D> {
    pub(super) inner: D,
    pub(super) guard: &'g Guard,
    pub(super) levels_left: u32,
}

/// What the type asked the codec for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// A struct or tuple: the number of its parts is in the type, so they do not count as elements.
    Parts,
    /// A string or buffer to keep.
    Owned,
    Other,
}

macro_rules! forward {
    ($($method:ident($($arg:ident: $type:ty),*) $inner:ident $asked:ident;)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($arg: $type,)* visitor: V) -> Result<V::Value, Self::Error> {
            let Self { inner, guard, levels_left } = self;
            let visitor = ReadVisitor { visitor, guard, levels_left, asked: Asked::$asked };
            inner.$inner($($arg,)* visitor).map_err(|error| ReadError::raise(error, guard))
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Read<'_, D> {
    type Error = ReadError<D::Error>;

    // Asked for a string to keep, bincode makes room for as many bytes as are claimed and then fills it; asked for a
    // string to look at, it compares the length with what is there. So the copy is made here.
    forward! {
        deserialize_any() deserialize_any Other;
        deserialize_bool() deserialize_bool Other;
        deserialize_i8() deserialize_i8 Other;
        deserialize_i16() deserialize_i16 Other;
        deserialize_i32() deserialize_i32 Other;
        deserialize_i64() deserialize_i64 Other;
        deserialize_i128() deserialize_i128 Other;
        deserialize_u8() deserialize_u8 Other;
        deserialize_u16() deserialize_u16 Other;
        deserialize_u32() deserialize_u32 Other;
        deserialize_u64() deserialize_u64 Other;
        deserialize_u128() deserialize_u128 Other;
        deserialize_f32() deserialize_f32 Other;
        deserialize_f64() deserialize_f64 Other;
        deserialize_char() deserialize_char Other;
        deserialize_str() deserialize_str Other;
        deserialize_string() deserialize_str Owned;
        deserialize_bytes() deserialize_bytes Other;
        deserialize_byte_buf() deserialize_bytes Owned;
        deserialize_option() deserialize_option Other;
        deserialize_unit() deserialize_unit Other;
        deserialize_unit_struct(name: &'static str) deserialize_unit_struct Other;
        deserialize_newtype_struct(name: &'static str) deserialize_newtype_struct Other;
        deserialize_seq() deserialize_seq Other;
        deserialize_tuple(len: usize) deserialize_tuple Parts;
        deserialize_tuple_struct(name: &'static str, len: usize) deserialize_tuple_struct Parts;
        deserialize_map() deserialize_map Other;
        deserialize_struct(name: &'static str, fields: &'static [&'static str]) deserialize_struct Parts;
        deserialize_enum(name: &'static str, variants: &'static [&'static str]) deserialize_enum Other;
        deserialize_identifier() deserialize_identifier Other;
        deserialize_ignored_any() deserialize_ignored_any Other;
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// A type's visitor, guarded.
struct ReadVisitor<'g, V> {
    visitor: V,
    guard: &'g Guard,
    levels_left: u32,
    asked: Asked,
}

macro_rules! visit {
    ($($method:ident($($arg:ident: $type:ty)?);)*) => {$(
        fn $method<E: Error>(self, $($arg: $type)?) -> Result<V::Value, E> {
            let Self { visitor, guard, .. } = self;
            visitor.$method::<ReadError<E>>($($arg)?).map_err(|error| error.lower(guard))
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for ReadVisitor<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    visit! {
        visit_bool(value: bool);
        visit_i8(value: i8);
        visit_i16(value: i16);
        visit_i32(value: i32);
        visit_i64(value: i64);
        visit_i128(value: i128);
        visit_u8(value: u8);
        visit_u16(value: u16);
        visit_u32(value: u32);
        visit_u64(value: u64);
        visit_u128(value: u128);
        visit_f32(value: f32);
        visit_f64(value: f64);
        visit_char(value: char);
        visit_string(value: String);
        visit_byte_buf(value: Vec<u8>);
        visit_none();
        visit_unit();
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<V::Value, E> {
        match self.asked {
            Asked::Owned => self.visit_string(value.to_owned()),
            _ => self
                .visitor
                .visit_str::<ReadError<E>>(value)
                .map_err(|error| error.lower(self.guard)),
        }
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<V::Value, E> {
        match self.asked {
            Asked::Owned => self.visit_string(value.to_owned()),
            _ => self
                .visitor
                .visit_borrowed_str::<ReadError<E>>(value)
                .map_err(|error| error.lower(self.guard)),
        }
    }

    fn visit_bytes<E: Error>(self, value: &[u8]) -> Result<V::Value, E> {
        match self.asked {
            Asked::Owned => self.visit_byte_buf(value.to_vec()),
            _ => self
                .visitor
                .visit_bytes::<ReadError<E>>(value)
                .map_err(|error| error.lower(self.guard)),
        }
    }

    fn visit_borrowed_bytes<E: Error>(self, value: &'de [u8]) -> Result<V::Value, E> {
        match self.asked {
            Asked::Owned => self.visit_byte_buf(value.to_vec()),
            _ => self
                .visitor
                .visit_borrowed_bytes::<ReadError<E>>(value)
                .map_err(|error| error.lower(self.guard)),
        }
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let Self {
            visitor,
            guard,
            levels_left,
            ..
        } = self;
        descend(levels_left)
            .map_err(ReadError::from)
            .and_then(|levels_left| {
                visitor.visit_some(Read {
                    inner,
                    guard,
                    levels_left,
                })
            })
            .map_err(|error| error.lower(guard))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        let Self {
            visitor,
            guard,
            levels_left,
            ..
        } = self;
        descend(levels_left)
            .map_err(ReadError::from)
            .and_then(|levels_left| {
                visitor.visit_newtype_struct(Read {
                    inner,
                    guard,
                    levels_left,
                })
            })
            .map_err(|error| error.lower(guard))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let Self {
            visitor,
            guard,
            levels_left,
            asked,
        } = self;
        let counts = asked != Asked::Parts;
        let read = Cell::new(0);
        let value = descend(levels_left)
            .map_err(ReadError::from)
            .and_then(|levels_left| {
                visitor.visit_seq(ReadElements {
                    inner,
                    guard,
                    levels_left,
                    counts,
                    read: &read,
                })
            })
            .map_err(|error| error.lower(guard))?;
        if !counts {
            guard.mix_fields(read.get());
        }
        Ok(value)
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let Self {
            visitor,
            guard,
            levels_left,
            asked,
        } = self;
        let counts = asked != Asked::Parts;
        let read = Cell::new(0);
        descend(levels_left)
            .map_err(ReadError::from)
            .and_then(|levels_left| {
                visitor.visit_map(ReadElements {
                    inner,
                    guard,
                    levels_left,
                    counts,
                    read: &read,
                })
            })
            .map_err(|error| error.lower(guard))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        let Self {
            visitor,
            guard,
            levels_left,
            ..
        } = self;
        descend(levels_left)
            .map_err(ReadError::from)
            .and_then(|levels_left| {
                visitor.visit_enum(ReadVariant {
                    inner,
                    guard,
                    levels_left,
                })
            })
            .map_err(|error| error.lower(guard))
    }
}

/// The elements of a sequence, tuple, map or struct, guarded.
struct ReadElements<'g, 'r, A> {
    inner: A,
    guard: &'g Guard,
    levels_left: u32,
    counts: bool,
    read: &'r Cell<u32>,
}

impl<'g, A> ReadElements<'g, '_, A> {
    fn seed<S>(&self, seed: S) -> ReadSeed<'g, S> {
        ReadSeed {
            seed,
            guard: self.guard,
            levels_left: self.levels_left,
        }
    }

    fn count<T>(&self, element: Option<T>) -> Result<Option<T>, Reason> {
        if element.is_some() {
            self.read.set(self.read.get().wrapping_add(1));
            if self.counts {
                self.guard.count_element()?;
            }
        }
        Ok(element)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for ReadElements<'_, '_, A> {
    type Error = ReadError<A::Error>;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Self::Error> {
        let seed = self.seed(seed);
        let element = self.inner.next_element_seed(seed);
        Ok(self.count(element.map_err(|error| ReadError::raise(error, self.guard))?)?)
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint().map(|len| len.min(RESERVED_ELEMENTS))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for ReadElements<'_, '_, A> {
    type Error = ReadError<A::Error>;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Self::Error> {
        let seed = self.seed(seed);
        let key = self.inner.next_key_seed(seed);
        Ok(self.count(key.map_err(|error| ReadError::raise(error, self.guard))?)?)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Self::Error> {
        let seed = self.seed(seed);
        let value = self.inner.next_value_seed(seed);
        value.map_err(|error| ReadError::raise(error, self.guard))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint().map(|len| len.min(RESERVED_ELEMENTS))
    }
}

/// An enum, and then its variant's content, guarded.
struct ReadVariant<'g, A> {
    inner: A,
    guard: &'g Guard,
    levels_left: u32,
}

impl<'de, 'g, A: EnumAccess<'de>> EnumAccess<'de> for ReadVariant<'g, A> {
    type Error = ReadError<A::Error>;
    type Variant = ReadVariant<'g, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), Self::Error> {
        let Self {
            inner,
            guard,
            levels_left,
        } = self;
        match inner.variant_seed(ReadSeed {
            seed,
            guard,
            levels_left,
        }) {
            Ok((value, inner)) => Ok((
                value,
                ReadVariant {
                    inner,
                    guard,
                    levels_left,
                },
            )),
            Err(error) => Err(ReadError::raise(error, guard)),
        }
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for ReadVariant<'_, A> {
    type Error = ReadError<A::Error>;

    fn unit_variant(self) -> Result<(), Self::Error> {
        let Self { inner, guard, .. } = self;
        inner
            .unit_variant()
            .map_err(|error| ReadError::raise(error, guard))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Self::Error> {
        let Self {
            inner,
            guard,
            levels_left,
        } = self;
        inner
            .newtype_variant_seed(ReadSeed {
                seed,
                guard,
                levels_left,
            })
            .map_err(|error| ReadError::raise(error, guard))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Self::Error> {
        let Self {
            inner,
            guard,
            levels_left,
        } = self;
        inner
            .tuple_variant(
                len,
                ReadVisitor {
                    visitor,
                    guard,
                    levels_left,
                    asked: Asked::Parts,
                },
            )
            .map_err(|error| ReadError::raise(error, guard))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        let Self {
            inner,
            guard,
            levels_left,
        } = self;
        inner
            .struct_variant(
                fields,
                ReadVisitor {
                    visitor,
                    guard,
                    levels_left,
                    asked: Asked::Parts,
                },
            )
            .map_err(|error| ReadError::raise(error, guard))
    }
}

/// A type's seed, guarded.
struct ReadSeed<'g, S> {
    seed: S,
    guard: &'g Guard,
    levels_left: u32,
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for ReadSeed<'_, S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        let Self {
            seed,
            guard,
            levels_left,
        } = self;
        seed.deserialize(Read {
            inner,
            guard,
            levels_left,
        })
        .map_err(|error| error.lower(guard))
    }
}
