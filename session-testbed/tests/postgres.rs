//! PostgreSQL and PgBouncer do what they are for, on the ports that they publish.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    env,
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rcgen::{CertificateParams, KeyPair};
use session_testbed::{Clock, PgBouncer, PostgresServer, Version};
use sqlx::{Connection, FromRow, PgConnection, postgres::PgRow};
use tokio::time::timeout;

const BOTH: [Version; 2] = [Version::V17, Version::V15];
const HOUR: Duration = Duration::from_secs(3600);

/// A server that answers does so within this time; one that hangs has not after it.
const HANGS: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn shared_server_answers_the_owner_of_its_database() {
    for version in BOTH {
        let (one, other) = tokio::join!(PostgresServer::shared(version), PostgresServer::shared(version));
        let server = one.unwrap();
        assert_eq!(server.url(), other.unwrap().url());

        let (name, number) = server.version().await.unwrap();
        let major = if version == Version::V17 { "17." } else { "15." };
        assert!(
            name == "PostgreSQL" && number.starts_with(major),
            "{name} {number}"
        );

        let owns = "SELECT pg_get_userbyid(datdba) = current_user FROM pg_database WHERE datname = current_database()";
        assert!(ask::<bool>(server.url(), owns).await.unwrap());
        let superuser = "SELECT rolsuper FROM pg_roles WHERE rolname = current_user";
        assert!(!ask::<bool>(server.url(), superuser).await.unwrap());
        let admin = server.admin_url().unwrap();
        assert!(ask::<bool>(admin, superuser).await.unwrap());
        let same = "SELECT current_database()::text";
        assert_eq!(
            ask::<String>(admin, same).await.unwrap(),
            ask::<String>(server.url(), same).await.unwrap()
        );
        // The database is usable.
        run(
            server.url(),
            "CREATE TABLE IF NOT EXISTS shared (a int PRIMARY KEY)",
        )
        .await
        .unwrap();
    }
}

