//! Nothing is left running, however a test process ends.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    io::{BufRead, BufReader},
    ops::RangeInclusive,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use session_testbed::{Kind, RedisCluster, RedisServer};
#[cfg(feature = "postgres")]
use session_testbed::{PgBouncer, PostgresServer, Version};

/// What the program starts, and in how many containers: a group has one more than servers, which holds its network.
const ALL: &[(&str, usize)] = &[
    ("redis", 1),
    ("redis-cluster", 4),
    ("redis-sentinel", 7),
    ("memcached", 1),
    ("memcached-old", 1),
    #[cfg(feature = "postgres")]
    ("postgres", 1),
    #[cfg(feature = "postgres")]
    ("postgres-15", 1),
    #[cfg(feature = "postgres")]
    ("pgbouncer", 2),
];

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn containers_end_with_their_process() {
    for &(what, count) in ALL {
        let (mut child, pid) = process_with(what);
        assert_eq!(containers_of(pid), count, "{what}");
        let volumes = volumes_of(pid);
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        assert_eq!(containers_of(pid), 0, "{what}");
        assert!(!volumes.iter().any(|volume| has_volume(volume)), "{what}");
    }
}

/// No code of the process runs: neither for a panic that aborts, nor for the machine's lack of memory.
#[test]
fn containers_end_with_their_process_after_sigkill_too() {
    for &(what, count) in ALL {
        let (mut child, pid) = process_with(what);
        assert_eq!(containers_of(pid), count, "{what}");
        let volumes = volumes_of(pid);
        assert_eq!(volumes.is_empty(), !what.starts_with("p"), "{what}");
        child.kill().unwrap();
        child.wait().unwrap();
        await_end(|| containers_of(pid) == 0 && !volumes.iter().any(|volume| has_volume(volume)));
    }
}

/// A part of a group is there, and nobody knows of it yet.
#[test]
fn nothing_is_left_of_a_group_whose_start_was_cut_off() {
    let pids: Vec<_> = (0..7)
        .map(|count| {
            let mut child = process("redis-sentinel");
            let pid = child.id();
            let begun = Instant::now();
            while containers_of(pid) < count {
                assert!(begun.elapsed() < PATIENCE);
                std::thread::sleep(Duration::from_millis(5));
            }
            child.kill().unwrap();
            child.wait().unwrap();
            pid
        })
        .collect();
    let is_clean = || pids.iter().all(|pid| containers_of(*pid) == 0);
    await_end(is_clean);
}

