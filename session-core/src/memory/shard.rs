//! A part of the records under one lock, ordered by their ends as well.

use std::{
    collections::{
        BTreeSet, HashMap,
        hash_map::Entry::{Occupied, Vacant},
    },
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
    /// The place among the ends: never after the deadline.
    filed: u64,
}

impl Entry {
    /// Bookkeeping for a record: map entry, places among the ends, index entry.
    const OVERHEAD: usize = 192;

    pub(super) const fn new(record: Record, version: Version, deadline: u64) -> Self {
        Self {
            record,
            version,
            deadline,
            filed: deadline,
        }
    }

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

/// Records by key, and their keys by end.
///
/// A record has one place among the ends, which is not moved when its life is prolonged and not removed when it is deleted:
/// a session is read and touched much more often than it ends. What comes first there is looked up in the map, and
/// filed anew if it lives longer. Places of nobody's are never more than the records and [`STALE`].
#[derive(Debug, Default)]
pub(super) struct Shard {
    entries: HashMap<SessionKey, Entry, BuildHasherDefault<KeyHasher>>,
    ends: BTreeSet<(u64, SessionKey)>,
    /// No place is before it: each write asks, and the way to the first place leads through memory that no cache has.
    first: u64,
}

/// Places of nobody's that are kept in any case.
const STALE: usize = 64;

impl Shard {
    pub(super) fn get(&self, key: &SessionKey) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// Puts an entry in place of the one that was there.
    pub(super) fn insert(&mut self, key: SessionKey, mut entry: Entry) -> Option<Entry> {
        match self.entries.entry(key) {
            Occupied(mut place) => {
                entry.filed = place.get().filed;
                let old = place.insert(entry);
                let deadline = place.get().deadline;
                if deadline < old.filed {
                    place.get_mut().filed = deadline;
                    self.file(deadline, key);
                }
                Some(old)
            }
            Vacant(place) => {
                let filed = place.insert(entry).filed;
                self.file(filed, key);
                None
            }
        }
    }

    pub(super) fn remove(&mut self, key: &SessionKey) -> Option<Entry> {
        let entry = self.entries.remove(key)?;
        self.drop_stale();
        Some(entry)
    }

    pub(super) fn set_deadline(&mut self, key: &SessionKey, deadline: u64) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.deadline = deadline;
            if deadline < entry.filed {
                entry.filed = deadline;
                self.file(deadline, *key);
            }
        }
    }

    /// Takes out the record that ended first, if any has. Each place that is looked at on the way is a step; after the
    /// last one, `None` says nothing.
    pub(super) fn pop_expired(&mut self, now: u64, steps: &mut usize) -> Option<(SessionKey, Entry)> {
        if now < self.first {
            return None;
        }
        while *steps > 0 {
            let place = self.ends.first().copied();
            self.first = place.map_or(u64::MAX, |(filed, _)| filed);
            let (filed, key) = place.filter(|(filed, _)| *filed <= now)?;
            *steps -= 1;
            self.ends.pop_first();
            // Another's place is where a record was that is gone, or was to end later.
            let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.filed == filed) else {
                continue;
            };
            if entry.deadline <= now {
                return self.remove(&key).map(|entry| (key, entry));
            }
            entry.filed = entry.deadline;
            self.ends.insert((entry.deadline, key));
        }
        None
    }

    fn file(&mut self, end: u64, key: SessionKey) {
        self.first = self.first.min(end);
        self.ends.insert((end, key));
        self.drop_stale();
    }

    /// Seldom, and then half of all places or more: so each costs little.
    fn drop_stale(&mut self) {
        if self.ends.len() > 2 * self.entries.len() + STALE {
            let entries = &self.entries;
            self.ends
                .retain(|(end, key)| entries.get(key).is_some_and(|entry| entry.filed == *end));
        }
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

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;

    fn entry(deadline: u64) -> Entry {
        Entry::new(Record::new("x"), Version::from_bytes([0; 16]), deadline)
    }

    proptest! {
        /// As a list does that is searched from its beginning.
        #[test]
        fn what_has_ended_is_found_and_nothing_else(
            calls in collection::vec((0_u8..5, 0_u8..6, 0_u64..20), 0..200),
        ) {
            let mut shard = Shard::default();
            let mut model: HashMap<SessionKey, u64> = HashMap::new();
            let mut now = 0;
            for (call, key, length) in calls {
                let key = SessionKey::from_bytes([key; 32]);
                let deadline = now + 1 + length;
                match call {
                    0 => {
                        let old = shard.insert(key, entry(deadline));
                        prop_assert_eq!(old.map(|old| old.deadline), model.insert(key, deadline));
                    }
                    1 => prop_assert_eq!(shard.remove(&key).map(|old| old.deadline), model.remove(&key)),
                    2 => {
                        shard.set_deadline(&key, deadline);
                        model.entry(key).and_modify(|end| *end = deadline);
                    }
                    3 => now += length,
                    _ => {
                        let mut freed = Vec::new();
                        while let Some((key, entry)) = shard.pop_expired(now, &mut usize::MAX.clone()) {
                            freed.push((key, entry.deadline));
                        }
                        freed.sort_unstable();
                        let mut ended: Vec<_> = model.extract_if(|_, end| *end <= now).collect();
                        ended.sort_unstable();
                        prop_assert_eq!(freed, ended);
                    }
                }
                prop_assert_eq!(shard.entries.len(), model.len());
                prop_assert!(shard.ends.len() <= 2 * model.len() + STALE);
                prop_assert!(shard.ends.first().is_none_or(|(filed, _)| shard.first <= *filed));
            }
        }
    }

    #[test]
    fn places_of_nobodys_do_not_pile_up() {
        let mut shard = Shard::default();
        for number in 0..10_000_u64 {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&number.to_le_bytes());
            let key = SessionKey::from_bytes(key);
            shard.insert(key, entry(1_000_000 - number));
            shard.set_deadline(&key, 500_000 - number);
            shard.remove(&key);
            assert!(shard.ends.len() <= STALE, "{}", shard.ends.len());
        }
    }

    #[test]
    fn places_of_nobodys_go_with_the_records_that_end() {
        let mut shard = Shard::default();
        for byte in 0..200 {
            let key = SessionKey::from_bytes([byte; 32]);
            shard.insert(key, entry(1_000));
            shard.set_deadline(&key, 1);
        }
        assert_eq!(shard.ends.len(), 400);
        while shard.pop_expired(1, &mut usize::MAX.clone()).is_some() {}
        assert!(shard.ends.len() <= STALE, "{}", shard.ends.len());
    }

    #[test]
    fn steps_are_bounded() {
        let mut shard = Shard::default();
        for byte in 0..100 {
            let key = SessionKey::from_bytes([byte; 32]);
            shard.insert(key, entry(1));
            shard.set_deadline(&key, 10);
        }
        let mut steps = 30;
        assert!(shard.pop_expired(5, &mut steps).is_none());
        assert_eq!(steps, 0);
        assert!(
            shard.pop_expired(10, &mut 71).is_some(),
            "the other 70 are filed anew, and one has ended"
        );
    }
}
