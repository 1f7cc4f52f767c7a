//! A Cluster: which node has which key, and how that is learnt.
//!
//! Not the client's own: that one repeats what it sent by itself, so that nobody knows what may have arrived twice, and
//! all its calls wait while it learns the slots anew (`redis` 1.8.1). Here a node is a [`Node`] like any other, and a call
//! waits for its own node alone.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak},
    time::{Duration, Instant},
};

use redis::{Client, Cmd, ErrorKind, Pipeline, RedisError, Value, cmd};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    address::{Address, Template},
    connection::{Deadline, Failure, PAUSE, Target},
    node::Node,
    reply::Reply,
    request::{Redirect, Request},
    servers::{Tuning, together},
    slots::{Range, SLOTS, ranges, slot},
};

/// A call is sent on so many times at most: slots on their way, and a node that is behind the others.
const MOST_REDIRECTS: usize = 8;

/// The nodes of a Cluster, and which slots they have.
pub(crate) struct Cluster {
    /// For tasks that may outlive the call that began them.
    own: Weak<Self>,
    seeds: Vec<Client>,
    /// None without any seed: then there is nobody to ask.
    template: Option<Template>,
    tuning: Tuning,
    map: RwLock<Map>,
    survey: Mutex<Option<Survey>>,
}

struct Map {
    /// By slot.
    owners: Vec<Option<Arc<Node>>>,
    nodes: HashMap<Address, Arc<Node>>,
}

/// Asking the nodes for the map: one at a time, for all calls that wait for it.
#[derive(Clone)]
struct Survey(watch::Receiver<Option<Outcome>>);

#[derive(Clone)]
struct Outcome {
    result: Result<(), Failure>,
    /// Until then it is not asked again.
    until: Instant,
}

impl Cluster {
    pub(crate) fn new(seeds: Vec<Client>, nat: HashMap<Address, Address>, tuning: Tuning) -> Arc<Self> {
        let template = seeds.first().cloned().map(|seed| Template::new(seed, nat));
        Arc::new_cyclic(|own| Self {
            own: Weak::clone(own),
            seeds,
            template,
            tuning,
            map: RwLock::new(Map {
                owners: vec![None; usize::from(SLOTS)],
                nodes: HashMap::new(),
            }),
            survey: Mutex::new(None),
        })
    }

