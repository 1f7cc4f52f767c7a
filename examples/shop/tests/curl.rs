//! The shop as a program, driven by curl over loopback.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use common::{PATIENCE, Shop, command, curl_command, token_in};

/// What the shop answered.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(header, _)| header == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice");
        value
    }

    /// The id that the response sets, if it sets one. `Some("")` is a removal.
    fn id(&self) -> Option<&str> {
        let (name, rest) = self.header("set-cookie")?.split_once('=').unwrap();
        assert!(matches!(name, "session" | "__Host-session"), "{name}");
        Some(rest.split(';').next().unwrap())
    }

    fn new_id(&self) -> String {
        self.id().expect("a session cookie is set").to_owned()
    }
}

/// A curl on its way; several run at once.
struct Curl<'s> {
    shop: &'s Shop,
    child: std::process::Child,
}

impl<'s> Curl<'s> {
    fn start(shop: &'s Shop, path: &str, arguments: &[&str]) -> Self {
        let child = curl_command()
            .args(arguments)
            .arg(format!("{}{path}", shop.url))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("curl is needed: {error}. Debian's package is `curl`; scripts/browser installs it.")
            });
        Self { shop, child }
    }

    fn answer(self) -> Answer {
        let output = self.child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{}: {}{text}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let (mut head, mut body) = text.split_once("\r\n\r\n").expect("a whole response");
        while head.contains(" 100 ") {
            (head, body) = body.split_once("\r\n\r\n").expect("a final response");
        }
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let answer = Answer {
            status,
            headers,
            body: body.to_owned(),
        };
        if let Some(id) = answer.id().filter(|id| !id.is_empty()) {
            self.shop.secret(id);
        }
        self.shop.assert_tells_no_id(&answer.body);
        answer
    }
}

fn curl(shop: &Shop, path: &str, arguments: &[&str]) -> Answer {
    Curl::start(shop, path, arguments).answer()
}

fn cookie(id: &str) -> String {
    format!("session={id}")
}

fn get(shop: &Shop, path: &str, id: &str) -> Answer {
    curl(shop, path, &["--cookie", &cookie(id)])
}

/// Sends a form of the session's page.
fn post<'s>(shop: &'s Shop, path: &str, id: &str, form: &str) -> Curl<'s> {
    post_as_it_is(shop, path, id, &shop.filled_in(id, form))
}

/// Sends a form without the token that its page has.
fn post_as_it_is<'s>(shop: &'s Shop, path: &str, id: &str, form: &str) -> Curl<'s> {
    Curl::start(shop, path, &["--cookie", &cookie(id), "--data", form])
}

/// Adds a mug for a visitor without a session: the id of the one that begins.
fn begin(shop: &Shop) -> String {
    let answer = curl(shop, "/cart/add", &["--data", "product=mug"]);
    assert_eq!(answer.status, 303, "{}", answer.body);
    answer.new_id()
}

const ADA: &str = "name=ada&password=analytical+engine";

const GRACE: &str = "name=grace&password=first+compiler";

/// Logs in: the id of the session.
fn log_in(shop: &Shop, id: &str, form: &str) -> String {
    let answer = post(shop, "/login", id, form).answer();
    assert_eq!(answer.status, 303, "{}", answer.body);
    let id = answer.new_id();
    // Here, so that forms which are sent at once need not wait for it.
    assert!(shop.token(&id).is_some());
    id
}

fn pieces(shop: &Shop, id: &str) -> u32 {
    let page = get(shop, "/cart", id).body;
    let Some((_, count)) = page.split_once("<span class=\"count\">") else {
        return 0;
    };
    count.split('<').next().unwrap().parse().unwrap()
}

fn is_logged_in(page: &Answer) -> bool {
    assert_eq!(page.status, 200, "{}", page.body);
    let (out, inside) = (
        page.body.contains("href=\"/login\""),
        page.body.contains("action=\"/logout\""),
    );
    assert!(out != inside, "{}", page.body);
    inside
}

