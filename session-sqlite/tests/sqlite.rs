//! What only a file can get wrong.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/patient.rs"]
mod patient;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use patient::open;
use session_core::{ErrorKind, Record, SessionId, SessionKey, SessionStore, Subject, Subjects};
use session_sqlite::{
    SqliteStore,
    sqlx::{self, Connection, SqliteConnection},
};

const HOUR: Duration = Duration::from_secs(60 * 60);

/// An empty folder of a test's own.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn key() -> SessionKey {
    SessionId::random().unwrap().key("test")
}

async fn refusal(path: &Path) -> session_core::Error {
    SqliteStore::open(path).await.map(drop).unwrap_err()
}

#[tokio::test]
async fn a_store_that_is_opened_again_knows_its_sessions() {
    let path = folder("again").join("s.db");
    let key = key();
    let store = open(&path).await;
    let version = store.create(&key, &Record::new("a cart"), HOUR).await.unwrap();
    drop(store);
    let stored = open(&path).await.load(&key).await.unwrap().unwrap();
    assert_eq!(
        (stored.version, &stored.record.data[..]),
        (version, &b"a cart"[..])
    );
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder("owner");
    let store = open(folder.join("s.db")).await;
    store.create(&key(), &Record::new("x"), HOUR).await.unwrap();
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
        names.push(entry.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["s.db", "s.db-shm", "s.db-wal"]);
}

#[tokio::test]
async fn what_cannot_be_used_is_named() {
    let folder = folder("unfit");
    let text = folder.join("text");
    std::fs::write(&text, "This is a letter, and no database. ".repeat(100)).unwrap();
    for (path, says) in [
        (text.clone(), "no SQLite database"),
        (folder.clone(), "does not lead to a file"),
        (folder.join("not there/s.db"), "folder of the file is not there"),
    ] {
        let error = refusal(&path).await;
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains(says), "{path:?}: {error}");
    }
    assert!(
        std::fs::read_to_string(&text)
            .unwrap()
            .starts_with("This is a letter")
    );
}

#[tokio::test]
async fn another_programs_database_is_left_as_it_is() {
    let path = folder("another").join("s.db");
    let url = format!("sqlite:{}?mode=rwc", path.display());
    let mut other = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("CREATE TABLE letters (text)")
        .execute(&mut other)
        .await
        .unwrap();
    let error = refusal(&path).await;
    assert!(error.to_string().contains("another program"), "{error}");
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut other)
        .await
        .unwrap();
    assert_eq!(mode, "delete");
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema")
        .fetch_one(&mut other)
        .await
        .unwrap();
    assert_eq!(tables, 1);
}

#[tokio::test]
async fn file_of_a_newer_version_is_refused() {
    let path = folder("newer").join("s.db");
    drop(open(&path).await);
    let mut other = SqliteConnection::connect(&format!("sqlite:{}", path.display()))
        .await
        .unwrap();
    sqlx::raw_sql("PRAGMA user_version = 99")
        .execute(&mut other)
        .await
        .unwrap();
    let error = refusal(&path).await;
    assert_eq!(error.kind(), ErrorKind::NewerFormat, "{error}");
}

/// Who finds no room is told so; others go on, and what is deleted makes room.
#[tokio::test]
async fn full_file_is_full_and_recovers() {
    let path = folder("full").join("s.db");
    let store = SqliteStore::builder(&path).max_size(1024 * 1024).build().unwrap();
    let record = Record::new(vec![7; 60_000]);
    let mut kept = Vec::new();
    let error = loop {
        let key = key();
        match store.create(&key, &record, HOUR).await {
            Ok(_) => kept.push(key),
            Err(error) => break error,
        }
        assert!(kept.len() < 100, "a megabyte does not hold that");
    };
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    assert!(kept.len() > 10);
    // In one batch with others that have no room.
    let (large, small) = (key(), key());
    let (record_small, first) = (Record::new("x"), kept[0]);
    let (full, fits, gone) = tokio::join!(
        store.create(&large, &record, HOUR),
        store.create(&small, &record_small, HOUR),
        store.touch(&first, HOUR),
    );
    let full = full.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Full, "{full}");
    fits.unwrap();
    gone.unwrap();
    assert!(store.load(&kept[1]).await.unwrap().is_some());
    assert!(store.delete(&kept[1], None).await.unwrap());
    store.create(&large, &record, HOUR).await.unwrap();
}

