//! The attributes of a session, encoded.

use std::{ops::Range, str, sync::Arc};

use bytes::Bytes;

/// A value, and the codec that reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attribute {
    pub(super) tag: u8,
    pub(super) bytes: Bytes,
}

/// An attribute where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value<'a> {
    pub(super) tag: u8,
    pub(super) bytes: &'a [u8],
}

/// Attributes by name. Few, and read much more often than changed: one list in order.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    /// Where the entries came from that have not been changed: they count no references of their own.
    record: Bytes,
    entries: Vec<Entry>,
}

/// A name and its value, each in the record (and checked when it was read), or made since.
#[derive(Debug, Clone)]
struct Entry {
    name: Name,
    content: Content,
}

#[derive(Debug, Clone)]
enum Name {
    Read(Range<usize>),
    Made(Arc<str>),
}

#[derive(Debug, Clone)]
enum Content {
    Read { tag: u8, bytes: Range<usize> },
    Made(Attribute),
}

/// A name is not UTF-8, is empty, or does not come after the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutOfOrder;

impl Entry {
    fn name<'a>(&'a self, record: &'a [u8]) -> &'a str {
        str::from_utf8(self.name_bytes(record)).unwrap_or_default()
    }

    fn name_bytes<'a>(&'a self, record: &'a [u8]) -> &'a [u8] {
        match &self.name {
            Name::Read(name) => &record[name.clone()],
            Name::Made(name) => name.as_bytes(),
        }
    }

    fn value<'a>(&'a self, record: &'a [u8]) -> Value<'a> {
        let (tag, bytes) = match &self.content {
            Content::Read { tag, bytes } => (*tag, &record[bytes.clone()]),
            Content::Made(attribute) => (attribute.tag, &attribute.bytes[..]),
        };
        Value { tag, bytes }
    }
}

impl Attributes {
    pub(super) const fn new() -> Self {
        Self {
            record: Bytes::new(),
            entries: Vec::new(),
        }
    }

    /// Those of a record, to be pushed, that has at most so many.
    pub(super) fn of(record: Bytes, at_most: usize) -> Self {
        Self {
            record,
            entries: Vec::with_capacity(at_most),
        }
    }

    /// Adds one of the record's, whose name comes after all that are there. Both places are in the record.
    pub(super) fn push(
        &mut self,
        name: Range<usize>,
        tag: u8,
        bytes: Range<usize>,
    ) -> Result<(), OutOfOrder> {
        let last = self.entries.last();
        let last = last.map_or(&b""[..], |last| last.name_bytes(&self.record));
        let next = &self.record[name.clone()];
        if next <= last || str::from_utf8(next).is_err() {
            return Err(OutOfOrder);
        }
        self.entries.push(Entry {
            name: Name::Read(name),
            content: Content::Read { tag, bytes },
        });
        Ok(())
    }

    /// Where a name is, or would be. Bytes of UTF-8 have the order of their characters.
    fn place(&self, name: &str) -> Result<usize, usize> {
        self.entries
            .binary_search_by(|known| known.name_bytes(&self.record).cmp(name.as_bytes()))
    }

    pub(super) fn get(&self, name: &str) -> Option<Value<'_>> {
        let at = self.place(name).ok()?;
        self.entries.get(at).map(|entry| entry.value(&self.record))
    }

    pub(super) fn insert(&mut self, name: &str, attribute: Attribute) {
        let content = Content::Made(attribute);
        match self.place(name) {
            Ok(at) => self.entries[at].content = content,
            Err(at) => {
                let name = Name::Made(name.into());
                self.entries.insert(at, Entry { name, content });
            }
        }
    }

    /// Whether it was there.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let place = self.place(name).ok();
        if let Some(at) = place {
            self.entries.remove(at);
        }
        place.is_some()
    }

    pub(super) fn retain(&mut self, mut keeps: impl FnMut(&str) -> bool) {
        self.entries.retain(|entry| keeps(entry.name(&self.record)));
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Names ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, Value<'_>)> {
        let entries = self.entries.iter();
        entries.map(|entry| (entry.name(&self.record), entry.value(&self.record)))
    }

    /// Names ascending. Values are slices of the record.
    pub(super) fn into_owned(self) -> impl Iterator<Item = (String, Attribute)> {
        let Self { record, entries } = self;
        entries.into_iter().map(move |entry| {
            let name = entry.name(&record).to_owned();
            let attribute = match entry.content {
                Content::Read { tag, bytes } => Attribute {
                    tag,
                    bytes: record.slice(bytes),
                },
                Content::Made(attribute) => attribute,
            };
            (name, attribute)
        })
    }
}

impl PartialEq for Attributes {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Attributes {}

/// In any order; of two with one name, the later.
impl FromIterator<(String, Attribute)> for Attributes {
    fn from_iter<I: IntoIterator<Item = (String, Attribute)>>(all: I) -> Self {
        let mut attributes = Self::new();
        for (name, attribute) in all {
            attributes.insert(&name, attribute);
        }
        attributes
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection, prelude::*};

    use super::*;

    fn value(byte: u8) -> Attribute {
        Attribute {
            tag: byte,
            bytes: Bytes::copy_from_slice(&[byte]),
        }
    }

    fn of<'a>(attribute: &'a Attribute) -> Value<'a> {
        Value {
            tag: attribute.tag,
            bytes: &attribute.bytes,
        }
    }

    #[test]
    fn only_names_in_order_are_pushed() {
        let mut attributes = Attributes::of(Bytes::from_static(b"b0abbc\xff"), 9);
        assert_eq!(attributes.push(0..0, 0, 1..2), Err(OutOfOrder), "empty");
        assert_eq!(attributes.push(0..1, 0, 1..2), Ok(()), "b");
        for (refused, name) in [(0..0, ""), (2..3, "a"), (0..1, "b"), (5..7, "c\\xff")] {
            assert_eq!(attributes.push(refused, 0, 1..2), Err(OutOfOrder), "{name}");
        }
        assert_eq!(attributes.push(3..5, 7, 0..3), Ok(()), "bb");
        let all: Vec<_> = attributes.iter().collect();
        let (tag, bytes) = (7, &b"b0a"[..]);
        assert_eq!(all[0].0, "b");
        assert_eq!(all[1..], [("bb", Value { tag, bytes })]);
    }

    proptest! {
        /// As a map does.
        #[test]
        fn does_what_a_map_does(calls in collection::vec(("[a-dé]{1,2}", 0_u8..4, any::<u8>()), 0..60)) {
            let (mut ours, mut map) = (Attributes::new(), BTreeMap::new());
            for (name, call, byte) in calls {
                match call {
                    0 | 1 => {
                        ours.insert(&name, value(byte));
                        map.insert(name, value(byte));
                    }
                    2 => prop_assert_eq!(ours.remove(&name), map.remove(&name).is_some()),
                    _ => {
                        ours.retain(|known| *known <= *name);
                        map.retain(|known, _| *known <= name);
                    }
                }
                for (name, value) in &map {
                    prop_assert_eq!(ours.get(name), Some(of(value)));
                }
                prop_assert_eq!((ours.len(), ours.is_empty()), (map.len(), map.is_empty()));
                let collected: Attributes = map.clone().into_iter().collect();
                prop_assert_eq!(&collected, &ours);
                prop_assert!(ours.clone().into_owned().eq(map.clone()));
            }
        }
    }
}
