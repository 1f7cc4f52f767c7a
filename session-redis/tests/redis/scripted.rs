//! Servers that answer as a test tells them to, for what real ones do too rarely.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use session_core::{ErrorKind, Record, SessionKey, SessionStore, Subject, Subjects, Version, head};
use session_redis::{RedisStore, Servers, redis::Client};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    resp,
    support::{HOUR, PATIENCE, key, kind},
};

/// A reply to `TIME`: 1,000 seconds after 1970.
const TIME: &str = "*2\r\n$4\r\n1000\r\n$1\r\n0\r\n";

/// A command's words.
type Words = Vec<Vec<u8>>;

/// A server, until the test's runtime ends.
struct Scripted {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Scripted {
    /// Answers what comes over its connections, which count from 1; with nothing it closes the connection.
    async fn start(answer: impl FnMut(usize, &str, &Words) -> Option<String> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (answer, count) = (Arc::new(Mutex::new(answer)), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                let answer = Arc::clone(&answer);
                tokio::spawn(serve(client, move |words: &Words| {
                    let name = String::from_utf8_lossy(&words[0]).to_uppercase();
                    if name == "CLIENT" {
                        return Some("+OK\r\n".to_owned());
                    }
                    let mut answer = answer.lock().unwrap();
                    (*answer)(number, &name, words)
                }));
            }
        });
        Self { address, connections }
    }

    fn client(&self) -> Client {
        Client::open(format!("redis://{}/", self.address)).unwrap()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn serve(mut client: TcpStream, mut answer: impl FnMut(&Words) -> Option<String>) {
    let mut bytes = Vec::new();
    loop {
        while let Some(length) = resp::reply_len(&bytes) {
            let command: Vec<u8> = bytes.drain(..length).collect();
            let Some(reply) = answer(&words(&command)) else {
                return;
            };
            if client.write_all(reply.as_bytes()).await.is_err() {
                return;
            }
        }
        match client.read_buf(&mut bytes).await {
            Ok(1..) => {}
            _ => return,
        }
    }
}

/// `*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n`
fn words(mut command: &[u8]) -> Words {
    let number = |rest: &mut &[u8]| -> usize {
        let end = rest.windows(2).position(|end| end == b"\r\n").unwrap();
        let number = std::str::from_utf8(&rest[1..end]).unwrap().parse().unwrap();
        *rest = &rest[end + 2..];
        number
    };
    let count = number(&mut command);
    (0..count)
        .map(|_| {
            let length = number(&mut command);
            let word = command[..length].to_vec();
            command = &command[length + 2..];
            word
        })
        .collect()
}

fn store(servers: impl Into<Servers>) -> RedisStore {
    RedisStore::builder(servers)
        .read_deadline(PATIENCE)
        .write_deadline(PATIENCE)
        .connect_deadline(PATIENCE)
        .build()
        .unwrap()
}

fn bulk(bytes: &[u8]) -> String {
    format!("${}\r\n{}\r\n", bytes.len(), std::str::from_utf8(bytes).unwrap())
}

/// A key whose bytes are text, like everything in these replies.
fn text_key() -> SessionKey {
    SessionKey::from_bytes([b'k'; 32])
}

/// What a list of `whose` finds under [`text_key`].
fn begin(whose: &Subject) -> Vec<u8> {
    let version = Version::from_bytes([b'v'; 16]);
    let record = Record::new("").with_subject(whose.clone());
    head::seal("test", &text_key(), version, &record).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn number_that_no_server_answers_is_somebody_elses_reply() {
    let whose = Subject::new("ada").unwrap();
    let theirs = begin(&whose);
    let server = Scripted::start(move |_, name, _| {
        Some(match name {
            "TIME" => TIME.to_owned(),
            "ZRANGE" => format!("*1\r\n{}", bulk(text_key().as_bytes())),
            "GETRANGE" => bulk(&theirs),
            // As `PTTL` answers.
            _ => ":3599990\r\n".to_owned(),
        })
    })
    .await;
    let store = store(server.client());
    let owned = Record::new("data").with_subject(whose.clone());
    for connections in 1.. {
        let seen = match connections {
            1 => store.touch(&key(), HOUR).await,
            2 => store.delete(&key(), None).await.map(drop),
            3 => store.create(&key(), &owned, HOUR).await.map(drop),
            4 => store.delete_all(&whose, None).await.map(drop),
            _ => break,
        };
        assert_eq!(kind(seen), ErrorKind::Unavailable, "{connections}");
        assert_eq!(server.connections(), connections);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refusal_after_a_lost_reply_is_no_answer() {
    for verdict in [":0\r\n", ":2\r\n", ":4\r\n", ":5\r\n"] {
        let mut calls = 0;
        let server = Scripted::start(move |_, name, _| {
            assert_eq!(name, "EVALSHA");
            calls += 1;
            // The first try does it, and the connection breaks. Then somebody else puts another value there.
            (calls % 2 == 0).then(|| verdict.to_owned())
        })
        .await;
        let store = store(server.client());
        let version = Version::random().unwrap();
        let deleted = kind(store.delete(&key(), Some(version)).await);
        let updated = kind(store.update(&key(), version, &Record::new("data"), HOUR).await);
        let seen = (deleted, updated);
        assert_eq!(
            seen,
            (ErrorKind::Unavailable, ErrorKind::Unavailable),
            "{verdict}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_that_may_have_ended_before_its_slot_moved_is_counted_as_unknown() {
    let whose = Subject::new("ada").unwrap();
    let theirs = begin(&whose);
    let new = Scripted::start(|_, name, _| match name {
        "EVALSHA" => Some(":0\r\n".to_owned()),
        _ => None,
    })
    .await;
    let (mut ends, to) = (0, new.address);
    let own = Arc::new(Mutex::new(0));
    let port = Arc::clone(&own);
    let old = Scripted::start(move |_, name, _| {
        Some(match name {
            "CLUSTER" => format!(
                "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{}\r\n",
                port.lock().unwrap()
            ),
            "TIME" => TIME.to_owned(),
            "ZRANGE" if ends > 0 => "*0\r\n".to_owned(),
            "ZRANGE" => format!("*1\r\n{}", bulk(text_key().as_bytes())),
            "GETRANGE" => bulk(&theirs),
            _ => {
                ends += 1;
                if ends == 1 {
                    return None;
                }
                format!("-MOVED 1 {to}\r\n")
            }
        })
    })
    .await;
    *own.lock().unwrap() = old.address.port();
    let store = store(Servers::cluster([old.client()]));
    assert_eq!(kind(store.delete_all(&whose, None).await), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn replica_is_left_by_calls_that_travel_together_too() {
    let whose = Subject::new("ada").unwrap();
    let theirs = begin(&whose);
    let mut ended = false;
    let server = Scripted::start(move |connection, name, _| {
        Some(match name {
            "TIME" => TIME.to_owned(),
            "ZRANGE" if ended => "*0\r\n".to_owned(),
            "ZRANGE" => format!("*1\r\n{}", bulk(text_key().as_bytes())),
            "GETRANGE" => bulk(&theirs),
            // The name leads to the new primary, but for who is connected to the old one.
            _ if connection == 1 => "-READONLY You can't write against a read only replica.\r\n".to_owned(),
            _ => {
                ended = true;
                ":1\r\n".to_owned()
            }
        })
    })
    .await;
    let store = store(server.client());
    assert_eq!(kind(store.delete_all(&whose, None).await), ErrorKind::Unavailable);
    assert_eq!(store.delete_all(&whose, None).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn note_of_a_session_is_waited_for_where_it_is_kept() {
    let records = Scripted::start(|_, name, _| match name {
        "SET" => Some("+OK\r\n".to_owned()),
        "WAIT" => Some(":1\r\n".to_owned()),
        _ => None,
    })
    .await;
    let own = Arc::new(Mutex::new(0));
    let (port, to) = (Arc::clone(&own), records.address);
    // The replica of this one is away.
    let indexes = Scripted::start(move |_, name, _| {
        Some(match name {
            "CLUSTER" => format!(
                "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{}\r\n",
                port.lock().unwrap()
            ),
            "SET" => format!("-MOVED 1 {to}\r\n"),
            "WAIT" => ":0\r\n".to_owned(),
            _ => format!("*2\r\n{}:1\r\n", bulk(text_key().as_bytes())),
        })
    })
    .await;
    *own.lock().unwrap() = indexes.address.port();
    let store = RedisStore::builder(Servers::cluster([indexes.client()]))
        .write_deadline(PATIENCE)
        .connect_deadline(PATIENCE)
        .wait_for_replicas(1, Duration::from_millis(50))
        .build()
        .unwrap();
    let owned = Record::new("data").with_subject(Subject::new("ada").unwrap());
    let error = store.create(&text_key(), &owned, HOUR).await.unwrap_err();
    assert!(error.to_string().contains("0 of 1 replicas"), "{error}");
}

/// A request to forget what was seen to be gone may arrive a minute later, when it is there.
#[tokio::test(flavor = "multi_thread")]
async fn note_is_forgotten_by_the_time_of_the_look_and_not_by_that_of_the_arrival() {
    let whose = Subject::new("ada").unwrap();
    let until = Arc::new(Mutex::new(None));
    let told = Arc::clone(&until);
    let server = Scripted::start(move |_, name, words| {
        Some(match name {
            "TIME" => TIME.to_owned(),
            "ZRANGE" => format!("*1\r\n{}", bulk(text_key().as_bytes())),
            "GETRANGE" => bulk(b""),
            _ => {
                *told.lock().unwrap() = Some(words[4].clone());
                ":1\r\n".to_owned()
            }
        })
    })
    .await;
    assert_eq!(store(server.client()).list(&whose).await.unwrap(), []);
    // Twice the write's deadline earlier, which is longer here than a minute.
    let expected = 1_000_000 - 2 * PATIENCE.as_millis();
    assert_eq!(
        until.lock().unwrap().as_deref(),
        Some(expected.to_string().as_bytes())
    );
}

/// A note is answered with what was noted: another call's answer is not taken for it.
#[tokio::test(flavor = "multi_thread")]
async fn note_of_another_session_is_no_note() {
    let server =
        Scripted::start(|_, _, _| Some(format!("*2\r\n{}:1\r\n", bulk(text_key().as_bytes())))).await;
    let owned = Record::new("data").with_subject(Subject::new("ada").unwrap());
    let seen = store(server.client()).create(&key(), &owned, HOUR).await;
    assert_eq!(kind(seen), ErrorKind::Unavailable);
}

/// When replies are out of step, a look at another key's record says nothing of this one: it is looked at once more,
/// over another connection. A value that somebody copied is nobody's session, and hides no other.
#[tokio::test(flavor = "multi_thread")]
async fn record_of_another_key_is_looked_at_once_more_before_a_list_believes_it() {
    let whose = Subject::new("ada").unwrap();
    for copied in [false, true] {
        let own = begin(&whose);
        let mut others = own.clone();
        others[4..20].copy_from_slice(&[b'o'; 16]);
        let server = Scripted::start(move |connection, name, _| {
            Some(match name {
                "TIME" => TIME.to_owned(),
                "ZRANGE" => format!("*1\r\n{}", bulk(text_key().as_bytes())),
                "GETRANGE" if connection == 1 || copied => bulk(&others),
                "GETRANGE" => bulk(&own),
                _ => ":0\r\n".to_owned(),
            })
        })
        .await;
        let found = store(server.client()).list(&whose).await.unwrap();
        let expected = if copied { vec![] } else { vec![text_key()] };
        assert_eq!(found, expected);
        assert!(server.connections() > 1);
    }
}

/// A primary that was away and comes back takes itself for one until the others reach it, and so does a Sentinel that
/// was away with it.
#[tokio::test(flavor = "multi_thread")]
async fn primary_is_the_one_that_most_sentinels_name() {
    let primary = async |name: &'static str| {
        Scripted::start(move |_, command, _| {
            Some(match command {
                "ROLE" => "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n".to_owned(),
                "PTTL" => ":1\r\n".to_owned(),
                _ => format!("-ERR {name}\r\n"),
            })
        })
        .await
    };
    let (old, new) = (primary("old").await, primary("new").await);
    let sentinel = async |of: SocketAddr, is_slow: bool| {
        Scripted::start(move |_, _, _| {
            if is_slow {
                std::thread::sleep(Duration::from_millis(20));
            }
            let (host, port) = (of.ip().to_string(), of.port().to_string());
            Some(format!(
                "*2\r\n{}{}",
                bulk(host.as_bytes()),
                bulk(port.as_bytes())
            ))
        })
        .await
    };
    let (behind, right, too) = (
        sentinel(old.address, false).await,
        sentinel(new.address, true).await,
        sentinel(new.address, true).await,
    );
    let asked = async |sentinels: Vec<Client>| {
        let store = store(Servers::sentinel(sentinels, "sessions", new.client()));
        store.load(&key()).await.unwrap_err().to_string()
    };
    for _ in 0..20 {
        let text = asked(vec![behind.client(), right.client(), too.client()]).await;
        assert!(text.contains("ERR new"), "{text}");
    }
    // Who is alone is believed: the others may have gone for good.
    let nobody = format!("127.0.0.1:{}", session_testbed::free_port().unwrap());
    let gone = Client::open(format!("redis://{nobody}/")).unwrap();
    let text = asked(vec![gone.clone(), behind.client(), gone]).await;
    assert!(text.contains("ERR old"), "{text}");
    // Or hang: these take connections, and nobody speaks.
    let silent = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let mut sentinels: Vec<_> = silent
        .iter()
        .map(|silent| Client::open(format!("redis://{}/", silent.local_addr().unwrap())).unwrap())
        .collect();
    sentinels.push(behind.client());
    let text = asked(sentinels).await;
    assert!(text.contains("ERR old"), "{text}");
}

/// An update that had to wait for others travels with less time than they had.
#[tokio::test(flavor = "multi_thread")]
async fn connection_on_which_a_shared_update_waited_too_long_is_not_used_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let server = Scripted::start(move |number, name, _| {
        let before = match name {
            "EVALSHA" => count.fetch_add(1, Ordering::SeqCst),
            _ => return None,
        };
        match (number, before) {
            // Late: the third waits for a lane until then.
            (1, 0 | 1) => {
                std::thread::sleep(Duration::from_millis(100));
                Some("*1\r\n:2\r\n".to_owned())
            }
            (1, _) => Some(String::new()),
            _ => Some("*1\r\n:2\r\n".to_owned()),
        }
    })
    .await;
    let store = RedisStore::builder(server.client())
        .write_deadline(Duration::from_secs(1))
        .connect_deadline(PATIENCE)
        .build()
        .map(Arc::new)
        .unwrap();
    let update = || {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let version = Version::from_bytes([b'v'; 16]);
            store.update(&key(), version, &Record::new("data"), HOUR).await
        })
    };
    let first = update();
    while asked.load(Ordering::SeqCst) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let second = update();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let third = update();
    for answered in [first, second] {
        assert_eq!(kind(answered.await.unwrap()), ErrorKind::Conflict);
    }
    assert_eq!(kind(third.await.unwrap()), ErrorKind::Unavailable);
    assert_eq!(server.connections(), 1);
    assert_eq!(kind(update().await.unwrap()), ErrorKind::Conflict);
    assert_eq!(server.connections(), 2);
}
