//! What is PostgreSQL's own.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use session_core::{
    ErrorKind, Record, SessionId, SessionKey, SessionStore, Subject, Version as RecordVersion,
};
use session_postgres::{
    PostgresStore,
    sqlx::{
        AssertSqlSafe, Executor, PgPool, Row,
        postgres::{PgConnectOptions, PgPoolOptions},
    },
};
use session_testbed::{PgBouncer, PostgresServer, Version};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A machine that builds and tests at once may be slow.
const PATIENCE: Duration = Duration::from_secs(10);

async fn server() -> &'static PostgresServer {
    PostgresServer::shared(Version::V17).await.unwrap()
}

fn pool(url: &str) -> PgPool {
    let options = PgConnectOptions::from_str(url).unwrap();
    PgPoolOptions::new().max_connections(5).connect_lazy_with(options)
}

async fn store(url: &str, table: &str) -> Arc<PostgresStore> {
    store_on(pool(url), table).await
}

async fn store_on(pool: PgPool, table: &str) -> Arc<PostgresStore> {
    let store = PostgresStore::builder(pool)
        .table(table)
        .read_deadline(PATIENCE)
        .write_deadline(PATIENCE)
        .connect_deadline(PATIENCE)
        .build()
        .unwrap();
    store.migrate().await.unwrap();
    Arc::new(store)
}

fn key() -> SessionKey {
    SessionId::random().unwrap().key("test")
}

async fn number(pool: &PgPool, sql: &str) -> i64 {
    let row = pool.fetch_one(AssertSqlSafe(sql.to_owned())).await.unwrap();
    row.try_get(0).unwrap()
}

/// Many callers at once: their sessions and versions.
async fn made(store: &Arc<PostgresStore>, count: usize, bytes: usize) -> Vec<(SessionKey, RecordVersion)> {
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            let (store, key) = (Arc::clone(store), key());
            tokio::spawn(async move {
                let record = Record::new(vec![7; bytes]);
                (key, store.create(&key, &record, HOUR).await.unwrap())
            })
        })
        .collect();
    let mut sessions = Vec::new();
    for task in tasks {
        sessions.push(task.await.unwrap());
    }
    sessions
}

