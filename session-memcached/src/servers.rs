//! The servers, and which of them has a key.

use std::fmt;

use session_core::SessionKey;
use sha2::{Digest, Sha256};

use crate::ConfigError;

/// Where the records are: one server, or several that share the keys.
///
/// Each key is on one of them, by rendezvous hashing of the key and the servers' names. So their order does not matter, and
/// to add or remove one moves its share of the keys only; but every node of a site must name them alike.
#[derive(Clone)]
pub struct Servers(Vec<Place>);

#[derive(Clone)]
struct Place {
    address: String,
    /// Of its name.
    seed: u64,
}

impl Servers {
    /// Servers at `HOST` or `HOST:PORT`, the port being 11211 if it is not there. What is wrong with them is said when the
    /// store is built.
    ///
    /// A server's name is its address as it is written here, with the port: `cache1:11211` and `10.0.0.1:11211` are two.
    pub fn new<A: Into<String>>(addresses: impl IntoIterator<Item = A>) -> Self {
        let place = |address: A| {
            let address = with_port(address.into());
            Place::new(&address, address.clone())
        };
        Self(addresses.into_iter().map(place).collect())
    }

    /// The same with names of their own, for servers that move, or that not every node reaches at the same address: pairs
    /// of a name and an address.
    ///
    /// ```
    /// use session_memcached::Servers;
    ///
    /// let servers = Servers::named([("cache1", "10.0.0.1:11211"), ("cache2", "10.0.0.2:11211")]);
    /// ```
    pub fn named<N: AsRef<str>, A: Into<String>>(pairs: impl IntoIterator<Item = (N, A)>) -> Self {
        let place = |(name, address): (N, A)| Place::new(name.as_ref(), with_port(address.into()));
        Self(pairs.into_iter().map(place).collect())
    }

    /// The address of the server that has a key; `None`: there is no server.
    #[must_use]
    pub fn address_of(&self, key: &SessionKey) -> Option<&str> {
        self.0.get(self.of(key)).map(|place| &*place.address)
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.0.is_empty() {
            return Err(ConfigError::Servers);
        }
        for (at, place) in self.0.iter().enumerate() {
            let (host, port) = place.address.rsplit_once(':').unwrap_or_default();
            let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
            if !is_host || host.contains(['/', '@', ',']) || port.parse::<u16>().is_err() {
                return Err(ConfigError::Address);
            }
            let is_same = |other: &Place| other.address == place.address || other.seed == place.seed;
            if self.0[..at].iter().any(is_same) {
                return Err(ConfigError::SameServer(place.address.clone()));
            }
        }
        Ok(())
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|place| &*place.address)
    }

    /// Which server has a key, by its place in the list.
    ///
    /// The client has such a router too; its hash is the standard library's, which may differ from one version of Rust to
    /// the next, and with it the place of every key.
    pub(crate) fn of(&self, key: &SessionKey) -> usize {
        let key = number(key.as_bytes());
        let scores = self.0.iter().map(|place| mix(key ^ place.seed));
        scores
            .enumerate()
            .max_by_key(|(_, score)| *score)
            .map_or(0, |(at, _)| at)
    }
}

impl Place {
    fn new(name: &str, address: String) -> Self {
        let seed = number(&Sha256::digest(name.as_bytes()));
        Self { address, seed }
    }
}

impl<A: Into<String>> From<A> for Servers {
    fn from(address: A) -> Self {
        Self::new([address])
    }
}

impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.addresses()).finish()
    }
}

fn with_port(address: String) -> String {
    let is_v6 = address.starts_with('[');
    match is_v6 && !address.ends_with(']') || !is_v6 && address.contains(':') {
        true => address,
        false => format!("{address}:11211"),
    }
}

/// The first eight bytes of a hash.
fn number(hash: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash[..8]);
    u64::from_le_bytes(bytes)
}

/// Spreads a number over all its bits: the finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> impl Iterator<Item = SessionKey> {
        (0..4000_u32).map(|at| SessionKey::from_bytes(Sha256::digest(at.to_le_bytes()).into()))
    }

    /// A key that is elsewhere after an upgrade is a visitor who is logged out.
    #[test]
    fn every_key_stays_where_it_is() {
        let servers = Servers::new(["cache1", "cache2:11211", "[::1]:11212"]);
        let places: String = keys().take(24).map(|key| servers.of(&key).to_string()).collect();
        assert_eq!(places, "021002011210220122012022");
    }

    #[test]
    fn one_that_goes_moves_its_own_keys_alone_and_order_does_not_matter() {
        let all = ["a:1", "b:1", "c:1", "d:1"];
        let (servers, fewer) = (Servers::new(all), Servers::new(["d:1", "a:1", "c:1"]));
        let mut counts = [0; 4];
        for key in keys() {
            let before = servers.of(&key);
            counts[before] += 1;
            let after = fewer.addresses().nth(fewer.of(&key)).unwrap();
            assert!(after == all[before] || all[before] == "b:1");
        }
        assert!(
            counts.iter().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_server_that_moves_keeps_its_keys_by_its_name() {
        let before = Servers::named([("one", "a:1"), ("two", "b:1")]);
        let after = Servers::named([("two", "c:2"), ("one", "a:1")]);
        for key in keys() {
            let moved = before
                .address_of(&key)
                .map(|address| address.replace("b:1", "c:2"));
            assert_eq!(after.address_of(&key), moved.as_deref());
        }
    }

    #[test]
    fn what_is_no_list_of_servers_is_refused() {
        let check = |addresses: &[&str]| Servers::new(addresses.iter().copied()).check();
        assert!(check(&["cache1", "10.0.0.1:11212", "[::1]", "[::1]:11212"]).is_ok());
        assert!(matches!(check(&[]), Err(ConfigError::Servers)));
        assert!(matches!(
            check(&["a", "b", "a:11211"]),
            Err(ConfigError::SameServer(_))
        ));
        for address in [
            "", ":11211", "a:b", "a b:1", "a:1,b:1", "a/b:1", "a:70000", "me@a:1", "a\r\n:1",
        ] {
            assert!(
                matches!(check(&[address]), Err(ConfigError::Address)),
                "{address:?}"
            );
        }
    }
}