#[tokio::test]
async fn sweeper_removes_what_ended_before_this_hour() {
    let path = folder("sweeper").join("s.db");
    let store = open(&path).await;
    let live = key();
    store.create(&live, &Record::new("x"), HOUR).await.unwrap();
    let mut other = SqliteConnection::connect(&format!("sqlite:{}", path.display()))
        .await
        .unwrap();
    sqlx::raw_sql(
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n LIMIT 1200)
         INSERT INTO sessions (key, value, expires_at, sweep) SELECT randomblob(32), 'x', 1000 * n, 1 FROM n",
    )
    .execute(&mut other)
    .await
    .unwrap();
    let sweeper = store.sweep_every(Duration::from_millis(20));
    let left = async {
        loop {
            let count: i64 = sqlx::query_scalar("SELECT count(*) FROM sessions")
                .fetch_one(&mut other)
                .await
                .unwrap();
            if count == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), left).await.unwrap();
    sweeper.stop().await;
    assert!(store.load(&live).await.unwrap().is_some());
}

/// Two stores of one process on one file, one of which is dropped: the other's locks stay.
#[tokio::test]
async fn stores_that_start_at_once_make_the_file_once() {
    let path = folder("once").join("s.db");
    let opened: Vec<_> = (0..16).map(|_| tokio::spawn(open(path.clone()))).collect();
    let mut stores = Vec::new();
    for store in opened {
        stores.push(store.await.unwrap());
    }
    let key = key();
    stores[0].create(&key, &Record::new("x"), HOUR).await.unwrap();
    for store in &stores {
        assert!(store.load(&key).await.unwrap().is_some());
    }
}

/// Such a write is one statement, which must look at all that the longer way looks at.
#[tokio::test]
async fn write_that_is_alone_leaves_a_cut_value_as_it_is() {
    for deletes in [false, true] {
        let path = folder(if deletes { "cut-delete" } else { "cut-update" }).join("s.db");
        let store = open(&path).await;
        let (key, record) = (key(), Record::new("a cart"));
        let version = store.create(&key, &record, HOUR).await.unwrap();
        let mut other = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
        let cut = "UPDATE sessions SET value = substr(value, 1, length(value) - 1)";
        sqlx::query(cut).execute(&mut other).await.unwrap();
        let refused = match deletes {
            true => store.delete(&key, Some(version)).await.map(drop),
            false => store.update(&key, version, &record, HOUR).await.map(drop),
        };
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Corrupt, "{deletes}");
        assert_eq!(store.load(&key).await.unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

/// How often this process has the file open. SQLite closes none while another connection has a lock on the file: it is the
/// most that there were at once.
#[cfg(target_os = "linux")]
fn times_open(path: &Path) -> usize {
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let leads_there = |entry: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_link(entry.unwrap().path()).is_ok_and(|to| to == path)
    };
    open.map(leads_there).filter(|leads| *leads).count()
}

/// A connection is a thread and two open files.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn lists_at_once_share_a_few_connections() {
    let path = folder("lists").join("s.db");
    let store = open(&path).await;
    let subject = Subject::new("ada").unwrap();
    let (store, key) = (Arc::new(store), key());
    let mut record = Record::new("a cart");
    record.subject = Some(subject.clone());
    store.create(&key, &record, HOUR).await.unwrap();
    let lists: Vec<_> = (0..200)
        .map(|_| {
            let (store, subject) = (Arc::clone(&store), subject.clone());
            tokio::spawn(async move { store.list(&subject).await })
        })
        .collect();
    for list in lists {
        assert_eq!(list.await.unwrap().unwrap(), [key]);
    }
    // The writer's, and four that list.
    let count = times_open(&path);
    assert!(count <= 5, "{count} connections");
}

/// The first write that meets the lock waits for it where others are sent, the second one where they are not sent yet.
#[tokio::test]
async fn who_waits_for_a_lock_is_told_so() {
    let path = folder("lock").join("s.db");
    let (key, record) = (key(), Record::new("a cart"));
    open(&path).await.create(&key, &record, HOUR).await.unwrap();
    let store = SqliteStore::builder(&path)
        .connect_deadline(Duration::from_secs(10))
        .write_deadline(Duration::from_millis(500))
        .build()
        .unwrap();
    // The disk may be busy; a touch may be repeated.
    let touched = async || {
        for _ in 0..50 {
            if store.touch(&key, HOUR).await.is_ok() {
                return;
            }
        }
        panic!("no touch in 50 came through");
    };
    touched().await;
    let mut other = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE")
        .execute(&mut other)
        .await
        .unwrap();
    for turn in ["first", "second"] {
        let error = store.touch(&key, HOUR).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let text = error.to_string();
        assert!(
            text.contains("locked") && !text.contains("disk"),
            "{turn}: {text}"
        );
    }
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    touched().await;
}
