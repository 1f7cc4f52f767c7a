//! Sessions that are in use while something happens to the servers.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use session_core::{Error, ErrorKind, Record, SessionKey, SessionStore};
use session_redis::RedisStore;
use tokio::{task::JoinHandle, time::timeout};

use crate::support::{HOUR, PATIENCE, healed};

/// Callers that count, each in a session of its own, until they are stopped.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    callers: Vec<(SessionKey, Arc<Mutex<Count>>, JoinHandle<()>)>,
}

/// What one caller knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Count {
    /// The last number whose write was acknowledged.
    pub(crate) acknowledged: u64,
    /// The last number that was sent.
    pub(crate) sent: u64,
    /// Calls that ended in `Unavailable`.
    pub(crate) failed: u64,
    /// What was read last, after a write of it or of a later one had been acknowledged: nothing but a failover may
    /// take back an acknowledged write.
    pub(crate) taken_back: u64,
}

impl Traffic {
    /// Begins, a caller for each of the keys, once every session is there.
    pub(crate) async fn begin(store: &Arc<RedisStore>, keys: &[SessionKey]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut all = Vec::new();
        for key in keys.iter().copied() {
            store.create(&key, &number(&key, 0), HOUR).await.unwrap();
            let count = Arc::new(Mutex::new(Count::default()));
            let (store, stop, known) = (Arc::clone(store), Arc::clone(&stop), Arc::clone(&count));
            let task = tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    if add_one(&store, &key, &known).await.is_err() {
                        known.lock().unwrap().failed += 1;
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
            });
            all.push((key, count, task));
        }
        Self { stop, callers: all }
    }

    /// Waits until every caller has had a write acknowledged since.
    pub(crate) async fn goes_on(&self) {
        let before: Vec<_> = self.counts().iter().map(|count| count.acknowledged).collect();
        let going = async {
            loop {
                let now = self.counts();
                if now
                    .iter()
                    .zip(&before)
                    .all(|(now, before)| now.acknowledged > *before + 1)
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if timeout(PATIENCE, going).await.is_err() {
            panic!("before: {before:?} now: {:?}", self.counts());
        }
    }

    pub(crate) fn counts(&self) -> Vec<Count> {
        let count = |(_, count, _): &(_, Arc<Mutex<Count>>, _)| count.lock().unwrap().clone();
        self.callers.iter().map(count).collect()
    }

    /// Ends, and compares what each caller knows with what the servers hold.
    pub(crate) async fn end(self, store: &RedisStore) -> Vec<Count> {
        self.stop.store(true, Ordering::SeqCst);
        let mut counts = Vec::new();
        for (key, count, task) in self.callers {
            // A panic of a caller is a failure of the test.
            task.await.unwrap();
            let count = count.lock().unwrap().clone();
            let stored = healed(|| store.load(&key)).await.unwrap();
            let number = number_in(&key, &stored.record);
            assert!(number <= count.sent, "{number} {count:?}");
            counts.push(count);
        }
        counts
    }
}

/// A failover may take acknowledged writes back; how many is nobody's promise, and so it is told and not checked.
pub(crate) fn tell(what: &str, counts: &[Count]) {
    let sum = |part: fn(&Count) -> u64| counts.iter().map(part).sum::<u64>();
    println!(
        "{what}: {} writes acknowledged, {} calls failed, {} acknowledged writes taken back",
        sum(|count| count.acknowledged),
        sum(|count| count.failed),
        sum(|count| count.taken_back)
    );
}

fn number(key: &SessionKey, number: u64) -> Record {
    Record::new([key.as_bytes().as_slice(), &number.to_be_bytes()].concat())
}

/// A record is the caller's own, whatever happened to the servers.
fn number_in(key: &SessionKey, record: &Record) -> u64 {
    let (whose, number) = record.data.split_at(key.as_bytes().len());
    assert_eq!(whose, key.as_bytes());
    u64::from_be_bytes(number.try_into().unwrap())
}

async fn add_one(store: &RedisStore, key: &SessionKey, known: &Mutex<Count>) -> Result<(), Error> {
    let down = |error: Error| {
        // Whatever befalls the servers: neither absent, nor corrupt, nor a made-up conflict.
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        error
    };
    let stored = store
        .load(key)
        .await
        .map_err(down)?
        .expect("the session is there");
    let found = number_in(key, &stored.record);
    {
        let mut known = known.lock().unwrap();
        assert!(found <= known.sent, "{found} {known:?}");
        if found < known.acknowledged {
            known.taken_back += known.acknowledged - found;
            known.acknowledged = found;
        }
        known.sent = known.sent.max(found + 1);
    }
    match store
        .update(key, stored.version, &number(key, found + 1), HOUR)
        .await
    {
        Ok(_) => {
            known.lock().unwrap().acknowledged = found + 1;
            Ok(())
        }
        // A write whose outcome was unknown arrived after all, or a failover has taken one back.
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(()),
        Err(error) => Err(down(error)),
    }
}
