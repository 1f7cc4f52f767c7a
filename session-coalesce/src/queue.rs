//! The calls that wait. Nothing here waits itself: it is the state behind one lock.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use tokio::time::Instant;

/// When a call came: calls are sent in this order.
pub(crate) type Turn = u64;

/// A call that waits.
pub(crate) struct Entry<K, V> {
    pub(crate) key: Option<K>,
    pub(crate) weight: usize,
    pub(crate) deadline: Instant,
    /// The call, and where its answer goes.
    pub(crate) value: V,
}

/// The calls that wait, each key's one after the other.
///
/// A key has one holder: the call that is ready to be sent, or under way. The others of its key are parked until it has
/// ended. So whatever is ready may go together.
pub(crate) struct Queue<K, V> {
    next: Turn,
    ready: BTreeMap<Turn, Entry<K, V>>,
    /// For each key that has a holder, those who wait for it.
    parked: HashMap<K, BTreeMap<Turn, Entry<K, V>>>,
    waiting: usize,
}

impl<K: Eq + Hash + Clone, V> Queue<K, V> {
    pub(crate) fn new() -> Self {
        Self {
            next: 0,
            ready: BTreeMap::new(),
            parked: HashMap::new(),
            waiting: 0,
        }
    }

    /// Calls that are not sent yet.
    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    /// Calls that could be sent now.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// What could be sent now, in its order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &V> {
        self.ready.values().map(|entry| &entry.value)
    }

    /// The turn of the next call to come: every call that waits now has an earlier one.
    pub(crate) fn next_turn(&self) -> Turn {
        self.next
    }

    pub(crate) fn push(&mut self, entry: Entry<K, V>) -> Turn {
        let turn = self.next;
        self.next += 1;
        self.waiting += 1;
        match &entry.key {
            Some(key) => match self.parked.get_mut(key) {
                Some(parked) => {
                    parked.insert(turn, entry);
                }
                None => {
                    self.parked.insert(key.clone(), BTreeMap::new());
                    self.ready.insert(turn, entry);
                }
            },
            None => {
                self.ready.insert(turn, entry);
            }
        }
        turn
    }

    /// Lets a call that did not wait hold its key, which nobody holds, until it is [freed](Self::free).
    pub(crate) fn hold(&mut self, key: &K) {
        self.parked.insert(key.clone(), BTreeMap::new());
    }

    /// Takes a call back; `None` if it was sent.
    pub(crate) fn withdraw(&mut self, turn: Turn, key: Option<&K>) -> Option<Entry<K, V>> {
        let entry = match self.ready.remove(&turn) {
            Some(entry) => {
                if let Some(key) = key {
                    self.free(key);
                }
                entry
            }
            None => self.parked.get_mut(key?)?.remove(&turn)?,
        };
        self.waiting -= 1;
        Some(entry)
    }

    /// The first calls that are ready, at most `most` of them and at most `weight` heavy, but one in any case. They hold
    /// their keys until these are [freed](Self::free).
    pub(crate) fn take(&mut self, most: usize, weight: usize) -> Vec<Entry<K, V>> {
        let (mut taken, mut sum) = (Vec::new(), 0_usize);
        while taken.len() < most
            && let Some(first) = self.ready.first_entry()
        {
            sum = sum.saturating_add(first.get().weight);
            if sum > weight && !taken.is_empty() {
                break;
            }
            taken.push(first.remove());
        }
        self.waiting -= taken.len();
        taken
    }

    /// The calls that came before `turn`. None of them holds a key afterwards.
    pub(crate) fn take_before(&mut self, turn: Turn) -> Vec<Entry<K, V>> {
        let mut taken = Vec::new();
        // Freeing a key makes another call ready, perhaps one that came before as well.
        while let Some(first) = self.ready.first_entry()
            && *first.key() < turn
        {
            let entry = first.remove();
            self.waiting -= 1;
            if let Some(key) = &entry.key {
                self.free(key);
            }
            taken.push(entry);
        }
        taken
    }

    /// The holder of a key has ended: the next call of that key is ready.
    pub(crate) fn free(&mut self, key: &K) {
        let Some(parked) = self.parked.get_mut(key) else {
            return;
        };
        match parked.pop_first() {
            Some((turn, entry)) => {
                self.ready.insert(turn, entry);
            }
            None => {
                self.parked.remove(key);
            }
        }
    }
}
