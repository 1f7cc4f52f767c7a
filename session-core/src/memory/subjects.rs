//! Which keys belong to a subject.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    sync::Mutex,
};

use super::lock;
use crate::{SessionKey, Subject};

const SHARDS: usize = 64;

type Shard = HashMap<Subject, HashSet<SessionKey>>;

/// Keys by subject. Its locks are taken last: under a shard's lock, or alone.
pub(super) struct SubjectIndex {
    /// Subjects are chosen by users: the hash is keyed.
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
}

impl Default for SubjectIndex {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl SubjectIndex {
    fn shard(&self, subject: &Subject) -> &Mutex<Shard> {
        &self.shards[self.hasher.hash_one(subject) as usize % SHARDS]
    }

    pub(super) fn insert(&self, subject: &Subject, key: SessionKey) {
        lock(self.shard(subject))
            .entry(subject.clone())
            .or_default()
            .insert(key);
    }

    pub(super) fn remove(&self, subject: &Subject, key: &SessionKey) {
        let mut shard = lock(self.shard(subject));
        if let Some(keys) = shard.get_mut(subject) {
            keys.remove(key);
            if keys.is_empty() {
                shard.remove(subject);
            }
        }
    }

    pub(super) fn list(&self, subject: &Subject) -> Vec<SessionKey> {
        lock(self.shard(subject))
            .get(subject)
            .map(|keys| keys.iter().copied().collect())
            .unwrap_or_default()
    }
}
