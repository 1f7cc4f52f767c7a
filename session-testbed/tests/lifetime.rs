//! Nothing is left running, however a test process ends.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use session_testbed::{Kind, RedisServer};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn container_ends_with_its_process() {
    let (mut child, address) = process_with_a_server();
    assert!(is_there(&address));
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert!(!is_there(&address));
}

/// No code of the process runs: neither for a panic that aborts, nor for the machine's lack of memory.
#[test]
fn container_ends_with_its_process_after_sigkill_too() {
    let (mut child, address) = process_with_a_server();
    assert!(is_there(&address));
    child.kill().unwrap();
    child.wait().unwrap();
    let begun = Instant::now();
    while is_there(&address) {
        assert!(begun.elapsed() < PATIENCE, "{}", ports());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_server_is_gone_at_once_and_the_shared_one_is_one() {
    let server = RedisServer::start(Kind::Valkey, &[]).await.unwrap();
    let address = format!("127.0.0.1:{}", server.port().unwrap());
    assert!(is_there(&address));
    assert!(!publishes_elsewhere(server.port().unwrap()));
    drop(server);
    assert!(!is_there(&address));

    let (one, other) = tokio::join!(RedisServer::shared(Kind::Redis), RedisServer::shared(Kind::Redis));
    assert_eq!(one.unwrap().url(), other.unwrap().url());
}

/// A process that has started a server, and where that is.
fn process_with_a_server() -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_session-testbed"))
        .arg("redis")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let address = line
        .trim()
        .strip_prefix("redis://")
        .and_then(|rest| rest.strip_suffix('/'));
    let address = address
        .unwrap_or_else(|| panic!("no server: {line:?}"))
        .to_owned();
    (child, address)
}

/// Whether the engine has a container that publishes this address.
fn is_there(address: &str) -> bool {
    ports()
        .lines()
        .any(|ports| ports.contains(&format!("{address}->")))
}

fn publishes_elsewhere(port: u16) -> bool {
    let ports = ports();
    let own = ports
        .lines()
        .find(|ports| ports.contains(&format!(":{port}->")))
        .unwrap();
    own.split(", ")
        .any(|published| published.contains("->") && !published.starts_with("127.0.0.1:"))
}

fn ports() -> String {
    let output = Command::new("docker")
        .args(["ps", "--all", "--format", "{{.Ports}}"])
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}
