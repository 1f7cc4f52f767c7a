//! Updates of many callers in one script.

use std::{sync::Arc, time::Duration};

use session_core::{ErrorKind, Record, Result, SessionKey, SessionStore, Version};
use session_redis::redis::cmd;
use session_testbed::{Kind, RedisServer};
use tokio::task::JoinSet;

use crate::{
    server::{patient, raw, say, shared},
    support::{BOTH, HOUR, key, name},
};

/// Callers that update at once, time after time, so that most go together.
const CALLERS: usize = 32;

type Updated = Vec<(SessionKey, Result<Version>)>;

/// Updates all of them at once.
async fn update_all(
    store: &Arc<impl SessionStore + 'static>,
    sessions: &[(SessionKey, Version)],
    record: &Record,
) -> Updated {
    let mut updating = JoinSet::new();
    for (key, version) in sessions.iter().copied() {
        let (store, record) = (Arc::clone(store), record.clone());
        updating.spawn(async move { (key, store.update(&key, version, &record, HOUR).await) });
    }
    updating.join_all().await
}

fn all_written(updated: Updated) -> Vec<(SessionKey, Version)> {
    let written = |(key, version): (SessionKey, Result<Version>)| (key, version.unwrap());
    updated.into_iter().map(written).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_that_come_together_share_scripts() {
    // A server of its own: others' scripts are counted too.
    let server = RedisServer::start(Kind::Redis, &[]).await.unwrap();
    let (store, record) = (Arc::new(patient(server.url())), Record::new("data"));
    let mut sessions = Vec::new();
    for _ in 0..CALLERS {
        let key = key();
        sessions.push((key, store.create(&key, &record, HOUR).await.unwrap()));
    }
    let mut raw = raw(&server).await;
    say(&mut raw, &["CONFIG", "RESETSTAT"]).await;
    let rounds = 10;
    for _ in 0..rounds {
        sessions = all_written(update_all(&store, &sessions, &record).await);
    }
    let stats: String = cmd("INFO")
        .arg("commandstats")
        .query_async(&mut raw)
        .await
        .unwrap();
    let count = |command: &str| -> usize {
        let line = stats
            .lines()
            .find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
    };
    assert_eq!(count("set"), CALLERS * rounds);
    let scripts = count("evalsha") + count("eval");
    assert!(
        scripts < CALLERS * rounds / 2,
        "{scripts} scripts for {} updates",
        CALLERS * rounds
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn record_that_fails_in_a_batch_fails_alone() {
    for of in BOTH {
        let (store, mut raw) = shared(of).await;
        let (store, record) = (Arc::new(store), Record::new("data"));
        for round in 0..5 {
            let mut sessions = Vec::new();
            for _ in 0..CALLERS {
                let key = key();
                sessions.push((key, store.create(&key, &record, HOUR).await.unwrap()));
            }
            let mut kept = sessions.clone();
            // Another program's list, one that is gone, one that has changed.
            let (listed, _) = kept.remove(round);
            let listed = name(&store, &listed);
            say(&mut raw, &["DEL", &listed]).await;
            say(&mut raw, &["RPUSH", &listed, "a", "list"]).await;
            let (gone, _) = kept.remove(round + 3);
            store.delete(&gone, None).await.unwrap();
            let (changed, version) = kept.remove(round + 7);
            store.update(&changed, version, &record, HOUR).await.unwrap();

            for (key, updated) in update_all(&store, &sessions, &Record::new("new")).await {
                match updated {
                    Ok(version) => {
                        assert!(kept.iter().any(|(kept, _)| *kept == key));
                        let held = store.load(&key).await.unwrap().unwrap();
                        assert_eq!((held.version, held.record), (version, Record::new("new")));
                    }
                    Err(error) => {
                        let expected = match key {
                            key if key == gone => ErrorKind::NotFound,
                            key if key == changed => ErrorKind::Conflict,
                            key => {
                                assert_eq!(name(&store, &key), listed, "{error}");
                                ErrorKind::Corrupt
                            }
                        };
                        assert_eq!(error.kind(), expected, "{error}");
                    }
                }
            }
            assert_eq!(store.load(&gone).await.unwrap(), None);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_without_memory_is_full_for_each_and_nothing_is_lost() {
    for of in BOTH {
        let server = RedisServer::start(of, &["--maxmemory-policy", "noeviction"])
            .await
            .unwrap();
        let (store, small) = (Arc::new(patient(server.url())), Record::new("data"));
        let mut sessions = Vec::new();
        for _ in 0..CALLERS {
            let key = key();
            sessions.push((key, store.create(&key, &small, HOUR).await.unwrap()));
        }
        let mut raw = raw(&server).await;
        say(&mut raw, &["CONFIG", "SET", "maxmemory", "1"]).await;
        for (key, updated) in update_all(&store, &sessions, &small).await {
            assert_eq!(updated.unwrap_err().kind(), ErrorKind::Full);
            assert!(store.load(&key).await.unwrap().is_some());
        }
        say(&mut raw, &["CONFIG", "SET", "maxmemory", "0"]).await;
        for (_, updated) in update_all(&store, &sessions, &small).await {
            updated.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_update_takes_nobody_with_it() {
    let (store, _) = shared(Kind::Redis).await;
    let (store, record) = (Arc::new(store), Record::new("data"));
    for _ in 0..20 {
        let (mut dropped, mut kept) = (Vec::new(), Vec::new());
        for at in 0..CALLERS {
            let key = key();
            let session = (key, store.create(&key, &record, HOUR).await.unwrap());
            [&mut kept, &mut dropped][at % 2].push(session);
        }
        let giving_up = {
            let (store, record) = (Arc::clone(&store), Record::new("dropped"));
            async move {
                let _ =
                    tokio::time::timeout(Duration::from_micros(300), update_all(&store, &dropped, &record))
                        .await;
            }
        };
        let (updated, ()) = tokio::join!(update_all(&store, &kept, &record), giving_up);
        for (_, updated) in updated {
            updated.unwrap();
        }
    }
}

/// A batch is carried by the runtime of one of its callers, and ends with it.
#[test]
fn runtime_that_ends_takes_no_update_of_another_with_it() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let ours = runtime();
    let (store, sessions) = ours.block_on(async {
        let (store, record) = (Arc::new(shared(Kind::Redis).await.0), Record::new("data"));
        let mut sessions = Vec::new();
        for _ in 0..2 * CALLERS {
            let key = key();
            sessions.push((key, store.create(&key, &record, HOUR).await.unwrap()));
        }
        (store, sessions)
    });
    let (mut staying, leaving) = (sessions[..CALLERS].to_vec(), sessions[CALLERS..].to_vec());
    let record = Record::new("new");
    for _ in 0..30 {
        let theirs = runtime();
        let (store_there, record_there, sessions) = (Arc::clone(&store), record.clone(), leaving.clone());
        theirs.spawn(async move {
            loop {
                update_all(&store_there, &sessions, &record_there).await;
            }
        });
        let ending = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(2));
            theirs.shutdown_background();
        });
        ours.block_on(async {
            while !ending.is_finished() {
                staying = all_written(update_all(&store, &staying, &record).await);
            }
            staying = all_written(update_all(&store, &staying, &record).await);
        });
        ending.join().unwrap();
    }
}
