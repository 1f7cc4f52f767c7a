//! Where servers are that other servers tell of.

use std::{collections::HashMap, fmt};

use redis::{Client, ConnectionAddr, RedisResult};

/// A host, without brackets, and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// How to reach the servers that Sentinels and nodes of a Cluster tell of: with the user, password and TLS of this
/// client, at their own addresses or at those that stand for them here.
#[derive(Clone)]
pub(crate) struct Template {
    client: Client,
    nat: HashMap<Address, Address>,
}

impl Address {
    pub(crate) fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
        }
    }

    /// `HOST:PORT`, as servers write it: an IPv6 address stands without brackets.
    pub(crate) fn told(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(Self::new(host, port.parse().ok()?))
    }

    /// Where a client leads to, unless that is a socket of this machine.
    pub(crate) fn of(client: &Client) -> Option<Self> {
        match client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
                Some(Self::new(host.clone(), *port))
            }
            _ => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Template {
    pub(crate) fn new(client: Client, nat: HashMap<Address, Address>) -> Self {
        Self { client, nat }
    }

    /// A client to the server that calls itself `announced`.
    pub(crate) fn client(&self, announced: &Address) -> RedisResult<Client> {
        let Address { host, port } = self.nat.get(announced).unwrap_or(announced).clone();
        let info = self.client.get_connection_info().clone();
        let address = match info.addr() {
            ConnectionAddr::TcpTls {
                insecure, tls_params, ..
            } => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: *insecure,
                tls_params: tls_params.clone(),
            },
            _ => ConnectionAddr::Tcp(host, port),
        };
        Client::open(info.set_addr(address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_servers_write_them() {
        for (text, host, port) in [
            ("127.0.0.1:7000", "127.0.0.1", 7000),
            ("node.example:6379", "node.example", 6379),
            ("2001:db8::1:7000", "2001:db8::1", 7000),
            ("[2001:db8::1]:7000", "2001:db8::1", 7000),
            (":7000", "", 7000),
        ] {
            assert_eq!(Address::told(text), Some(Address::new(host, port)), "{text}");
        }
        for text in ["", "7000", "host:", "host:70000", "host:port"] {
            assert_eq!(Address::told(text), None, "{text}");
        }
        assert_eq!(Address::new("::1", 1).to_string(), "[::1]:1");
    }

    #[test]
    fn template_keeps_user_and_password_and_moves_the_address() {
        let nat = HashMap::from([(Address::new("10.0.0.7", 7000), Address::new("127.0.0.1", 9000))]);
        let client = Client::open("redis://ann:horse@127.0.0.1:1/3").unwrap();
        let template = Template::new(client, nat);
        for (announced, reached) in [
            (Address::new("10.0.0.7", 7000), Address::new("127.0.0.1", 9000)),
            (Address::new("10.0.0.8", 7000), Address::new("10.0.0.8", 7000)),
        ] {
            let client = template.client(&announced).unwrap();
            assert_eq!(Address::of(&client), Some(reached));
            let settings = client.get_connection_info().redis_settings();
            assert_eq!(
                (settings.username(), settings.password(), settings.db()),
                (Some("ann"), Some("horse"), 3)
            );
        }
    }
}
