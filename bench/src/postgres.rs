//! What is measured on PostgreSQL.

use std::{str::FromStr, sync::Arc};

use session_bench::{
    Result,
    arena::{Arena, Ground},
    contest::POPULATION,
    options::Options,
    ours::Ours,
    peer::Peer,
    report::{self, Progress},
    requests::{OurRequests, PeerRequests, Requests},
    sizes::Sizes,
};
use session_core::async_trait;
use session_postgres::{
    PostgresStore,
    sqlx::{
        Connection, PgConnection, PgPool,
        postgres::{PgConnectOptions, PgPoolOptions},
        query_as, query_scalar, raw_sql,
    },
};
use session_testbed::{PostgresServer, Version};
use tower_sessions_sqlx_store::{PostgresStore as PeerStore, sqlx as peer_sqlx};

use crate::{
    raw::postgres::{Bare, Raw, Source},
    sweep,
};

/// Of each contestant.
const CONNECTIONS: u32 = 10;

/// Where everything is.
pub(crate) const SCHEMA: &str = "session_bench";

/// Who takes part.
const WHO: &str = "session-postgres; tower-sessions: tower-sessions-sqlx-store 0.15 on sqlx 0.8; sqlx 0.9 alone, by its \
                   pool and by bare connections; ten connections each";

/// Whose sessions are measured.
const WHO_REQUESTS: &str = "Session of session-core on session-postgres; Session of tower-sessions-core 0.14, saved each time, on \
                            tower-sessions-sqlx-store 0.15; ten connections each";

/// PostgreSQL, and who is measured on it.
pub(crate) async fn open(options: &Options, progress: &mut Progress) -> Result<Arena> {
    let server = Server::ready(options, progress).await?;
    let size = Sizes::from(options);
    let (pooled, direct) = (
        Source::Pool(server.pool()?),
        Bare::connect(&server.url, CONNECTIONS).await?,
    );
    let bare = format!("{SCHEMA}.bare");
    Ok(Arena {
        who: WHO,
        contestants: vec![
            Arc::new(Ours::new("session-postgres", server.store().await?, size)),
            Arc::new(Peer::new("tower-sessions", server.peer().await?, size)),
            Arc::new(Raw::new("sqlx, pool", pooled, &format!("{SCHEMA}.pooled"), size).await?),
            Arc::new(Raw::new("sqlx, bare", Source::Bare(direct), &bare, size).await?),
        ],
        sessions: POPULATION,
        ground: Box::new(server),
    })
}

/// PostgreSQL, and whose sessions are measured on it.
pub(crate) async fn requests(options: &Options, progress: &mut Progress) -> Result<Arena<dyn Requests>> {
    let server = Server::ready(options, progress).await?;
    let (store, size) = (Arc::new(server.store().await?), options.size);
    Ok(Arena {
        who: WHO_REQUESTS,
        contestants: vec![
            Arc::new(OurRequests::new("session-postgres", store, size)?),
            Arc::new(PeerRequests::new("tower-sessions", server.peer().await?, size)),
        ],
        sessions: POPULATION,
        ground: Box::new(server),
    })
}

#[async_trait]
impl Ground for Server {
    fn told(&self) -> String {
        self.told.clone()
    }

    /// A plan that is made before knows nothing of the tables.
    async fn settle(&self) -> Result<()> {
        self.execute("VACUUM (ANALYZE)").await
    }

    async fn taken(&self) -> Result<u64> {
        let mut connection = self.connect().await?;
        let bytes: i64 = query_scalar(
            "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
             WHERE relnamespace = 'session_bench'::regnamespace AND relkind IN ('r', 'm')",
        )
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        Ok(u64::try_from(bytes)?)
    }

    fn taken_is(&self) -> &'static str {
        "pg_total_relation_size after VACUUM: the table, its indexes, and what is kept beside it (TOAST)"
    }

    async fn clean(&self) -> Result<()> {
        self.execute("SET client_min_messages = warning; DROP SCHEMA IF EXISTS session_bench CASCADE")
            .await
    }
}

/// Loads while expired records are removed.
pub(crate) async fn sweep(options: &Options, mut progress: Progress) -> Result<()> {
    let server = Server::ready(options, &mut progress).await?;
    let store = Arc::new(server.store().await?);
    let connection = server.connect().await?;
    let swept = sweep::run(store, connection, options, &mut progress).await?;
    progress.end();
    server.clean().await?;
    println!("{}\n{swept}", server.told);
    let mut figures = swept.json();
    figures["server"] = server.told.as_str().into();
    report::write(options.json.as_deref(), &figures)
}

/// A server with our schema, empty.
struct Server {
    url: String,
    /// What it is, and how durable.
    told: String,
    /// Removed when dropped.
    _own: Option<PostgresServer>,
}

impl Server {
    async fn ready(options: &Options, progress: &mut Progress) -> Result<Self> {
        progress.tell("waiting for the server");
        let (url, own) = match &options.url {
            Some(url) => (url.clone(), None),
            // With the settings of PostgreSQL: it syncs what it acknowledges.
            None => {
                let server = PostgresServer::start(Version::V17, &[]).await?;
                (server.direct_url().await?, Some(server))
            }
        };
        let mut server = Self {
            url,
            told: String::new(),
            _own: own,
        };
        server.clean().await?;
        server.execute("CREATE SCHEMA session_bench").await?;
        let at = PgConnectOptions::from_str(&server.url)?;
        let mut told = vec![format!("at {}:{}", at.get_host(), at.get_port())];
        let mut connection = server.connect().await?;
        for setting in ["server_version", "fsync", "synchronous_commit", "shared_buffers"] {
            let (value,): (String,) = query_as("SELECT current_setting($1)")
                .bind(setting)
                .fetch_one(&mut connection)
                .await?;
            told.push(format!("{setting} {value}"));
        }
        server.told = format!("PostgreSQL {}", told.join(", "));
        let syncs: bool = query_scalar(
            "SELECT current_setting('fsync')::bool AND current_setting('synchronous_commit') <> 'off'",
        )
        .fetch_one(&mut connection)
        .await?;
        if !syncs {
            server.told += " (NOT DURABLE)";
        }
        connection.close().await?;
        Ok(server)
    }

    async fn connect(&self) -> Result<PgConnection> {
        Ok(PgConnection::connect(&self.url).await?)
    }

    fn pool(&self) -> Result<PgPool> {
        let options = PgConnectOptions::from_str(&self.url)?;
        Ok(PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .connect_lazy_with(options))
    }

    /// With its defaults, but for the schema.
    async fn store(&self) -> Result<PostgresStore> {
        let store = PostgresStore::builder(self.pool()?).schema(SCHEMA).build()?;
        store.migrate().await?;
        Ok(store)
    }

    async fn peer(&self) -> Result<PeerStore> {
        let pool = peer_sqlx::postgres::PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .connect(&self.url)
            .await?;
        let peer = PeerStore::new(pool).with_schema_name(SCHEMA)?;
        peer.migrate().await?;
        Ok(peer)
    }

    async fn execute(&self, sql: &'static str) -> Result<()> {
        let mut connection = self.connect().await?;
        raw_sql(sql).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }
}
