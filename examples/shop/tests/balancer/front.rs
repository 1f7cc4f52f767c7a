//! The real nginx or HAProxy, with the configuration that `deploy/run` uses.

use std::{
    env, fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use session_testbed::free_port;

use crate::common::PATIENCE;

/// Between two looks at what is waited for.
const SOON: Duration = Duration::from_millis(5);

/// A balancer that listens. Stopped when dropped, its workers too.
pub(crate) struct Front {
    child: Child,
    folder: PathBuf,
    template: String,
    is_nginx: bool,
    values: Vec<(String, String)>,
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
}

impl Front {
    /// Starts the balancer of a file of `deploy/` in front of three nodes.
    pub(crate) fn start(configuration: &str, ports: [u16; 3], https: bool) -> Self {
        let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
        let template = fs::read_to_string(deploy.join(configuration)).unwrap();
        let is_nginx = configuration.starts_with("nginx/");
        // Somebody may take a port between the search and the balancer.
        for _ in 0..5 {
            let port = free_port().unwrap();
            let folder = folder();
            let mut values = vec![
                ("LISTEN".to_owned(), format!("127.0.0.1:{port}")),
                ("DIR".to_owned(), folder.to_str().unwrap().to_owned()),
                ("SESSION".to_owned(), session_cookie(https).to_owned()),
            ];
            let secure = match (https, is_nginx) {
                (false, _) => "",
                (true, true) => "; Secure",
                (true, false) => " secure",
            };
            values.push(("SECURE".to_owned(), secure.to_owned()));
            for (name, port) in ["A", "B", "C"].into_iter().zip(ports) {
                values.push((name.to_owned(), format!("127.0.0.1:{port}")));
                values.push((format!("{name}_DOWN"), String::new()));
            }
            write(&folder, &template, &values);
            let mut front = Self {
                child: launch(is_nginx, &folder),
                folder,
                template: template.clone(),
                is_nginx,
                values,
                url: format!("http://127.0.0.1:{port}"),
            };
            if front.listens(port) {
                return front;
            }
            let said = front.said();
            assert!(said.contains("in use") || said.contains("cannot bind"), "{said}");
        }
        panic!("no port is free");
    }

    fn listens(&mut self, port: u16) -> bool {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(begun.elapsed() < PATIENCE, "{}", self.said());
            thread::sleep(SOON);
        }
        self.child.try_wait().unwrap().is_none()
    }

    /// nginx: marks a node as `down`, reloads, and waits until the workers from before have sent their last answers.
    pub(crate) fn take_out(&mut self, node: &str) {
        assert!(self.is_nginx);
        let name = format!("{}_DOWN", node.to_uppercase());
        for (of, value) in &mut self.values {
            if *of == name {
                " down".clone_into(value);
            }
        }
        write(&self.folder, &self.template, &self.values);
        let before = self.workers();
        assert!(!before.is_empty());
        signal("HUP", self.child.id());
        wait_until("the old workers end", || {
            let now = self.workers();
            !now.is_empty() && !now.iter().any(|worker| before.contains(worker))
        });
    }

    fn workers(&self) -> Vec<String> {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        children.split_whitespace().map(str::to_owned).collect()
    }

    /// HAProxy: a command of its operator, and what it answers.
    pub(crate) fn admin(&self, command: &str) -> String {
        let mut socket = UnixStream::connect(self.folder.join("haproxy.sock")).unwrap();
        socket.write_all(format!("{command}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// HAProxy: waits until it has found out that a node is not ready and until the last request there has ended.
    pub(crate) fn until_left(&self, node: &str) {
        wait_until("HAProxy leaves the node", || {
            let all = self.admin("show stat");
            let line = all
                .lines()
                .find(|line| line.starts_with(&format!("shop,{node},")))
                .unwrap();
            // The fifth column is the number of requests there now.
            line.contains(",DOWN,") && line.split(',').nth(4) == Some("0")
        });
    }

    /// Stops the balancer: everything that it has written.
    pub(crate) fn stop(mut self) -> String {
        self.end();
        let said = self.said();
        assert!(said.contains("POST 303 from "), "{said}");
        said
    }

    fn said(&self) -> String {
        ["output", "access.log"]
            .map(|name| fs::read_to_string(self.folder.join(name)).unwrap_or_default())
            .concat()
    }

    /// Not SIGKILL, which would leave nginx's workers behind.
    fn end(&mut self) {
        let begun = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if begun.elapsed() > PATIENCE {
                let _ = self.child.kill();
            }
            signal("TERM", self.child.id());
            thread::sleep(SOON);
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The name of the session's cookie.
pub(crate) fn session_cookie(https: bool) -> &'static str {
    match https {
        true => "__Host-session",
        false => "session",
    }
}

/// Looks until something is as it should be.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not in time");
        thread::sleep(SOON);
    }
}

fn folder() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // Short, because the name of a socket may have about a hundred characters.
    let name = format!("shop-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let folder = env::temp_dir().join(name);
    fs::create_dir(&folder).unwrap();
    folder
}

fn write(folder: &Path, template: &str, values: &[(String, String)]) {
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("@{name}@"), value);
    }
    let left = text
        .lines()
        .find(|line| !line.starts_with('#') && line.contains('@'));
    assert_eq!(left, None, "a word that nothing replaces");
    fs::write(folder.join("balancer.conf"), text).unwrap();
}

fn launch(is_nginx: bool, folder: &Path) -> Child {
    let output = fs::File::create(folder.join("output")).unwrap();
    let configuration = folder.join("balancer.conf");
    let name = if is_nginx { "nginx" } else { "haproxy" };
    let path = env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    // Debian puts both where only root's PATH leads.
    command.env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"));
    if is_nginx {
        command.arg("-p").arg(folder).args(["-e", "stderr", "-c"]);
    } else {
        command.args(["-db", "-f"]);
    }
    let spawned = command
        .arg(configuration)
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn();
    spawned.unwrap_or_else(|error| match error.kind() {
        ErrorKind::NotFound => {
            panic!("{name} is needed: scripts/balancers installs it, or says what to install")
        }
        _ => panic!("{name}: {error}"),
    })
}

/// Sends a process a signal.
pub(crate) fn signal(name: &str, id: u32) {
    // Fails if it has ended, which is as well.
    let _ = Command::new("sh")
        .args(["-c", &format!("kill -{name} {id}")])
        .stderr(Stdio::null())
        .status();
}
