//! Clusters and sentinel groups do what they are for, on the ports that they publish.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    env,
    process::Command,
    time::{Duration, Instant},
};

use redis::{Client, FromRedisValue, Value, cmd};
use session_testbed::{Kind, RedisCluster, RedisServer, SentinelGroup};

const PASSWORD: &str = "right-horse";
const BOTH: [Kind; 2] = [Kind::Redis, Kind::Valkey];

#[tokio::test(flavor = "multi_thread")]
async fn shared_cluster_answers_and_sends_to_published_ports() {
    for kind in BOTH {
        let cluster = RedisCluster::shared(kind).await.unwrap();
        let slot = cluster.slot_of("a").await.unwrap();
        let owner = cluster.owner(slot).await.unwrap();
        for (index, node) in cluster.nodes().iter().enumerate() {
            assert!(cluster.url().contains(address(node)), "{}", address(node));
            match ask::<Value>(node, &["SET", "a", "1"]).await {
                Ok(_) => assert_eq!(index, owner),
                Err(error) => {
                    let moved = error.redirect_node().unwrap();
                    assert_eq!(moved, (address(&cluster.nodes()[owner]), slot));
                    assert!(moved.0.starts_with("127.0.0.1:"));
                }
            }
        }
        assert_eq!(cluster.version().await.unwrap().0, format!("{kind:?}"));
        cluster.await_ready().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shared_sentinels_name_the_primary() {
    for kind in BOTH {
        let group = SentinelGroup::shared(kind).await.unwrap();
        for sentinel in group.sentinels() {
            assert!(group.url().contains(address(sentinel)), "{}", address(sentinel));
        }
        let primary = group.primary().await.unwrap();
        for (index, server) in group.servers().iter().enumerate() {
            assert_eq!(role(server).await == "master", index == primary);
        }
        assert_eq!(group.version().await.unwrap().0, format!("{kind:?}"));
        group.await_ready().await.unwrap();
    }
}

/// The two tests above pass in front of groups that others have started.
#[tokio::test(flavor = "multi_thread")]
async fn groups_of_a_variable_are_used() {
    let options = ["--requirepass", PASSWORD];
    let mut running = vec![];
    let mut test = Command::new(env::current_exe().unwrap());
    for kind in BOTH {
        let name = format!("{kind:?}").to_uppercase();
        let cluster = RedisCluster::start(kind, 0, &options).await.unwrap();
        let group = SentinelGroup::start(kind, &options).await.unwrap();
        let with_password = |url: &str| url.replace("://", &format!("://:{PASSWORD}@"));
        test.env(
            format!("SESSION_TEST_{name}_CLUSTER_URL"),
            with_password(cluster.url()),
        );
        test.env(
            format!("SESSION_TEST_{name}_SENTINEL_URL"),
            with_password(group.url()),
        );
        running.push((cluster, group));
    }
    let ran = test.arg("shared_").output().unwrap();
    let text = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && text.contains("2 passed"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slot_moves_with_its_keys() {
    for kind in BOTH {
        let cluster = RedisCluster::start(kind, 0, &["--requirepass", PASSWORD])
            .await
            .unwrap();
        let slot = cluster.slot_of("{tag}").await.unwrap();
        let from = cluster.owner(slot).await.unwrap();
        let to = (from + 1) % 3;
        let [old, new] = [from, to].map(|index| &cluster.nodes()[index]);
        for number in 0..25 {
            let key = format!("{{tag}}{number}");
            known(old, &["SET", &key, "value"]).await.unwrap();
        }

        cluster.begin_move(slot, from, to).await.unwrap();
        assert_eq!(cluster.move_keys(slot, from, to, 12).await.unwrap(), 12);
        assert_eq!(cluster.owner(slot).await.unwrap(), from);
        let error = known(old, &["GET", "{tag}none"]).await.unwrap_err();
        assert_eq!(error.code(), Some("ASK"));
        assert!(cluster.end_move(slot, from, to).await.is_err(), "{kind:?}");

        assert_eq!(cluster.move_keys(slot, from, to, usize::MAX).await.unwrap(), 13);
        cluster.end_move(slot, from, to).await.unwrap();
        assert_eq!(cluster.owner(slot).await.unwrap(), to);
        for number in 0..25 {
            let key = format!("{{tag}}{number}");
            assert_eq!(
                known(new, &["GET", &key]).await.unwrap(),
                Value::BulkString(b"value".into())
            );
        }
        cluster.await_ready().await.unwrap();
        let shown = format!("{cluster:?} {:?} {}", cluster.nodes(), cluster.url());
        assert!(!shown.contains(PASSWORD), "{shown}");
    }

    async fn known(node: &RedisServer, words: &[&str]) -> redis::RedisResult<Value> {
        let url = node.url().replace("redis://", &format!("redis://:{PASSWORD}@"));
        ask_at(&url, words).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_takes_over_and_killed_node_comes_back_as_itself() {
    for kind in BOTH {
        let cluster = RedisCluster::start(kind, 1, &[]).await.unwrap();
        assert_eq!(cluster.nodes().len(), 6);
        let slot = cluster.slot_of("a").await.unwrap();
        let owner = cluster.owner(slot).await.unwrap();
        let old = &cluster.nodes()[owner];
        let id: String = ask(old, &["CLUSTER", "MYID"]).await.unwrap();
        let _: Value = ask(old, &["SET", "a", "1"]).await.unwrap();
        assert_eq!(ask::<u32>(old, &["WAIT", "1", "0"]).await.unwrap(), 1);

        old.kill().await.unwrap();
        let successor = cluster.await_failover(owner).await.unwrap();
        assert_eq!(successor, owner + 3);
        assert_eq!(cluster.owner(slot).await.unwrap(), successor);
        let new = &cluster.nodes()[successor];
        assert_eq!(ask::<String>(new, &["GET", "a"]).await.unwrap(), "1");

        old.start_again().await.unwrap();
        cluster.await_ready().await.unwrap();
        assert_eq!(ask::<String>(old, &["CLUSTER", "MYID"]).await.unwrap(), id);
        let begun = Instant::now();
        while role(old).await != "slave" {
            assert!(begun.elapsed() < Duration::from_secs(60));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }

        // And back, from one that does not answer to one that was started again.
        new.pause().await.unwrap();
        assert_eq!(cluster.await_failover(successor).await.unwrap(), owner);
        new.resume().await.unwrap();
        cluster.await_ready().await.unwrap();
        assert_eq!(ask::<String>(old, &["GET", "a"]).await.unwrap(), "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_replace_a_killed_and_a_paused_primary() {
    for kind in BOTH {
        // What it returns can be awaited in a task.
        let group = tokio::spawn(SentinelGroup::start(kind, &["--requirepass", PASSWORD]));
        let group = group.await.unwrap().unwrap();
        assert_eq!((group.servers().len(), group.sentinels().len()), (3, 3));
        assert_eq!(group.primary().await.unwrap(), 0);
        assert_eq!(group.version().await.unwrap().0, format!("{kind:?}"));

        let killed = &group.servers()[0];
        killed.kill().await.unwrap();
        let second = group.await_failover(0).await.unwrap();
        assert_ne!(second, 0);
        killed.start_again().await.unwrap();
        // A replica, unless the machine was so loaded that the sentinels have chosen again meanwhile.
        let second = primary_alone(&group).await;

        let paused = &group.servers()[second];
        paused.pause().await.unwrap();
        let third = group.await_failover(second).await.unwrap();
        assert_ne!(third, second);
        paused.resume().await.unwrap();
        primary_alone(&group).await;

        let sentinel = &group.sentinels()[0];
        let id: String = ask(sentinel, &["SENTINEL", "MYID"]).await.unwrap();
        sentinel.kill().await.unwrap();
        // Two are enough to say so.
        group.primary().await.unwrap();
        sentinel.start_again().await.unwrap();
        group.await_ready().await.unwrap();
        assert_eq!(ask::<String>(sentinel, &["SENTINEL", "MYID"]).await.unwrap(), id);
        assert!(!format!("{group:?} {:?}", group.servers()).contains(PASSWORD));
    }
}

#[tokio::test]
async fn password_that_sentinels_would_lose_is_refused() {
    let error = SentinelGroup::start(Kind::Redis, &["--requirepass", "right \"horse"])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("quotes"), "{error}");
    assert!(!error.to_string().contains("horse"), "{error}");
}

/// Once the group is ready: the one server that calls itself the primary, which the sentinels do too.
async fn primary_alone(group: &SentinelGroup) -> usize {
    group.await_ready().await.unwrap();
    let mut primaries = vec![];
    for (index, server) in group.servers().iter().enumerate() {
        let url = server.url().replace("redis://", &format!("redis://:{PASSWORD}@"));
        let role: Vec<Value> = ask_at(&url, &["ROLE"]).await.unwrap();
        if role[0] == Value::BulkString(b"master".into()) {
            primaries.push(index);
        }
    }
    assert_eq!(primaries, [group.primary().await.unwrap()]);
    primaries[0]
}

/// `HOST:PORT`
fn address(server: &RedisServer) -> &str {
    let rest = server.url().strip_prefix("redis://").unwrap();
    let (_, address) = rest.split_once('@').unwrap_or(("", rest));
    address.trim_end_matches('/')
}

async fn role(server: &RedisServer) -> String {
    let answer: Vec<Value> = ask(server, &["ROLE"]).await.unwrap();
    String::from_redis_value(answer[0].clone()).unwrap()
}

async fn ask<T: FromRedisValue>(server: &RedisServer, words: &[&str]) -> redis::RedisResult<T> {
    ask_at(server.url(), words).await
}

async fn ask_at<T: FromRedisValue>(url: &str, words: &[&str]) -> redis::RedisResult<T> {
    let client = Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await
}
