//! What one node of a cluster says about all of them.

use std::ops::RangeInclusive;

use crate::{Error, RedisServer, Result};

/// The answer to CLUSTER NODES.
pub(crate) struct View(Vec<Seen>);

/// A node, as another one sees it.
pub(crate) struct Seen {
    pub(crate) id: String,
    pub(crate) address: (String, u16),
    /// `myself`, `master`, `slave`, `fail` and others.
    flags: Vec<String>,
    /// The id of the primary that it is a replica of.
    pub(crate) primary: Option<String>,
    /// Of two nodes that claim a slot, the one with the higher epoch owns it.
    pub(crate) epoch: u64,
    connected: bool,
    slots: Vec<RangeInclusive<u16>>,
}

impl View {
    pub(crate) async fn of(server: &RedisServer) -> Result<Self> {
        Self::parse(&server.ask::<String>(&["CLUSTER", "NODES"]).await?)
    }

    pub(crate) fn parse(text: &str) -> Result<Self> {
        let seen = text
            .lines()
            .map(|line| Seen::parse(line).ok_or_else(|| Error::new(format!("CLUSTER NODES says {line:?}"))));
        seen.collect::<Result<_>>().map(Self)
    }

    pub(crate) fn nodes(&self) -> &[Seen] {
        &self.0
    }

    pub(crate) fn myself(&self) -> Result<&Seen> {
        self.0
            .iter()
            .find(|node| node.is("myself"))
            .ok_or_else(|| Error::new("CLUSTER NODES does not name the node itself"))
    }

    pub(crate) fn owner(&self, slot: u16) -> Option<&Seen> {
        self.0.iter().find(|node| node.owns(slot))
    }
}

impl Seen {
    /// `ID HOST:PORT@BUSPORT[,…] FLAGS PRIMARY PING PONG EPOCH LINK SLOT…`
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let id = words.next()?.to_owned();
        let (host, port) = words.next()?.split('@').next()?.rsplit_once(':')?;
        let address = (host.to_owned(), port.parse().ok()?);
        let flags = words.next()?.split(',').map(str::to_owned).collect();
        let primary = Some(words.next()?).filter(|id| *id != "-").map(str::to_owned);
        let epoch = words.nth(2)?.parse().ok()?;
        let connected = words.next()? == "connected";
        // In brackets: a slot that is moving, which the owner has among the others too.
        let slots = words.filter(|slot| !slot.starts_with('[')).map(|slot| {
            let (first, last) = slot.split_once('-').unwrap_or((slot, slot));
            Some(first.parse().ok()?..=last.parse().ok()?)
        });
        Some(Self {
            id,
            address,
            flags,
            primary,
            epoch,
            connected,
            slots: slots.collect::<Option<_>>()?,
        })
    }

    pub(crate) fn is(&self, flag: &str) -> bool {
        self.flags.iter().any(|own| own == flag)
    }

    /// Whether nothing is wrong with it: neither `fail` nor `handshake` nor `noaddr`.
    pub(crate) fn is_well(&self) -> bool {
        let well = ["myself", "master", "slave"];
        self.connected && self.flags.iter().all(|flag| well.contains(&flag.as_str()))
    }

    pub(crate) fn has_slots(&self) -> bool {
        !self.slots.is_empty()
    }

    fn owns(&self, slot: u16) -> bool {
        self.slots.iter().any(|range| range.contains(&slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn view_is_read_with_slots_that_move() {
        let view = View::parse(
            "aa 127.0.0.1:7001@17001,,shard-id=ee myself,master - 0 0 7 connected 0-99 101 [100->-bb]\n\
             bb ::1:7002@17002 slave,fail aa 1 2 3 disconnected\n",
        )
        .unwrap();
        assert_eq!(view.myself().unwrap().id, "aa");
        assert_eq!(view.owner(101).unwrap().epoch, 7);
        assert!(view.owner(100).is_none());
        let [one, other] = view.nodes() else { panic!() };
        assert!(one.is_well() && one.has_slots() && one.primary.is_none());
        assert!(!other.is_well() && !other.has_slots());
        assert_eq!(other.primary.as_deref(), Some("aa"));
        assert_eq!(other.address, ("::1".to_owned(), 7002));
        assert!(View::parse("what").is_err());
    }
}
