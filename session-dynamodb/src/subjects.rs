//! The sessions of a subject: notes in the same table, which are believed only when the records say so too.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use session_core::{Result, SessionKey, Subject, Subjects, async_trait};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    DynamoDbStore,
    call::{Tries, pause},
    error,
    item::{self, EXPIRES, SK, SUBJECT, WRITTEN, bytes, key_of_note, key_of_record, number},
    node::{MOST_KEYS, Node, Part, Seen},
};

/// A note is younger than this while the record that it is about may still be on its way: DynamoDB refuses a request whose
/// signature is older than five minutes, and clocks may differ by as much again.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>
const YOUNG: Duration = Duration::from_secs(15 * 60);

/// Old notes without a record that one list removes.
const MOST_PRUNED: usize = 25;

/// Sessions that are deleted at once.
const AT_ONCE: usize = 8;

/// Round trips that a list or a deletion of all may take, each with the time of a call.
const TRIPS: u32 = 10;

#[async_trait]
impl Subjects for DynamoDbStore {
    async fn list(&self, subject: &Subject) -> Result<Vec<SessionKey>> {
        let deadline = Instant::now() + self.read * TRIPS;
        let index = Index {
            node: &self.node,
            subject: subject.digest(),
            limit: self.read,
            deadline,
        };
        Ok(index.live().await?.into_iter().collect())
    }

    async fn delete_all(&self, subject: &Subject, except: Option<&SessionKey>) -> Result<u64> {
        let deadline = Instant::now() + self.write * TRIPS;
        let index = Index {
            node: &self.node,
            subject: subject.digest(),
            limit: self.write,
            deadline,
        };
        let mut sum = 0;
        loop {
            let mut live = index.live().await?;
            if let Some(key) = except {
                live.remove(key);
            }
            if live.is_empty() {
                return Ok(sum);
            }
            sum += index.delete(live).await?;
        }
    }
}

/// The notes of a subject.
struct Index<'a> {
    node: &'a Arc<Node>,
    subject: [u8; 32],
    /// The time of a round trip.
    limit: Duration,
    deadline: Instant,
}

/// When each note was written, in milliseconds since 1970.
type Notes = BTreeMap<SessionKey, u64>;

/// What the records said of the notes.
struct Look {
    noted: BTreeSet<SessionKey>,
    live: BTreeSet<SessionKey>,
    /// Noted a moment ago, and without a record: perhaps not yet.
    pending: BTreeSet<SessionKey>,
    /// Whether nothing that was live all the time can have been missed, unless there is a new note.
    is_settled: bool,
}