/// The engine may be at work for a process that is killed, and be done when everything else was removed. Here it is asked
/// again, so that this happens each time.
#[test]
fn container_that_comes_after_its_process_has_gone_is_removed_too() {
    let (mut child, pid) = process_with("redis");
    let owner = format!("{pid}-");
    let list = docker("{{.Label \"session-testbed.owner\"}} {{.Names}} {{.Image}}");
    let line = list.lines().find(|line| line.starts_with(&owner)).unwrap();
    let [owner, name, image] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    await_end(|| containers_of(pid) == 0);
    let label = format!("session-testbed.owner={owner}");
    let made = Command::new("docker")
        .args(["create", "--name", name, "--label", &label, image, "true"])
        .output()
        .unwrap();
    // Made is all that can be known: it may be removed before anyone looks.
    assert!(made.status.success(), "{made:?}");
    await_end(|| containers_of(pid) == 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_server_is_gone_at_once_and_the_shared_one_is_one() {
    let server = RedisServer::start(Kind::Valkey, &[]).await.unwrap();
    is_gone_once_dropped(vec![server.port().unwrap()], server);

    let group = RedisCluster::start(Kind::Valkey, 0, &[]).await.unwrap();
    let ports = group.nodes().iter().map(|node| node.port().unwrap()).collect();
    is_gone_once_dropped(ports, group);

    #[cfg(feature = "postgres")]
    {
        let server = PostgresServer::start(Version::V17, &[]).await.unwrap();
        let bouncer = PgBouncer::start(&server).await.unwrap();
        let ports = vec![server.port().unwrap(), bouncer.port()];
        is_gone_once_dropped(ports, (server, bouncer));
    }

    let (one, other) = tokio::join!(RedisServer::shared(Kind::Redis), RedisServer::shared(Kind::Redis));
    assert_eq!(one.unwrap().url(), other.unwrap().url());
}

fn is_gone_once_dropped<T>(ports: Vec<u16>, servers: T) {
    for port in &ports {
        assert!(is_there(*port));
        assert!(!publishes_elsewhere(*port));
    }
    drop(servers);
    assert!(!ports.into_iter().any(is_there));
}

/// A process that has started what it was asked for, and its id.
fn process_with(what: &str) -> (Child, u32) {
    let mut child = process(what);
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let is_url = ["redis", "memcached://", "postgres://"]
        .iter()
        .any(|scheme| line.starts_with(scheme));
    assert!(is_url, "no server: {line:?}");
    let pid = child.id();
    (child, pid)
}

fn process(what: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_session-testbed"))
        .arg(what)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// How many containers the engine has that belong to a process, running or not.
fn containers_of(pid: u32) -> usize {
    let owner = format!("{pid}-");
    docker("{{.Label \"session-testbed.owner\"}}")
        .lines()
        .filter(|line| line.starts_with(&owner))
        .count()
}

/// The volumes of these containers, by name.
fn volumes_of(pid: u32) -> Vec<String> {
    let owner = format!("{pid}-");
    docker("{{.Label \"session-testbed.owner\"}} {{.Mounts}}")
        .lines()
        .filter(|line| line.starts_with(&owner))
        .filter_map(|line| line.split_once(' '))
        .flat_map(|(_, mounts)| mounts.split(',').filter(|mount| !mount.is_empty()))
        .map(str::to_owned)
        .collect()
}

fn has_volume(name: &str) -> bool {
    let output = Command::new("docker")
        .args(["volume", "inspect", name])
        .output()
        .unwrap();
    output.status.success()
}

fn await_end(has_come: impl Fn() -> bool) {
    let begun = Instant::now();
    while !has_come() {
        assert!(begun.elapsed() < PATIENCE, "{}", docker("{{.Names}} {{.Status}}"));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the engine has a container that publishes this port on 127.0.0.1.
fn is_there(port: u16) -> bool {
    published().iter().flatten().any(|at| at.has("127.0.0.1", port))
}

fn publishes_elsewhere(port: u16) -> bool {
    let published = published();
    let mut own = published
        .iter()
        .filter(|all| all.iter().any(|at| at.ports.contains(&port)));
    own.next().unwrap().iter().any(|at| at.host != "127.0.0.1")
}

/// Ports in a row that a container publishes.
struct Published {
    host: String,
    ports: RangeInclusive<u16>,
}

impl Published {
    /// `127.0.0.1:10000-10002->10000-10002/tcp`, or `127.0.0.1:10000->6379/tcp`. What is not published has no arrow.
    fn parse(entry: &str) -> Option<Self> {
        let (host, ports) = entry.split_once("->")?.0.rsplit_once(':').unwrap();
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        Some(Self {
            host: host.to_owned(),
            ports: first.parse().unwrap()..=last.parse().unwrap(),
        })
    }

    fn has(&self, host: &str, port: u16) -> bool {
        self.host == host && self.ports.contains(&port)
    }
}

/// Of each container.
fn published() -> Vec<Vec<Published>> {
    let all = docker("{{.Ports}}");
    all.lines()
        .map(|container| container.split(", ").filter_map(Published::parse).collect())
        .collect()
}

fn docker(format: &str) -> String {
    let output = Command::new("docker")
        .args(["ps", "--all", "--no-trunc", "--format", format])
        .output()
        .unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}
