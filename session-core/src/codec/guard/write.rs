//! Between the type and a codec's serializer.

use std::fmt;

use serde::ser::{
    Error, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::{Guard, Reason, descend};
use crate::codec::{CodecErrorKind, MAX_DEPTH, MAX_ELEMENTS};

/// What a codec would write, and read as something else or not at all.
#[derive(Debug, Clone, Copy)]
pub(in crate::codec) struct Rules {
    /// Fields that are left out (`skip_serializing_if`).
    pub(in crate::codec) skipped_fields: bool,
    /// Infinities and NaN.
    pub(in crate::codec) non_finite: bool,
    /// `Some` around nothing: `Some(None)`, `Some(())`.
    pub(in crate::codec) some_nothing: bool,
}

/// A value that is serialized through the guard.
pub(in crate::codec) struct Write<'g, T: ?Sized> {
    value: &'g T,
    at: At<'g>,
}

impl<'g, T: ?Sized> Write<'g, T> {
    pub(in crate::codec) fn new(value: &'g T, guard: &'g Guard, rules: Rules) -> Self {
        let at = At {
            guard,
            rules,
            levels_left: MAX_DEPTH,
            in_some: false,
        };
        Self { value, at }
    }
}

impl<T: Serialize + ?Sized> Serialize for Write<'_, T> {
    fn serialize<S: Serializer>(&self, inner: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Guarded { inner, at: self.at })
    }
}

/// Where in the value.
#[derive(Clone, Copy)]
struct At<'g> {
    guard: &'g Guard,
    rules: Rules,
    levels_left: u32,
    in_some: bool,
}

impl At<'_> {
    fn below<E: Error>(self) -> Result<Self, E> {
        match descend(self.levels_left) {
            Ok(levels_left) => Ok(Self {
                levels_left,
                in_some: false,
                ..self
            }),
            Err(reason) => Err(self.refuse(reason)),
        }
    }

    fn refuse<E: Error>(self, reason: Reason) -> E {
        self.guard.keep(reason);
        E::custom("refused")
    }

    fn unsupported<E: Error>(self, detail: impl Into<std::borrow::Cow<'static, str>>) -> E {
        self.refuse(Reason::new(CodecErrorKind::Unsupported).with_detail(detail))
    }

    fn finite<E: Error>(self, finite: bool) -> Result<(), E> {
        if self.rules.non_finite && !finite {
            return Err(self.unsupported("it has no infinity and no NaN; use the bincode codec"));
        }
        Ok(())
    }

    fn nothing<E: Error>(self) -> Result<(), E> {
        if self.rules.some_nothing && self.in_some {
            return Err(self.unsupported(
                "it writes `Some(None)` and `Some(())` as it writes `None`; use the bincode codec",
            ));
        }
        Ok(())
    }

    fn skipped<E: Error>(self, field: &'static str) -> Result<(), E> {
        if self.rules.skipped_fields {
            return Err(self.unsupported(format!(
                "field `{field}` was left out (skip_serializing_if), and this codec does not name fields; use the JSON codec"
            )));
        }
        Ok(())
    }

    fn count<E: Error>(self) -> Result<(), E> {
        self.guard.count_element().map_err(|reason| self.refuse(reason))
    }

    fn claim<E: Error>(self, len: Option<usize>) -> Result<(), E> {
        match len {
            Some(len) if len > MAX_ELEMENTS as usize => {
                Err(self.refuse(Reason::new(CodecErrorKind::TooManyElements)))
            }
            _ => Ok(()),
        }
    }
}

/// A codec's serializer, guarded.
struct Guarded<'g, S> {
    inner: S,
    at: At<'g>,
}

impl<'g, S: Serializer> Guarded<'g, S> {
    fn parts(self) -> Result<(S, At<'g>), S::Error> {
        Ok((self.inner, self.at.below()?))
    }
}

macro_rules! forward {
    ($($method:ident($type:ty);)*) => {$(
        fn $method(self, value: $type) -> Result<S::Ok, S::Error> {
            self.inner.$method(value)
        }
    )*};
}

