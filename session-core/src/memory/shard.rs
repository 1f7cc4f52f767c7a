//! A part of the records under one lock, ordered by their ends as well.

use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasherDefault, Hasher},
};

use crate::{Record, SessionKey, Version};

/// A record in memory.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: Record,
    pub(super) version: Version,
    /// Nanoseconds on the store's clock; live while this is in the future.
    pub(super) deadline: u64,
}

impl Entry {
    /// Bookkeeping for a record: map entry, place among the ends, index entry.
    const OVERHEAD: usize = 192;

    pub(super) fn size_of(record: &Record) -> usize {
        let subject = record
            .subject
            .as_ref()
            .map_or(0, |subject| subject.as_str().len());
        Self::OVERHEAD + subject + record.data.len()
    }

    pub(super) fn size(&self) -> usize {
        Self::size_of(&self.record)
    }
}

/// Records by key, and their keys by end: exactly one place there for each record.
#[derive(Debug, Default)]
pub(super) struct Shard {
    entries: HashMap<SessionKey, Entry, BuildHasherDefault<KeyHasher>>,
    ends: BTreeSet<(u64, SessionKey)>,
}

impl Shard {
    pub(super) fn get(&self, key: &SessionKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Puts an entry in place of the one that was there.
    pub(super) fn insert(&mut self, key: SessionKey, entry: Entry) -> Option<Entry> {
        let deadline = entry.deadline;
        let old = self.entries.insert(key, entry);
        if let Some(old) = &old {
            self.ends.remove(&(old.deadline, key));
        }
        self.ends.insert((deadline, key));
        old
    }

    pub(super) fn remove(&mut self, key: &SessionKey) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.ends.remove(&(entry.deadline, *key));
        Some(entry)
    }

    pub(super) fn set_deadline(&mut self, key: &SessionKey, deadline: u64) {
        if let Some(entry) = self.entries.get_mut(key) {
            self.ends.remove(&(entry.deadline, *key));
            entry.deadline = deadline;
            self.ends.insert((deadline, *key));
        }
    }

    /// Takes out the record that ended first, if any has.
    pub(super) fn pop_expired(&mut self, now: u64) -> Option<(SessionKey, Entry)> {
        let &(deadline, key) = self.ends.first()?;
        if deadline > now {
            return None;
        }
        self.remove(&key).map(|entry| (key, entry))
    }
}

/// Keys are digests already: eight of their bytes are as good a hash as any.
#[derive(Debug, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        let mut low = [0; 8];
        let len = bytes.len().min(8);
        low[..len].copy_from_slice(&bytes[..len]);
        self.0 = u64::from_le_bytes(low);
    }

    fn write_usize(&mut self, _length_prefix: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