fn is_stored(shop: &Shop, id: &str) -> bool {
    !get(shop, "/session", id)
        .body
        .contains("Nothing is stored about you")
}

fn file(name: &str, contents: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, contents).unwrap();
    path
}

#[test]
fn visitor_shops_logs_in_orders_and_logs_out() {
    let shop = Shop::start(&[]);
    let first = curl(&shop, "/", &[]);
    assert_eq!(first.status, 200);
    assert_eq!(first.id(), None, "a visitor who keeps nothing gets no session");
    assert!(
        first
            .header("content-security-policy")
            .unwrap()
            .contains("default-src 'self'")
    );
    assert_eq!(first.header("cache-control"), Some("no-store"));

    let anonymous = begin(&shop);
    assert_eq!(
        post(&shop, "/cart/set", &anonymous, "product=lamp&pieces=3")
            .answer()
            .status,
        303
    );
    assert_eq!(
        post(&shop, "/cart/add", &anonymous, "product=tote")
            .answer()
            .status,
        303
    );
    assert_eq!(
        post(&shop, "/cart/remove", &anonymous, "product=tote")
            .answer()
            .status,
        303
    );
    assert_eq!(pieces(&shop, &anonymous), 4);
    let early = get(&shop, "/checkout", &anonymous);
    assert_eq!(early.header("location"), Some("/login?next=checkout"));

    let wrong = post(&shop, "/login", &anonymous, "name=ada&password=guess").answer();
    assert_eq!(wrong.status, 403);
    assert!(
        wrong.body.contains("Name and password do not fit"),
        "{}",
        wrong.body
    );
    assert_eq!(wrong.id(), None);

    let login = post(&shop, "/login", &anonymous, ADA).answer();
    let attributes = login.header("set-cookie").unwrap().to_lowercase();
    for attribute in ["; httponly", "; samesite=lax", "; path=/", "; max-age=28800"] {
        assert!(attributes.contains(attribute), "{attribute}: {attributes}");
    }
    assert!(
        !attributes.contains("secure"),
        "plain HTTP on loopback: {attributes}"
    );
    let id = login.new_id();
    assert_ne!(id, anonymous);
    assert!(
        !is_stored(&shop, &anonymous),
        "the id from before the login is worth nothing"
    );
    assert_eq!(pieces(&shop, &id), 4, "the cart came along");

    let page = get(&shop, "/session", &id);
    for part in [
        "<dd>Ada</dd>",
        "3 × Desk lamp, 1 × Stoneware mug",
        "<code>cart</code>",
        "once, ",
    ] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
    assert_eq!(
        post(&shop, "/checkout", &id, "").answer().header("location"),
        Some("/orders?done=ordered")
    );
    assert!(get(&shop, "/orders", &id).body.contains("Desk lamp"));
    assert_eq!(pieces(&shop, &id), 0);
    // Nothing to order, and no pieces, are neither an order nor a line of the cart.
    let empty = post(&shop, "/checkout", &id, "").answer();
    assert_eq!(empty.header("location"), Some("/cart"));
    post(&shop, "/cart/add", &id, "product=lamp&pieces=0").answer();
    assert!(!get(&shop, "/cart", &id).body.contains("Desk lamp"));

    let logout = post(&shop, "/logout", &id, "").answer();
    assert_eq!(logout.id(), Some(""), "the cookie is removed");
    assert!(!is_logged_in(&get(&shop, "/", &id)));
    assert!(!is_stored(&shop, &id));
    shop.stop();
}

