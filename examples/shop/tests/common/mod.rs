//! The shop as a process, as an operator runs it.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Longer than anything here takes; ends a test that would hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running shop on a free port, with its log at `trace`. Killed when dropped.
pub(crate) struct Shop {
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub(crate) url: String,
    /// Where its metrics are, if it has the option.
    pub(crate) metrics: Option<String>,
    log: Option<JoinHandle<String>>,
    secrets: Mutex<Vec<String>>,
    /// By the ids of their sessions.
    tokens: Mutex<HashMap<String, String>>,
}

impl Shop {
    /// Starts a shop and waits until it says that it listens. Sessions are in memory unless `options` has a `--store`.
    pub(crate) fn start(options: &[&str]) -> Self {
        let in_memory = match options.contains(&"--store") {
            true => &[][..],
            false => &["--store", "memory:"][..],
        };
        let mut child = command()
            .args(["--listen", "127.0.0.1:0", "--log", "trace"])
            .args(in_memory)
            .args(options)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = read(child.stderr.take().unwrap());
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let url = line
            .strip_prefix("shop: ")
            .and_then(|rest| rest.split_once("/ (sessions "))
            .unwrap_or_else(|| panic!("the shop did not start: {line:?}"))
            .0
            .to_owned();
        let metrics = options.contains(&"--metrics-listen").then(|| {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            let url = line
                .strip_prefix("shop: metrics at ")
                .unwrap_or_else(|| panic!("{line:?}"));
            url.trim_end().to_owned()
        });
        Self {
            child,
            url,
            metrics,
            log: Some(log),
            secrets: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    /// The part of the address after `http://`.
    pub(crate) fn authority(&self) -> &str {
        self.url.strip_prefix("http://").unwrap()
    }

    /// Remembers an id, which no page and no line of the log may show.
    pub(crate) fn secret(&self, id: &str) {
        assert!(id.len() >= 43, "an id or a token: {id:?}");
        self.secrets().push(id.to_owned());
    }

    /// Fails if an id is in a text that others may read.
    pub(crate) fn assert_tells_no_id(&self, text: &str) {
        for id in self.secrets().iter() {
            assert!(!text.contains(id.as_str()), "an id is in: {text}");
        }
    }

    /// The token of a session's forms, from one of its pages; `None` if they have none.
    pub(crate) fn token(&self, id: &str) -> Option<String> {
        let mut tokens = self.tokens.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = tokens.get(id) {
            return Some(token.clone());
        }
        let token = token_in(&send(self, "/", Some(id), None).text)?;
        tokens.insert(id.to_owned(), token.clone());
        Some(token)
    }

    /// The form as the page of this session sends it.
    pub(crate) fn filled_in(&self, id: &str, form: &str) -> String {
        match self.token(id) {
            Some(token) => format!("{form}&csrf_token={token}"),
            None => form.to_owned(),
        }
    }

    /// Asks the shop to stop, as a service manager does.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, name: &str) {
        // The shell's own `kill`: no other program is needed.
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Whether the process has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until the process has ended; its status and its log, in which no id may be.
    pub(crate) fn ended(&mut self) -> (ExitStatus, String) {
        let start = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(start.elapsed() < PATIENCE, "the shop does not stop");
            thread::sleep(Duration::from_millis(10));
        };
        let log = self.log.take().unwrap().join().unwrap();
        assert!(!log.contains("panicked"), "{log}");
        self.assert_tells_no_id(&log);
        (status, log)
    }

    /// Stops the shop and checks that it ended well and what it logged.
    pub(crate) fn stop(mut self) -> String {
        self.terminate();
        let (status, log) = self.ended();
        assert!(status.success(), "{status}\n{log}");
        assert!(log.contains("answered"), "the log was read: {log}");
        log
    }

    fn secrets(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.secrets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        // Fails if it has ended already, which is as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The shop's program, without anything from this process's environment that it reads.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shop"));
    command.env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Reads a pipe to its end, so that the writer never waits.
fn read(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// What the shop answered: its status, the session cookie that it sets, if it does, and its whole text.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) id: Option<String>,
    pub(crate) text: String,
}

/// The token in a page, whose forms all have the same one.
pub(crate) fn token_in(page: &str) -> Option<String> {
    let (_, rest) = page.split_once("name=\"csrf_token\" value=\"")?;
    Some(rest.split('"').next().unwrap().to_owned())
}

/// A visitor whose browser keeps what it is told, as one must whose session is in the cookie itself.
pub(crate) struct Carrier<'s> {
    pub(crate) shop: &'s Shop,
    /// The session's cookie.
    pub(crate) token: Option<String>,
}

impl<'s> Carrier<'s> {
    pub(crate) fn new(shop: &'s Shop, token: Option<&str>) -> Self {
        let token = token.map(str::to_owned);
        Self { shop, token }
    }

    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send(path, None)
    }

    /// Sends a form as the page before it had it: with the token of the user's forms.
    pub(crate) fn post(&mut self, path: &str, form: &str) -> Answer {
        let field = token_in(&self.get("/").text);
        let field = field.map_or_else(String::new, |token| format!("&csrf_token={token}"));
        self.send(path, Some(&format!("{form}{field}")))
    }

    pub(crate) fn log_in(&mut self) {
        let login = self.post("/login", "name=ada&password=analytical+engine");
        assert_eq!(login.status, 303, "{}", login.text);
    }

    /// Whether the shop takes the visitor for ada.
    pub(crate) fn is_ada(&mut self) -> bool {
        let cart = self.get("/cart");
        assert_eq!(cart.status, 200, "{}", cart.text);
        cart.text.contains("/logout")
    }

    pub(crate) fn held(&self) -> String {
        self.token.clone().unwrap()
    }

    fn send(&mut self, path: &str, form: Option<&str>) -> Answer {
        let answer = send(self.shop, path, self.token.as_deref(), form);
        match &answer.id {
            Some(removed) if removed.is_empty() => self.token = None,
            Some(token) => self.token = Some(token.clone()),
            None => {}
        }
        answer
    }
}

/// One request with curl, as the visitor with the session `id`, whose forms carry their token.
pub(crate) fn ask(shop: &Shop, path: &str, id: Option<&str>, form: Option<&str>) -> Answer {
    let filled_in = match (id, form) {
        (Some(id), Some(form)) => Some(shop.filled_in(id, form)),
        _ => form.map(str::to_owned),
    };
    send(shop, path, id, filled_in.as_deref())
}

/// curl, as every test calls it: no settings of its user's, headers and body, an end in any case.
pub(crate) fn curl_command() -> Command {
    let mut curl = Command::new("curl");
    curl.args(["--disable", "--silent", "--show-error", "--include"])
        .args(["--max-time", "50", "--noproxy", "*"]);
    curl
}

/// One request with curl, with the form as it is.
pub(crate) fn send(shop: &Shop, path: &str, id: Option<&str>, form: Option<&str>) -> Answer {
    let mut curl = curl_command();
    curl.args(id.map(|id| format!("-bsession={id}")))
        .args(form.into_iter().flat_map(|form| ["--data", form]))
        .arg(format!("{}{path}", shop.url))
        .stdin(Stdio::null());
    let output = curl.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{} {text}",
        String::from_utf8_lossy(&output.stderr)
    );
    let id = text
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: session="))
        .map(|rest| rest.split(';').next().unwrap().to_owned());
    if let Some(id) = id.as_deref().filter(|id| !id.is_empty()) {
        shop.secret(id);
    }
    Answer {
        status: text.split(' ').nth(1).unwrap().parse().unwrap(),
        id,
        text,
    }
}

/// Asks until the shop serves again; until then every answer is the error page, which sets no cookie.
pub(crate) fn served_again(shop: &Shop, path: &str, id: &str) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = ask(shop, path, Some(id), None);
        if answer.status == 200 {
            return answer;
        }
        let text = &answer.text;
        assert!(answer.status == 503 && begun.elapsed() < PATIENCE, "{text}");
        assert_eq!(answer.id, None, "{text}");
        thread::sleep(Duration::from_millis(10));
    }
}
