//! A server of one variant: a process of its own, so that it shares no thread and no memory with others.

use std::{
    env, fs, io,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{self, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use axum::{Router, routing::get};
use lexopt::{Arg, Parser, ValueExt};
use session_bench::{
    Result,
    counting::{Calls, Counting},
};
use session_core::{MemoryStore, SessionStore, Sessions};
use session_http::{SessionLayer, SessionManager};
use session_redis::RedisStore;
use session_sqlite::SqliteStore;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
};
use tower_sessions_redis_store::{
    RedisStore as PeerRedis,
    fred::prelude::{ClientLike, Config, Pool},
};

use super::{
    Options,
    pages::{self, Texts},
    place::Places,
    variant::{Place, Variant},
};

/// Tells how often the store has been called.
pub(super) const CALLS: &str = "/calls";

/// How many threads a runtime of tokio has.
const THREADS: &str = "TOKIO_WORKER_THREADS";

/// In which Linux tells the time of processes, on every architecture.
const TICK: Duration = Duration::from_millis(10);

/// A server that answers. It ends when dropped.
pub(super) struct Server {
    address: SocketAddr,
    child: Child,
}

impl Server {
    pub(super) async fn start(
        variant: Variant,
        places: &Places,
        is_counted: bool,
        options: &Options,
    ) -> Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command
            .args(["serve", "--only", variant.name(), "--redis", places.redis()])
            .arg("--folder")
            .arg(places.folder())
            .args(["--size", &options.size.to_string()])
            .env(THREADS, options.threads.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        if is_counted {
            command.arg("--counted");
        }
        let mut child = command.spawn()?;
        let output = child.stdout.take().ok_or("the server has no output")?;
        let line = BufReader::new(output).lines().next_line().await?;
        let address = line.ok_or_else(|| {
            format!(
                "the server of {} did not start: its message is above",
                variant.name()
            )
        })?;
        Ok(Self {
            address: address.parse()?,
            child,
        })
    }

    /// The time that its threads have had on the processors; none where the system does not tell it.
    pub(super) fn cpu(&self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()?)).ok()?;
        // After the name, which may hold anything. <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
        let (_, fields) = stat.rsplit_once(") ")?;
        let mut ticks = fields.split(' ').skip(11).map(str::parse::<u64>);
        let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
        Some(TICK * u32::try_from(user + system).ok()?)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The hidden command `serve`: prints its address, and serves until standard input ends.
///
/// # Errors
///
/// It is not asked as [`Server::start`] asks, or the store cannot be reached.
pub(crate) async fn serve(parser: Parser) -> Result<()> {
    let asked = Asked::read(parser)?;
    let calls = Calls::default();
    let router = router(&asked, calls.clone()).await?;
    let router = router.route(CALLS, get(async move || calls.total().to_string()));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    // Whoever started it has ended, or lets it go.
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        process::exit(0);
    });
    axum::serve(listener, router).await?;
    Ok(())
}

struct Asked {
    variant: Variant,
    redis: String,
    folder: String,
    size: usize,
    is_counted: bool,
}

impl Asked {
    fn read(mut parser: Parser) -> Result<Self> {
        let mut asked = Self {
            variant: Variant::None,
            redis: String::new(),
            folder: String::new(),
            size: 0,
            is_counted: false,
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("only") => {
                    let name = parser.value()?.string()?;
                    asked.variant = Variant::named(&name).ok_or("no such variant")?;
                }
                Arg::Long("redis") => asked.redis = parser.value()?.string()?,
                Arg::Long("folder") => asked.folder = parser.value()?.string()?,
                Arg::Long("size") => asked.size = parser.value()?.parse()?,
                Arg::Long("counted") => asked.is_counted = true,
                other => return Err(other.unexpected().into()),
            }
        }
        Ok(asked)
    }
}

async fn router(asked: &Asked, calls: Calls) -> Result<Router> {
    let texts = Texts::new(asked.size);
    match asked.variant {
        Variant::None => Ok(pages::none()),
        Variant::Ours(place) => {
            let store = ours(place, asked).await?;
            let store: Arc<dyn SessionStore> = match asked.is_counted {
                true => Arc::new(Counting::new(store, calls)),
                false => store,
            };
            let manager = SessionManager::new(Sessions::builder(store).build()?);
            Ok(pages::ours(SessionLayer::new(manager), texts))
        }
        Variant::Peer(place, idle) => match place {
            Place::Memory => {
                let store = tower_sessions::MemoryStore::default();
                Ok(match asked.is_counted {
                    true => pages::peer(Counting::new(Arc::new(store), calls), idle, texts),
                    false => pages::peer(store, idle, texts),
                })
            }
            Place::Redis => {
                let pool = Pool::new(Config::from_url(&asked.redis)?, None, None, None, 1)?;
                pool.init().await?;
                let store = PeerRedis::new(pool);
                Ok(match asked.is_counted {
                    true => pages::peer(Counting::new(Arc::new(store), calls), idle, texts),
                    false => pages::peer(store, idle, texts),
                })
            }
            Place::Sqlite => Err("tower-sessions is not measured on SQLite here".into()),
        },
    }
}

async fn ours(place: Place, asked: &Asked) -> Result<Arc<dyn SessionStore>> {
    Ok(match place {
        Place::Memory => Arc::new(MemoryStore::new()),
        Place::Redis => Arc::new(RedisStore::connect(&asked.redis).await?),
        Place::Sqlite => {
            // Several servers are there at once, and none is to wait for another.
            let file = format!("{}.db", process::id());
            Arc::new(SqliteStore::open(Path::new(&asked.folder).join(file)).await?)
        }
    })
}