    /// Sends a request to the node that has `key`, and on to where that node sends it.
    pub(crate) async fn ask(
        &self,
        deadline: Deadline,
        key: &[u8],
        request: Request<'_>,
    ) -> Result<Reply, Failure> {
        let following = self.follow(deadline, slot(key), request);
        let answer = match tokio::time::timeout_at(deadline.at, following).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::Deadline(deadline.limit)),
        };
        answer.inspect_err(|failure| self.doubt(failure))
    }

    /// A node that fails may have lost its slots to a replica.
    fn doubt(&self, failure: &Failure) {
        if failure.is_of_the_server() {
            self.begin_survey();
        }
    }

    async fn follow(&self, deadline: Deadline, slot: u16, request: Request<'_>) -> Result<Reply, Failure> {
        let mut node = self.owner(slot).await?;
        let (mut now, mut repeated) = (request, false);
        for redirects in 0..MOST_REDIRECTS {
            if redirects > 2 {
                // They do not agree yet.
                tokio::time::sleep(Duration::from_millis(fastrand::u64(PAUSE)) / 4).await;
            }
            let outcome = node.ask(deadline, now).await;
            let redirect = match &outcome {
                Ok(reply) => Redirect::among(&reply.value),
                Err(Failure::Redis { error, .. }) => Redirect::of(error),
                Err(_) => None,
            };
            let Some(redirect) = redirect else {
                return match outcome {
                    Ok(mut reply) => {
                        reply.origin.repeated |= repeated;
                        Ok(reply)
                    }
                    Err(Failure::Redis {
                        error,
                        repeated: also,
                    }) => Err(Failure::Redis {
                        error,
                        repeated: repeated || also,
                    }),
                    Err(failure) => Err(failure),
                };
            };
            repeated |= match &outcome {
                Ok(reply) => reply.origin.repeated,
                Err(failure) => failure.repeated(),
            };
            node = self.at(&redirect.to, &node)?;
            now = match redirect.ask {
                true => request.asking(),
                false => {
                    self.learn(redirect.slot, &node);
                    request
                }
            };
        }
        Err(Failure::Nowhere(format!(
            "slot {slot} is nowhere: its nodes send a call to each other"
        )))
    }

    /// Commands about a key each: together to each node, and alone where a node sends one on.
    pub(crate) async fn ask_each(
        &self,
        deadline: Deadline,
        calls: &[(Vec<u8>, Cmd)],
        writes: bool,
    ) -> Result<Vec<Reply>, Failure> {
        let asking = async {
            let mut groups: Vec<(Arc<Node>, Vec<usize>)> = Vec::new();
            for (at, (key, _)) in calls.iter().enumerate() {
                let node = self.owner(slot(key)).await?;
                match groups.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &node)) {
                    Some((_, members)) => members.push(at),
                    None => groups.push((node, vec![at])),
                }
            }
            let mut asked = JoinSet::new();
            for (node, members) in groups {
                let commands: Vec<Cmd> = members.iter().map(|at| calls[*at].1.clone()).collect();
                asked.spawn(async move {
                    let replies = together(&node, deadline, commands.iter(), writes).await;
                    replies.map(|replies| members.into_iter().zip(replies))
                });
            }
            let mut replies: Vec<Option<Reply>> = calls.iter().map(|_| None).collect();
            while let Some(answer) = asked.join_next().await {
                let answer = answer.map_err(|_| Failure::Ended)?;
                for (at, mut reply) in answer? {
                    if is_redirect(&reply.value) {
                        // The node may have done it at the first try, and lost the slot before the second.
                        let repeated = reply.origin.repeated;
                        reply = self.ask_one(deadline, &calls[at], writes).await?;
                        reply.origin.repeated |= repeated;
                    }
                    replies[at] = Some(reply);
                }
            }
            replies.into_iter().collect::<Option<_>>().ok_or(Failure::Ended)
        };
        let replies = match tokio::time::timeout_at(deadline.at, asking).await {
            Ok(replies) => replies,
            Err(_) => Err(Failure::Deadline(deadline.limit)),
        };
        replies.inspect_err(|failure| self.doubt(failure))
    }

    /// One of many commands: its error is a reply.
    async fn ask_one(
        &self,
        deadline: Deadline,
        (key, command): &(Vec<u8>, Cmd),
        writes: bool,
    ) -> Result<Reply, Failure> {
        let mut one = Pipeline::with_capacity(1);
        one.add_command(command.clone());
        let reply = self.ask(deadline, key, Request::many(&one, writes)).await?;
        let (mut values, origin) = reply.many(1)?;
        let value = values.pop().ok_or(Failure::Strange("no reply was given"))?;
        Ok(Reply { value, origin })
    }

    /// Every node that has slots, as far as is known.
    pub(crate) async fn primaries(&self, deadline: Deadline) -> Result<Vec<Arc<Node>>, Failure> {
        let known = || self.map().nodes.values().cloned().collect::<Vec<_>>();
        if known().is_empty() {
            match tokio::time::timeout_at(deadline.at, self.surveyed()).await {
                Ok(result) => result?,
                Err(_) => return Err(Failure::Connect(deadline.limit)),
            }
        }
        Ok(known())
    }

    /// The node that has a slot.
    async fn owner(&self, slot: u16) -> Result<Arc<Node>, Failure> {
        let known = || self.map().owners[usize::from(slot)].clone();
        if let Some(node) = known() {
            return Ok(node);
        }
        self.surveyed().await?;
        known().ok_or_else(|| Failure::Nowhere(format!("no node of the Cluster has slot {slot}")))
    }

    /// The node that another one names, as `HOST:PORT` or as a port of its own host.
    fn at(&self, told: &str, by: &Arc<Node>) -> Result<Arc<Node>, Failure> {
        let unknown = || Failure::Nowhere("a node of the Cluster sends a call to no address".to_owned());
        let mut address = Address::told(told).ok_or_else(unknown)?;
        if address.host.is_empty() {
            let map = self.map();
            let mut named = map.nodes.iter().filter(|(_, node)| Arc::ptr_eq(node, by));
            address.host = named
                .next()
                .map(|(known, _)| known.host.clone())
                .ok_or_else(unknown)?;
        }
        self.node(&mut self.map_mut().nodes, address)
            .map_err(Failure::from)
    }

    fn node(&self, nodes: &mut HashMap<Address, Arc<Node>>, at: Address) -> Result<Arc<Node>, RedisError> {
        if let Some(known) = nodes.get(&at) {
            return Ok(Arc::clone(known));
        }
        let nobody = || RedisError::from((ErrorKind::InvalidClientConfig, "no node was named"));
        let client = self.template.as_ref().ok_or_else(nobody)?.client(&at)?;
        let node = Node::new(Target::Server(Arc::new(client)), self.tuning);
        nodes.insert(at, Arc::clone(&node));
        Ok(node)
    }

    /// A slot has moved; others may have, too.
    fn learn(&self, slot: u16, node: &Arc<Node>) {
        if let Some(owner) = self.map_mut().owners.get_mut(usize::from(slot)) {
            *owner = Some(Arc::clone(node));
        }
        self.begin_survey();
    }

    async fn surveyed(&self) -> Result<(), Failure> {
        let mut survey = self.begin_survey();
        match survey.0.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.result.clone(),
            _ => Err(Failure::Ended),
        }
    }

    /// The survey that counts: a new one, unless one is under way or was made a moment ago.
    fn begin_survey(&self) -> Survey {
        let mut current = self.survey.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = current.as_ref().filter(|known| !known.is_over()) {
            return known.clone();
        }
        let (sender, outcome) = watch::channel(None);
        let own = Weak::clone(&self.own);
        // A task of its own: the call that began it may be dropped, or need nothing of it.
        tokio::spawn(async move {
            // Without the store nobody waits for it.
            if let Some(cluster) = own.upgrade() {
                let result = cluster.ask_around().await;
                let until = Instant::now() + Duration::from_millis(fastrand::u64(PAUSE));
                sender.send_replace(Some(Outcome { result, until }));
            }
        });
        let new = Survey(outcome);
        *current = Some(new.clone());
        new
    }

    /// Asks the nodes for the map, all at once: those that are known, else those that were configured.
    async fn ask_around(&self) -> Result<(), Failure> {
        let known: Vec<_> = {
            let map = self.map();
            map.nodes
                .iter()
                .map(|(at, node)| (at.clone(), Arc::clone(node)))
                .collect()
        };
        if self.first_answer(known).await.is_ok() {
            return Ok(());
        }
        let seed = |client: &Client| {
            let node = Node::new(Target::Server(Arc::new(client.clone())), self.tuning);
            Some((Address::of(client)?, node))
        };
        self.first_answer(self.seeds.iter().filter_map(seed).collect())
            .await
    }

    async fn first_answer(&self, nodes: Vec<(Address, Arc<Node>)>) -> Result<(), Failure> {
        let deadline = Deadline::after(self.tuning.connect);
        let mut asked = JoinSet::new();
        for (at, node) in nodes {
            asked.spawn(async move {
                let mut command = cmd("CLUSTER");
                command.arg("SLOTS");
                let reply = node.ask(deadline, Request::read(&command)).await?;
                match ranges(&reply.value, &at.host) {
                    Some(ranges) if !ranges.is_empty() => Ok(ranges),
                    Some(_) => Err(Failure::Nowhere(format!("{at} knows of no node with slots"))),
                    None => {
                        reply.origin.give_up();
                        Err(Failure::Nowhere(format!(
                            "{at} does not answer as a node of a Cluster"
                        )))
                    }
                }
            });
        }
        let mut why = Failure::Nowhere("no node of the Cluster is known".to_owned());
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(ranges)) => return self.install(ranges).map_err(Failure::from),
                Ok(Err(failure)) => why = failure,
                Err(_) => why = Failure::Ended,
            }
        }
        Err(why)
    }

    /// Takes over a map. Nodes that are in it keep their connections; the others lose theirs.
    fn install(&self, ranges: Vec<Range>) -> Result<(), RedisError> {
        let mut map = self.map_mut();
        let (mut owners, mut nodes) = (vec![None; usize::from(SLOTS)], HashMap::new());
        for (first, last, at) in ranges {
            if let Some(known) = map.nodes.get(&at) {
                nodes.insert(at.clone(), Arc::clone(known));
            }
            let node = self.node(&mut nodes, at)?;
            for owner in owners
                .iter_mut()
                .take(usize::from(last) + 1)
                .skip(usize::from(first))
            {
                *owner = Some(Arc::clone(&node));
            }
        }
        *map = Map { owners, nodes };
        Ok(())
    }

    // Nothing under these locks can panic half-way.

    fn map(&self) -> RwLockReadGuard<'_, Map> {
        self.map.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn map_mut(&self) -> RwLockWriteGuard<'_, Map> {
        self.map.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Survey {
    fn is_over(&self) -> bool {
        self.0.has_changed().is_err() && self.0.borrow().is_none()
            || matches!(&*self.0.borrow(), Some(outcome) if Instant::now() >= outcome.until)
    }
}

fn is_redirect(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if ["MOVED", "ASK"].contains(&error.code()))
}
