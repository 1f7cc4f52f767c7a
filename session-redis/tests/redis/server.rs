//! One server: lost scripts and replies, passwords, memory, replicas, crashes.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use session_conformance::{Fault, Proxy};
use session_core::{ErrorKind, Record, SessionStore, Subject, Subjects, Timestamp, Version};
use session_redis::{
    ConnectError, RedisStore, Warning,
    redis::{Client, Pipeline, ProtocolVersion, Value, aio::MultiplexedConnection, cmd},
};
use session_testbed::{Kind, RedisServer};
use tokio::{io::copy_bidirectional, net::TcpStream, task::JoinSet, time::timeout};

use crate::{
    resp,
    support::{BOTH, DURABLE, HOUR, PATIENCE, PATIENT, healed, key, kind, name, prefix},
};

fn subject() -> Subject {
    Subject::new(key().to_string()).unwrap()
}

/// A store with a prefix of its own, and with time for a machine that is busy.
pub(crate) fn patient(url: &str) -> RedisStore {
    RedisStore::builder(Client::open(url).unwrap())
        .prefix(format!("{}:", key()))
        .read_deadline(Duration::from_secs(5))
        .write_deadline(Duration::from_secs(5))
        .connect_deadline(Duration::from_secs(5))
        .build()
        .unwrap()
}

pub(crate) async fn shared(kind: Kind) -> (RedisStore, MultiplexedConnection) {
    let server = RedisServer::shared(kind).await.unwrap();
    (patient(server.url()), raw(server).await)
}