#[tokio::test(flavor = "multi_thread")]
async fn touches_stay_on_their_page() {
    // Of its own: while another test's transaction is open, what that may still see stays, and fills the pages.
    let (server, table) = (PostgresServer::start(Version::V17, &[]).await.unwrap(), "hot");
    let store = store(server.url(), table).await;
    let sessions = made(&store, 200, 1024).await;
    for round in 0..20 {
        // Within the hour of the sweep: the same length, a second later each time.
        let tasks: Vec<_> = sessions
            .iter()
            .map(|(key, _)| {
                let (store, key) = (Arc::clone(&store), *key);
                tokio::spawn(async move {
                    store
                        .touch(&key, 100 * HOUR + Duration::from_secs(round))
                        .await
                        .unwrap();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }
    let pool = pool(server.url());
    pool.execute("SELECT pg_stat_force_next_flush()").await.unwrap();
    // The store's connections report when they are idle; until then they have counted less.
    let statistics =
        |column: &str| format!("SELECT {column} FROM pg_stat_user_tables WHERE relname = '{table}'");
    let begun = Instant::now();
    loop {
        let (all, hot) = (
            number(&pool, &statistics("n_tup_upd")).await,
            number(&pool, &statistics("n_tup_hot_upd")).await,
        );
        if all >= 4000 {
            // The first touch moves each session to another hour.
            assert!(
                hot * 100 >= (all - 200) * 95,
                "{hot} of {all} updates stayed on their page"
            );
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(90),
            "the statistics tell of {all} updates"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
        let _ = store.load(&sessions[0].0).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_at_once_make_one_table() {
    let server = server().await;
    let url = format!(
        "{}?schema=many%20nodes&table=it%27s%20%22quoted%22&connect_ms=10000&read_ms=10000&write_ms=10000&connections=2",
        server.url()
    );
    let nodes: Vec<_> = (0..12)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { PostgresStore::connect(&url).await.unwrap() })
        })
        .collect();
    let mut stores = Vec::new();
    for node in nodes {
        stores.push(node.await.unwrap());
    }
    let key = key();
    stores[0].create(&key, &Record::new("data"), HOUR).await.unwrap();
    assert!(stores[11].load(&key).await.unwrap().is_some());
    let noted = "SELECT count(*) FROM \"many nodes\".\"it's \"\"quoted\"\"_migrations\"";
    assert_eq!(number(&pool(server.url()), noted).await, 1);
}

/// Where a connection has asked for a table before it waits for those who make it, it must not trust what it remembers.
#[tokio::test(flavor = "multi_thread")]
async fn migrations_at_once_make_what_is_not_there() {
    let pool = pool(server().await.url());
    for round in 0..20 {
        let (schema, other) = (format!("at once {round}"), format!("other {round}"));
        let table = format!("at_once_{round}");
        let migrations = [
            // One table of the schema that is there.
            (None, &*table),
            (None, &*table),
            (None, &*table),
            // Several of a schema that is not, and one of them twice.
            (Some(&schema), "a"),
            (Some(&schema), "b"),
            (Some(&schema), "b"),
            // The same names elsewhere.
            (Some(&other), "a"),
            (Some(&other), &*table),
        ]
        .map(|(schema, table)| {
            let builder = PostgresStore::builder(pool.clone())
                .table(table)
                .connect_deadline(PATIENCE);
            let store = match schema {
                Some(schema) => builder.schema(schema),
                None => builder,
            }
            .build()
            .unwrap();
            tokio::spawn(async move { store.migrate().await })
        });
        for migration in migrations {
            migration.await.unwrap().unwrap();
        }
        let made = format!(
            "SELECT count(*) FROM pg_tables WHERE schemaname IN (current_schema(), '{schema}', '{other}')
             AND tablename IN ('a', 'b', '{table}')"
        );
        assert_eq!(number(&pool, &made).await, 5);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn table_of_a_newer_version_and_other_isolation_are_clear_errors() {
    let server = PostgresServer::start(Version::V17, &["fsync=off"]).await.unwrap();
    drop(store(server.url(), "newer").await);
    let pool = pool(server.url());
    pool.execute("INSERT INTO newer_migrations (version) VALUES (99)")
        .await
        .unwrap();
    let again = PostgresStore::builder(pool.clone())
        .table("newer")
        .build()
        .unwrap();
    let error = again.migrate().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NewerFormat);
    assert!(error.to_string().contains("version 99"), "{error}");

    pool.execute("ALTER ROLE CURRENT_USER SET default_transaction_isolation = 'serializable'")
        .await
        .unwrap();
    let error = PostgresStore::connect(server.url())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("ALTER ROLE") && error.contains("serializable"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_table_and_wrong_password_say_so() {
    let server = server().await;
    let store = PostgresStore::builder(pool(server.url()))
        .table("never made")
        .read_deadline(PATIENCE)
        .build()
        .unwrap();
    let error = store.load(&key()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("migrate"), "{error}");

    let options = PgConnectOptions::from_str(server.url()).unwrap();
    let (host, port) = (options.get_host(), options.get_port());
    let url = format!("postgres://session:hunter2@{host}:{port}/sessions?connect_ms=10000");
    let error = PostgresStore::connect(&url).await.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(
        text.contains("refused the user or the password") && !text.contains("hunter2"),
        "{text}"
    );
}

/// Fewer connections than there are kinds of calls, and some kinds that always have more to send: each has its turn.
#[tokio::test(flavor = "multi_thread")]
async fn busy_kinds_of_calls_keep_no_other_from_a_connection() {
    const BUSY: usize = 60;
    const LOADS: usize = 300;
    let options = PgConnectOptions::from_str(server().await.url()).unwrap();
    for connections in [1, 2, 4] {
        let pool = PgPoolOptions::new()
            .max_connections(connections)
            .connect_lazy_with(options.clone());
        let store = store_on(pool, &format!("few_{connections}")).await;
        let sessions = made(&store, BUSY, 10).await;
        let done = Arc::new(AtomicBool::new(false));
        let ended = Arc::new(AtomicUsize::new(0));
        let busy: Vec<_> = sessions
            .iter()
            .zip(0..)
            .map(|(&(key, mut version), caller)| {
                let (store, done, ended) = (Arc::clone(&store), Arc::clone(&done), Arc::clone(&ended));
                tokio::spawn(async move {
                    while !done.load(Ordering::Relaxed) {
                        match caller % 3 {
                            0 => {
                                version = store
                                    .update(&key, version, &Record::new("new"), HOUR)
                                    .await
                                    .unwrap()
                            }
                            1 => store.touch(&key, HOUR).await.unwrap(),
                            // It has another version, and stays.
                            _ => drop(
                                store
                                    .delete(&key, Some(RecordVersion::random().unwrap()))
                                    .await
                                    .unwrap_err(),
                            ),
                        }
                        ended.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let mut most = 0;
        for _ in 0..LOADS {
            let begun = ended.load(Ordering::Relaxed);
            assert!(store.load(&sessions[0].0).await.unwrap().is_some());
            most = most.max(ended.load(Ordering::Relaxed) - begun);
        }
        // Some batches of each kind; where a kind can be passed over, tens of thousands.
        assert!(
            most < 10_000,
            "{connections} connections: {most} calls overtook a load"
        );
        done.store(true, Ordering::Relaxed);
        for task in busy {
            task.await.unwrap();
        }
    }
}

/// Who waits for a connection and goes away takes none along.
#[tokio::test(flavor = "multi_thread")]
async fn dropped_calls_take_no_connection_along() {
    const CONNECTIONS: u32 = 3;
    let options = PgConnectOptions::from_str(server().await.url()).unwrap();
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .connect_lazy_with(options);
    let store = store_on(pool.clone(), "dropped").await;
    let subject = Subject::new("somebody").unwrap();
    let tasks: Vec<_> = (0..400_u64)
        .map(|caller| {
            let (store, subject) = (Arc::clone(&store), subject.clone());
            tokio::spawn(async move {
                let patience = Duration::from_micros(caller * 37 % 5_000);
                // Each has a connection for itself, and often ends while it waits or just as it gets one.
                let _ = tokio::time::timeout(patience, store.subjects().unwrap().list(&subject)).await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for _ in 0..20 {
        assert!(store.subjects().unwrap().list(&subject).await.unwrap().is_empty());
    }
    drop(store);
    let mut all = Vec::new();
    for _ in 0..CONNECTIONS {
        all.push(
            tokio::time::timeout(PATIENCE, pool.acquire())
                .await
                .unwrap()
                .unwrap(),
        );
    }
}

/// A server that has as many connections as it takes is no reason to fail: those that there are serve all.
#[tokio::test(flavor = "multi_thread")]
async fn server_that_takes_no_more_connections_serves_by_those_there_are() {
    // Three of them are for superusers.
    let server = PostgresServer::start(Version::V17, &["max_connections=6"])
        .await
        .unwrap();
    let options = PgConnectOptions::from_str(server.url()).unwrap();
    let pool = PgPoolOptions::new()
        .max_connections(10)
        .connect_lazy_with(options);
    let store = PostgresStore::builder(pool.clone())
        .connect_deadline(Duration::from_secs(1))
        .read_deadline(PATIENCE)
        .write_deadline(PATIENCE)
        .build()
        .unwrap();
    store.migrate().await.unwrap();
    let store = Arc::new(store);
    let begun = Instant::now();
    let tasks: Vec<_> = (0..60)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                while begun.elapsed() < Duration::from_secs(3) {
                    let key = key();
                    let version = store.create(&key, &Record::new("first"), HOUR).await.unwrap();
                    let version = store
                        .update(&key, version, &Record::new("second"), HOUR)
                        .await
                        .unwrap();
                    store.touch(&key, HOUR).await.unwrap();
                    assert!(store.load(&key).await.unwrap().is_some());
                    assert!(store.delete(&key, Some(version)).await.unwrap());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    // And the one that is asked for.
    assert!(pool.size() <= 4, "{} connections", pool.size());
}

#[tokio::test(flavor = "multi_thread")]
async fn pooler_in_transaction_mode_is_no_hindrance() {
    let server = PostgresServer::start(Version::V17, &["fsync=off"]).await.unwrap();
    let pooler = PgBouncer::start(&server).await.unwrap();
    let stores = [
        store(pooler.url(), "pooled").await,
        store(pooler.url(), "pooled").await,
    ];
    let sessions = made(&stores[0], 300, 100).await;
    let tasks: Vec<_> = sessions
        .into_iter()
        .map(|(key, version)| {
            let stores = stores.clone();
            tokio::spawn(async move {
                let version = stores[1]
                    .update(&key, version, &Record::new("new"), HOUR)
                    .await
                    .unwrap();
                stores[0].touch(&key, 2 * HOUR).await.unwrap();
                let stored = stores[1].load(&key).await.unwrap().unwrap();
                assert_eq!(stored.version, version);
                assert!(stores[0].delete(&key, Some(version)).await.unwrap());
                assert!(stores[1].load(&key).await.unwrap().is_none());
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sweeper_removes_what_ended_before_this_hour_until_it_is_stopped() {
    let (server, table) = (server().await, "swept");
    let store = store(server.url(), table).await;
    let live = made(&store, 20, 10).await;
    let pool = pool(server.url());
    let plant = "INSERT INTO swept (key, value, expires_at, sweep)
                 SELECT sha256(n::text::bytea), 'x', e, ceil(extract(epoch FROM e) / 3600)::int
                 FROM generate_series(1, 3000) n, LATERAL (SELECT now() - interval '2 hours') t(e)";
    pool.execute(plant).await.unwrap();
    let sweeper = store.sweep_every(Duration::from_millis(10));
    let begun = Instant::now();
    while number(&pool, "SELECT count(*) FROM swept").await != 20 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sweeper.stop().await;
    pool.execute(plant).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(number(&pool, "SELECT count(*) FROM swept").await, 3020);
    for (key, _) in live {
        assert!(store.load(&key).await.unwrap().is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unlogged_table_and_relaxed_touches_are_what_they_say() {
    let server = server().await;
    let store = PostgresStore::builder(pool(server.url()))
        .table("fast")
        .unlogged()
        .relaxed_touch()
        .write_deadline(PATIENCE)
        .build()
        .unwrap();
    assert!(store.schema_sql().contains("UNLOGGED"));
    store.migrate().await.unwrap();
    let kind = "SELECT count(*) FROM pg_class WHERE relname = 'fast' AND relpersistence = 'u'";
    assert_eq!(number(&pool(server.url()), kind).await, 1);
    assert_eq!(store.profile().limits.durability, session_core::Durability::None);
    let relaxed = PostgresStore::builder(pool(server.url())).relaxed_touch().build();
    let told = relaxed.unwrap().profile().limits.touch_durability;
    assert_eq!(told, Some(session_core::Durability::Periodic));
    let key = key();
    store.create(&key, &Record::new("data"), HOUR).await.unwrap();
    store.touch(&key, 3 * HOUR).await.unwrap();
    assert!(store.load(&key).await.unwrap().unwrap().remaining > 2 * HOUR);
    assert_eq!(
        store.touch(&self::key(), HOUR).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
}