impl Index<'_> {
    /// The subject's live sessions.
    ///
    /// The notes are read, and then the records. A session that is renewed between the two would be nowhere: its old record is
    /// retired and its new note not read yet, or its new record was not there when it was looked for, and the old one not any
    /// more. So it is looked again, until nothing is new.
    async fn live(&self) -> Result<BTreeSet<SessionKey>> {
        let mut last = None::<Look>;
        loop {
            let notes = self.notes().await?;
            if let Some(last) = &mut last
                && last.is_settled
                && notes.keys().all(|key| last.noted.contains(key))
            {
                return Ok(std::mem::take(&mut last.live));
            }
            let now = item::now();
            let live = self.verified(&notes).await?;
            let dead = || notes.iter().filter(|(key, _)| !live.contains(key));
            if dead().next().is_none() {
                return Ok(live);
            }
            let is_old = |written: u64| now.saturating_sub(written) > YOUNG.as_millis() as u64;
            let pending: BTreeSet<SessionKey> = dead()
                .filter(|(_, written)| !is_old(**written))
                .map(|(key, _)| *key)
                .collect();
            // None that is missing can be on its way; or they were missing the time before as well, and those that followed
            // upon them would have a note that was not there then.
            let is_settled = pending.is_empty()
                || last.as_ref().is_some_and(|last| {
                    last.pending == pending && notes.keys().all(|key| last.noted.contains(key))
                });
            let old: Vec<(SessionKey, u64)> = dead()
                .filter(|(_, written)| is_old(**written))
                .map(|(key, written)| (*key, *written))
                .take(MOST_PRUNED)
                .collect();
            self.prune(old).await;
            if Instant::now() >= self.deadline {
                return Err(error::unavailable(
                    "new sessions of the subject were made as fast as they were looked at",
                ));
            }
            last = Some(Look {
                noted: notes.into_keys().collect(),
                live,
                pending,
                is_settled,
            });
        }
    }

    /// All notes, page by page.
    async fn notes(&self) -> Result<Notes> {
        let (mut notes, mut after) = (Notes::new(), None);
        loop {
            let mut tries = self.tries();
            let page = loop {
                let asked = self.node.asked("Query");
                match tries
                    .once(&asked, self.node.query(&self.subject, after.clone()))
                    .await
                {
                    Ok(page) => break page,
                    Err(failure) => tries.again(failure).await?,
                }
            };
            for note in &page.items {
                // What has another key is no note of ours.
                if let Some(key) = item::key(note, SK) {
                    notes.insert(key, item::natural(note, WRITTEN).unwrap_or_default());
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(notes);
            }
        }
    }

    /// Those whose record is live and has this subject.
    async fn verified(&self, notes: &Notes) -> Result<BTreeSet<SessionKey>> {
        let mut live = BTreeSet::new();
        let mut wanted: Vec<SessionKey> = notes.keys().copied().collect();
        let mut unprocessed = 0;
        while !wanted.is_empty() {
            let batch = wanted.split_off(wanted.len().saturating_sub(MOST_KEYS));
            let mut tries = self.tries();
            let found = loop {
                let asked = self.node.asked("BatchGetItem");
                match tries.once(&asked, self.node.batch_get(&batch, Part::Life)).await {
                    Ok(found) => break found,
                    Err(failure) => tries.again(failure).await?,
                }
            };
            let now = item::now();
            for (key, record) in &found.items {
                let is_live = item::natural(record, EXPIRES).is_some_and(|end| end > now);
                if is_live && item::blob(record, SUBJECT) == Some(&self.subject) {
                    live.insert(*key);
                }
            }
            if !found.unprocessed.is_empty() {
                wanted.extend(found.unprocessed);
                let pause = pause(unprocessed);
                unprocessed += 1;
                if Instant::now() + pause >= self.deadline {
                    let asked = self.node.asked("BatchGetItem");
                    return Err(error::unavailable(format!(
                        "{asked}: the table's capacity did not suffice for all keys"
                    )));
                }
                sleep(pause).await;
            }
        }
        Ok(live)
    }

    /// Deletes sessions as long as they are live and the subject's, and tells how many there were.
    async fn delete(&self, keys: BTreeSet<SessionKey>) -> Result<u64> {
        let mut sum = 0;
        let mut under_way = JoinSet::new();
        let mut left = keys.into_iter();
        loop {
            while under_way.len() < AT_ONCE
                && let Some(key) = left.next()
            {
                let (node, subject, tries) = (Arc::clone(self.node), self.subject, self.tries());
                under_way.spawn(async move { delete(&node, key, subject, tries).await });
            }
            match under_way.join_next().await {
                None => return Ok(sum),
                Some(Ok(deleted)) => sum += u64::from(deleted?),
                Some(Err(_)) => return Err(error::unavailable("the runtime has ended")),
            }
        }
    }

    /// Removes old notes that no record confirms, unless they have been written again. One that stays costs its storage, and the
    /// next list a read.
    async fn prune(&self, old: Vec<(SessionKey, u64)>) {
        let mut under_way = JoinSet::new();
        for (key, written) in old {
            let (node, subject, tries) = (Arc::clone(self.node), self.subject, self.tries());
            under_way.spawn(async move {
                let values = [(":written".to_owned(), number(written))].into();
                let condition = format!("{WRITTEN} = :written");
                let deleting = node.delete(key_of_note(&subject, &key), &condition, values);
                let _ = tries.once(&node.asked("DeleteItem"), deleting).await;
            });
        }
        while under_way.join_next().await.is_some() {}
    }

    fn tries(&self) -> Tries {
        let left = self.deadline.saturating_duration_since(Instant::now());
        Tries::new(self.limit.min(left))
    }
}

/// Whether there was a session to delete.
async fn delete(node: &Node, key: SessionKey, subject: [u8; 32], mut tries: Tries) -> Result<bool> {
    loop {
        let values = [
            (":subject".to_owned(), bytes(subject)),
            (":now".to_owned(), number(item::now())),
        ];
        let condition = format!("{SUBJECT} = :subject AND {EXPIRES} > :now");
        let deleting = node.delete(key_of_record(&key), &condition, values.into());
        match tries.once(&node.asked("DeleteItem"), deleting).await {
            Ok(Seen::Done) => return Ok(true),
            // Whether the first try had deleted it is not known, and so the number of all is not either.
            Ok(Seen::Refused(_)) if tries.is_repeated() => {
                return Err(error::unavailable(
                    "the connection broke while a session was deleted",
                ));
            }
            Ok(Seen::Refused(_)) => return Ok(false),
            Err(failure) => tries.again(failure).await?,
        }
    }
}
