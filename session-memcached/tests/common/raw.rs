//! The servers' bytes, behind the store's back.

use session_conformance::{BoxError, Raw, async_trait};
use session_core::SessionKey;
use session_memcached::{
    Servers,
    memcache::exp::{AsyncMetaClient, Get, Meta, Set},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::{Duration, sleep},
};

/// Every server that may hold a record, as the suite looks into them.
pub(crate) struct Behind {
    servers: Servers,
    nodes: Vec<(String, AsyncMetaClient)>,
    prefix: String,
}

impl Behind {
    pub(crate) async fn connect(addresses: &[String], prefix: String) -> Result<Self, BoxError> {
        let mut nodes = Vec::new();
        for address in addresses {
            nodes.push((address.clone(), AsyncMetaClient::connect(address.as_str()).await?));
        }
        Ok(Self {
            servers: Servers::new(addresses),
            nodes,
            prefix,
        })
    }

    fn name(&self, key: &SessionKey) -> String {
        format!("{}{key}", self.prefix)
    }

    fn node(&self, key: &SessionKey) -> Result<&AsyncMetaClient, BoxError> {
        let address = self.servers.address_of(key);
        let node = self.nodes.iter().find(|(at, _)| Some(at.as_str()) == address);
        Ok(&node.ok_or("no server has it")?.1)
    }
}

#[async_trait]
impl Raw for Behind {
    async fn plant(&self, key: &SessionKey, value: &[u8]) -> Result<(), BoxError> {
        let node = self.node(key)?;
        let seen = node
            .run(Get::new(self.name(key)).without_value().meta(Meta::NONE.ttl()))
            .await?;
        let life = seen
            .item
            .ttl
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(120);
        node.run(Set::new(self.name(key), value).ttl_raw(life.max(1)))
            .await?;
        Ok(())
    }

    async fn read(&self, key: &SessionKey) -> Result<Option<Vec<u8>>, BoxError> {
        Ok(self.node(key)?.run(Get::new(self.name(key))).await?.value)
    }

    async fn dump(&self) -> Result<Vec<u8>, BoxError> {
        let mut all = Vec::new();
        for (address, node) in &self.nodes {
            for name in names(address).await? {
                if name.starts_with(&self.prefix) {
                    let value = node.run(Get::new(&name)).await?.value;
                    all.extend(name.into_bytes());
                    all.extend(value.unwrap_or_default());
                }
            }
        }
        Ok(all)
    }
}

/// The keys of a server. Its crawler serves one at a time.
async fn names(address: &str) -> Result<Vec<String>, BoxError> {
    loop {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"lru_crawler metadump all\r\n").await?;
        let mut lines = BufReader::new(stream).lines();
        let mut names = Vec::new();
        loop {
            let line = lines
                .next_line()
                .await?
                .ok_or("the server closed the connection")?;
            if line == "END" {
                return Ok(names);
            }
            let Some(name) = line.strip_prefix("key=").and_then(|rest| rest.split(' ').next()) else {
                break;
            };
            names.push(name.replace("%3A", ":"));
        }
        sleep(Duration::from_millis(20)).await;
    }
}