#[test]
fn preferences_are_kept_and_shown() {
    let shop = Shop::start(&[]);
    let id = curl(
        &shop,
        "/preferences",
        &["--data", "theme=dark&currency=jpy&note=ring+twice"],
    )
    .new_id();
    let page = get(&shop, "/session", &id).body;
    for part in ["data-theme=\"dark\"", "Yen (¥)", "ring twice"] {
        assert!(page.contains(part), "{part}: {page}");
    }
    assert!(get(&shop, "/", &id).body.contains("¥2320"));
    let again = post(&shop, "/preferences", &id, "theme=dark&currency=jpy&note=").answer();
    assert_eq!(again.status, 303);
    assert!(!get(&shop, "/session", &id).body.contains("<code>note</code>"));
    let long = format!("theme=dark&currency=jpy&note={}", "x".repeat(201));
    assert_eq!(post(&shop, "/preferences", &id, &long).answer().status, 422);
    shop.stop();
}

#[test]
fn remembered_session_has_its_own_lengths() {
    let shop = Shop::start(&[]);
    let login = curl(&shop, "/login", &["--data", &format!("{ADA}&remember=yes")]);
    assert!(
        login
            .header("set-cookie")
            .unwrap()
            .to_lowercase()
            .contains("max-age=2592000")
    );
    let page = get(&shop, "/session", &login.new_id()).body;
    assert!(
        page.contains("(7 d after a visit)") && page.contains("(30 d after"),
        "{page}"
    );
    shop.stop();
}

#[test]
fn additions_at_the_same_time_all_count() {
    let shop = Shop::start(&[]);
    let id = begin(&shop);
    for round in 1..=10 {
        let both = [(); 2].map(|()| post(&shop, "/cart/add", &id, "product=mug"));
        for addition in both {
            let answer = addition.answer();
            assert_eq!(answer.status, 303, "{}", answer.body);
            assert_eq!(answer.id(), None, "the session keeps its id");
        }
        assert_eq!(pieces(&shop, &id), 1 + 2 * round);
    }
    let many = [(); 8].map(|()| post(&shop, "/cart/add", &id, "product=lamp"));
    for addition in many {
        assert_eq!(addition.answer().status, 303);
    }
    assert_eq!(pieces(&shop, &id), 29);
    shop.stop();
}

#[test]
fn logout_wins_every_race_with_an_addition() {
    let shop = Shop::start(&[]);
    for _ in 0..30 {
        let id = log_in(&shop, &begin(&shop), ADA);
        let add = || post(&shop, "/cart/add", &id, "product=lamp");
        let before = [add(), add()];
        let logout = post(&shop, "/logout", &id, "");
        let after = add();
        assert_eq!(logout.answer().status, 303);
        for addition in before.into_iter().chain([after]) {
            let answer = addition.answer();
            match answer.status {
                // Before the logout, or after it, in a session of its own that has nothing of the old one.
                303 => {
                    if let Some(new) = answer.id() {
                        assert_ne!(new, id);
                        assert!(!is_logged_in(&get(&shop, "/", new)));
                        assert_eq!(pieces(&shop, new), 1);
                    }
                }
                // At the same time.
                409 => assert_says_gone(&answer),
                _ => panic!("{}: {}", answer.status, answer.body),
            }
        }
        assert!(!is_logged_in(&get(&shop, "/", &id)));
        assert!(!is_stored(&shop, &id), "nothing brought the session back");
    }
    shop.stop();
}

/// A login takes long between reading the session and writing it (it hashes a password), so that a logout which is sent
/// a little later mostly falls in between.
#[test]
fn logout_wins_every_race_with_a_login() {
    let shop = Shop::start(&[]);
    for _ in 0..10 {
        let id = log_in(&shop, &begin(&shop), ADA);
        let login = post(&shop, "/login", &id, GRACE);
        let logout = post(&shop, "/logout", &id, "");
        assert_eq!(logout.answer().status, 303);
        let answer = login.answer();
        match answer.status {
            // Before the logout or after it.
            303 => assert_eq!(pieces(&shop, &answer.new_id()), 0, "nothing of the other user"),
            409 => assert_says_gone(&answer),
            _ => panic!("{}: {}", answer.status, answer.body),
        }
        assert!(!is_logged_in(&get(&shop, "/", &id)));
        assert!(!is_stored(&shop, &id), "nothing brought the session back");
    }
    shop.stop();
}

