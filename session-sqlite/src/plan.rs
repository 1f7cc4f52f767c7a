//! What becomes of a batch of writes: decided here, from what the file has of their keys, in the order of the calls.

use std::collections::HashMap;

use bytes::Bytes;
use session_core::{SessionKey, head};

/// Bytes at the beginning of a value that tell its format, its key and its version.
pub(crate) const HEAD: usize = head::VERSION.end;

/// What a value begins with that is not as long as it says itself: enough to tell what is wrong with it, too little to be
/// any version's.
const SHORT: usize = head::VERSION.start - 1;

/// A write.
#[derive(Clone)]
pub(crate) struct Write {
    pub(crate) key: SessionKey,
    pub(crate) deed: Deed,
}

#[derive(Clone)]
pub(crate) enum Deed {
    Create(Life),
    /// If the value begins so.
    Update([u8; HEAD], Life),
    /// Lives so many milliseconds from now.
    Touch(i64),
    /// If the value begins so, should that be said.
    Delete(Option<[u8; HEAD]>),
}

/// What a record is.
#[derive(Clone)]
pub(crate) struct Life {
    pub(crate) value: Bytes,
    pub(crate) subject: Option<[u8; 32]>,
    /// Milliseconds, from when it is written: who waits for the lock loses none of them.
    pub(crate) ttl: i64,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Done,
    /// Nothing was written: what is there begins so.
    Seen(Bytes),
    Absent,
}

/// What a file has under a key.
pub(crate) struct Found {
    /// The first [`head::LEN`] bytes of the value.
    pub(crate) begin: Bytes,
    /// Bytes of the value.
    pub(crate) len: usize,
    pub(crate) end: i64,
}

/// What is to be done to a key. Ends are in milliseconds since 1970.
pub(crate) enum Change {
    Put(Life, i64),
    Touch(i64),
    Remove,
}

#[derive(Default)]
struct Place {
    /// As it would be if the batch ended here.
    now: Option<(Bytes, i64)>,
    change: Option<Change>,
}

/// The verdicts, and what is to be done, each key once.
pub(crate) fn plan(
    writes: &[Write],
    found: impl IntoIterator<Item = ([u8; 32], Found)>,
    time: i64,
) -> (Vec<Verdict>, Vec<(SessionKey, Change)>) {
    let mut places: HashMap<[u8; 32], Place> = HashMap::with_capacity(writes.len());
    for (key, Found { begin, len, end }) in found {
        let known = match head::is_whole(&begin, len) {
            true => HEAD,
            false => SHORT.min(begin.len()),
        };
        let place = places.entry(key).or_default();
        place.now = Some((begin.slice(..known), end));
    }
    let verdicts = writes
        .iter()
        .map(|write| {
            places
                .entry(*write.key.as_bytes())
                .or_default()
                .apply(&write.deed, time)
        })
        .collect();
    let changes = places
        .into_iter()
        .filter_map(|(key, place)| Some((SessionKey::from_bytes(key), place.change?)))
        .collect();
    (verdicts, changes)
}

impl Place {
    fn apply(&mut self, deed: &Deed, time: i64) -> Verdict {
        let live = self
            .now
            .as_ref()
            .filter(|(_, end)| *end > time)
            .map(|(begin, _)| begin);
        match (deed, live) {
            (Deed::Create(life), None) => self.put(life, time),
            (Deed::Create(_), Some(begin)) => Verdict::Seen(begin.clone()),
            (_, None) => Verdict::Absent,
            (Deed::Update(expected, life), Some(begin)) if begin == &expected[..] => self.put(life, time),
            (Deed::Delete(Some(expected)), Some(begin)) if begin != &expected[..] => {
                Verdict::Seen(begin.clone())
            }
            (Deed::Update(..), Some(begin)) => Verdict::Seen(begin.clone()),
            (Deed::Touch(ttl), Some(_)) => self.touch(time.saturating_add(*ttl)),
            (Deed::Delete(_), Some(_)) => {
                self.now = None;
                self.change = Some(Change::Remove);
                Verdict::Done
            }
        }
    }

