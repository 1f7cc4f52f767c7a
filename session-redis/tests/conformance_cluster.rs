//! The suite on a Redis Cluster of three primaries.

mod common;

use std::net::SocketAddr;

use common::{Found, On, Place, client, clients};
use session_conformance::{BoxError, Server, async_trait};
use session_redis::{Servers, redis::Client};
use session_testbed::{Kind, RedisCluster};

#[derive(Clone)]
struct Cluster(Vec<Client>);

#[async_trait]
impl Place for Cluster {
    const NAME: &'static str = "redis cluster";

    async fn find() -> Result<Found<Self>, BoxError> {
        let cluster = RedisCluster::shared(Kind::Redis).await?;
        let (name, version) = cluster.version().await?;
        let nodes = clients(cluster.nodes())?;
        Ok(Found {
            place: Self(nodes.clone()),
            nodes,
            server: Server::new(format!("{name} Cluster"), version),
        })
    }

    fn servers(&self) -> Result<Servers, BoxError> {
        Ok(Servers::cluster(self.0.clone()))
    }

    fn servers_at(&self, at: &[SocketAddr], password: Option<&str>) -> Result<Servers, BoxError> {
        let nodes: Result<Vec<_>, _> = at.iter().map(|at| client(&self.0[0], *at, password)).collect();
        Ok(Servers::cluster(nodes?))
    }

    fn nowhere(&self, nobody: SocketAddr) -> Result<Servers, BoxError> {
        self.servers_at(&[nobody], None)
    }
}

session_conformance::main!(On<Cluster>);