fn assert_says_gone(answer: &Answer) {
    let body = &answer.body;
    assert!(
        body.contains("You have been logged out") && body.contains("href=\"/login\""),
        "{body}"
    );
    assert_eq!(answer.id(), None);
}

#[test]
fn logout_everywhere_and_elsewhere_end_the_users_sessions_and_nobody_elses() {
    let shop = Shop::start(&[]);
    let [here, there] = [(); 2].map(|()| log_in(&shop, "", ADA));
    let grace = log_in(&shop, "", GRACE);
    assert!(
        get(&shop, "/session", &here)
            .body
            .contains("You have 2, this one included")
    );
    assert_eq!(post(&shop, "/logout/elsewhere", &here, "").answer().status, 303);
    assert!(is_stored(&shop, &here) && !is_stored(&shop, &there));
    let there = log_in(&shop, "", ADA);
    let everywhere = post(&shop, "/logout/everywhere", &here, "").answer();
    assert_eq!(everywhere.id(), Some(""));
    assert!(!is_stored(&shop, &here) && !is_stored(&shop, &there));
    assert!(is_logged_in(&get(&shop, "/", &grace)));
    let nobody = curl(&shop, "/logout/everywhere", &["--data", ""]);
    assert_eq!(nobody.header("location"), Some("/login"));
    shop.stop();
}

#[test]
fn another_user_gets_nothing_of_the_one_before() {
    let shop = Shop::start(&[]);
    let ada = log_in(&shop, &begin(&shop), ADA);
    let grace = log_in(&shop, &ada, GRACE);
    assert_eq!(pieces(&shop, &grace), 0);
    assert!(!is_stored(&shop, &ada));
    shop.stop();
}

#[test]
fn renewed_session_keeps_everything_but_its_id() {
    let shop = Shop::start(&[]);
    let id = begin(&shop);
    let new = post(&shop, "/session/renew", &id, "").answer().new_id();
    assert_ne!(new, id);
    assert_eq!(pieces(&shop, &new), 1);
    assert!(!is_stored(&shop, &id));
    assert_eq!(
        curl(&shop, "/session/renew", &["--data", ""]).id(),
        None,
        "nothing to renew"
    );
    shop.stop();
}

#[test]
fn made_up_and_damaged_cookies_are_never_adopted() {
    let shop = Shop::start(&[]);
    let id = begin(&shop);
    let made_up = "A".repeat(43);
    shop.secret(&made_up);
    let other = begin(&shop);
    let cookies = [
        format!("session={made_up}"),
        format!("session={}", &id[..42]),
        format!("session={id}A"),
        format!("session={id}{}", "A".repeat(5000)),
        format!("session={id}; session={other}"),
        format!("session={id}; session={made_up}"),
        "session=".to_owned(),
        "session".to_owned(),
        "session=%41; =; ;;".to_owned(),
        "session=\u{e9}".to_owned(),
    ];
    for cookie in &cookies {
        let header = format!("Cookie: {cookie}");
        let page = curl(&shop, "/cart", &["--header", &header]);
        assert_eq!((page.status, page.id()), (200, None), "{cookie}");
        assert!(page.body.contains("It is empty"), "{cookie}");
        let added = curl(
            &shop,
            "/cart/add",
            &["--header", &header, "--data", "product=mug"],
        );
        let new = added.new_id();
        assert!(new != id && new != other && new != made_up, "{cookie}");
        assert_eq!(pieces(&shop, &new), 1, "{cookie}");
    }
    assert!(!is_stored(&shop, &made_up));
    assert_eq!(
        (pieces(&shop, &id), pieces(&shop, &other)),
        (1, 1),
        "the real ones are as they were"
    );
    let twice = format!("Cookie: session={id}");
    let answer = curl(
        &shop,
        "/cart",
        &[
            "--header",
            &twice,
            "--header",
            &format!("cookie: session={other}"),
        ],
    );
    assert!(answer.body.contains("It is empty"));
    shop.stop();
}

