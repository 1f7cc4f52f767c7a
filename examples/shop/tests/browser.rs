//! The shop in a real browser: headless Chromium, driven through chromedriver over loopback.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use common::{PATIENCE, Shop};
use fantoccini::{Client, ClientBuilder, Locator, cookies::Cookie};
use hyper_util::client::legacy::connect::HttpConnector;
use serde_json::{Value, json};

/// What to do when a program is missing.
const INSTALL: &str =
    "Debian's packages are `chromium` and `chromium-driver`; scripts/browser installs them.";

/// A chromedriver on a port of its own choice. It and its browsers end when it is dropped.
struct Driver {
    child: Child,
    authority: String,
}

impl Driver {
    fn start() -> Self {
        let mut child = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("chromedriver is needed: {error}. {INSTALL}"));
        // It names the port once it listens. The pipe is read on, so that it never waits for us.
        let mut lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let port = lines.find_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse::<u16>().ok()
        });
        let mut driver = Self {
            child,
            authority: String::new(),
        };
        driver.authority = format!("127.0.0.1:{}", port.expect("chromedriver names its port"));
        thread::spawn(move || lines.for_each(drop));
        driver
    }

    /// A browser that reaches loopback alone.
    async fn browser(&self) -> Client {
        self.browser_with(json!({})).await
    }

    /// The same, with these preferences of its user.
    async fn browser_with(&self, preferences: Value) -> Client {
        let options = json!({
            "args": [
                "--headless=new",
                "--no-sandbox",
                "--disable-dev-shm-usage",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--no-proxy-server",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
                "--window-size=1200,900",
            ],
            "prefs": preferences,
        });
        let Value::Object(capabilities) = json!({ "goog:chromeOptions": options }) else {
            unreachable!("an object");
        };
        let mut tries = 0;
        loop {
            tries += 1;
            let started = ClientBuilder::new(HttpConnector::new())
                .capabilities(capabilities.clone())
                .connect(&format!("http://{}", self.authority))
                .await;
            match started {
                Ok(client) => return client,
                // On a machine that is busy it may not come up in the driver's time.
                Err(_) if tries < 3 => {}
                Err(error) => panic!("chromium does not start: {error}. {INSTALL}"),
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Asked this way, it takes its browsers along; killed at once, it would leave them behind.
        if let Ok(mut socket) = TcpStream::connect(&self.authority) {
            let _ = socket.set_read_timeout(Some(Duration::from_secs(5)));
            let _ = write!(
                socket,
                "GET /shutdown HTTP/1.1\r\nHost: {}\r\n\r\n",
                self.authority
            );
            let _ = socket.read(&mut [0; 64]);
            let asked = Instant::now();
            while asked.elapsed() < Duration::from_secs(10) && matches!(self.child.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A visitor: a browser that looks at a shop.
struct Visitor<'s> {
    shop: &'s Shop,
    browser: Client,
}

impl<'s> Visitor<'s> {
    async fn new(driver: &Driver, shop: &'s Shop) -> Self {
        let browser = driver.browser().await;
        Self { shop, browser }
    }

    async fn visit(&self, path: &str) {
        self.browser
            .goto(&format!("{}{path}", self.shop.url))
            .await
            .unwrap();
    }

    async fn click(&self, selector: &str) {
        self.browser
            .find(Locator::Css(selector))
            .await
            .unwrap()
            .click()
            .await
            .unwrap();
    }

    async fn type_into(&self, selector: &str, text: &str) {
        let field = self.browser.find(Locator::Css(selector)).await.unwrap();
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Waits until the page says this.
    async fn reads(&self, text: &str) {
        let path = format!("//body[contains(normalize-space(.), \"{text}\")]");
        let found = self
            .browser
            .wait()
            .at_most(PATIENCE)
            .for_element(Locator::XPath(&path))
            .await;
        if let Err(error) = found {
            panic!("{text:?} is not on the page: {error}\n{}", self.page().await);
        }
    }

    /// The page's source, in which no id may be.
    async fn page(&self) -> String {
        let page = self.browser.source().await.unwrap();
        self.shop.assert_tells_no_id(&page);
        page
    }

    /// The session cookie, as only WebDriver sees it.
    async fn cookie(&self) -> Option<Cookie<'static>> {
        let mut cookies = self.browser.get_all_cookies().await.unwrap();
        assert!(cookies.len() <= 1, "one cookie at most");
        let cookie = cookies.pop()?;
        assert_eq!(cookie.name(), "session");
        self.shop.secret(cookie.value());
        Some(cookie)
    }

    async fn id(&self) -> String {
        self.cookie().await.expect("a session").value().to_owned()
    }

    async fn add_mug(&self) {
        self.click("button[aria-label='Add to the cart: Stoneware mug']")
            .await;
        self.reads("Added to your cart.").await;
    }

    async fn log_in(&self) {
        self.visit("/login").await;
        self.type_into("input[name=name]", "ada").await;
        self.type_into("input[name=password]", "analytical engine").await;
        self.click("main form button").await;
        self.reads("You are logged in.").await;
    }

    async fn log_out(&self) {
        self.click("form[action='/logout'] button").await;
        self.reads("You are logged out.").await;
    }

    /// Pieces in the cart, as every page shows them.
    async fn pieces(&self) -> u32 {
        self.visit("/").await;
        let count = self.browser.find_all(Locator::Css(".count")).await.unwrap();
        match count.first() {
            Some(count) => count
                .text()
                .await
                .unwrap()
                .split_whitespace()
                .next()
                .unwrap()
                .parse()
                .unwrap(),
            None => 0,
        }
    }

    /// Sends forms from the page, all at once; their statuses.
    async fn send_at_once(&self, forms: Value) -> Vec<u64> {
        const SEND: &str = "
            const [forms, done] = arguments;
            // The page's own token, if it has one.
            const token = document.querySelector('[name=csrf_token]')?.value;
            const headers = token ? { 'X-CSRF-Token': token } : {};
            const send = ([path, body]) => fetch(path, {
                method: 'POST', headers, body: new URLSearchParams(body),
            }).then(answer => answer.status);
            Promise.all(forms.map(send)).then(done, error => done(String(error)));";
        let statuses = self.browser.execute_async(SEND, vec![forms]).await.unwrap();
        let statuses = statuses
            .as_array()
            .unwrap_or_else(|| panic!("{statuses}"))
            .clone();
        statuses.iter().map(|status| status.as_u64().unwrap()).collect()
    }

    /// Whether the id still reaches anything: the browser is given it, whatever it had.
    async fn is_stored(&self, id: &str) -> bool {
        self.browser.delete_all_cookies().await.unwrap();
        let plant = "document.cookie = 'session=' + arguments[0] + ';path=/'";
        self.browser.execute(plant, vec![json!(id)]).await.unwrap();
        assert_eq!(self.id().await, id);
        self.visit("/session").await;
        self.reads("Your session").await;
        !self.page().await.contains("Nothing is stored about you")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn visitor_shops_logs_in_and_logs_out() {
    let shop = Shop::start(&[]);
    let driver = Driver::start();
    let visitor = Visitor::new(&driver, &shop).await;
    visitor.visit("/").await;
    assert!(visitor.cookie().await.is_none(), "looking begins no session");

    visitor.add_mug().await;
    let anonymous = visitor.id().await;
    visitor.visit("/cart").await;
    visitor.type_into("input[name=pieces]", "3").await;
    visitor.click(".pieces button").await;
    visitor.reads("Your cart is changed.").await;

    visitor.visit("/login").await;
    visitor.type_into("input[name=name]", "ada").await;
    visitor.type_into("input[name=password]", "no engine").await;
    visitor.click("main form button").await;
    visitor.reads("Name and password do not fit.").await;
    visitor.log_in().await;
    let id = visitor.id().await;
    assert_ne!(id, anonymous);
    assert_eq!(visitor.pieces().await, 3, "the cart came along");

    let cookie = visitor.cookie().await.unwrap();
    assert_eq!(cookie.http_only(), Some(true));
    assert_eq!(cookie.same_site().unwrap().to_string(), "Lax");
    let seen = visitor
        .browser
        .execute("return document.cookie", vec![])
        .await
        .unwrap();
    assert_eq!(seen, json!(""), "scripts do not see it");
    for path in [
        "/",
        "/cart",
        "/checkout",
        "/orders",
        "/preferences",
        "/login",
        "/session",
        "/nowhere",
    ] {
        visitor.visit(path).await;
        assert!(visitor.page().await.contains("Corner Shop"), "{path}");
    }
    visitor.visit("/session").await;
    visitor.reads("3 × Stoneware mug").await;
    visitor.reads("once, ").await;

    visitor.visit("/checkout").await;
    visitor.click("main form button").await;
    visitor.reads("Your order is placed.").await;
    assert_eq!(visitor.pieces().await, 0);

    assert!(visitor.is_stored(&id).await);
    visitor.log_out().await;
    assert!(visitor.cookie().await.is_none(), "the cookie is removed");
    assert!(!visitor.is_stored(&id).await);
    assert!(!visitor.is_stored(&anonymous).await);
    shop.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn preferences_change_the_pages_and_run_nothing() {
    const HOSTILE: &str =
        "</textarea><script>document.title='run'</script><img src=x onerror=document.title='run'>\"'&amp;";
    let shop = Shop::start(&[]);
    let driver = Driver::start();
    let visitor = Visitor::new(&driver, &shop).await;
    let background = async || {
        const READ: &str = "return getComputedStyle(document.body).backgroundColor";
        visitor.browser.execute(READ, vec![]).await.unwrap()
    };

    visitor.visit("/preferences").await;
    visitor.click("input[value=light]").await;
    visitor.click("main form button").await;
    visitor.reads("Your preferences are saved.").await;
    let light = background().await;

    visitor.visit("/preferences").await;
    visitor.click("input[value=dark]").await;
    visitor.click("option[value=jpy]").await;
    visitor.type_into("textarea", HOSTILE).await;
    visitor.click("main form button").await;
    visitor.reads("Your preferences are saved.").await;
    assert_ne!(background().await, light);

    let field = visitor.browser.find(Locator::Css("textarea")).await.unwrap();
    assert_eq!(field.prop("value").await.unwrap().as_deref(), Some(HOSTILE));
    visitor.visit("/session").await;
    let shown = visitor
        .browser
        .find(Locator::XPath("//tr[th='note']/td"))
        .await
        .unwrap();
    assert_eq!(shown.text().await.unwrap(), HOSTILE);
    assert!(visitor.browser.title().await.unwrap().starts_with("Your session"));
    visitor.visit("/").await;
    visitor.reads("¥2320").await;
    shop.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn additions_from_two_tabs_at_once_all_count() {
    let shop = Shop::start(&[]);
    let driver = Driver::start();
    let visitor = Visitor::new(&driver, &shop).await;
    visitor.visit("/").await;
    visitor.add_mug().await;
    let first = visitor.browser.window().await.unwrap();
    visitor.browser.new_window(true).await.unwrap();
    let second = visitor
        .browser
        .windows()
        .await
        .unwrap()
        .into_iter()
        .find(|tab| *tab != first)
        .unwrap();
    visitor.browser.switch_to_window(second).await.unwrap();
    visitor.visit("/").await;
    visitor.add_mug().await;
    visitor.browser.switch_to_window(first).await.unwrap();
    visitor.add_mug().await;
    assert_eq!(visitor.pieces().await, 3);

    let mug = json!(["/cart/add", { "product": "mug" }]);
    for round in 1..=10 {
        assert_eq!(visitor.send_at_once(json!([mug, mug])).await, [200, 200]);
        assert_eq!(visitor.pieces().await, 3 + 2 * round);
    }
    shop.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn logout_in_one_tab_is_not_undone_by_the_other() {
    let shop = Shop::start(&[]);
    let driver = Driver::start();
    let visitor = Visitor::new(&driver, &shop).await;
    visitor.log_in().await;
    visitor.add_mug().await;
    visitor.add_mug().await;
    let id = visitor.id().await;

    // The first tab still shows the list of somebody who is logged in.
    let first = visitor.browser.window().await.unwrap();
    visitor.browser.new_window(true).await.unwrap();
    let second = visitor
        .browser
        .windows()
        .await
        .unwrap()
        .into_iter()
        .find(|tab| *tab != first)
        .unwrap();
    visitor.browser.switch_to_window(second).await.unwrap();
    visitor.visit("/").await;
    visitor.log_out().await;
    visitor.browser.switch_to_window(first).await.unwrap();
    visitor
        .click("button[aria-label='Add to the cart: Stoneware mug']")
        .await;
    visitor.reads("Log in").await;
    assert_eq!(
        visitor.pieces().await,
        1,
        "a new session, with nothing of the old one"
    );
    assert_ne!(visitor.id().await, id);
    assert!(!visitor.is_stored(&id).await);

    let mug = json!(["/cart/add", { "product": "mug" }]);
    let logout = json!(["/logout", {}]);
    // Takes long between reading the session and writing it: the logout mostly falls in between.
    let login = json!(["/login", { "name": "grace", "password": "first compiler" }]);
    for _ in 0..15 {
        visitor.log_in().await;
        let id = visitor.id().await;
        let statuses = visitor.send_at_once(json!([mug, login, logout, mug])).await;
        assert!(
            statuses.iter().all(|status| [200, 409].contains(status)),
            "{statuses:?}"
        );
        assert_eq!(statuses[2], 200, "the logout");
        assert!(!visitor.is_stored(&id).await, "nothing brought the session back");
    }
    shop.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn form_of_another_site_is_refused() {
    let shop = Shop::start(&[]);
    // `localhost` is another site than `127.0.0.1`, whatever the ports.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://localhost:{}/", other.local_addr().unwrap().port());
    let page = format!(
        "<!DOCTYPE html><title>Evil</title><form method=post action={}/cart/add>\
         <input name=product value=mug><button>Win</button></form>",
        shop.url
    );
    thread::spawn(move || {
        for socket in other.incoming() {
            let mut socket = socket.unwrap();
            let _ = socket.read(&mut [0; 4096]);
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: {}",
                page.len()
            );
            let _ = write!(socket, "{head}\r\n\r\n{page}");
        }
    });
    let driver = Driver::start();
    let visitor = Visitor::new(&driver, &shop).await;
    visitor.visit("/").await;
    visitor.add_mug().await;
    visitor.browser.goto(&address).await.unwrap();
    visitor.click("button").await;
    visitor.reads("Another site sent this form").await;
    assert_eq!(visitor.pieces().await, 1);
    shop.stop();
}

/// Cookies are off in the browser: the session is in the URL, through forms, redirects and a log-in.
#[tokio::test(flavor = "multi_thread")]
async fn visitor_without_cookies_shops_with_the_session_in_the_url() {
    let keys = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("browser-keys");
    let shop = Shop::start(&["--rewrite-urls", "--keys", keys.to_str().unwrap()]);
    let driver = Driver::start();
    let no_cookies = json!({ "profile.default_content_setting_values.cookies": 2 });
    let browser = driver.browser_with(no_cookies).await;
    let visitor = Visitor { shop: &shop, browser };
    // Every id that was in the address bar; the log must not have it.
    let mut ids = Vec::new();
    let mut address = async || {
        let url = visitor.browser.current_url().await.unwrap();
        let (_, rest) = url.path().split_once(";sid=").expect("a session in the URL");
        ids.push(rest[..43].to_owned());
        assert!(visitor.browser.get_all_cookies().await.unwrap().is_empty());
        rest[..43].to_owned()
    };

    visitor.visit("/").await;
    assert!(
        !visitor.browser.source().await.unwrap().contains(";sid="),
        "looking begins no session"
    );
    visitor
        .click("button[aria-label='Add to the cart: Stoneware mug']")
        .await;
    visitor.reads("Added to your cart.").await;
    let guest = address().await;
    visitor.click("a[href^='/cart']").await;
    visitor.reads("Your cart").await;
    visitor.type_into("input[name=pieces]", "3").await;
    visitor.click(".pieces button").await;
    visitor.reads("Your cart is changed.").await;
    assert_eq!(address().await, guest);

    visitor.click("a[href^='/login']").await;
    visitor.type_into("input[name=name]", "ada").await;
    visitor
        .type_into("input[name=password]", "analytical engine")
        .await;
    visitor.click("main form button").await;
    visitor.reads("You are logged in.").await;
    let user = address().await;
    assert_ne!(user, guest, "a new id");
    visitor.click("a[href^='/session']").await;
    visitor.reads("3 × Stoneware mug").await;

    // The URL is passed on, to another browser.
    let url = visitor.browser.current_url().await.unwrap();
    let passed_on = common::curl_command().arg(url.as_str()).output().unwrap();
    let page = String::from_utf8_lossy(&passed_on.stdout).into_owned();
    assert!(
        page.contains("Nothing is stored about you") && !page.contains("mug"),
        "{page}"
    );
    assert!(page.contains("referrer-policy: same-origin"), "{page}");

    visitor.click("form[action^='/logout'] button").await;
    visitor.reads("You are logged out.").await;
    visitor.browser.goto(url.as_str()).await.unwrap();
    visitor.reads("Nothing is stored about you").await;
    for id in ids {
        shop.secret(&id);
    }
    shop.stop();
}

/// The idle time is over: no error and no other's session, but a new one when there is something to keep.
#[tokio::test(flavor = "multi_thread")]
async fn visitor_whose_session_expired_begins_anew() {
    /// Longer than it takes to log in on a machine that is busy.
    const IDLE: u64 = 10;
    let shop = Shop::start(&["--idle", &IDLE.to_string()]);
    let driver = Driver::start();
    let visitor = Visitor::new(&driver, &shop).await;
    visitor.visit("/").await;
    visitor.add_mug().await;
    visitor.log_in().await;
    let expired = visitor.id().await;
    visitor.visit("/").await;
    // The page is open while its session ends; the form on it is one of a user. There is nothing to wait for but the time: to ask
    // would begin it anew. The store may keep a session a second longer.
    tokio::time::sleep(Duration::from_secs(IDLE + 2)).await;
    visitor.add_mug().await;
    let id = visitor.id().await;
    assert_ne!(id, expired);
    visitor.visit("/cart").await;
    let page = visitor.page().await;
    assert!(!page.contains("/logout"), "nobody is logged in any more");
    assert!(!visitor.is_stored(&expired).await);
    shop.stop();
}