impl<'g, S: Serializer> Serializer for Guarded<'g, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<'g, S::SerializeSeq>;
    type SerializeTuple = Parts<'g, S::SerializeTuple>;
    type SerializeTupleStruct = Parts<'g, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Parts<'g, S::SerializeTupleVariant>;
    type SerializeMap = Parts<'g, S::SerializeMap>;
    type SerializeStruct = Parts<'g, S::SerializeStruct>;
    type SerializeStructVariant = Parts<'g, S::SerializeStructVariant>;

    forward! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        self.at.finite(value.is_finite())?;
        self.inner.serialize_f32(value)
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        self.at.finite(value.is_finite())?;
        self.inner.serialize_f64(value)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.at.nothing()?;
        self.inner.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let (inner, below) = self.parts()?;
        let at = At {
            in_some: true,
            ..below
        };
        inner.serialize_some(&Write { value, at })
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.at.nothing()?;
        self.inner.serialize_unit()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.at.nothing()?;
        self.inner.serialize_unit_struct(name)
    }

    fn serialize_unit_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
    ) -> Result<S::Ok, S::Error> {
        let (inner, _) = self.parts()?;
        inner.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let in_some = self.at.in_some;
        let (inner, below) = self.parts()?;
        let at = At { in_some, ..below };
        inner.serialize_newtype_struct(name, &Write { value, at })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let (inner, at) = self.parts()?;
        inner.serialize_newtype_variant(name, index, variant, &Write { value, at })
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        let (inner, at) = self.parts()?;
        at.claim(len)?;
        Ok(Parts::new(inner.serialize_seq(len)?, at))
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        let (inner, at) = self.parts()?;
        Ok(Parts::new(inner.serialize_tuple(len)?, at))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        let (inner, at) = self.parts()?;
        Ok(Parts::new(inner.serialize_tuple_struct(name, len)?, at))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        let (inner, at) = self.parts()?;
        let parts = inner.serialize_tuple_variant(name, index, variant, len)?;
        Ok(Parts::new(parts, at.below()?))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        let (inner, at) = self.parts()?;
        at.claim(len)?;
        Ok(Parts::new(inner.serialize_map(len)?, at))
    }

    fn serialize_struct(self, name: &'static str, len: usize) -> Result<Self::SerializeStruct, S::Error> {
        let (inner, at) = self.parts()?;
        Ok(Parts::new(inner.serialize_struct(name, len)?, at))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        let (inner, at) = self.parts()?;
        let parts = inner.serialize_struct_variant(name, index, variant, len)?;
        Ok(Parts::new(parts, at.below()?))
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.inner.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// The parts of a sequence, map, tuple or struct, guarded.
struct Parts<'g, C> {
    inner: C,
    at: At<'g>,
    fields: u32,
}

impl<'g, C> Parts<'g, C> {
    fn new(inner: C, at: At<'g>) -> Self {
        Self { inner, at, fields: 0 }
    }

    fn write<'v, T: ?Sized>(&self, value: &'v T) -> Write<'v, T>
    where
        'g: 'v,
    {
        Write { value, at: self.at }
    }
}

impl<C: SerializeSeq> SerializeSeq for Parts<'_, C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        self.at.count()?;
        let value = self.write(value);
        self.inner.serialize_element(&value)
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}

impl<C: SerializeMap> SerializeMap for Parts<'_, C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        self.at.count()?;
        let key = self.write(key);
        self.inner.serialize_key(&key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        let value = self.write(value);
        self.inner.serialize_value(&value)
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.inner.end()
    }
}

macro_rules! fields {
    ($($compound:ident::$method:ident($($key:ident)?) $($skip:ident)?;)*) => {$(
        impl<C: $compound> $compound for Parts<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, $($key: &'static str,)? value: &T) -> Result<(), C::Error> {
                self.fields = self.fields.wrapping_add(1);
                let value = self.write(value);
                self.inner.$method($($key,)? &value)
            }

            $(fn $skip(&mut self, key: &'static str) -> Result<(), C::Error> {
                self.at.skipped(key)?;
                self.inner.$skip(key)
            })?

            fn end(self) -> Result<C::Ok, C::Error> {
                self.at.guard.mix_fields(self.fields);
                self.inner.end()
            }
        }
    )*};
}

fields! {
    SerializeTuple::serialize_element();
    SerializeTupleStruct::serialize_field();
    SerializeTupleVariant::serialize_field();
    SerializeStruct::serialize_field(key) skip_field;
    SerializeStructVariant::serialize_field(key) skip_field;
}
