//! A visitor with a cookie jar of its own, who counts what the shop has acknowledged.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    body::{Body, to_bytes},
    http::{Request, header},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::common::PATIENCE;

/// Products that visitors put into their carts; not all visitors the same.
const PRODUCTS: [&str; 3] = ["mug", "lamp", "tote"];

/// Times that a page is asked for again after an error, before that is a failure of the test.
const RELOADS: u32 = 40;

/// Pieces that a visitor adds at most while it waits for something to happen.
const MOST_ADDITIONS: usize = 12;

/// What becomes of a session whose node is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keeps {
    /// Nothing happens to it: every node has it.
    Session,
    /// It is gone too: another node has an empty cart, and begins a new session.
    Nothing,
}

/// A page of the shop, or a redirect to one.
pub(crate) struct Page {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) set_cookies: Vec<String>,
    pub(crate) body: String,
}

/// Somebody who shops through the balancer, one request after another.
pub(crate) struct Visitor {
    client: Client<HttpConnector, Body>,
    url: String,
    keeps: Keeps,
    number: usize,
    name: String,
    product: &'static str,
    jar: BTreeMap<String, String>,
    /// Pieces in the cart: at least what was acknowledged, at most that and what ended in an error.
    pieces: (u32, u32),
    /// The nodes that answered, without repetitions in a row.
    pub(crate) trail: Vec<String>,
    /// Requests that ended in an error.
    pub(crate) errors: u32,
    /// Every id of a session that this visitor ever had.
    pub(crate) ids: Vec<String>,
}

impl Visitor {
    pub(crate) fn new(url: &str, number: usize, keeps: Keeps) -> Self {
        // A connection for each request: that the balancer closes an idle one just as it is used is the browser's
        // business, which sends again, and not what is tested here.
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .build_http();
        Self {
            client,
            url: url.to_owned(),
            keeps,
            number,
            name: format!("visitor-{number}."),
            product: PRODUCTS[number % PRODUCTS.len()],
            jar: BTreeMap::new(),
            pieces: (0, 0),
            trail: Vec::new(),
            errors: 0,
            ids: Vec::new(),
        }
    }

    /// The node that answered last.
    pub(crate) fn node(&self) -> &str {
        self.trail.last().unwrap()
    }

    /// The value of a cookie in the jar.
    pub(crate) fn cookie(&self, name: &str) -> Option<&str> {
        self.jar.get(name).map(String::as_str)
    }

    /// Puts a cookie into the jar, as somebody who edits it.
    pub(crate) fn forge(&mut self, name: &str, value: &str) {
        self.jar.insert(name.to_owned(), value.to_owned());
    }

    /// Writes the visitor's name into the session.
    pub(crate) async fn sign(&mut self) {
        let name = self.name.clone();
        let form = [("theme", "auto"), ("currency", "eur"), ("note", &name)];
        let answer = self.submit("/preferences", &form).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
    }

    /// Fills in the form of a page that goes to the page's own address, and sends it.
    pub(crate) async fn submit(&mut self, path: &str, entries: &[(&str, &str)]) -> Page {
        let page = self.page(path).await;
        let mut form = fields(form(&page.body, path, ""));
        form.extend(
            entries
                .iter()
                .map(|(name, value)| (String::from(*name), String::from(*value))),
        );
        self.send("POST", path, Some(&form)).await.unwrap()
    }

    /// Fails if the session is not the one that was signed, or its cart not as it should be.
    pub(crate) async fn check(&mut self) {
        let page = self.page("/preferences").await;
        assert_eq!(page.body.matches("visitor-").count(), 1, "{}", page.body);
        assert!(page.body.contains(&self.name), "{}: {}", self.name, page.body);
        self.check_cart().await;
    }

    /// Adds a piece, follows the redirect, looks at the cart.
    pub(crate) async fn shop(&mut self) {
        let list = self.page("/").await;
        self.check_count(&list.body);
        let form = fields(form(&list.body, "/cart/add", self.product));
        match self.send("POST", "/cart/add", Some(&form)).await {
            Ok(added) => {
                assert_eq!(added.status, 303, "{}", added.body);
                self.pieces.0 += 1;
                self.pieces.1 += 1;
                // At once: whichever node answers has what was just acknowledged.
                let list = self.page(&added.location.unwrap()).await;
                self.check_count(&list.body);
            }
            Err(_) => {
                self.errors += 1;
                self.pieces.1 += 1;
            }
        }
        self.check_cart().await;
    }

    /// Looks at the list and at the cart.
    async fn look(&mut self) {
        let list = self.page("/").await;
        self.check_count(&list.body);
        self.check_cart().await;
    }

    async fn check_cart(&mut self) {
        let cart = self.page("/cart").await;
        self.check_count(&cart.body);
        for product in PRODUCTS {
            let mine = product == self.product;
            let is_there = cart.body.contains(&format!("value=\"{product}\""));
            assert!(
                !is_there || mine,
                "{} has another's {product}: {}",
                self.name,
                cart.body
            );
        }
    }

    fn check_count(&self, body: &str) {
        let count = match body.split_once("<span class=\"count\">") {
            Some((_, rest)) => rest.split('<').next().unwrap().parse().unwrap(),
            None => 0,
        };
        let (least, most) = self.pieces;
        assert!(
            (least..=most).contains(&count),
            "{}, on {:?}: {count} pieces instead of {least} to {most}",
            self.name,
            self.trail
        );
    }

