//! What each way of keeping a session promises: the table of `docs/choosing.md` is compared with what happens.

use std::{fs, path::Path, time::Duration};

use axum::{Router, http::StatusCode};
use base64ct::{Base64UrlUnpadded, Encoding};
use session_core::OnLimit;
use session_http::SessionManager;

use super::{Kind, MINUTE, Maker};
use crate::support::{Browser, site_of};

/// The columns.
const MODES: [Option<Kind>; 3] = [None, Some(Kind::Sealed), Some(Kind::Jwt)];

/// The rows: each runs on a site of its own, in every mode.
const PROMISES: [&str; 12] = [
    "the client cannot read what the session holds",
    "the client cannot change it",
    "changes of two requests at once are both kept",
    "an old state of the session does not come back",
    "a log-in gives another credential and ends the old one",
    "a logout ends every copy of the credential",
    "a change that comes after a logout is reported",
    "all sessions of a user can be ended",
    "a user sees the own sessions",
    "sessions per user can be limited",
    "idle and absolute time end it on the server",
    "a store that is down fails closed",
];

struct Visitor {
    maker: Maker,
    manager: SessionManager,
    site: Router,
    browser: Browser,
}

impl Visitor {
    /// Logged in, with something in the session.
    async fn new(mode: Option<Kind>) -> Self {
        let maker = Maker::new(mode.unwrap_or(Kind::Sealed));
        let manager = match mode {
            Some(_) => maker.manager().build().unwrap(),
            None => SessionManager::new(maker.sessions().build().unwrap()),
        };
        let site = site_of(manager.clone());
        let mut browser = Browser::new(&site);
        browser.text("/write/anonymous").await;
        browser.text("/login/zoe").await;
        browser.text("/write/apples").await;
        Self {
            maker,
            manager,
            site,
            browser,
        }
    }

    fn with(&self, credential: &str) -> Browser {
        Browser::with_id(&self.site, credential)
    }

    async fn is_nobody(&self, credential: &str) -> bool {
        self.with(credential).text("/whoami").await == "nobody"
    }
}

async fn is_kept(promise: usize, mode: Option<Kind>) -> bool {
    let mut visitor = Visitor::new(mode).await;
    let held = visitor.browser.held();
    match promise {
        0 => !held.split('.').any(|part| {
            let part = Base64UrlUnpadded::decode_vec(part).unwrap_or_default();
            String::from_utf8_lossy(&part).contains("apples")
        }),
        1 => {
            let middle = held.len() / 2;
            let changed = match &held[middle..=middle] {
                "A" => "B",
                _ => "A",
            };
            let changed = format!("{}{changed}{}", &held[..middle], &held[middle + 1..]);
            visitor.is_nobody(&changed).await
        }
        2 => {
            let (mut one, mut other) = (visitor.browser.clone(), visitor.browser.clone());
            one.text("/count").await;
            other.text("/count").await;
            other.text("/count").await == "3"
        }
        3 => {
            visitor.browser.text("/write/eaten").await;
            visitor.with(&held).text("/read").await != "apples"
        }
        4 => {
            visitor.browser.text("/login/zoe").await;
            visitor.browser.held() != held && visitor.is_nobody(&held).await
        }
        5 => {
            visitor.browser.text("/logout").await;
            visitor.is_nobody(&held).await
        }
        6 => {
            let (parts, _) = visitor.browser.request("/").into_parts();
            let late = visitor.manager.open(&parts);
            late.session().insert("value", &"late".to_owned()).await.unwrap();
            visitor.browser.text("/logout").await;
            visitor.manager.commit(&late).await.is_err()
        }
        7 => {
            let mut elsewhere = Browser::new(&visitor.site);
            elsewhere.text("/login/zoe").await;
            let zoe = session_core::Subject::new("zoe").unwrap();
            visitor.manager.log_out_subject(&zoe).await.unwrap();
            visitor.is_nobody(&held).await && visitor.is_nobody(&elsewhere.held()).await
        }
        8 => visitor.browser.get("/own").await.body == "1",
        9 => {
            let sessions = visitor.maker.sessions().max_per_subject(3, OnLimit::Refuse);
            let manager = SessionManager::builder(sessions.build().unwrap());
            match mode {
                Some(_) => manager.tokens(visitor.maker.tokens()).build().is_ok(),
                None => manager.build().is_ok(),
            }
        }
        10 => {
            visitor.maker.clock.forward(31 * MINUTE);
            let idle = visitor.is_nobody(&held).await;
            visitor.browser.text("/login/zoe").await;
            for _ in 0..24 {
                visitor.maker.clock.forward(20 * MINUTE);
                visitor.browser.text("/read").await;
            }
            idle && visitor.is_nobody(&visitor.browser.held()).await
        }
        11 => {
            visitor.maker.store.set_down(true);
            let answer = visitor.browser.get("/whoami").await;
            (answer.status, answer.new_id()) == (StatusCode::SERVICE_UNAVAILABLE, None)
        }
        other => panic!("no promise {other}"),
    }
}

#[tokio::test]
async fn page_tells_what_each_mode_promises() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/choosing.md");
    let page = fs::read_to_string(page).unwrap();
    let deadline = Duration::from_secs(60);
    let mut wrong = Vec::new();
    for (promise, text) in PROMISES.iter().enumerate() {
        let mut row = format!("| {text} |");
        for mode in MODES {
            let kept = tokio::time::timeout(deadline, is_kept(promise, mode))
                .await
                .unwrap();
            row += if kept { " yes |" } else { " no |" };
        }
        if !page.lines().any(|line| line == row) {
            wrong.push(row);
        }
    }
    assert!(wrong.is_empty(), "docs/choosing.md lacks:\n{}", wrong.join("\n"));
    let rows = page
        .lines()
        .filter(|line| line.ends_with("yes |") || line.ends_with("no |"));
    assert_eq!(rows.count(), PROMISES.len(), "rows that nothing shows");
}
