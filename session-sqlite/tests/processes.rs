//! Several processes on one file: this program starts itself.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "common/patient.rs"]
mod patient;

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use patient::open;
use session_core::{ErrorKind, Record, SessionId, SessionKey, SessionStore};

const HOUR: Duration = Duration::from_secs(60 * 60);
const PROCESSES: u32 = 3;
const INCREMENTS: u32 = 100;

/// The one record that all of them change.
fn counter() -> SessionKey {
    SessionKey::from_bytes([7; 32])
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match &arguments[..] {
        [role, path] if role == "counts" => counts(Path::new(path)).await,
        [role, path] if role == "creates" => creates(Path::new(path)).await,
        _ => {
            no_increment_of_several_processes_is_lost().await;
            println!("test no_increment_of_several_processes_is_lost ... ok");
            killed_process_loses_nothing_it_acknowledged().await;
            println!("test killed_process_loses_nothing_it_acknowledged ... ok");
        }
    }
}

fn start(role: &str, path: &Path) -> Child {
    Command::new(env::current_exe().unwrap())
        .arg(role)
        .arg(path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn file(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder.join("s.db")
}

/// Adds to the counter, against whoever else does.
async fn counts(path: &Path) {
    let store = open(path).await;
    for _ in 0..INCREMENTS {
        loop {
            let stored = store.load(&counter()).await.unwrap().unwrap();
            let count: u32 = std::str::from_utf8(&stored.record.data).unwrap().parse().unwrap();
            let next = Record::new((count + 1).to_string());
            match store.update(&counter(), stored.version, &next, HOUR).await {
                Ok(_) => break,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
            }
        }
    }
}

/// Makes sessions until it is killed, and tells of each that was acknowledged.
async fn creates(path: &Path) {
    let store = open(path).await;
    loop {
        let id = SessionId::random().unwrap();
        let key = id.key("test");
        store.create(&key, &Record::new("x"), HOUR).await.unwrap();
        let told: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let mut out = std::io::stdout().lock();
        writeln!(out, "{told}").unwrap();
        out.flush().unwrap();
    }
}

async fn no_increment_of_several_processes_is_lost() {
    let path = file("counts");
    let store = open(&path).await;
    store.create(&counter(), &Record::new("0"), HOUR).await.unwrap();
    let children: Vec<Child> = (0..PROCESSES).map(|_| start("counts", &path)).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let stored = store.load(&counter()).await.unwrap().unwrap();
    assert_eq!(stored.record.data, (PROCESSES * INCREMENTS).to_string());
}

async fn killed_process_loses_nothing_it_acknowledged() {
    let path = file("killed");
    for round in 0..5 {
        let mut children = [start("creates", &path), start("creates", &path)];
        let mut told = Vec::new();
        for child in &mut children {
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            told.extend(lines.by_ref().take(50 + round).map(Result::unwrap));
            // Under way with the next one.
            child.kill().unwrap();
            child.wait().unwrap();
            told.extend(lines.map_while(Result::ok).filter(|line| line.len() == 64));
        }
        let store = open(&path).await;
        for line in &told {
            let byte = |at: usize| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).unwrap();
            let key = SessionKey::from_bytes(std::array::from_fn(byte));
            assert!(
                store.load(&key).await.unwrap().is_some(),
                "{line} was acknowledged"
            );
        }
    }
}