    /// A page, asked for again after an error, as a visitor would.
    pub(crate) async fn page(&mut self, path: &str) -> Page {
        for _ in 0..RELOADS {
            match self.send("GET", path, None).await {
                Ok(page) => {
                    assert_eq!(page.status, 200, "{path}: {}", page.body);
                    return page;
                }
                Err(_) => self.errors += 1,
            }
            sleep(Duration::from_millis(10)).await;
        }
        panic!("{path} cannot be had");
    }

    /// One request; the error is the balancer's, or there was no whole answer.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        form: Option<&[(String, String)]>,
    ) -> Result<Page, String> {
        let cookies: Vec<String> = self
            .jar
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url));
        if !cookies.is_empty() {
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        if form.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        let body: Vec<String> = form
            .unwrap_or_default()
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = request.body(Body::from(body.join("&"))).unwrap();
        let response = timeout(PATIENCE, self.client.request(request))
            .await
            .expect("an answer in time")
            .map_err(|error| format!("{error:?}"))?;
        let (head, body) = response.into_parts();
        let body = timeout(PATIENCE, to_bytes(Body::new(body), 1 << 20))
            .await
            .expect("a whole answer in time")
            .map_err(|error| format!("{error:?}"))?;
        let body = String::from_utf8(body.to_vec()).unwrap();
        let Some(node) = head.headers.get("x-node") else {
            assert!(
                (502..=504).contains(&head.status.as_u16()),
                "{}: {body}",
                head.status
            );
            return Err(format!("{}", head.status));
        };
        self.answered_by(node.to_str().unwrap());
        let set_cookies: Vec<String> = head
            .headers
            .get_all(header::SET_COOKIE)
            .iter()
            .map(|value| value.to_str().unwrap().to_owned())
            .collect();
        for cookie in &set_cookies {
            self.keep(cookie);
        }
        let location = head.headers.get(header::LOCATION);
        Ok(Page {
            status: head.status.as_u16(),
            location: location.map(|value| value.to_str().unwrap().to_owned()),
            set_cookies,
            body,
        })
    }

    fn answered_by(&mut self, node: &str) {
        if self.trail.last().is_some_and(|last| last == node) {
            return;
        }
        if self.keeps == Keeps::Nothing {
            self.pieces = (0, 0);
        }
        self.trail.push(node.to_owned());
    }

    fn keep(&mut self, set_cookie: &str) {
        let (name, rest) = set_cookie.split_once('=').unwrap();
        let value = rest.split(';').next().unwrap();
        if name.ends_with("session") {
            assert_eq!(value.len(), 43, "nobody logs out: {set_cookie}");
            assert!(!self.ids.iter().any(|id| id == value), "an id comes back");
            self.ids.push(value.to_owned());
        }
        self.jar.insert(name.to_owned(), value.to_owned());
    }
}

/// All visitors at once, each for some rounds, then `midway` happens while they go on, then as many rounds again. Each
/// visitor's trail begins at the node where it is.
pub(crate) async fn shop_at_once(visitors: &mut Vec<Visitor>, rounds: usize, midway: impl AsyncFnOnce()) {
    let done = Arc::new(Semaphore::new(0));
    let (happened, happens) = watch::channel(false);
    let all = u32::try_from(visitors.len() * rounds).unwrap();
    let mut shopping = JoinSet::new();
    for mut visitor in visitors.drain(..) {
        let done = Arc::clone(&done);
        let happens = happens.clone();
        visitor.trail = visitor.trail.last().cloned().into_iter().collect();
        visitor.errors = 0;
        shopping.spawn(async move {
            for round in 0.. {
                if *happens.borrow() {
                    break;
                }
                // A cart has room for 99 pieces of a product: who waits for long only looks.
                match round < MOST_ADDITIONS {
                    true => visitor.shop().await,
                    false => visitor.look().await,
                }
                done.add_permits(1);
            }
            for _ in 0..rounds {
                visitor.shop().await;
            }
            visitor
        });
    }
    let reached = timeout(PATIENCE, done.acquire_many(all)).await;
    if reached.is_ok() {
        midway().await;
    }
    happened.send_replace(true);
    // If one has failed, this says why.
    *visitors = shopping.join_all().await;
    visitors.sort_unstable_by_key(|visitor| visitor.number);
    reached.expect("the first rounds in time").unwrap().forget();
}

/// The form of a page that goes to `action` and, unless that is empty, is about `product`.
fn form<'p>(page: &'p str, action: &str, product: &str) -> &'p str {
    page.split("<form")
        .skip(1)
        .map(|form| form.split("</form>").next().unwrap())
        .find(|form| {
            form.contains(&format!("action=\"{action}\""))
                && (product.is_empty() || form.contains(&format!("value=\"{product}\"")))
        })
        .unwrap_or_else(|| panic!("no form for {action} {product}: {page}"))
}

/// The hidden fields of a form, whatever they are.
fn fields(form: &str) -> Vec<(String, String)> {
    let attribute = |input: &str, name: &str| {
        let (_, rest) = input.split_once(&format!(" {name}=\"")).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    form.split("<input")
        .skip(1)
        .map(|input| input.split('>').next().unwrap())
        .filter(|input| input.contains("type=\"hidden\""))
        .map(|input| (attribute(input, "name"), attribute(input, "value")))
        .collect()
}