pub(crate) async fn raw(server: &RedisServer) -> MultiplexedConnection {
    let client = Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

pub(crate) async fn say(connection: &mut MultiplexedConnection, words: &[&str]) -> Value {
    cmd(words[0])
        .arg(&words[1..])
        .query_async(connection)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_are_loaded_again_when_the_server_lost_them() {
    for server in BOTH {
        let (store, mut raw) = shared(server).await;
        let (key, whose) = (key(), subject());
        let mut flush = async || say(&mut raw, &["SCRIPT", "FLUSH", "SYNC"]).await;
        flush().await;
        let record = Record::new("one").with_subject(whose.clone());
        let first = store.create(&key, &record, HOUR).await.unwrap();
        flush().await;
        let second = store.update(&key, first, &record, HOUR).await.unwrap();
        flush().await;
        assert_eq!(kind(store.delete(&key, Some(first)).await), ErrorKind::Conflict);
        flush().await;
        assert!(store.delete(&key, Some(second)).await.unwrap());
        for _ in 0..3 {
            store.create(&crate::support::key(), &record, HOUR).await.unwrap();
        }
        flush().await;
        assert_eq!(store.delete_all(&whose, None).await.unwrap(), 3);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_is_unavailable_told_once_and_never_shown() {
    for of in BOTH {
        let server = RedisServer::start(of, &["--requirepass", "right-horse"])
            .await
            .unwrap();
        let port = server.port().unwrap();
        let url = |user: &str| format!("redis://{user}@127.0.0.1:{port}/?{PATIENT}");
        let error = RedisStore::connect(&url(":wrong-battery")).await.unwrap_err();
        let ConnectError::Store(cause) = &error else {
            panic!("{error}")
        };
        assert_eq!(cause.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("password"), "{error}");
        let shown = format!("{error} {error:?} {cause:#?}");
        assert!(!shown.contains("battery"), "{shown}");

        let none = RedisStore::connect(&url("")).await.unwrap_err();
        assert!(none.to_string().contains("NOAUTH"), "{none}");

        let store = RedisStore::connect(&url(":right-horse")).await.unwrap();
        store.create(&key(), &Record::new("data"), HOUR).await.unwrap();
        assert!(!format!("{store:?}").contains("horse"), "{store:?}");

        // One attempt each: no second guess that would lock the user out.
        let client = Client::open(format!("redis://:right-horse@127.0.0.1:{port}/")).unwrap();
        let mut raw = client.get_multiplexed_async_connection().await.unwrap();
        let Value::BulkString(stats) = say(&mut raw, &["INFO", "errorstats"]).await else {
            panic!()
        };
        let stats = String::from_utf8(stats).unwrap();
        assert!(stats.contains("errorstat_WRONGPASS:count=1\r"), "{stats}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_out_of_memory_is_full_and_what_exists_stays_usable() {
    for of in BOTH {
        let options = ["--maxmemory", "4mb", "--maxmemory-policy", "noeviction"];
        let server = RedisServer::start(of, &options).await.unwrap();
        let store = patient(server.url());
        let record = Record::new(vec![7; 32 * 1024]);
        let mut written = Vec::new();
        let error = loop {
            let key = key();
            match store.create(&key, &record, HOUR).await {
                Ok(version) => written.push((key, version)),
                Err(error) => break error,
            }
            assert!(written.len() < 1_000, "4 MB hold no 1,000 records of 32 KiB");
        };
        assert_eq!(error.kind(), ErrorKind::Full, "{error}");
        assert!(!error.is_retryable());
        let (key, version) = written[0];
        assert_eq!(
            kind(store.update(&key, version, &record, HOUR).await),
            ErrorKind::Full
        );
        let owned = record.clone().with_subject(subject());
        assert_eq!(
            kind(store.create(&crate::support::key(), &owned, HOUR).await),
            ErrorKind::Full
        );
        assert_eq!(store.load(&key).await.unwrap().unwrap().version, version);
        store.touch(&key, HOUR * 2).await.unwrap();
        for (key, version) in &written {
            assert!(store.delete(key, Some(*version)).await.unwrap());
        }
        store.create(&key, &record, HOUR).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_is_unavailable_for_writes_and_changes_nothing() {
    for of in BOTH {
        let server = RedisServer::start(of, &[]).await.unwrap();
        let (store, key) = (patient(server.url()), key());
        let record = Record::new("data");
        let version = store.create(&key, &record, HOUR).await.unwrap();
        // Its master is a port where nobody listens: it keeps what it has, and serves it.
        say(&mut raw(&server).await, &["REPLICAOF", "127.0.0.1", "1"]).await;
        for error in [
            store
                .create(&crate::support::key(), &record, HOUR)
                .await
                .unwrap_err(),
            store.update(&key, version, &record, HOUR).await.unwrap_err(),
            store.touch(&key, HOUR).await.unwrap_err(),
            store.delete(&key, None).await.unwrap_err(),
            store.delete(&key, Some(version)).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            assert!(error.to_string().contains("READONLY"), "{error}");
        }
        assert_eq!(store.load(&key).await.unwrap().unwrap().version, version);
        say(&mut raw(&server).await, &["REPLICAOF", "NO", "ONE"]).await;
        store.update(&key, version, &record, HOUR).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn value_of_another_type_is_corrupt_and_only_deletion_removes_it() {
    for server in BOTH {
        let ((store, mut raw), key) = (shared(server).await, key());
        let (name, record) = (name(&store, &key), Record::new("data"));
        say(&mut raw, &["RPUSH", &name, "a", "list"]).await;
        let version = Version::random().unwrap();
        assert_eq!(kind(store.load(&key).await), ErrorKind::Corrupt);
        assert_eq!(
            kind(store.create(&key, &record, HOUR).await),
            ErrorKind::AlreadyExists
        );
        assert_eq!(
            kind(store.update(&key, version, &record, HOUR).await),
            ErrorKind::Corrupt
        );
        assert_eq!(kind(store.delete(&key, Some(version)).await), ErrorKind::Corrupt);
        assert_eq!(say(&mut raw, &["LLEN", &name]).await, Value::Int(2));
        assert!(store.delete(&key, None).await.unwrap());
        store.create(&key, &record, HOUR).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn record_without_an_end_is_corrupt_until_it_is_touched() {
    for server in BOTH {
        let ((store, mut raw), key) = (shared(server).await, key());
        store.create(&key, &Record::new("data"), HOUR).await.unwrap();
        say(&mut raw, &["PERSIST", &name(&store, &key)]).await;
        assert_eq!(kind(store.load(&key).await), ErrorKind::Corrupt);
        store.touch(&key, HOUR).await.unwrap();
        assert!(store.load(&key).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn crash_and_restart_heal_under_the_store() {
    for of in BOTH {
        let server = RedisServer::start(of, &DURABLE).await.unwrap();
        let store = patient(server.url());
        let (key, record) = (key(), Record::new("data").with_subject(subject()));
        let version = store.create(&key, &record, HOUR).await.unwrap();

        // Nothing was asked meanwhile: the first call meets the broken connection, and its caller does not see it.
        server.kill().await.unwrap();
        server.start_again().await.unwrap();
        assert_eq!(store.load(&key).await.unwrap().unwrap().version, version);
        server.kill().await.unwrap();
        server.start_again().await.unwrap();
        let version = store.update(&key, version, &record, HOUR).await.unwrap();

        server.kill().await.unwrap();
        for _ in 0..20 {
            assert_eq!(kind(store.load(&key).await), ErrorKind::Unavailable);
            assert_eq!(
                kind(store.create(&crate::support::key(), &record, HOUR).await),
                ErrorKind::Unavailable
            );
            assert_eq!(kind(store.delete(&key, None).await), ErrorKind::Unavailable);
        }
        server.start_again().await.unwrap();
        let stored = healed(|| store.load(&key)).await.unwrap();
        assert_eq!((stored.version, stored.record), (version, record));
    }
}

/// The bug that showed strangers' chats (CVE-2023-28858): a reply that nobody waited for goes to the next call.
#[tokio::test(flavor = "multi_thread")]
async fn replies_after_the_deadline_go_to_nobody() {
    const KEYS: usize = 64;
    for of in BOTH {
        let server = RedisServer::start(of, &[]).await.unwrap();
        let store = patient(server.url());
        let mut keys = Vec::new();
        for _ in 0..KEYS {
            let key = key();
            store
                .create(&key, &Record::new(key.to_string()), HOUR)
                .await
                .unwrap();
            keys.push(key);
        }
        let hasty = RedisStore::builder(Client::open(server.url()).unwrap())
            .prefix(prefix(&store))
            .read_deadline(Duration::from_millis(20))
            .write_deadline(Duration::from_millis(20))
            .build()
            .unwrap();
        let hasty = Arc::new(hasty);
        for _ in 0..3 {
            healed(|| hasty.load(&keys[0])).await;
            server.pause().await.unwrap();
            let mut calls = JoinSet::new();
            for key in keys.clone() {
                let store = Arc::clone(&hasty);
                calls.spawn(
                    async move { (kind(store.load(&key).await), kind(store.touch(&key, HOUR).await)) },
                );
            }
            while let Some(seen) = timeout(PATIENCE, calls.join_next()).await.unwrap() {
                assert_eq!(seen.unwrap(), (ErrorKind::Unavailable, ErrorKind::Unavailable));
            }
            server.resume().await.unwrap();
            let mut calls = JoinSet::new();
            for key in keys.clone() {
                let store = Arc::clone(&hasty);
                calls.spawn(async move { (key, healed(|| store.load(&key)).await.unwrap().record.data) });
            }
            while let Some(seen) = calls.join_next().await {
                let (key, data) = seen.unwrap();
                assert_eq!(data, key.to_string());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_reply_is_recognised_or_told_as_unknown() {
    for of in BOTH {
        let server = RedisServer::start(of, &[]).await.unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], server.port().unwrap()));
        let proxy = Proxy::start(&[address], resp::reply_len, 0).await.unwrap();
        let (store, key) = (patient(&format!("redis://{}/", proxy.addresses()[0])), key());
        let mut lost = 0;
        let mut lose_next_reply = || {
            lost += proxy.happened();
            proxy.arm(Fault::LoseReply, 0..1);
        };
        let (one, two) = (Record::new("one"), Record::new("two"));
        store.load(&key).await.unwrap();

        lose_next_reply();
        let first = store.create(&key, &one, HOUR).await.unwrap();
        assert_eq!(store.load(&key).await.unwrap().unwrap().version, first);

        // The script is there before its reply is lost.
        let first = store.update(&key, first, &one, HOUR).await.unwrap();
        lose_next_reply();
        let second = store.update(&key, first, &two, HOUR).await.unwrap();
        let stored = store.load(&key).await.unwrap().unwrap();
        assert_eq!((stored.version, &stored.record), (second, &two));

        lose_next_reply();
        assert_eq!(
            kind(store.update(&key, first, &one, HOUR).await),
            ErrorKind::Unavailable
        );
        lose_next_reply();
        store.touch(&key, HOUR).await.unwrap();
        lose_next_reply();
        assert_eq!(store.load(&key).await.unwrap().unwrap().version, second);
        lose_next_reply();
        assert_eq!(kind(store.delete(&key, None).await), ErrorKind::Unavailable);
        assert!(!store.delete(&key, None).await.unwrap());
        assert_eq!(lost + proxy.happened(), 6);
    }
}

/// What the suite's proxy must know of the protocol.
#[test]
fn reply_ends_where_the_protocol_says() {
    for whole in [
        "+OK\r\n",
        "-ERR no\r\n",
        ":1\r\n",
        "$-1\r\n",
        "$0\r\n\r\n",
        "$4\r\n\r\n$1\r\n",
        "*-1\r\n",
        "*0\r\n",
        "*2\r\n$1\r\nx\r\n*1\r\n:1\r\n",
        "_\r\n",
        "#t\r\n",
        ",1.5\r\n",
        "(12345678901234567890\r\n",
        "!3\r\nERR\r\n",
        "=5\r\ntxt:x\r\n",
        "~1\r\n+x\r\n",
        "%1\r\n+x\r\n:1\r\n",
        "|1\r\n+x\r\n:1\r\n+OK\r\n",
        ">2\r\n+x\r\n+y\r\n",
    ] {
        let bytes = format!("{whole}+next\r\n").into_bytes();
        assert_eq!(resp::reply_len(&bytes), Some(whole.len()), "{whole:?}");
        for end in 0..whole.len() {
            assert_eq!(resp::reply_len(&bytes[..end]), None, "{:?}", &whole[..end]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_without_a_record_are_pruned_once_they_are_old() {
    for server in BOTH {
        let ((store, mut raw), whose) = (shared(server).await, subject());
        let (live, old, fresh, theirs) = (key(), key(), key(), key());
        let record = Record::new("data").with_subject(whose.clone());
        store.create(&live, &record, HOUR).await.unwrap();
        store
            .create(&theirs, &Record::new("data").with_subject(subject()), HOUR)
            .await
            .unwrap();
        let pattern = format!("{}subject/*", prefix(&store));
        let Value::Array(indexes) = say(&mut raw, &["KEYS", &pattern]).await else {
            panic!()
        };
        let mut index = None;
        for name in indexes {
            let Value::BulkString(name) = name else { panic!() };
            let members: Vec<Vec<u8>> = cmd("ZRANGE")
                .arg(&name)
                .arg(0)
                .arg(-1)
                .query_async(&mut raw)
                .await
                .unwrap();
            if members == [live.as_bytes()] {
                index = Some(name);
            }
        }
        let index = index.unwrap();
        let newest: Vec<(Vec<u8>, u64)> = cmd("ZRANGE")
            .arg(&index)
            .arg(0)
            .arg(-1)
            .arg("WITHSCORES")
            .query_async(&mut raw)
            .await
            .unwrap();
        let now = newest[0].1;
        for (key, score) in [
            (old, now - 61_000),
            (theirs, now - 61_000),
            (fresh, now),
            (live, now - 61_000),
        ] {
            let mut add = cmd("ZADD");
            add.arg(&index).arg(score).arg(key.as_bytes());
            add.query_async::<()>(&mut raw).await.unwrap();
        }
        assert_eq!(store.list(&whose).await.unwrap(), [live]);
        let mut left: Vec<Vec<u8>> = cmd("ZRANGE")
            .arg(&index)
            .arg(0)
            .arg(-1)
            .query_async(&mut raw)
            .await
            .unwrap();
        let mut expected = [live.as_bytes().to_vec(), fresh.as_bytes().to_vec()];
        left.sort();
        expected.sort();
        assert_eq!(left, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn index_lives_until_the_latest_absolute_end() {
    let now = Timestamp::from(std::time::SystemTime::now());
    let (day, week) = (Duration::from_secs(86_400), Duration::from_secs(7 * 86_400));
    for server in BOTH {
        let ((store, mut raw), whose) = (shared(server).await, subject());
        let pattern = format!("{}subject/*", prefix(&store));
        let create = async |end: Option<Timestamp>| {
            let (key, record) = (
                key(),
                Record::new("data")
                    .with_subject(whose.clone())
                    .with_not_after(end),
            );
            let version = store.create(&key, &record, HOUR).await.unwrap();
            (key, version, record)
        };
        let mut end = async || {
            let Value::Array(names) = say(&mut raw, &["KEYS", &pattern]).await else {
                panic!()
            };
            let [Value::BulkString(name)] = &names[..] else {
                panic!("{names:?}")
            };
            cmd("PEXPIRETIME")
                .arg(name)
                .query_async::<i64>(&mut raw)
                .await
                .unwrap()
        };
        let at = |length| i64::try_from(now.after(length).as_millis()).unwrap();
        // An absolute end before the ttl's: the ttl counts.
        create(Some(now)).await;
        assert!((at(HOUR)..at(day)).contains(&end().await));
        create(Some(now.after(week))).await;
        assert_eq!(end().await, at(week));
        let (key, version, record) = create(Some(now.after(day))).await;
        assert_eq!(end().await, at(week));
        // The same subject, but a later end: the index hears of it.
        let longer = record.with_not_after(now.after(week * 2));
        store.update(&key, version, &longer, HOUR).await.unwrap();
        assert_eq!(end().await, at(week * 2));
        create(None).await;
        assert_eq!(end().await, -1);
        create(Some(now.after(day))).await;
        assert_eq!(end().await, -1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn copied_value_is_nobodys_session_and_the_connection_is_replaced() {
    for server in BOTH {
        let (store, mut raw) = shared(server).await;
        let (mine, theirs) = (key(), key());
        store.create(&mine, &Record::new("mine"), HOUR).await.unwrap();
        store.create(&theirs, &Record::new("theirs"), HOUR).await.unwrap();
        say(
            &mut raw,
            &["COPY", &name(&store, &theirs), &name(&store, &mine), "REPLACE"],
        )
        .await;
        for _ in 0..3 {
            assert_eq!(kind(store.load(&mine).await), ErrorKind::Corrupt);
            assert_eq!(store.load(&theirs).await.unwrap().unwrap().record.data, "theirs");
        }
    }
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn socket_of_this_machine_is_as_good_as_a_port() {
    let server = RedisServer::start(Kind::Redis, &[]).await.unwrap();
    let path = std::env::temp_dir().join(format!("session-redis-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    listen_on_socket(&path, server.port().unwrap());
    let url = format!("redis+unix://{}?db=3&prefix=unix:&{PATIENT}", path.display());
    let store = RedisStore::connect(&url).await.unwrap();
    store.create(&key(), &Record::new("data"), HOUR).await.unwrap();
    let Value::BulkString(keyspace) = say(&mut raw(&server).await, &["INFO", "keyspace"]).await else {
        panic!()
    };
    assert!(String::from_utf8(keyspace).unwrap().contains("db3:keys=1"));
    std::fs::remove_file(&path).unwrap();
}

/// A socket of this machine that leads to the server.
#[cfg(unix)]
fn listen_on_socket(path: &std::path::Path, server: u16) {
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                // Ends when either side does.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
}

/// The deadlines that the front page tells, and which of them ended a call.
#[tokio::test(flavor = "multi_thread")]
async fn default_deadlines_are_those_of_the_front_page() {
    let server = RedisServer::shared(Kind::Redis).await.unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], server.port().unwrap()));
    let proxy = Proxy::start(&[address], resp::reply_len, 0).await.unwrap();
    let client = || Client::open(format!("redis://{}/", proxy.addresses()[0])).unwrap();
    let (store, key, record) = (RedisStore::new(client()), key(), Record::new("data"));
    let version = Version::random().unwrap();
    proxy.always(Fault::Hang);
    let told = |answer: Result<(), session_core::Error>| {
        let error = answer.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        error.to_string()
    };
    // Each with an attempt of its own to connect, which takes longer.
    for text in [
        told(store.load(&key).await.map(drop)),
        told(RedisStore::new(client()).list(&subject()).await.map(drop)),
    ] {
        assert!(text.contains("no reply within 250ms"), "{text}");
    }
    for text in [
        told(store.create(&key, &record, HOUR).await.map(drop)),
        told(store.update(&key, version, &record, HOUR).await.map(drop)),
        told(store.touch(&key, HOUR).await),
        told(store.delete(&key, None).await.map(drop)),
        told(store.delete(&key, Some(version)).await.map(drop)),
    ] {
        // Whichever comes first: this call's, or that of the connection which an earlier call began.
        let write = text.contains("no reply within 500ms");
        assert!(write || text.contains("connecting took longer than 1s"), "{text}");
    }
    let store = RedisStore::builder(client())
        .read_deadline(PATIENCE)
        .build()
        .unwrap();
    let text = told(store.load(&key).await.map(drop));
    assert!(text.contains("connecting took longer than 1s"), "{text}");
}

/// A client may speak the third version of the protocol, in which some replies have another form.
#[tokio::test(flavor = "multi_thread")]
async fn third_version_of_the_protocol_is_understood() {
    for of in BOTH {
        let server = RedisServer::shared(of).await.unwrap();
        let (client, whose) = (Client::open(server.url()).unwrap(), subject());
        let info = client.get_connection_info().clone();
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let client = Client::open(info.set_redis_settings(settings)).unwrap();
        let store = RedisStore::builder(client)
            .prefix(format!("{}:", key()))
            .read_deadline(PATIENCE)
            .write_deadline(PATIENCE)
            .build()
            .unwrap();
        let (key, record) = (key(), Record::new("data").with_subject(whose.clone()));
        assert!(store.load(&key).await.unwrap().is_none());
        let first = store.create(&key, &record, HOUR).await.unwrap();
        assert_eq!(
            kind(store.create(&key, &record, HOUR).await),
            ErrorKind::AlreadyExists
        );
        let second = store.update(&key, first, &record, HOUR).await.unwrap();
        assert_eq!(
            kind(store.update(&key, first, &record, HOUR).await),
            ErrorKind::Conflict
        );
        assert_eq!(store.load(&key).await.unwrap().unwrap().version, second);
        store.touch(&key, HOUR).await.unwrap();
        assert_eq!(store.list(&whose).await.unwrap(), [key]);
        assert!(store.delete(&key, Some(second)).await.unwrap());
        assert_eq!(store.delete_all(&whose, None).await.unwrap(), 0);
        let warnings = store.check_servers().await.unwrap();
        let not_persistent = |warning: &Warning| matches!(warning, Warning::NotPersistent { .. });
        assert!(warnings.iter().any(not_persistent), "{warnings:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn longest_deadline_that_can_be_written_is_one() {
    let server = RedisServer::shared(Kind::Redis).await.unwrap();
    let store = RedisStore::builder(Client::open(server.url()).unwrap())
        .prefix(format!("{}:", key()))
        .read_deadline(Duration::MAX)
        .write_deadline(Duration::MAX)
        .connect_deadline(Duration::MAX)
        .build()
        .unwrap();
    let key = key();
    store.create(&key, &Record::new("data"), HOUR).await.unwrap();
    assert!(store.load(&key).await.unwrap().is_some());
    store.check_servers().await.unwrap();

    let longest = format!("read_ms={0}&write_ms={0}&connect_ms={0}", u64::MAX);
    let store = RedisStore::connect(&format!("{}?{longest}", server.url()))
        .await
        .unwrap();
    assert!(store.load(&key).await.unwrap().is_none());
}

/// Only a list forgets the notes of sessions that have gone. An index that nobody lists is gone through as it grows.
#[tokio::test(flavor = "multi_thread")]
async fn index_that_nobody_lists_does_not_grow_for_ever() {
    for server in BOTH {
        let ((store, mut raw), whose) = (shared(server).await, subject());
        let record = Record::new("data").with_subject(whose.clone());
        let kept = key();
        store.create(&kept, &record, HOUR).await.unwrap();
        let Value::Array(indexes) = say(&mut raw, &["KEYS", &format!("{}subject/*", prefix(&store))]).await
        else {
            panic!()
        };
        let Value::BulkString(index) = &indexes[0] else {
            panic!()
        };
        let mut most = 0;
        for _ in 0..1_000 {
            let key = key();
            store.create(&key, &record, HOUR).await.unwrap();
            assert!(store.delete(&key, None).await.unwrap());
            // As if it had been a while ago.
            let mut earlier = cmd("ZINCRBY");
            earlier.arg(index).arg(-600_000).arg(key.as_bytes());
            let mut count = cmd("ZCARD");
            count.arg(index);
            let both: (Value, u64) = Pipeline::new()
                .add_command(earlier)
                .add_command(count)
                .query_async(&mut raw)
                .await
                .unwrap();
            most = most.max(both.1);
        }
        assert!((200..=256).contains(&most), "{most}");
        assert_eq!(store.list(&whose).await.unwrap(), [kept]);
    }
}
