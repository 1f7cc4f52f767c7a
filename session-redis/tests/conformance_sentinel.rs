//! The suite on a group of Redis servers with Sentinels.

mod common;

use std::net::SocketAddr;

use common::{Found, On, Place, client, clients};
use session_conformance::{BoxError, Server, async_trait};
use session_redis::{Servers, redis::Client};
use session_testbed::{Kind, SentinelGroup};

#[derive(Clone)]
struct Group {
    sentinels: Vec<Client>,
    service: String,
    server: Client,
}

#[async_trait]
impl Place for Group {
    const NAME: &'static str = "redis sentinel";

    async fn find() -> Result<Found<Self>, BoxError> {
        let group = SentinelGroup::shared(Kind::Redis).await?;
        let (name, version) = group.version().await?;
        let (_, service) = group.url().rsplit_once('/').ok_or("a group has a name")?;
        let nodes = clients(group.servers())?;
        let place = Self {
            sentinels: clients(group.sentinels())?,
            service: service.to_owned(),
            server: nodes[0].clone(),
        };
        Ok(Found {
            place,
            nodes,
            server: Server::new(format!("{name} Sentinel"), version),
        })
    }

    fn servers(&self) -> Result<Servers, BoxError> {
        let (sentinels, server) = (self.sentinels.clone(), self.server.clone());
        Ok(Servers::sentinel(sentinels, &*self.service, server))
    }

    /// The Sentinels tell the servers' own addresses, which the store translates.
    fn servers_at(&self, at: &[SocketAddr], password: Option<&str>) -> Result<Servers, BoxError> {
        let server = client(&self.server, at[0], password)?;
        Ok(Servers::sentinel(self.sentinels.clone(), &*self.service, server))
    }

    fn nowhere(&self, nobody: SocketAddr) -> Result<Servers, BoxError> {
        let (sentinel, server) = (client(&self.sentinels[0], nobody, None)?, self.server.clone());
        Ok(Servers::sentinel([sentinel], &*self.service, server))
    }
}

session_conformance::main!(On<Group>);
