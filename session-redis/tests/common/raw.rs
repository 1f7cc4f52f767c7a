//! The servers' bytes, behind the store's back.

use std::{sync::Arc, time::Duration};

use session_conformance::{BoxError, Raw, async_trait};
use session_core::SessionKey;
use session_redis::redis::{
    AsyncConnectionConfig, Client, Cmd, FromRedisValue, Value, aio::MultiplexedConnection, cmd,
};

/// On a machine that is busy with the suite.
fn patient() -> AsyncConnectionConfig {
    let long = Some(Duration::from_secs(10));
    AsyncConnectionConfig::new()
        .set_connection_timeout(long)
        .set_response_timeout(long)
}

/// Every server that may hold a record, as the suite looks into them.
pub(crate) struct Behind {
    nodes: Vec<MultiplexedConnection>,
    prefix: String,
}

impl Behind {
    pub(crate) async fn connect(nodes: &[Client], prefix: String) -> Option<Arc<dyn Raw>> {
        let mut connections = Vec::new();
        for node in nodes {
            let config = patient();
            let connection = node.get_multiplexed_async_connection_with_config(&config);
            connections.push(connection.await.ok()?);
        }
        Some(Arc::new(Self {
            nodes: connections,
            prefix,
        }))
    }

    fn name(&self, key: &SessionKey) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Asks the server that has the key, or the one that takes writes: the first that neither sends on nor refuses.
    async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, BoxError> {
        let mut why = None;
        for mut node in self.nodes.iter().cloned() {
            match command.query_async(&mut node).await {
                Ok(answer) => return Ok(answer),
                Err(error) if matches!(error.code(), Some("MOVED" | "READONLY")) => why = Some(error),
                Err(error) => return Err(error.into()),
            }
        }
        Err(why.map_or_else(|| "there is no server".into(), BoxError::from))
    }
}

#[async_trait]
impl Raw for Behind {
    async fn plant(&self, key: &SessionKey, value: &[u8]) -> Result<(), BoxError> {
        let mut over = cmd("SET");
        over.arg(self.name(key)).arg(value).arg("XX").arg("KEEPTTL");
        if self.ask::<Value>(&over).await? == Value::Nil {
            let mut new = cmd("SET");
            new.arg(self.name(key)).arg(value).arg("EX").arg(120);
            self.ask::<()>(&new).await?;
        }
        Ok(())
    }

    async fn read(&self, key: &SessionKey) -> Result<Option<Vec<u8>>, BoxError> {
        // Where it is written: a replica may be behind.
        let mut get = cmd("GETEX");
        get.arg(self.name(key));
        self.ask(&get).await
    }

    async fn dump(&self) -> Result<Vec<u8>, BoxError> {
        let mut all = Vec::new();
        for node in &self.nodes {
            all.extend(dump(node.clone(), &self.prefix).await?);
        }
        Ok(all)
    }
}

async fn dump(mut node: MultiplexedConnection, prefix: &str) -> Result<Vec<u8>, BoxError> {
    let (mut cursor, mut all) = (0_u64, Vec::new());
    loop {
        let mut scan = cmd("SCAN");
        scan.arg(cursor)
            .arg("MATCH")
            .arg(format!("{prefix}*"))
            .arg("COUNT")
            .arg(1000);
        let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(&mut node).await?;
        for key in keys {
            let kind: String = cmd("TYPE").arg(&key).query_async(&mut node).await?;
            let mut read = match kind.as_str() {
                "zset" => cmd("ZRANGE"),
                _ => cmd("MGET"),
            };
            read.arg(&key);
            if kind == "zset" {
                read.arg(0).arg(-1);
            }
            let values: Vec<Vec<u8>> = read.query_async(&mut node).await?;
            all.extend(key);
            all.extend(values.concat());
        }
        cursor = next;
        if cursor == 0 {
            return Ok(all);
        }
    }
}