/// The test above passes in front of servers that others have started.
#[tokio::test(flavor = "multi_thread")]
async fn servers_of_a_variable_are_used() {
    let mut running = vec![];
    let mut test = Command::new(env::current_exe().unwrap());
    for (version, name) in BOTH.into_iter().zip(["POSTGRES", "POSTGRES_15"]) {
        let server = PostgresServer::start(version, &[]).await.unwrap();
        test.env(format!("SESSION_TEST_{name}_URL"), server.url());
        test.env(
            format!("SESSION_TEST_{name}_ADMIN_URL"),
            server.admin_url().unwrap(),
        );
        running.push(server);
    }
    let ran = test.arg("shared_").output().unwrap();
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && text.contains("1 passed"), "{text}");
    for server in &running {
        let exists = "SELECT to_regclass('shared') IS NOT NULL";
        assert!(ask::<bool>(server.url(), exists).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_password_is_refused() {
    for version in BOTH {
        let server = PostgresServer::shared(version).await.unwrap();
        let (before, after) = server.url().split_once('@').unwrap();
        let error = ask::<i32>(&format!("{before}-wrong@{after}"), "SELECT 1")
            .await
            .unwrap_err();
        assert_eq!(code(&error).as_deref(), Some("28P01"), "{error}");

        let (user, password) = before.rsplit_once(':').unwrap();
        let error = ask::<i32>(&format!("{user}@{after}"), "SELECT 1")
            .await
            .unwrap_err();
        assert_eq!(code(&error).as_deref(), Some("28P01"), "{error}");
        assert!(!format!("{server:?}").contains(password), "{server:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_server_comes_back_with_what_was_committed() {
    for version in BOTH {
        let server = PostgresServer::start(version, &["log_connections=on"])
            .await
            .unwrap();
        // What is asked for, and what makes a commit survive a crash of the machine.
        for setting in ["SHOW log_connections", "SHOW fsync", "SHOW synchronous_commit"] {
            assert_eq!(
                ask::<String>(server.url(), setting).await.unwrap(),
                "on",
                "{setting}"
            );
        }
        run(server.url(), "CREATE TABLE kept (a int)").await.unwrap();
        run(server.url(), "INSERT INTO kept VALUES (1)").await.unwrap();
        let mut open = PgConnection::connect(server.url()).await.unwrap();
        let mut half = open.begin().await.unwrap();
        sqlx::query("INSERT INTO kept VALUES (2)")
            .execute(&mut *half)
            .await
            .unwrap();

        server.kill().await.unwrap();
        let error = ask::<i32>(server.url(), "SELECT 1").await.unwrap_err();
        assert!(matches!(error, sqlx::Error::Io(_)), "{error}");
        // Its backend is gone too.
        assert!(half.commit().await.is_err());

        server.start_again().await.unwrap();
        let sum = "SELECT sum(a) FROM kept";
        assert_eq!(ask::<i64>(server.url(), sum).await.unwrap(), 1);
        let log = server.log().await;
        assert!(log.contains("automatic recovery in progress"), "{log}");

        let mut open = PgConnection::connect(server.url()).await.unwrap();
        server.restart().await.unwrap();
        let error = sqlx::query("SELECT 1").execute(&mut open).await.unwrap_err();
        assert_eq!(code(&error).as_deref(), Some("57P01"), "{error}");
        assert_eq!(ask::<i64>(server.url(), sum).await.unwrap(), 1);
        let log = server.log().await;
        let (_, end) = log.rsplit_once("fast shutdown").unwrap();
        assert!(!end.contains("automatic recovery"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paused_server_hangs_until_it_is_resumed() {
    for version in BOTH {
        let server = PostgresServer::start(version, &[]).await.unwrap();
        let mut open = PgConnection::connect(server.url()).await.unwrap();

        server.pause().await.unwrap();
        let mut asked = Box::pin(sqlx::query("SELECT 1").execute(&mut open));
        assert!(timeout(HANGS, &mut asked).await.is_err());
        assert!(timeout(HANGS, PgConnection::connect(server.url())).await.is_err());

        server.resume().await.unwrap();
        asked.await.unwrap();
        assert_eq!(ask::<i32>(server.url(), "SELECT 1").await.unwrap(), 1);

        // It is killed without being resumed.
        server.pause().await.unwrap();
        server.kill().await.unwrap();
        server.start_again().await.unwrap();
        assert_eq!(ask::<i32>(server.url(), "SELECT 1").await.unwrap(), 1);

        // One that does nothing is removed all the same.
        server.pause().await.unwrap();
        let url = server.url().to_owned();
        drop(server);
        let error = ask::<i32>(&url, "SELECT 1").await.unwrap_err();
        assert!(matches!(error, sqlx::Error::Io(_)), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clock_is_off_and_lengths_of_time_are_right() {
    for version in BOTH {
        for clock in [Clock::Ahead(HOUR), Clock::Behind(HOUR)] {
            let server = PostgresServer::start_with_clock(version, clock, &["deadlock_timeout=50ms"])
                .await
                .unwrap();
            assert_off(&server, clock).await;

            let mut one = PgConnection::connect(server.url()).await.unwrap();
            let set = "SELECT set_config('statement_timeout', $1, false)";
            sqlx::query(set).bind("50ms").execute(&mut one).await.unwrap();
            let slow = sqlx::query("SELECT pg_sleep(3600)");
            let error = slow.execute(&mut one).await.unwrap_err();
            assert_eq!(code(&error).as_deref(), Some("57014"), "{error}");

            // Of two timeouts, only the one that is due is reached.
            let mut other = PgConnection::connect(server.url()).await.unwrap();
            for connection in [&mut one, &mut other] {
                sqlx::query(set).bind("1h").execute(connection).await.unwrap();
            }
            let error = deadlock(&mut one, &mut other).await;
            assert_eq!(code(&error).as_deref(), Some("40P01"), "{error}");

            // And it stays off.
            server.restart().await.unwrap();
            assert_off(&server, clock).await;
        }
    }

    async fn assert_off(server: &PostgresServer, clock: Clock) {
        let shown: f64 = ask(server.url(), "SELECT extract(epoch FROM now())::float8")
            .await
            .unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let off = match clock {
            Clock::Ahead(_) => shown - now.as_secs_f64(),
            Clock::Behind(_) => now.as_secs_f64() - shown,
        };
        assert!((off - HOUR.as_secs_f64()).abs() < 600.0, "{clock:?}: {off}");
    }

    /// What the one of the two is told that has to give way.
    async fn deadlock(one: &mut PgConnection, other: &mut PgConnection) -> sqlx::Error {
        let lock = "SELECT pg_advisory_xact_lock($1)";
        let mut one = one.begin().await.unwrap();
        let mut other = other.begin().await.unwrap();
        sqlx::query(lock).bind(1_i64).execute(&mut *one).await.unwrap();
        sqlx::query(lock).bind(2_i64).execute(&mut *other).await.unwrap();
        let (one, other) = tokio::join!(
            sqlx::query(lock).bind(2_i64).execute(&mut *one),
            sqlx::query(lock).bind(1_i64).execute(&mut *other),
        );
        one.and(other).unwrap_err()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_with_tls_refuses_the_rest() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap()
        .pem();
    for version in BOTH {
        let server = PostgresServer::start_with_tls(version, &certificate, &key.serialize_pem(), &[])
            .await
            .unwrap();
        let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let url = format!("{}?sslmode=require", server.url());
        assert!(ask::<bool>(&url, encrypted).await.unwrap());
        for url in [server.url(), server.admin_url().unwrap()] {
            let plain = format!("{url}?sslmode=disable");
            let error = ask::<i32>(&plain, "SELECT 1").await.unwrap_err();
            assert_eq!(code(&error).as_deref(), Some("28000"), "{error}");
        }
        server.kill().await.unwrap();
        server.start_again().await.unwrap();
        assert!(ask::<bool>(&url, encrypted).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_pgbouncer_share_one_connection_between_transactions() {
    let server = PostgresServer::start(Version::V17, &[]).await.unwrap();
    let bouncer = PgBouncer::start(&server).await.unwrap();
    run(bouncer.url(), "CREATE TABLE through (a int)").await.unwrap();

    let mut clients = vec![];
    for _ in 0..3 {
        clients.push(PgConnection::connect(bouncer.url()).await.unwrap());
    }
    let backends = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'session'";
    let admin = server.admin_url().unwrap();
    // Prepared by one, and known to the connection that another used meanwhile.
    for round in 0..3 {
        for client in &mut clients {
            let insert = sqlx::query("INSERT INTO through VALUES ($1)").bind(round);
            insert.execute(client).await.unwrap();
        }
        assert_eq!(ask::<i64>(admin, backends).await.unwrap(), 1);
    }
    // Only for a transaction does a client have one to itself.
    let mut transactions = vec![];
    for client in &mut clients {
        let mut transaction = client.begin().await.unwrap();
        sqlx::query("SELECT 1").execute(&mut *transaction).await.unwrap();
        transactions.push(transaction);
    }
    assert_eq!(ask::<i64>(admin, backends).await.unwrap(), 3);
    for transaction in transactions {
        transaction.commit().await.unwrap();
    }

    let (before, after) = bouncer.url().split_once('@').unwrap();
    let wrong = format!("{before}-wrong@{after}");
    assert!(ask::<i32>(&wrong, "SELECT 1").await.is_err());
    assert!(!format!("{bouncer:?}").contains(after), "{bouncer:?}");

    // It outlives the server.
    server.kill().await.unwrap();
    let mut waiting = Box::pin(ask::<i64>(bouncer.url(), "SELECT sum(a) FROM through"));
    assert!(timeout(HANGS, &mut waiting).await.is_err());
    server.start_again().await.unwrap();
    assert_eq!(waiting.await.unwrap(), 9);
}

async fn ask<T>(url: &str, query: &'static str) -> Result<T, sqlx::Error>
where
    (T,): for<'r> FromRow<'r, PgRow>,
    T: Send + Unpin,
{
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query_scalar(query).fetch_one(&mut connection).await
}

async fn run(url: &str, statement: &'static str) -> Result<(), sqlx::Error> {
    let mut connection = PgConnection::connect(url).await?;
    sqlx::query(statement).execute(&mut connection).await.map(drop)
}

/// The SQLSTATE that the server told.
fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}