#[test]
fn oversized_requests_are_refused_and_hurt_nobody() {
    let shop = Shop::start(&[]);
    let id = begin(&shop);
    let long = file("long-cookie", &format!("Cookie: session={}", "A".repeat(100_000)));
    let page = curl(&shop, "/cart", &["--header", &format!("@{}", long.display())]);
    assert_eq!((page.status, page.id()), (200, None));
    let longer = file(
        "longer-cookie",
        &format!("Cookie: session={}", "A".repeat(900_000)),
    );
    let refused = curl(&shop, "/cart", &["--header", &format!("@{}", longer.display())]);
    assert_eq!(refused.status, 431);

    let form = file("long-form", &format!("product=mug&x={}", "x".repeat(100_000)));
    let data = format!("@{}", form.display());
    let refused = curl(
        &shop,
        "/cart/add",
        &["--cookie", &cookie(&id), "--data", &data, "--header", "Expect:"],
    );
    assert_eq!(refused.status, 413, "{}", refused.body);
    assert_eq!(pieces(&shop, &id), 1);
    shop.stop();
}

#[test]
fn wrong_requests_get_a_page_that_says_so() {
    let shop = Shop::start(&[]);
    let add = |arguments: &[&str]| curl(&shop, "/cart/add", arguments).status;
    assert_eq!(curl(&shop, "/nowhere", &[]).status, 404);
    assert_eq!(curl(&shop, "/<script>", &[]).status, 400);
    assert_eq!(
        curl(&shop, "/", &["--header", "Cookie: session=\u{1}"]).status,
        400
    );
    let wrong = curl(&shop, "/cart/add", &[]);
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
    assert!(wrong.body.contains("<h1>"), "{}", wrong.body);
    assert_eq!(add(&["--data", "product=vinyl"]), 404);
    assert_eq!(add(&["--data", ""]), 422);
    assert_eq!(add(&["--data", "product=mug&product=mug"]), 422);
    assert_eq!(add(&["--data", "product=mug&pieces=-1"]), 422);
    assert_eq!(add(&["--data", "product=mug&pieces=4294967296"]), 422);
    assert_eq!(add(&["--data", "%ff%00=%zz"]), 422);
    assert_eq!(add(&["--json", "{\"product\":\"mug\"}"]), 415);
    assert_eq!(
        curl(
            &shop,
            "/preferences",
            &["--data", "theme=pink&currency=eur&note="]
        )
        .status,
        422
    );

    let mut socket = TcpStream::connect(shop.authority()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.write_all(b"\x16\x03\x01 garbage\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(curl(&shop, "/", &[]).status, 200);
    shop.stop();
}

#[test]
fn forms_of_other_sites_are_refused() {
    let shop = Shop::start(&[]);
    let id = begin(&shop);
    for header in [
        "Sec-Fetch-Site: cross-site",
        "Origin: http://evil.example",
        "Origin: null",
    ] {
        let arguments = [
            "--cookie",
            &cookie(&id),
            "--header",
            header,
            "--data",
            "product=mug",
        ];
        assert_eq!(curl(&shop, "/cart/add", &arguments).status, 403, "{header}");
    }
    assert_eq!(pieces(&shop, &id), 1);
    let origin = format!("Origin: {}", shop.url);
    let arguments = [
        "--cookie",
        &cookie(&id),
        "--header",
        &origin,
        "--data",
        "product=mug",
    ];
    assert_eq!(curl(&shop, "/cart/add", &arguments).status, 303);
    shop.stop();
}

fn assert_says_out_of_date(answer: &Answer) {
    assert_eq!((answer.status, answer.id()), (403, None), "{}", answer.body);
    let says = "This form is out of date";
    assert!(
        answer.body.contains(says) && answer.body.contains("reload"),
        "{}",
        answer.body
    );
}

/// Two tabs: in one, a page from before the login; in the other, the login.
#[test]
fn form_from_before_the_login_is_refused_after_it() {
    let shop = Shop::start(&[]);
    let guest = begin(&shop);
    let before = get(&shop, "/", &guest);
    assert_eq!(token_in(&before.body), None, "a guest's forms have none");
    let id = log_in(&shop, &guest, ADA);
    for (path, form) in [
        ("/cart/add", "product=lamp"),
        ("/cart/set", "product=mug&pieces=9"),
        ("/cart/remove", "product=mug"),
        ("/checkout", ""),
        ("/preferences", "theme=dark&currency=jpy&note=x"),
        ("/login", GRACE),
        ("/session/renew", ""),
        ("/logout", ""),
        ("/logout/elsewhere", ""),
        ("/logout/everywhere", ""),
    ] {
        assert_says_out_of_date(&post_as_it_is(&shop, path, &id, form).answer());
    }
    assert_eq!(pieces(&shop, &id), 1);
    let page = get(&shop, "/session", &id);
    assert!(page.body.contains("1 × Stoneware mug") && page.body.contains("<dd>Ada</dd>"));
    // As the page says: reload, and send it again.
    assert_eq!(post(&shop, "/cart/add", &id, "product=lamp").answer().status, 303);
    assert_eq!(pieces(&shop, &id), 2);
    let log = shop.stop();
    assert!(
        log.contains("event=\"csrf_refused\" reason=\"token_missing\""),
        "{log}"
    );
}

#[test]
fn token_of_another_session_is_refused_and_its_own_outlives_a_new_id() {
    let shop = Shop::start(&[]);
    let [here, there] = [(); 2].map(|()| log_in(&shop, "", ADA));
    let token = shop.token(&here).unwrap();
    let form = format!("product=mug&csrf_token={token}");
    assert_says_out_of_date(&post_as_it_is(&shop, "/cart/add", &there, &form).answer());
    assert_eq!(
        post_as_it_is(&shop, "/cart/add", &here, &form).answer().status,
        303
    );
    // A page that was opened before the id was renewed.
    let renewed = post(&shop, "/session/renew", &here, "").answer().new_id();
    assert_eq!(
        post_as_it_is(&shop, "/cart/add", &renewed, &form).answer().status,
        303
    );
    // For scripts.
    let header = format!("X-CSRF-Token: {token}");
    let arguments = [
        "--cookie",
        &cookie(&renewed),
        "--header",
        &header,
        "--data",
        "product=mug",
    ];
    assert_eq!(curl(&shop, "/cart/add", &arguments).status, 303);
    assert_eq!((pieces(&shop, &renewed), pieces(&shop, &there)), (3, 0));
    // Every page has another text, and keeps its secret to itself.
    let page = get(&shop, "/session", &renewed).body;
    assert_ne!(token_in(&page), Some(token.clone()));
    assert!(page.contains("what tells your forms from forged ones"), "{page}");
    let log = shop.stop();
    assert!(!log.contains(&token), "a token is in the log");
}

#[test]
fn every_form_of_a_user_has_the_token() {
    let shop = Shop::start(&[]);
    let id = log_in(&shop, &begin(&shop), ADA);
    let mut actions = Vec::new();
    for path in ["/", "/cart", "/checkout", "/preferences", "/login", "/session"] {
        let page = get(&shop, path, &id).body;
        for form in page.split("<form").skip(1) {
            let form = form.split("</form>").next().unwrap();
            assert_eq!(form.matches("csrf_token").count(), 1, "{path}: {form}");
            let (_, action) = form.split_once("action=\"").unwrap();
            actions.push(action.split('"').next().unwrap().to_owned());
        }
    }
    actions.sort();
    actions.dedup();
    assert_eq!(actions.len(), 10, "{actions:?}");
    shop.stop();
}

#[test]
fn oversized_form_of_a_user_is_refused_with_a_page() {
    let shop = Shop::start(&[]);
    let id = log_in(&shop, "", ADA);
    let form = file(
        "long-form-of-a-user",
        &format!("product=mug&x={}", "x".repeat(100_000)),
    );
    let data = format!("@{}", form.display());
    let refused = curl(
        &shop,
        "/cart/add",
        &["--cookie", &cookie(&id), "--data", &data, "--header", "Expect:"],
    );
    assert_eq!(refused.status, 413);
    assert!(refused.body.contains("That is too much"), "{}", refused.body);
    shop.stop();
}

#[test]
fn cookie_behind_an_https_proxy_is_secure() {
    let shop = Shop::start(&["--https-proxy"]);
    let answer = curl(&shop, "/cart/add", &["--data", "product=mug"]);
    let set = answer.header("set-cookie").unwrap();
    assert!(set.starts_with("__Host-session="), "the prefix");
    assert!(set.to_lowercase().contains("; secure"), "the attribute");
    let id = answer.new_id();
    let page = curl(&shop, "/cart", &["--cookie", &format!("__Host-session={id}")]);
    assert!(page.body.contains("Stoneware mug"));
    assert!(
        get(&shop, "/cart", &id).body.contains("It is empty"),
        "under the other name it is nothing"
    );
    shop.stop();
}

#[test]
fn log_tells_routes_and_outcomes_but_no_secret() {
    let shop = Shop::start(&[]);
    let id = log_in(&shop, &begin(&shop), ADA);
    post(&shop, "/login", &id, "name=hunter2&password=swordfish").answer();
    curl(&shop, "/s3cret-path", &[]);
    let truncated = &id[..42];
    get(&shop, "/cart", truncated);
    let log = shop.stop();
    assert!(log.contains("route=\"/cart/add\""), "{log}");
    assert!(log.contains("a login was refused"), "{log}");
    for secret in ["hunter2", "swordfish", "analytical", "s3cret", truncated] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

/// The block of shell in the README, line by line as it stands there, but for the address.
#[test]
fn commands_of_the_readme_work() {
    let shop = Shop::start(&[]);
    let readme = include_str!("../README.md");
    let block = |start: &str| {
        let (_, rest) = readme.split_once(start).unwrap();
        rest.split_once("```").unwrap().0
    };
    let commands = block("```sh\n");
    let promised = block("It ends with\n\n```text\n");
    assert!(commands.contains("http://127.0.0.1:3000"));
    let script = format!("set -e\n{}", commands.replace("http://127.0.0.1:3000", &shop.url));
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("readme-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(&directory)
        .output()
        .unwrap();
    fs::remove_dir_all(&directory).unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{printed}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(printed, promised);
    shop.stop();
}

#[test]
fn wrong_store_is_named_with_what_is_possible() {
    for (store, says) in [
        ("mongodb://ann:hunter2@127.0.0.1/", "\"mongodb\""),
        ("memory", "scheme"),
        ("memory:x", "memory:"),
    ] {
        let output = command().args(["--store", store]).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            text.contains(says) && text.contains("built with: memory:"),
            "{text}"
        );
        assert!(!text.contains("hunter2") && output.stdout.is_empty(), "{text}");
    }
}

#[test]
fn taken_port_is_named_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let output = command()
        .args(["--listen", &address.to_string(), "--store", "memory:"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains(&format!("port {} of 127.0.0.1 is taken", address.port())),
        "{text}"
    );
    assert!(text.contains("--listen") && output.stdout.is_empty(), "{text}");
}

#[test]
fn help_version_and_nonsense() {
    let run = |option: &str| command().arg(option).output().unwrap();
    let help = run("--help");
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    for option in [
        "--listen",
        "--store",
        "--https-proxy",
        "--node",
        "--drain",
        "--log",
        "--version",
    ] {
        assert!(text.contains(option), "{option}: {text}");
    }
    let version = run("--version");
    assert_eq!(
        version.stdout,
        concat!("shop ", env!("CARGO_PKG_VERSION"), "\n").as_bytes()
    );
    let nonsense = run("--colour");
    assert_eq!(nonsense.status.code(), Some(2));
    assert!(String::from_utf8(nonsense.stderr).unwrap().contains("--colour"));
}

/// A request whose head has been read and whose body the shop waits for.
fn half_a_request(shop: &Shop, id: &str) -> TcpStream {
    let mut socket = TcpStream::connect(shop.authority()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!(
        "POST /cart/add HTTP/1.1\r\nhost: shop\r\ncookie: session={id}\r\nexpect: 100-continue\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: 11\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 25];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    socket
}

#[test]
fn stopping_shop_answers_the_requests_in_flight() {
    let mut shop = Shop::start(&[]);
    let id = begin(&shop);
    let idle = TcpStream::connect(shop.authority()).unwrap();
    let mut socket = half_a_request(&shop, &id);
    shop.terminate();
    // It stops listening as it begins to stop.
    let asked = Instant::now();
    while TcpStream::connect(shop.authority())
        .map_err(|error| error.kind())
        .err()
        != Some(ErrorKind::ConnectionRefused)
    {
        assert!(asked.elapsed() < PATIENCE, "the shop still listens");
    }
    socket.write_all(b"product=mug").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 303"), "{answer}");
    drop(idle);
    let (status, log) = shop.ended();
    assert!(
        status.success() && log.contains("stopped") && !log.contains("they are cut"),
        "{status}\n{log}"
    );
}

#[test]
fn draining_shop_serves_until_it_is_told_again() {
    let mut shop = Shop::start(&["--node", "a", "--drain", "3600"]);
    let id = begin(&shop);
    let page = get(&shop, "/cart", &id);
    assert_eq!(
        (page.header("x-node"), page.header("connection")),
        (Some("a"), None)
    );
    assert_eq!(curl(&shop, "/readyz", &[]).status, 200);
    shop.terminate();
    let asked = Instant::now();
    while curl(&shop, "/readyz", &[]).status != 503 {
        assert!(asked.elapsed() < PATIENCE, "the shop is ready as ever");
    }
    assert_eq!(curl(&shop, "/healthz", &[]).status, 200);
    let added = post(&shop, "/cart/add", &id, "product=mug").answer();
    assert_eq!(added.status, 303, "{}", added.body);
    assert_eq!(added.header("connection"), Some("close"));
    assert_eq!(pieces(&shop, &id), 2);
    shop.terminate();
    let (status, log) = shop.ended();
    assert!(
        status.success() && log.contains("draining") && log.contains("stopped"),
        "{status}\n{log}"
    );
}

#[test]
fn drain_ends_by_itself() {
    let mut shop = Shop::start(&["--drain", "1"]);
    shop.terminate();
    let (status, log) = shop.ended();
    assert!(status.success() && log.contains("draining"), "{status}\n{log}");
}

#[test]
fn interrupted_shop_ends_well() {
    let mut shop = Shop::start(&[]);
    curl(&shop, "/", &[]);
    shop.signal("INT");
    let (status, log) = shop.ended();
    assert!(status.success() && log.contains("stopped"), "{status}\n{log}");
}

#[test]
fn stopping_shop_does_not_wait_for_ever() {
    let mut shop = Shop::start(&[]);
    let id = begin(&shop);
    let _never_sent = half_a_request(&shop, &id);
    shop.terminate();
    let (status, log) = shop.ended();
    assert!(
        status.success() && log.contains("they are cut"),
        "{status}\n{log}"
    );
}
