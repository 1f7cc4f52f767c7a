//! Who owns a slot, and how it moves.

use std::time::Duration;

use redis::cmd;

use super::RedisCluster;
use crate::{
    Error, Result,
    topology::View,
    wait::{NotYet, Wait},
};

/// Keys that move in one command.
const BATCH: usize = 10;

/// A few keys are moved within this time, on a loaded machine too.
const MOVED: Duration = Duration::from_secs(10);

impl RedisCluster {
    /// The slot of a key.
    ///
    /// # Errors
    ///
    /// No node answers.
    pub async fn slot_of(&self, key: &str) -> Result<u16> {
        let mut failure = Error::new("the cluster has no node");
        for node in &self.nodes {
            match node.ask(&["CLUSTER", "KEYSLOT", key]).await {
                Ok(slot) => return Ok(slot),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// The index of the node that owns a slot now: of all that live nodes say, the newest.
    ///
    /// # Errors
    ///
    /// No node answers, or none knows an owner.
    pub async fn owner(&self, slot: u16) -> Result<usize> {
        let mut newest: Option<(u64, usize)> = None;
        let mut failure = None;
        for node in &self.nodes {
            match View::of(node).await {
                Ok(view) => {
                    if let Some(owner) = view.owner(slot)
                        && newest.is_none_or(|(epoch, _)| epoch < owner.epoch)
                    {
                        newest = Some((owner.epoch, self.index(owner)?));
                    }
                }
                Err(error) => failure = Some(error),
            }
        }
        match (newest, failure) {
            (Some((_, owner)), _) => Ok(owner),
            (None, Some(error)) => Err(error),
            (None, None) => Err(Error::new(format!("nobody owns slot {slot}"))),
        }
    }

    /// Begins to move a slot between two primaries: from now on, `from` answers for keys that it has with their value and
    /// for others with ASK, and `to` answers those who were sent with ASKING.
    ///
    /// # Errors
    ///
    /// One of the two does not answer, or refuses: `from` does not own the slot, for example.
    pub async fn begin_move(&self, slot: u16, from: usize, to: usize) -> Result<()> {
        let ids = (self.id(from).await?, self.id(to).await?);
        let slot = slot.to_string();
        let importing = ["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids.0];
        self.nodes[to].ask::<()>(&importing).await?;
        let migrating = ["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids.1];
        self.nodes[from].ask(&migrating).await
    }

    /// Moves keys of a slot after [`RedisCluster::begin_move`], at most so many, and returns how many. A key that ended
    /// in between is counted. Fewer than `at_most` means that none was left.
    ///
    /// # Errors
    ///
    /// As [`RedisCluster::begin_move`].
    pub async fn move_keys(&self, slot: u16, from: usize, to: usize, at_most: usize) -> Result<usize> {
        let (host, port) = self.nodes[to].address()?;
        let target = self.nodes[to].connection_info()?;
        let (user, password) = (
            target.redis_settings().username(),
            target.redis_settings().password(),
        );
        let mut moved = 0;
        while moved < at_most {
            let mut some = cmd("CLUSTER");
            some.arg("GETKEYSINSLOT")
                .arg(slot)
                .arg(BATCH.min(at_most - moved));
            let keys: Vec<Vec<u8>> = self.nodes[from].query(&some, MOVED).await?;
            if keys.is_empty() {
                break;
            }
            let mut migrate = cmd("MIGRATE");
            migrate
                .arg(&host)
                .arg(port)
                .arg("")
                .arg(0)
                .arg(MOVED.as_millis() as u64);
            match (user, password) {
                (Some(user), Some(password)) => migrate.arg("AUTH2").arg(user).arg(password),
                (None, Some(password)) => migrate.arg("AUTH").arg(password),
                _ => &mut migrate,
            };
            migrate.arg("KEYS").arg(&keys);
            self.nodes[from].query::<()>(&migrate, MOVED).await?;
            moved += keys.len();
        }
        Ok(moved)
    }

    /// Gives the slot to `to`, and returns when every node that answers knows.
    ///
    /// # Errors
    ///
    /// As [`RedisCluster::begin_move`]; the slot still has keys in `from`.
    pub async fn end_move(&self, slot: u16, from: usize, to: usize) -> Result<()> {
        let id = self.id(to).await?;
        let slot_word = slot.to_string();
        // The new owner would not ask, and the old one would drop them as soon as it hears of that.
        let left: usize = self.nodes[from]
            .ask(&["CLUSTER", "COUNTKEYSINSLOT", &slot_word])
            .await?;
        if left > 0 {
            return Err(Error::new(format!("slot {slot} still has {left} keys to move")));
        }
        let command = ["CLUSTER", "SETSLOT", &slot_word, "NODE", &id];
        // The new owner first: if all ended here, the old one would still send everybody there.
        self.nodes[to].ask::<()>(&command).await?;
        self.nodes[from].ask::<()>(&command).await?;
        for (index, node) in self.nodes.iter().enumerate() {
            // Replicas hear of it from their primaries. Who does not answer will hear of it too.
            if index != to
                && index != from
                && let Ok(view) = View::of(node).await
                && view.myself()?.is("master")
            {
                node.ask::<()>(&command).await?;
            }
        }
        let mut wait = Wait::new("the move of a slot");
        'again: loop {
            for node in &self.nodes {
                if let Ok(view) = View::of(node).await
                    && view.owner(slot).is_none_or(|owner| owner.id != id)
                {
                    wait.again(NotYet::new(node, "it names another owner")).await?;
                    continue 'again;
                }
            }
            return Ok(());
        }
    }
}