    fn put(&mut self, life: &Life, time: i64) -> Verdict {
        let end = time.saturating_add(life.ttl);
        self.now = Some((life.value.slice(..HEAD), end));
        self.change = Some(Change::Put(life.clone(), end));
        Verdict::Done
    }

    fn touch(&mut self, end: i64) -> Verdict {
        if let Some((_, now)) = &mut self.now {
            *now = end;
        }
        match &mut self.change {
            Some(Change::Put(_, until)) => *until = end,
            _ => self.change = Some(Change::Touch(end)),
        }
        Verdict::Done
    }
}

impl Write {
    /// Bytes, about.
    pub(crate) fn weight(&self) -> usize {
        match &self.deed {
            Deed::Create(life) | Deed::Update(_, life) => life.value.len(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use session_core::{Record, SessionId, Version};

    use super::*;

    fn life(key: &SessionKey, version: Version, ttl: i64) -> Life {
        Life {
            value: head::seal("test", key, version, &Record::new("x"))
                .unwrap()
                .into(),
            subject: None,
            ttl,
        }
    }

    fn expected(life: &Life) -> [u8; HEAD] {
        life.value[..HEAD].try_into().unwrap()
    }

    #[test]
    fn calls_on_one_key_see_each_other_in_their_order() {
        let key = SessionId::random().unwrap().key("test");
        let versions: Vec<Version> = (0..3).map(|_| Version::random().unwrap()).collect();
        let [first, second, third] = [0, 1, 2].map(|at| life(&key, versions[at], 100));
        let write = |deed| Write { key, deed };
        let batch = [
            write(Deed::Touch(200)),
            write(Deed::Create(first.clone())),
            write(Deed::Create(second.clone())),
            write(Deed::Update(expected(&first), second.clone())),
            write(Deed::Update(expected(&first), third.clone())),
            write(Deed::Touch(300)),
            write(Deed::Delete(Some(expected(&first)))),
        ];
        let (verdicts, changes) = plan(&batch, [], 50);
        let seen = Verdict::Seen(second.value.slice(..HEAD));
        assert_eq!(
            verdicts,
            [
                Verdict::Absent,
                Verdict::Done,
                Verdict::Seen(first.value.slice(..HEAD)),
                Verdict::Done,
                seen.clone(),
                Verdict::Done,
                seen,
            ]
        );
        let [(_, Change::Put(life, end))] = &changes[..] else {
            panic!("one record is to be written");
        };
        assert_eq!((life.value.clone(), *end), (second.value, 50 + 300));
    }

    #[test]
    fn expired_and_cut_values_are_what_they_are() {
        let key = SessionId::random().unwrap().key("test");
        let old = life(&key, Version::random().unwrap(), 100);
        let new = life(&key, Version::random().unwrap(), 900);
        let found = |len: usize| Found {
            begin: old.value.slice(..head::LEN),
            len,
            end: 100,
        };
        let update = || Write {
            key,
            deed: Deed::Update(expected(&old), new.clone()),
        };
        let one = |found, write, time| {
            let (mut verdicts, changes) = plan(&[write], [(*key.as_bytes(), found)], time);
            (verdicts.remove(0), changes.len())
        };
        let len = old.value.len();
        assert_eq!(one(found(len), update(), 99), (Verdict::Done, 1));
        assert_eq!(one(found(len), update(), 100), (Verdict::Absent, 0));
        assert_eq!(one(found(len - 1), update(), 99).1, 0);
        let create = Write {
            key,
            deed: Deed::Create(new.clone()),
        };
        assert_eq!(one(found(len), create.clone(), 100), (Verdict::Done, 1));
        assert_eq!(one(found(len), create, 99).1, 0);
    }
}
