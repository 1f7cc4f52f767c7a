//! The user that the front page describes: it is enough, and nothing in it is too much.

use session_core::{Error, ErrorKind, Record, SessionStore, Subject, Subjects, Timestamp};
use session_redis::{
    ConnectError, RedisStore, Warning,
    redis::{Client, Value, aio::MultiplexedConnection, cmd},
};
use session_testbed::{Kind, RedisCluster, RedisServer, SentinelGroup};

use crate::support::{BOTH, HOUR, PATIENT, key};

/// The commands between the backticks of the section of the front page.
fn commands(of: &str) -> Vec<&'static str> {
    let page = include_str!("../../README.md");
    let section = page.split("## The user it needs").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let from = section.split(of).nth(1).unwrap();
    from.split('`').nth(1).unwrap().split(' ').collect()
}

/// What every store needs, and what some do.
fn always() -> Vec<&'static str> {
    [commands("the commands"), commands("the index by subject")].concat()
}

/// Makes the user, anew, with these commands and no others.
async fn allow(server: &RedisServer, commands: &[&str]) {
    let mut rules = cmd("ACL");
    rules.arg(&[
        "SETUSER",
        "shop",
        "reset",
        "on",
        ">staple",
        "~session:*",
        "+client|setinfo",
    ]);
    for command in commands {
        rules.arg(format!("+{command}"));
    }
    let mut raw = raw(server).await;
    rules.query_async::<()>(&mut raw).await.unwrap();
    for forget in [["SCRIPT", "FLUSH"], ["ACL", "LOG"]] {
        let mut forget_all = cmd(forget[0]);
        forget_all.arg(forget[1]);
        if forget[0] == "ACL" {
            forget_all.arg("RESET");
        }
        forget_all.query_async::<()>(&mut raw).await.unwrap();
    }
}

async fn raw(server: &RedisServer) -> MultiplexedConnection {
    let client = Client::open(server.url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// What the server has refused since the user was made.
async fn refused(server: &RedisServer) -> String {
    let log: Value = cmd("ACL")
        .arg("LOG")
        .query_async(&mut raw(server).await)
        .await
        .unwrap();
    format!("{log:?}")
}

/// Everything that a store does. The note of a session that is no more is old: a list forgets it.
async fn all_calls(store: &RedisStore, servers: &[RedisServer]) -> Result<(), Error> {
    let whose = Subject::new(key().to_string()).unwrap();
    let now = Timestamp::from(std::time::SystemTime::now());
    let plain = Record::new("data");
    let mut last = (key(), None);
    for end in [Some(now), Some(now.after(HOUR)), None] {
        let record = plain.clone().with_subject(whose.clone()).with_not_after(end);
        last.0 = key();
        last.1 = Some(store.create(&last.0, &record, HOUR).await?);
    }
    let (key, version) = (last.0, last.1.unwrap());
    store.load(&key).await?;
    store.touch(&key, HOUR).await?;
    let version = store
        .update(&key, version, &plain.clone().with_subject(whose.clone()), HOUR)
        .await?;
    assert!(store.delete(&key, Some(version)).await?);
    let again = store.update(&key, version, &plain, HOUR).await.unwrap_err();
    match again.kind() {
        ErrorKind::NotFound => {}
        _ => return Err(again),
    }
    assert!(!store.delete(&key, None).await?);
    for server in servers {
        let mut raw = raw(server).await;
        let indexes: Vec<Vec<u8>> = cmd("KEYS")
            .arg("session:subject/*")
            .query_async(&mut raw)
            .await
            .unwrap();
        for index in indexes {
            let mut old = cmd("ZADD");
            old.arg(&index).arg("XX").arg(1).arg(key.as_bytes());
            // On a replica, or where it has moved on, there is nothing to do.
            let _ = old.query_async::<i64>(&mut raw).await;
        }
    }
    assert_eq!(store.list(&whose).await?.len(), 2);
    assert_eq!(store.delete_all(&whose, None).await?, 2);
    Ok(())
}

async fn connected(url: &str) -> Result<RedisStore, Error> {
    match RedisStore::connect(url).await {
        Ok(store) => Ok(store),
        Err(ConnectError::Store(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

fn with_user(url: &str, more: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    format!("{scheme}://shop:staple@{rest}?{PATIENT}{more}")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_front_page_is_needed_and_no_other() {
    for of in BOTH {
        let servers = [RedisServer::start(of, &[]).await.unwrap()];
        let url = with_user(servers[0].url(), "");
        allow(&servers[0], &always()).await;
        let store = connected(&url).await.unwrap();
        all_calls(&store, &servers).await.unwrap();
        // But for the configuration, which has commands of its own.
        for warning in store.check_servers().await.unwrap() {
            assert!(matches!(warning, Warning::NotChecked { .. }), "{warning:?}");
        }
        allow(
            &servers[0],
            &[always(), commands("the check at the start")].concat(),
        )
        .await;
        for warning in connected(&url).await.unwrap().check_servers().await.unwrap() {
            assert!(!matches!(warning, Warning::NotChecked { .. }), "{warning:?}");
        }
        for without in always() {
            let mut others = always();
            others.retain(|command| *command != without);
            allow(&servers[0], &others).await;
            let outcome = match connected(&url).await {
                Ok(store) => all_calls(&store, &servers).await,
                Err(error) => Err(error),
            };
            if let Err(error) = &outcome {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                // A script tells it in other words.
                let text = error.to_string();
                assert!(
                    text.contains("NOPERM") || text.contains("no permissions"),
                    "without {without}: {text}"
                );
            }
            // A list is right without pruning: that a command of it was refused is in the server's log alone.
            let log = refused(&servers[0]).await;
            assert!(
                log.contains(&format!("\"{without}\"")),
                "without {without}: {log}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn user_of_the_front_page_is_enough_for_a_group_and_a_cluster() {
    let group = SentinelGroup::start(Kind::Redis, &[]).await.unwrap();
    let (role, wait) = (commands("with Sentinels"), commands("to wait for replicas"));
    for server in group.servers() {
        allow(server, &[always(), role.clone(), wait.clone()].concat()).await;
    }
    let url = with_user(group.url(), "&wait_replicas=1&wait_ms=3000");
    all_calls(&connected(&url).await.unwrap(), group.servers())
        .await
        .unwrap();
    for (without, others) in [("role", wait), ("wait", role)] {
        for server in group.servers() {
            allow(server, &[always(), others.clone()].concat()).await;
        }
        let outcome = match connected(&url).await {
            Ok(store) => all_calls(&store, group.servers()).await,
            Err(error) => Err(error),
        };
        assert!(
            outcome.unwrap_err().to_string().contains("NOPERM"),
            "without {without}"
        );
    }

    let cluster = RedisCluster::start(Kind::Redis, 0, &[]).await.unwrap();
    let slots = commands("in a Cluster");
    let url = with_user(cluster.url(), "");
    for server in cluster.nodes() {
        allow(server, &always()).await;
    }
    let error = connected(&url).await.unwrap_err();
    assert!(error.to_string().contains("NOPERM"), "{error}");
    for server in cluster.nodes() {
        allow(server, &[always(), slots.clone()].concat()).await;
    }
    all_calls(&connected(&url).await.unwrap(), cluster.nodes())
        .await
        .unwrap();
}
