//! No password, subject, record or id in anything that is shown: neither `Debug`, nor errors, nor what is traced.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    error::Error as _,
    fmt::Write as _,
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use session_core::{Record, SessionId, SessionStore, Subject, Subjects};
use session_redis::{ConnectError, RedisStore, Servers, redis::Client};
use session_testbed::{Kind, RedisCluster, RedisServer, SentinelGroup};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// Deadlines for a machine that is busy, for a URL.
const PATIENT: &str = "read_ms=5000&write_ms=5000&connect_ms=5000";

const PASSWORD: &str = "correct-horse";
const WRONG: &str = "battery-staple";
const SUBJECT: &str = "ada@home.example";
const DATA: &str = "two lamps and a mug";

/// All that was traced, and all that was shown.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<u8>>>);

impl io::Write for Seen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seen {
    fn note(&self, what: impl std::fmt::Debug + std::fmt::Display) {
        self.debug(&what);
        writeln!(Text(self.clone()), "{what}").unwrap();
    }

    fn debug(&self, what: impl std::fmt::Debug) {
        writeln!(Text(self.clone()), "{what:?} {what:#?}").unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

struct Text(Seen);

impl std::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        io::Write::write_all(&mut self.0, text.as_bytes()).map_err(|_| std::fmt::Error)
    }
}

/// With the user and password before the hosts of a URL.
fn with(url: &str, user: &str, more: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap();
    format!(
        "{scheme}://{user}@{rest}{}{PATIENT}{more}",
        if rest.contains('?') { "&" } else { "?" }
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_secret_is_shown() {
    let seen = Seen::default();
    let writer = seen.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .init();

    let options = ["--requirepass", PASSWORD];
    let (one, group, cluster) = tokio::join!(
        RedisServer::start(Kind::Redis, &options),
        SentinelGroup::start(Kind::Valkey, &options),
        RedisCluster::start(Kind::Redis, 0, &options),
    );
    let (one, group, cluster) = (one.unwrap(), group.unwrap(), cluster.unwrap());
    let mut ids = Vec::new();
    for url in [one.url(), group.url(), cluster.url()] {
        // Nobody, somebody else, and at the Sentinels with a password that they did not ask for.
        for (user, more) in [
            (format!(":{WRONG}"), String::new()),
            (format!("bob:{WRONG}"), String::new()),
            (String::new(), String::new()),
            (format!(":{WRONG}"), format!("&colour={WRONG}")),
        ] {
            note_error(
                &seen,
                RedisStore::connect(&with(url, &user, &more)).await.unwrap_err(),
            );
        }
        if url.starts_with("redis+sentinel") {
            let url = with(url, &format!(":{PASSWORD}"), &format!("&sentinel_pass={WRONG}"));
            note_error(&seen, RedisStore::connect(&url).await.unwrap_err());
        }
        let store = RedisStore::connect(&with(url, &format!(":{PASSWORD}"), ""))
            .await
            .unwrap();
        seen.debug(&store);
        for warning in store.check_servers().await.unwrap() {
            seen.note(&warning);
        }
        let id = SessionId::random().unwrap();
        let (key, whose) = (id.key("shop"), Subject::new(SUBJECT).unwrap());
        let record = Record::new(DATA).with_subject(whose.clone());
        let version = store.create(&key, &record, HOUR).await.unwrap();
        seen.note(store.create(&key, &record, HOUR).await.unwrap_err());
        let newer = store.update(&key, version, &record, HOUR).await.unwrap();
        seen.note(store.update(&key, version, &record, HOUR).await.unwrap_err());
        seen.note(
            store
                .update(&key, newer, &Record::new(DATA.repeat(10_000)), HOUR)
                .await
                .unwrap_err(),
        );
        seen.note(store.touch(&key, Duration::ZERO).await.unwrap_err());
        assert_eq!(store.list(&whose).await.unwrap().len(), 1);
        ids.push(id);
    }

    // With all of them gone, whatever is left to say.
    let client =
        |url: &str| Client::open(with(url, &format!(":{PASSWORD}"), "").split('?').next().unwrap()).unwrap();
    let hosts = |url: &str| {
        url.split("://")
            .nth(1)
            .unwrap()
            .split('/')
            .next()
            .unwrap()
            .to_owned()
    };
    let first = |url: &str| format!("redis://{}/", hosts(url).split(',').next().unwrap());
    let stores = [
        RedisStore::builder(client(one.url())),
        RedisStore::builder(Servers::sentinel(
            [Client::open(first(group.url())).unwrap()],
            "sessions",
            client(one.url()),
        )),
        RedisStore::builder(Servers::cluster([client(&first(cluster.url()))])),
    ];
    let key = ids[0].key("shop");
    let stores = stores.map(|builder| {
        seen.debug(&builder);
        let store = builder
            .read_deadline(Duration::from_secs(5))
            .connect_deadline(Duration::from_secs(5))
            .build()
            .unwrap();
        seen.debug(&store);
        store
    });
    for store in &stores {
        assert!(store.load(&key).await.is_ok());
    }
    for server in [&[one][..], group.servers(), group.sentinels(), cluster.nodes()]
        .into_iter()
        .flatten()
    {
        server.kill().await.unwrap();
    }
    for store in &stores {
        for _ in 0..3 {
            seen.note(store.load(&key).await.unwrap_err());
            seen.note(store.create(&key, &Record::new(DATA), HOUR).await.unwrap_err());
        }
    }

    let text = seen.text();
    // What may be told was told: the test looks at the right text.
    for told in [
        "connection given up",
        "127.0.0.1:",
        "min-replicas-to-write",
        "refused the user or the password",
    ] {
        assert!(text.contains(told), "{told:?} is not in: {text}");
    }
    for secret in [PASSWORD, WRONG, SUBJECT, DATA] {
        let lines: Vec<_> = text.lines().filter(|line| line.contains(secret)).collect();
        assert!(lines.is_empty(), "{secret}: {lines:#?}");
    }
    for id in &ids {
        assert!(!text.contains(id.expose().as_str()));
    }
}

fn note_error(seen: &Seen, error: ConnectError) {
    seen.note(&error);
    let mut source = error.source();
    while let Some(cause) = source {
        seen.note(cause);
        source = cause.source();
    }
}
