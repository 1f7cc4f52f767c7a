//! `deploy/run`, as its README has it: one shop, and three behind the real nginx and HAProxy.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "balancer/front.rs"]
#[allow(dead_code, reason = "the test of the balancers uses the rest")]
mod front;

use std::{
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, PoisonError},
    thread,
};

use common::curl_command;
use front::{signal, wait_until};
use session_testbed::free_port;

/// A deployment that runs. Told to stop when dropped.
struct Deployment(Child);

impl Deployment {
    /// Waits until the shop can be visited.
    fn start(arguments: &[&str], port: u16) -> Self {
        let mut child = run(arguments, port).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap);
        let deployment = Self(child);
        let address = format!("http://127.0.0.1:{port}/");
        let printed = output.find(|line| line.contains(&address));
        assert!(printed.is_some(), "{arguments:?} ended before it said {address}");
        // HAProxy logs to it: somebody must read.
        thread::spawn(move || output.for_each(drop));
        deployment
    }

    fn stop(mut self) {
        signal("TERM", self.0.id());
        wait_until("deploy/run stops", || self.0.try_wait().unwrap().is_some());
        assert_eq!(self.0.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            // Not SIGKILL, which would leave its children behind.
            signal("TERM", self.0.id());
            let _ = self.0.wait();
        }
    }
}

fn run(arguments: &[&str], port: u16) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/run");
    let mut command = Command::new(script);
    command
        .args(arguments)
        .args(["--port", &port.to_string(), "--shop", env!("CARGO_BIN_EXE_shop")])
        .env_remove("SHOP_STORE")
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null());
    command
}

/// Four ports in a row: the balancer's, or the only shop's, and the three shops'.
fn ports() -> u16 {
    // Two tests that look at once would find rows that overlap.
    static LOOKING: Mutex<()> = Mutex::new(());
    let _alone = LOOKING.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let port = free_port().unwrap();
        if (1..4).all(|more| TcpListener::bind(("127.0.0.1", port + more)).is_ok()) {
            // Nobody else in this process gets them.
            while free_port().unwrap() < port + 3 {}
            return port;
        }
    }
}

/// What curl shows of a request: the headers and the page.
fn curl(port: u16, path: &str, arguments: &[&str]) -> String {
    let output = curl_command()
        .args(arguments)
        .arg(format!("http://127.0.0.1:{port}{path}"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn nodes_of(pages: &[String]) -> Vec<&str> {
    let mut nodes: Vec<_> = pages
        .iter()
        .filter_map(|page| page.lines().find_map(|line| line.strip_prefix("x-node: ")))
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

/// Adds a mug, then looks at the cart six times: the carts, each of which has it.
fn shop_a_little(port: u16) -> Vec<String> {
    let jar = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("jar-{port}"));
    let jar = jar.to_str().unwrap();
    let keep = ["--cookie", jar, "--cookie-jar", jar];
    let add = [&keep[..], &["--data", "product=mug"]].concat();
    let added = curl(port, "/cart/add", &add);
    assert!(added.starts_with("HTTP/1.1 303"), "{added}");
    let carts: Vec<_> = (0..6).map(|_| curl(port, "/cart", &keep)).collect();
    for cart in &carts {
        assert!(cart.contains("Stoneware mug"), "{cart}");
    }
    std::fs::remove_file(jar).unwrap();
    carts
}

#[test]
fn each_deployment_runs_with_one_command_and_leaves_nothing_behind() {
    for (arguments, nodes) in [
        (&["one", "--store", "memory:"][..], 0),
        (&["central"], 3),
        (&["central", "--balancer", "haproxy"], 3),
        (&["sticky"], 1),
        (&["sticky", "--by", "table"], 1),
        (&["sticky", "--by", "hash"], 1),
    ] {
        let port = ports();
        let deployment = Deployment::start(arguments, port);
        let carts = shop_a_little(port);
        assert_eq!(nodes_of(&carts).len(), nodes, "{arguments:?}");
        deployment.stop();
        for port in port..port + 4 {
            assert!(
                TcpStream::connect(("127.0.0.1", port)).is_err(),
                "{arguments:?}: {port} listens"
            );
        }
    }
}

#[test]
fn deployment_behind_an_https_proxy_guards_its_cookies() {
    let port = ports();
    let deployment = Deployment::start(&["sticky", "--https-proxy"], port);
    let added = curl(port, "/cart/add", &["--data", "product=mug"]).to_lowercase();
    let cookies: Vec<_> = added
        .lines()
        .filter(|line| line.starts_with("set-cookie:"))
        .collect();
    assert_eq!(cookies.len(), 2, "{added}");
    assert!(
        added.contains("__host-session=") && added.contains("shop_hint="),
        "{added}"
    );
    for cookie in cookies {
        assert!(
            cookie.contains("; secure") && cookie.contains("; httponly"),
            "{cookie}"
        );
    }
    deployment.stop();
}

#[test]
fn shop_that_dies_ends_the_deployment() {
    let port = ports();
    let mut deployment = Deployment::start(&["central"], port);
    let id = deployment.0.id();
    let children = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    signal(
        "KILL",
        children.split_whitespace().next().unwrap().parse().unwrap(),
    );
    wait_until("deploy/run ends", || deployment.0.try_wait().unwrap().is_some());
    assert_eq!(deployment.0.wait().unwrap().code(), Some(1));
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

fn refused(mut command: Command) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[test]
fn what_cannot_be_done_is_said_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (code, text) = refused(run(&["central"], port));
    assert!(
        code == Some(1) && text.contains(&format!("port {port} ")) && text.contains("--port"),
        "{text}"
    );
    let (code, text) = refused(run(&["central", "--nodes", &port.to_string()], ports()));
    assert!(
        code == Some(1) && text.contains(&format!("port {port} ")) && text.contains("--nodes"),
        "{text}"
    );

    for (arguments, says) in [
        (&["two"][..], "one, central or sticky"),
        (
            &["sticky", "--by", "table", "--balancer", "nginx"],
            "no sticky by table with nginx",
        ),
        (&["central", "--by", "cookie"], "--by is for sticky"),
        (&["one", "--balancer", "nginx"], "no balancer"),
        (&["central", "--colour"], "--colour"),
        (&["central", "--nodes", "x"], "--nodes x"),
    ] {
        let (code, text) = refused(run(arguments, 3000));
        assert!(
            code == Some(2) && text.contains(says),
            "{arguments:?}: {code:?} {text}"
        );
    }
}

#[test]
fn missing_balancer_is_named() {
    // The script, where none is: everything else that it needs is linked into the only folder of PATH.
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("no-balancer-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let script = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/run")).unwrap();
    let copy = folder.join("run");
    std::fs::write(
        &copy,
        script.replace("PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin\n", "PATH=$ONLY\n"),
    )
    .unwrap();
    for tool in ["mktemp", "dirname", "rm"] {
        let found = ["/usr/bin", "/bin"].map(|from| Path::new(from).join(tool));
        let found = found.iter().find(|path| path.exists()).unwrap();
        std::os::unix::fs::symlink(found, folder.join(tool)).unwrap();
    }
    let mut command = Command::new("bash");
    command
        .arg(&copy)
        .args(["central", "--port", &ports().to_string()])
        .env("ONLY", &folder);
    let (code, text) = refused(command);
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(
        code == Some(1) && text.contains("no nginx in PATH") && text.contains("scripts/balancers"),
        "{text}"
    );
}
