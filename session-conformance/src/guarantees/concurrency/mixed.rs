//! Batches of every call, sweeps and deletions of whole subjects, all on the same few records.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use session_core::{ErrorKind, Record, SessionKey, SessionStore, Subject, Version};

use crate::{
    Cx, Stop, Verdict,
    callers::callers,
    expect::{Answer, ensure, same},
};

const KEYS: usize = 24;
const CALLERS: usize = 32;
const CALLS: usize = 40;

/// Each has its part of the calls: a subject that were written for ever could be deleted for ever.
const SUBJECTS: usize = 8;

/// 32 callers on 4 nodes create, update, touch and delete 24 records in ever changing order, while the records are swept
/// and deleted by subject: no call waits for another that waits for it, so none ends `Unavailable`, each has an answer
/// that the contract has, and in the end every node has the same records, each as a caller was told that it was written.
pub(super) async fn batches_and_sweeps_do_not_deadlock(cx: Cx) -> Verdict {
    let traffic = Traffic {
        nodes: cx.nodes(4).await?.into(),
        keys: cx.keys(KEYS).into(),
        subjects: (0..SUBJECTS).map(|_| cx.subject()).collect(),
        left: Arc::new(AtomicUsize::new(CALLERS)),
        short: cx.limits().min_ttl.max(Duration::from_millis(30)),
    };
    let (written, _) = tokio::try_join!(
        callers(CALLERS, |caller| traffic
            .clone()
            .calls(caller, cx.rng(caller as u64))),
        callers(4, |caller| traffic
            .clone()
            .cleans(caller, cx.rng(1_000 + caller as u64))),
    )?;
    // By key too: a version is used once for a key, and two keys on two servers may have the same.
    let written: HashMap<(SessionKey, Version), Record> = written.into_iter().flatten().collect();
    cx.ended(Instant::now(), traffic.short).await;
    for key in &*traffic.keys {
        let mut seen = Vec::new();
        for node in &*traffic.nodes {
            let stored = node.load(key).await?;
            seen.push(stored.map(|stored| (stored.version, stored.record)));
        }
        ensure(seen.iter().all(|of_node| *of_node == seen[0]), || {
            format!("load of one key on 4 nodes\nexpected: the same\nseen: {seen:?}")
        })?;
        if let Some((version, record)) = &seen[0] {
            same(
                "the record in the version that is loaded, as it was written",
                Some(record),
                written.get(&(*key, *version)),
            )?;
        }
    }
    Ok(())
}

/// What a caller was told that it wrote.
type Wrote = ((SessionKey, Version), Record);

/// What all callers share.
#[derive(Clone)]
struct Traffic {
    nodes: Arc<[Arc<dyn SessionStore>]>,
    keys: Arc<[SessionKey]>,
    subjects: Arc<[Subject]>,
    /// Callers that have not ended.
    left: Arc<AtomicUsize>,
    short: Duration,
}

impl Traffic {
    /// One caller's calls: what it was told that it wrote.
    async fn calls(self, caller: usize, rng: fastrand::Rng) -> Result<Vec<Wrote>, Stop> {
        let written = self.random_calls(caller, rng).await;
        self.left.fetch_sub(1, Ordering::Relaxed);
        written
    }

    async fn random_calls(&self, caller: usize, mut rng: fastrand::Rng) -> Result<Vec<Wrote>, Stop> {
        let store = &self.nodes[caller % self.nodes.len()];
        let mut known = vec![Version::from_bytes([0; 16]); KEYS];
        let mut written = Vec::new();
        for call in 0..CALLS {
            let at = rng.usize(..KEYS);
            let key = &self.keys[at];
            let record = Record::new(format!("{caller} {call}"))
                .with_subject(self.subjects[call * SUBJECTS / CALLS].clone());
            let ttl = if rng.u8(..4) == 0 { self.short } else { Cx::LONG };
            let (name, answer, rights) = match rng.u8(..10) {
                0..3 => {
                    let answer = store.create(key, &record, ttl).await.answer().map(Some);
                    ("create", answer, &[ErrorKind::AlreadyExists][..])
                }
                3..7 => {
                    if let Some(stored) = store.load(key).await? {
                        known[at] = stored.version;
                    }
                    let answer = store.update(key, known[at], &record, ttl).await;
                    let rights = &[ErrorKind::Conflict, ErrorKind::NotFound][..];
                    ("update", answer.answer().map(Some), rights)
                }
                7 => {
                    let answer = store.touch(key, ttl).await.answer().map(|()| None);
                    ("touch", answer, &[ErrorKind::NotFound][..])
                }
                8 => {
                    let answer = store.delete(key, None).await.answer().map(|_| None);
                    ("delete", answer, &[][..])
                }
                _ => {
                    let answer = store.delete(key, Some(known[at])).await;
                    (
                        "delete(version)",
                        answer.answer().map(|_| None),
                        &[ErrorKind::Conflict][..],
                    )
                }
            };
            match answer {
                Ok(Some(version)) => {
                    known[at] = version;
                    written.push(((*key, version), record));
                }
                Ok(None) => {}
                Err(kind) => ensure(rights.contains(&kind), || {
                    format!("{name} among others\nexpected: success or one of {rights:?}\nseen: {kind:?}")
                })?,
            }
        }
        Ok(written)
    }

    /// Sweeps, or deletes all of one subject after the other, until the callers have ended.
    async fn cleans(self, cleaner: usize, mut rng: fastrand::Rng) -> Verdict {
        let store = &self.nodes[cleaner % self.nodes.len()];
        while self.left.load(Ordering::Relaxed) > 0 {
            match (cleaner % 2, store.sweep(), store.subjects()) {
                (0, Some(sweep), _) => drop(sweep.remove_expired(5).await?),
                (1, _, Some(subjects)) => {
                    let subject = &self.subjects[rng.usize(..SUBJECTS)];
                    subjects.delete_all(subject, None).await?;
                }
                _ => return Ok(()),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}
