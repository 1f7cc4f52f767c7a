//! Three shops behind the real nginx and HAProxy, with the configurations of `deploy/`, while one node is killed, comes
//! back, and another is drained.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "../common/mod.rs"]
mod common;
mod front;
mod nodes;
mod visitor;

use front::{Front, session_cookie};
use nodes::{NAMES, Nodes};
use session_testbed::{Kind, RedisServer};
use visitor::{Keeps, Visitor, shop_at_once};

/// Visitors at once. More than there are nodes, so that each has some by any way of choosing.
const VISITORS: usize = 16;

/// How a balancer chooses the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stickiness {
    /// Each request goes to the next.
    None,
    /// Where a visitor has moved it stays.
    Stays,
    /// A visitor moves back when its node comes back.
    ComesBack,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_round_robin_over_a_central_store_loses_nothing() {
    central("nginx/round-robin.conf", Stickiness::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_round_robin_over_a_central_store_loses_nothing() {
    central("haproxy/round-robin.cfg", Stickiness::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_hash_over_a_central_store_keeps_visitors_and_loses_nothing() {
    central("nginx/sticky.conf", Stickiness::ComesBack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_cookie_over_a_central_store_keeps_visitors_and_loses_nothing() {
    central("haproxy/sticky-cookie.cfg", Stickiness::Stays).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_table_over_a_central_store_keeps_visitors_and_loses_nothing() {
    central("haproxy/sticky-table.cfg", Stickiness::Stays).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nginx_hash_alone_loses_a_node_s_sessions_and_no_other() {
    alone("nginx/sticky.conf", Stickiness::ComesBack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_cookie_alone_loses_a_node_s_sessions_and_no_other() {
    alone("haproxy/sticky-cookie.cfg", Stickiness::Stays).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn haproxy_table_alone_loses_a_node_s_sessions_and_no_other() {
    alone("haproxy/sticky-table.cfg", Stickiness::Stays).await;
}

/// Every node has every session: nothing that was acknowledged is ever missing.
async fn central(configuration: &str, stickiness: Stickiness) {
    let redis = RedisServer::shared(Kind::Redis).await.unwrap();
    // Long deadlines, as on a machine that is busy with other tests.
    let store = format!("{}?read_ms=10000&write_ms=10000", redis.url());
    let mut nodes = Nodes::start(&store, &[]);
    let mut front = Front::start(configuration, nodes.ports(), false);
    let mut visitors = visitors(&front, Keeps::Session).await;

    shop_at_once(&mut visitors, 2, async || {}).await;
    assert_no_errors(&visitors);
    match stickiness {
        // All together: by chance one visitor's requests may go to one node.
        Stickiness::None => {
            let moves: usize = visitors.iter().map(|visitor| visitor.trail.len()).sum();
            assert!(moves > 3 * visitors.len(), "{moves}");
        }
        _ => {
            for visitor in &visitors {
                assert_eq!(visitor.trail.len(), 1, "{:?}", visitor.trail);
            }
        }
    }
    assert_all_nodes_answered(&visitors, stickiness);

    let dies = busiest(&visitors, &[]);
    let before = places(&visitors);
    shop_at_once(&mut visitors, 3, async || nodes.kill(dies)).await;
    assert_few_errors(&visitors);
    if stickiness != Stickiness::None {
        assert_moved_once_from(dies, &before, &visitors);
    }

    nodes.start_again(dies);
    until_seen(&front, dies).await;
    let away = places(&visitors);
    shop_at_once(&mut visitors, 2, async || {}).await;
    assert_no_errors(&visitors);
    match stickiness {
        Stickiness::None => assert_all_nodes_answered(&visitors, stickiness),
        Stickiness::Stays => assert_eq!(places_since(&visitors), away),
        Stickiness::ComesBack => assert_at_most_back(dies, &before, &visitors),
    }

    let leaves = busiest(&visitors, &[dies]);
    let before = places(&visitors);
    shop_at_once(&mut visitors, 3, async || {
        if configuration.starts_with("nginx/") {
            front.take_out(leaves);
        } else {
            // The node says that it is leaving, and goes when HAProxy has heard it.
            nodes.terminate(leaves);
            front.until_left(leaves);
        }
        nodes.stop(leaves);
    })
    .await;
    assert_no_errors(&visitors);
    if stickiness != Stickiness::None {
        // By hash, some may move back in this phase who have not before.
        if stickiness == Stickiness::Stays {
            assert_moved_once_from(leaves, &before, &visitors);
        }
        assert!(visitors.iter().all(|visitor| visitor.node() != leaves));
    }

    for visitor in &mut visitors {
        visitor.check().await;
        assert_eq!(
            visitor.ids.len(),
            1,
            "one session, from the first to the last request"
        );
    }
    end(front, nodes, &visitors);
}

/// Each node has its own sessions: what a node had dies with it, and nothing else happens to anybody.
async fn alone(configuration: &str, stickiness: Stickiness) {
    let mut nodes = Nodes::start("memory:", &[]);
    let front = Front::start(configuration, nodes.ports(), false);
    let mut visitors = visitors(&front, Keeps::Nothing).await;

    shop_at_once(&mut visitors, 2, async || {}).await;
    assert_no_errors(&visitors);
    assert!(visitors.iter().all(|visitor| visitor.trail.len() == 1));
    assert_all_nodes_answered(&visitors, stickiness);

    let dies = busiest(&visitors, &[]);
    let before = places(&visitors);
    shop_at_once(&mut visitors, 3, async || nodes.kill(dies)).await;
    assert_few_errors(&visitors);
    assert_moved_once_from(dies, &before, &visitors);
    for (visitor, before) in visitors.iter().zip(&before) {
        // A session of its own for whoever lost one, and the old one for everybody else.
        let sessions = if before == dies { 2 } else { 1 };
        assert_eq!(visitor.ids.len(), sessions, "{:?}", visitor.trail);
    }

    nodes.start_again(dies);
    until_seen(&front, dies).await;
    let away = places(&visitors);
    shop_at_once(&mut visitors, 2, async || {}).await;
    assert_no_errors(&visitors);
    if stickiness == Stickiness::ComesBack {
        assert_at_most_back(dies, &before, &visitors);
        return end(front, nodes, &visitors);
    }
    assert_eq!(places_since(&visitors), away);

    // HAProxy's own way of draining: nobody new, and those who are there stay.
    let leaves = busiest(&visitors, &[dies]);
    let before = places(&visitors);
    shop_at_once(&mut visitors, 3, async || {
        assert_eq!(
            front
                .admin(&format!("set server shop/{leaves} state drain"))
                .trim(),
            ""
        );
        for number in 0..6 {
            let mut newcomer = Visitor::new(&front.url, number, Keeps::Nothing);
            newcomer.shop().await;
            assert_ne!(newcomer.node(), leaves);
        }
    })
    .await;
    assert_no_errors(&visitors);
    assert_eq!(places_since(&visitors), before);
    end(front, nodes, &visitors);
}

/// Behind an HTTPS proxy the hint is as well kept as the session, and tells and allows nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hint_is_a_guarded_cookie_without_authority() {
    for configuration in ["nginx/sticky.conf", "haproxy/sticky-cookie.cfg"] {
        let nodes = Nodes::start("memory:", &["--https-proxy"]);
        let front = Front::start(configuration, nodes.ports(), true);
        let mut visitor = Visitor::new(&front.url, 0, Keeps::Nothing);
        let first = visitor.page("/").await;
        let hint = first
            .set_cookies
            .iter()
            .find(|cookie| cookie.starts_with("shop_hint="));
        let attributes = hint.unwrap().to_lowercase();
        for attribute in ["; secure", "; httponly", "; samesite=lax", "; path=/"] {
            assert!(attributes.contains(attribute), "{attribute}: {attributes}");
        }
        for port in nodes.ports() {
            assert!(!attributes.contains(&port.to_string()), "{attributes}");
        }
        visitor.shop().await;
        visitor.shop().await;
        let home = visitor.node().to_owned();
        let hint = visitor.cookie("shop_hint").unwrap().to_owned();
        let id = visitor.cookie(session_cookie(true)).unwrap().to_owned();
        assert!(!hint.contains(&id));

        // Somebody else's hint leads to the node, and to nothing there.
        let mut curious = Visitor::new(&front.url, 1, Keeps::Nothing);
        curious.forge("shop_hint", &hint);
        let cart = curious.page("/cart").await;
        assert_eq!(curious.node(), home);
        assert!(cart.body.contains("It is empty"), "{}", cart.body);

        // One that is made up leads anywhere, and is replaced.
        for made_up in ["d", "127.0.0.1:80", "", "%0d%0a", &"a".repeat(500)] {
            let mut confused = Visitor::new(&front.url, 2, Keeps::Nothing);
            confused.forge("shop_hint", made_up);
            confused.shop().await;
            assert_ne!(confused.cookie("shop_hint").unwrap(), made_up);
            assert_eq!(confused.trail.len(), 1);
        }
        visitor.shop().await;
        assert_eq!(visitor.trail, [home]);
        end(front, nodes, &[visitor]);
    }
}

/// HAProxy's table knows the session by the cookie that the shop sets behind an HTTPS proxy too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn table_follows_the_session_behind_an_https_proxy_and_holds_no_id() {
    let nodes = Nodes::start("memory:", &["--https-proxy"]);
    let front = Front::start("haproxy/sticky-table.cfg", nodes.ports(), true);
    let mut visitors: Vec<_> = (0..6)
        .map(|number| Visitor::new(&front.url, number, Keeps::Nothing))
        .collect();
    for visitor in &mut visitors {
        visitor.sign().await;
        visitor.trail.clear();
        visitor.check().await;
        visitor.shop().await;
        // A new id, in the same place.
        let login = [("name", "ada"), ("password", "analytical+engine")];
        let login = visitor.submit("/login", &login).await;
        assert_eq!(login.status, 303, "{}", login.body);
        assert_eq!(visitor.ids.len(), 2);
        visitor.check().await;
        visitor.shop().await;
        assert_eq!(visitor.trail.len(), 1, "{:?}", visitor.trail);
    }
    let table = front.admin("show table shop");
    assert!(table.contains("used:12"), "{table}");
    for id in visitors.iter().flat_map(|visitor| &visitor.ids) {
        assert!(!table.contains(id), "{table}");
    }
    end(front, nodes, &visitors);
}

async fn visitors(front: &Front, keeps: Keeps) -> Vec<Visitor> {
    let mut visitors = Vec::new();
    for number in 0..VISITORS {
        let mut visitor = Visitor::new(&front.url, number, keeps);
        visitor.sign().await;
        if keeps == Keeps::Nothing {
            // By table, it is only the session's first request that binds.
            visitor.trail = vec![visitor.node().to_owned()];
        }
        visitors.push(visitor);
    }
    visitors
}

/// Waits until a node serves new visitors again.
async fn until_seen(front: &Front, node: &str) {
    for number in 0.. {
        let mut visitor = Visitor::new(&front.url, number, Keeps::Nothing);
        visitor.page("/").await;
        if visitor.node() == node {
            return;
        }
        assert!(number < 5_000, "{node} does not come back");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Stops everything. No log may hold the id of a session.
fn end(front: Front, nodes: Nodes, visitors: &[Visitor]) {
    let said = front.stop();
    let ids = || visitors.iter().flat_map(|visitor| &visitor.ids);
    assert!(ids().count() >= visitors.len());
    for id in ids() {
        assert!(!said.contains(id.as_str()), "an id is in the balancer's log");
    }
    nodes.end(ids());
}

/// The node, of those that are not excepted, that most visitors are on.
fn busiest(visitors: &[Visitor], except: &[&str]) -> &'static str {
    let here = |name: &str| visitors.iter().filter(|visitor| visitor.node() == name).count();
    let others = NAMES.into_iter().filter(|name| !except.contains(name));
    let busiest = others.max_by_key(|name| here(name)).unwrap();
    assert!(here(busiest) > 0);
    busiest
}

/// Where each visitor is.
fn places(visitors: &[Visitor]) -> Vec<String> {
    visitors.iter().map(|visitor| visitor.node().to_owned()).collect()
}

/// Where each visitor was all the time.
fn places_since(visitors: &[Visitor]) -> Vec<String> {
    visitors
        .iter()
        .map(|visitor| visitor.trail.join(", then "))
        .collect()
}

fn assert_all_nodes_answered(visitors: &[Visitor], stickiness: Stickiness) {
    for name in NAMES {
        let seen = visitors
            .iter()
            .flat_map(|visitor| &visitor.trail)
            .any(|node| node == name);
        // By hash, a node may have no luck.
        assert!(
            seen || stickiness == Stickiness::ComesBack,
            "{name} never answered"
        );
    }
}

fn assert_no_errors(visitors: &[Visitor]) {
    for visitor in visitors {
        assert_eq!(visitor.errors, 0);
    }
}

/// A visitor has one request on its way when the node dies, and it may meet, once more, a connection that the balancer
/// has not yet seen closed.
fn assert_few_errors(visitors: &[Visitor]) {
    for visitor in visitors {
        assert!(visitor.errors <= 2, "{} errors", visitor.errors);
    }
}

/// Whoever was on the node that went is on one other since; nobody else moved.
fn assert_moved_once_from(gone: &str, before: &[String], visitors: &[Visitor]) {
    for (visitor, before) in visitors.iter().zip(before) {
        let trail = &visitor.trail;
        assert_eq!(trail[0], *before);
        match before == gone {
            true => assert!(trail.len() == 2 && trail[1] != gone, "{trail:?}"),
            false => assert_eq!(trail.len(), 1, "{trail:?}"),
        }
    }
}

/// Whoever was on the node that has come back may be there again; nobody else moved.
fn assert_at_most_back(back: &str, before: &[String], visitors: &[Visitor]) {
    for (visitor, before) in visitors.iter().zip(before) {
        let trail = &visitor.trail;
        match before == back {
            true => assert!(trail.len() == 1 || trail[1..] == [back], "{trail:?}"),
            false => assert_eq!(trail.len(), 1, "{trail:?}"),
        }
    }
}
