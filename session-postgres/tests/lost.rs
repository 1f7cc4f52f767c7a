//! A reply that is lost after its statement was executed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/messages.rs"]
mod messages;

use std::{net::ToSocketAddrs, str::FromStr, sync::Arc, time::Duration};

use session_conformance::{Fault, Proxy};
use session_core::{ErrorKind, Record, SessionId, SessionKey, SessionStore};
use session_postgres::{
    PostgresStore,
    sqlx::{
        self, AssertSqlSafe, Executor, PgPool, Postgres,
        pool::PoolConnection,
        postgres::{PgConnectOptions, PgPoolOptions, PgSslMode},
    },
};
use session_testbed::{PostgresServer, Version};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// A machine that builds and tests at once may be slow.
const PATIENCE: Duration = Duration::from_secs(10);

fn key() -> SessionKey {
    SessionId::random().unwrap().key("test")
}

fn built(pool: PgPool, table: &str) -> PostgresStore {
    PostgresStore::builder(pool)
        .table(table)
        .read_deadline(PATIENCE)
        .write_deadline(PATIENCE)
        .connect_deadline(PATIENCE)
        .build()
        .unwrap()
}

/// A table, and two ways to it.
struct Way {
    table: String,
    proxy: Proxy,
    /// Through the proxy, on one connection that has prepared what a creation needs: each statement is one reply.
    store: Arc<PostgresStore>,
    /// The other connection of its pool.
    _spare: PoolConnection<Postgres>,
    pool: PgPool,
    direct: PostgresStore,
}

impl Way {
    async fn to(table: &str) -> Self {
        let server = PostgresServer::shared(Version::V17).await.unwrap();
        let options = PgConnectOptions::from_str(server.url()).unwrap();
        let place = (options.get_host(), options.get_port());
        let place = place.to_socket_addrs().unwrap().next().unwrap();
        let proxy = Proxy::start(&[place], messages::reply_len, 0).await.unwrap();
        let to = proxy.addresses()[0];
        // The question whether there is TLS would be answered by a letter that is no message.
        let through = options.clone().ssl_mode(PgSslMode::Disable);
        let through = through.host(&to.ip().to_string()).port(to.port());
        // The store keeps all but one, which it would give back to the pool and have it pinged: a reply more.
        let through = PgPoolOptions::new().max_connections(2).connect_lazy_with(through);
        let pool = PgPoolOptions::new().max_connections(3).connect_lazy_with(options);
        let way = Self {
            table: table.to_owned(),
            proxy,
            store: Arc::new(built(through.clone(), table)),
            _spare: through.acquire().await.unwrap(),
            direct: built(pool.clone(), table),
            pool,
        };
        way.direct.migrate().await.unwrap();
        let key = way.expired().await;
        way.store.create(&key, &Record::new("data"), HOUR).await.unwrap();
        assert!(way.store.load(&key).await.unwrap().is_some());
        way
    }

    /// The key of a record that has expired, and was not removed.
    async fn expired(&self) -> SessionKey {
        let key = key();
        self.direct.create(&key, &Record::new("old"), HOUR).await.unwrap();
        let sql = format!(
            "UPDATE {} SET expires_at = now() - interval '1 minute' WHERE key = $1",
            self.table
        );
        let ending = sqlx::query(AssertSqlSafe(sql)).bind(&key.as_bytes()[..]);
        let ended = ending.execute(&self.pool).await.unwrap();
        assert_eq!(ended.rows_affected(), 1);
        key
    }
}

/// It may have taken place, and is not tried again: else it would bring back what was deleted since.
#[tokio::test(flavor = "multi_thread")]
async fn create_over_an_expired_record_takes_place_once() {
    // The replies to the insertion, to the question what is in its way, and to the replacement.
    for at in 0..3 {
        let way = Way::to(&format!("once_{at}")).await;
        let (store, key) = (Arc::clone(&way.store), way.expired().await);
        way.proxy.arm_then(Fault::LoseReply, at..at + 1, Fault::Hang);
        let creation = tokio::spawn(async move { store.create(&key, &Record::new("new"), HOUR).await });
        // One for the reply that is lost, one for what the store sends then, which waits.
        while way.proxy.happened() < 2 && !creation.is_finished() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let was_there = way.direct.delete(&key, None).await.unwrap();
        way.proxy.lift();
        let created = creation.await.unwrap();
        let is_there = way.direct.load(&key).await.unwrap().is_some();
        // Whether the first try took place; whether there is a second one, because it is known that the first did not.
        assert_eq!(
            (was_there, is_there),
            [(false, false), (false, true), (true, false)][at],
            "reply {at} was lost; create answered {created:?}"
        );
        match is_there {
            true => drop(created.unwrap()),
            false => assert_eq!(created.unwrap_err().kind(), ErrorKind::Unavailable),
        }
    }
}

/// Whoever was refused in the same batch hears of that, and who was not finds what it wrote.
#[tokio::test(flavor = "multi_thread")]
async fn replacement_whose_reply_is_lost_is_found() {
    let way = Way::to("found").await;
    let (first, expired, live) = (key(), way.expired().await, key());
    way.direct
        .create(&live, &Record::new("data"), HOUR)
        .await
        .unwrap();
    let mut others = way.pool.begin().await.unwrap();
    let lock = format!("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE", way.table);
    others.execute(AssertSqlSafe(lock)).await.unwrap();
    // Those to the load, to the first creation, and three to the batch that gathers behind it.
    way.proxy.arm(Fault::LoseReply, 4..5);
    let record = Record::new("new");
    let (_, first, replaced, refused, ()) = tokio::join!(
        way.store.load(&live),
        way.store.create(&first, &record, HOUR),
        way.store.create(&expired, &record, HOUR),
        way.store.create(&live, &record, HOUR),
        async { others.commit().await.unwrap() },
    );
    assert_eq!(way.proxy.happened(), 1);
    first.unwrap();
    let stored = way.direct.load(&expired).await.unwrap().unwrap();
    assert_eq!(stored.version, replaced.unwrap());
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::AlreadyExists);
}
