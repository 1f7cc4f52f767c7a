//! Three shops, by the names that they and the balancer's configuration have for them.

use session_testbed::free_port;

use crate::{common::Shop, front::wait_until};

/// The names of the nodes.
pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

/// Three shops, some of which may be away.
pub(crate) struct Nodes {
    options: Vec<String>,
    nodes: [(u16, Option<Shop>); 3],
}

impl Nodes {
    pub(crate) fn start(store: &str, options: &[&str]) -> Self {
        let mut all = vec!["--store", store, "--log", "info"];
        // Longer than any test: what is drained here is told when to go.
        all.extend(["--drain", "3600"]);
        all.extend(options);
        let options: Vec<String> = all.into_iter().map(str::to_owned).collect();
        let nodes = NAMES.map(|name| {
            let port = free_port().unwrap();
            (port, Some(launch(name, port, &options)))
        });
        Self { options, nodes }
    }

    pub(crate) fn ports(&self) -> [u16; 3] {
        [self.nodes[0].0, self.nodes[1].0, self.nodes[2].0]
    }

    /// Ends a node without a word, as a machine that loses power.
    pub(crate) fn kill(&mut self, name: &str) {
        let mut shop = self.of(name).1.take().unwrap();
        shop.signal("KILL");
        shop.ended();
    }

    /// Starts a node that is away, where it was.
    pub(crate) fn start_again(&mut self, name: &str) {
        let options = self.options.clone();
        let node = self.of(name);
        assert!(node.1.is_none());
        node.1 = Some(launch(name, node.0, &options));
    }

    /// Tells a node to stop; it says that it is leaving, and still serves.
    pub(crate) fn terminate(&mut self, name: &str) {
        self.of(name).1.as_ref().unwrap().terminate();
    }

    /// Stops a node, in good order and at once.
    pub(crate) fn stop(&mut self, name: &str) {
        let mut shop = self.of(name).1.take().unwrap();
        stop(&mut shop);
    }

    /// Stops all that run, and fails if one of their logs holds an id.
    pub(crate) fn end<'i>(self, ids: impl Iterator<Item = &'i String> + Clone) {
        for (_, shop) in self.nodes {
            if let Some(mut shop) = shop {
                ids.clone().for_each(|id| shop.secret(id));
                stop(&mut shop);
            }
        }
    }

    fn of(&mut self, name: &str) -> &mut (u16, Option<Shop>) {
        let at = NAMES.iter().position(|node| *node == name).unwrap();
        &mut self.nodes[at]
    }
}

fn launch(name: &str, port: u16, options: &[String]) -> Shop {
    let listen = format!("127.0.0.1:{port}");
    let mut all = vec!["--listen", &listen, "--node", name];
    all.extend(options.iter().map(String::as_str));
    Shop::start(&all)
}

/// Once begins the drain, twice ends it; two signals at the same moment may arrive as one.
fn stop(shop: &mut Shop) {
    wait_until("the shop stops", || {
        if !shop.has_ended() {
            shop.terminate();
        }
        shop.has_ended()
    });
    let (status, log) = shop.ended();
    assert!(status.success() && log.contains("draining"), "{status}\n{log}");
    assert!(!log.contains("they are cut"), "{log}");
}
