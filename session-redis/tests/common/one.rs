//! One server.

use std::net::SocketAddr;

use session_conformance::{BoxError, Server, async_trait};
use session_redis::{Servers, redis::Client};
use session_testbed::{Kind, RedisServer};

use crate::common::{Found, Place, client, clients};

/// One Redis, or one Valkey.
#[derive(Clone)]
pub(crate) struct One<const VALKEY: bool>(Client);

#[async_trait]
impl<const VALKEY: bool> Place for One<VALKEY> {
    const NAME: &'static str = if VALKEY { "valkey" } else { "redis" };

    async fn find() -> Result<Found<Self>, BoxError> {
        let kind = if VALKEY { Kind::Valkey } else { Kind::Redis };
        let server = RedisServer::shared(kind).await?;
        let (name, version) = server.version().await?;
        let nodes = clients(std::slice::from_ref(server))?;
        Ok(Found {
            place: Self(nodes[0].clone()),
            nodes,
            server: Server::new(name, version),
        })
    }

    fn servers(&self) -> Result<Servers, BoxError> {
        Ok(self.0.clone().into())
    }

    fn servers_at(&self, at: &[SocketAddr], password: Option<&str>) -> Result<Servers, BoxError> {
        Ok(client(&self.0, at[0], password)?.into())
    }

    fn nowhere(&self, nobody: SocketAddr) -> Result<Servers, BoxError> {
        self.servers_at(&[nobody], None)
    }
}
