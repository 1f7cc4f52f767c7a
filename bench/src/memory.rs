//! What is measured in the process's own memory.

mod footprint;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use session_bench::{
    Result,
    arena::{Arena, Ground},
    contest::{Held, POPULATION, quantile},
    options::Options,
    ours::Ours,
    peer::Peer,
    report::{self, Progress, micros},
    requests::{OurRequests, PeerRequests, Requests},
    sizes::{self, Sizes},
};
use session_core::{MemoryStore, Record, SessionKey, SessionStore, async_trait};
use tower_sessions_memory_store::MemoryStore as PeerStore;

pub(crate) use self::footprint::footprint;

/// Who takes part.
const WHO: &str =
    "MemoryStore of session-core; tower-sessions: tower-sessions-memory-store 0.14; in one process";

/// Whose sessions are measured.
const WHO_REQUESTS: &str = "Session of session-core on MemoryStore; Session of tower-sessions-core 0.14, saved each time, on \
                            tower-sessions-memory-store 0.14; in one process";

/// Bytes for a million sessions of any size that is asked for.
const ROOM: usize = 1 << 36;

/// Live sessions that are loaded while others expire.
const LIVE: usize = 10_000;

fn store(records: usize) -> Result<MemoryStore> {
    let store = MemoryStore::builder()
        .max_records(records + 50_000_000)
        .max_bytes(ROOM);
    Ok(store.build()?)
}

/// This process, and who is measured in it.
pub(crate) fn open(options: &Options) -> Result<Arena> {
    let (size, sessions) = (Sizes::from(options), options.rows as usize);
    Ok(Arena {
        ground: Box::new(Process { sessions }),
        who: WHO,
        contestants: vec![
            Arc::new(Ours::new("MemoryStore", store(sessions)?, size)),
            Arc::new(Peer::new("tower-sessions", PeerStore::default(), size)),
        ],
        sessions,
    })
}

/// This process, and whose sessions are measured in it.
pub(crate) fn requests(options: &Options) -> Result<Arena<dyn Requests>> {
    let (size, sessions) = (options.size, POPULATION);
    let ours = Arc::new(store(sessions)?);
    Ok(Arena {
        ground: Box::new(Process { sessions }),
        who: WHO_REQUESTS,
        contestants: vec![
            Arc::new(OurRequests::new("MemoryStore", ours, size)?),
            Arc::new(PeerRequests::new("tower-sessions", PeerStore::default(), size)),
        ],
        sessions,
    })
}

struct Process {
    sessions: usize,
}

#[async_trait]
impl Ground for Process {
    async fn taken(&self) -> Result<u64> {
        footprint::resident()
    }

    fn told(&self) -> String {
        format!("{} sessions in memory, {} threads", self.sessions, threads())
    }
}

fn threads() -> usize {
    tokio::runtime::Handle::current().metrics().num_workers()
}

/// How long loads and new sessions take while as many sessions as are asked for reach their end at the same moment.
pub(crate) async fn expiry(options: &Options, mut progress: Progress) -> Result<()> {
    let (store, record) = (
        Arc::new(store(options.rows as usize)?),
        Record::new(vec![7; options.size]),
    );
    let far = Duration::from_secs(3600);
    let mut live = Vec::with_capacity(LIVE);
    for _ in 0..LIVE {
        let key = SessionKey::from_bytes(Held::random().id);
        store.create(&key, &record, far).await?;
        live.push(key);
    }
    progress.tell("sessions that will expire");
    let begun = Instant::now();
    // All of them end at one moment, after the quiet time.
    let quiet = options.length + Duration::from_secs(u64::from(options.rows / 200_000) + 2);
    for _ in 0..options.rows {
        let left = quiet.saturating_sub(begun.elapsed()).max(Duration::from_secs(1));
        store
            .create(&SessionKey::from_bytes(Held::random().id), &record, left)
            .await?;
    }
    let before = measure(&store, &live, &record, quiet.saturating_sub(begun.elapsed())).await?;
    progress.tell("they expire");
    let during = measure(&store, &live, &record, options.length).await?;
    progress.end();
    let line = |name: &str, (loads, creates): &(Quantiles, Quantiles)| {
        format!("  {name:<28}  load {loads}  create {creates}\n")
    };
    println!(
        "{} sessions expire at once beside {LIVE} live ones; one caller loads and creates in turn; microseconds, p50 / p99 / p99.9 / longest\n\n{}{}",
        options.rows,
        line("before", &before),
        line("from the moment they ended", &during),
    );
    println!("  {} records are held at the end", store.len());
    let json =
        |(loads, creates): &(Quantiles, Quantiles)| json!({ "load": loads.json(), "create": creates.json() });
    report::write(
        options.json.as_deref(),
        &json!({
            "rows": options.rows,
            "live": LIVE,
            "bytes": options.size,
            "before": json(&before),
            "from_the_end_on": json(&during),
            "held_at_the_end": store.len(),
        }),
    )
}

/// Latencies of one call.
struct Quantiles([Duration; 4]);

impl std::fmt::Display for Quantiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [p50, p99, p999, most] = self.0.map(micros);
        write!(f, "{p50:.1} / {p99:.1} / {p999:.1} / {most:.0}")
    }
}

impl Quantiles {
    fn of(mut all: Vec<Duration>) -> Self {
        all.sort_unstable();
        Self([0.5, 0.99, 0.999, 1.0].map(|part| quantile(&all, part)))
    }

    fn json(&self) -> Value {
        let [p50, p99, p999, most] = self.0.map(micros);
        json!({ "p50_us": p50, "p99_us": p99, "p999_us": p999, "longest_us": most })
    }
}

async fn measure(
    store: &MemoryStore,
    live: &[SessionKey],
    record: &Record,
    length: Duration,
) -> Result<(Quantiles, Quantiles)> {
    let (mut loads, mut creates) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    while begun.elapsed() < length {
        let key = sizes::any(live);
        let at = Instant::now();
        store.load(key).await?.ok_or("a live session is not there")?;
        loads.push(at.elapsed());
        let key = SessionKey::from_bytes(Held::random().id);
        let at = Instant::now();
        store.create(&key, record, Duration::from_secs(60)).await?;
        creates.push(at.elapsed());
    }
    Ok((Quantiles::of(loads), Quantiles::of(creates)))
}
