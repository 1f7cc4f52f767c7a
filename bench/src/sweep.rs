//! Loads while expired records are removed.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use session_bench::{
    Result,
    contest::{Contest, Contestant, Held, POPULATION, quantile},
    options::Options,
    ours::Ours,
    report::Progress,
    sizes,
};
use session_postgres::{
    PostgresStore,
    sqlx::{PgConnection, query, query_scalar, raw_sql},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

/// Who loads.
const CALLERS: u32 = 8;

/// Loads per second, of all together: far from what the store can do, so that it is latency that is seen.
const RATE: u32 = 1000;

/// How often the store looks for expired records, about; it removes all that it finds.
const INTERVAL: Duration = Duration::from_secs(1);

/// Rows that one statement adds.
const STEP: u32 = 50_000;

/// If no row goes for so long, none will.
const PATIENCE: Duration = Duration::from_secs(30);

/// What was seen.
pub(crate) struct Swept {
    rows: u32,
    duration: Duration,
    quiet: Latencies,
    busy: Latencies,
}

struct Latencies {
    count: usize,
    p50: Duration,
    p99: Duration,
    p999: Duration,
}

pub(crate) async fn run(
    store: Arc<PostgresStore>,
    mut connection: PgConnection,
    options: &Options,
    progress: &mut Progress,
) -> Result<Swept> {
    let ours: Arc<dyn Contestant> = Arc::new(Ours::new("session-postgres", Arc::clone(&store), options.size));
    let live: Arc<[Held]> = Contest::prepare(vec![Arc::clone(&ours)], POPULATION, progress)
        .await?
        .population()
        .into();
    fill(&mut connection, options.rows, progress).await?;

    progress.tell(&format!("{RATE} loads per second for {:?}", options.length));
    let load = Load::start(&ours, &live);
    sleep(options.length).await;
    let quiet = load.end().await?;

    let load = Load::start(&ours, &live);
    let begun = Instant::now();
    let sweeper = store.sweep_every(INTERVAL);
    let (mut seen, mut moved): (i64, _) = (0, Instant::now());
    // To look at the index is to pass over all that was removed from it: who is measured is not disturbed so before the end.
    while seen < nearly_all(options.rows) || !is_swept(&mut connection).await? {
        sleep(Duration::from_millis(250)).await;
        let removed = removed(&mut connection).await?;
        progress.tell(&format!(
            "about {removed} of {} expired records are removed",
            options.rows
        ));
        if removed != seen {
            (seen, moved) = (removed, Instant::now());
        } else if moved.elapsed() > PATIENCE {
            return Err(format!("no record was removed for {PATIENCE:?}").into());
        }
    }
    let duration = begun.elapsed();
    let busy = load.end().await?;
    sweeper.stop().await;
    let left: i64 = query_scalar("SELECT count(*) FROM session_bench.sessions WHERE expires_at <= now()")
        .fetch_one(&mut connection)
        .await?;
    if left != 0 {
        return Err(format!("all are gone from the index, and {left} are there").into());
    }
    Ok(Swept {
        rows: options.rows,
        duration,
        quiet,
        busy,
    })
}

/// Records as the store writes them, half of them with a subject, that ended two to twelve hours ago.
async fn fill(connection: &mut PgConnection, rows: u32, progress: &mut Progress) -> Result<()> {
    let mut first = 0;
    while first < rows {
        progress.tell(&format!("{first} of {rows} expired records"));
        let next = first.saturating_add(STEP).min(rows);
        query(
            "INSERT INTO session_bench.sessions (key, value, subject, expires_at, sweep)
             SELECT sha256(int8send(n)), live.value,
                 CASE WHEN n % 2 = 0 THEN sha256(int8send(n / 8)) END, e.expires_at,
                 ceil(extract(epoch FROM e.expires_at) / 3600)::int
             FROM generate_series($1::bigint, $2::bigint) n
             CROSS JOIN (SELECT value FROM session_bench.sessions WHERE expires_at > now() LIMIT 1) live
             CROSS JOIN LATERAL (SELECT now() - interval '2 hours' - random() * interval '10 hours' AS expires_at) e",
        )
        .bind(i64::from(first) + 1)
        .bind(i64::from(next))
        .execute(&mut *connection)
        .await?;
        first = next;
    }
    progress.tell("vacuum");
    raw_sql("VACUUM (ANALYZE) session_bench.sessions")
        .execute(&mut *connection)
        .await?;
    Ok(())
}

/// Whether only records are left that end in hours to come. It looks at the beginning of an index, as the sweep does: to
/// count the rows would disturb who is measured.
async fn is_swept(connection: &mut PgConnection) -> Result<bool> {
    let sql =
        "SELECT coalesce(min(sweep) > extract(epoch FROM now()) / 3600, true) FROM session_bench.sessions";
    Ok(query_scalar(sql).fetch_one(connection).await?)
}

/// The statistics lag behind by less than the rest.
fn nearly_all(rows: u32) -> i64 {
    i64::from(rows - rows / 20)
}

/// What the server's statistics say, which lag some seconds behind.
async fn removed(connection: &mut PgConnection) -> Result<i64> {
    let sql = "SELECT n_tup_del FROM pg_stat_user_tables WHERE schemaname = 'session_bench' AND relname = 'sessions'";
    Ok(query_scalar(sql).fetch_one(connection).await?)
}

/// Loads at a steady rate, which does not yield when the store is slow.
struct Load {
    over: Arc<AtomicBool>,
    callers: JoinSet<Result<Vec<Duration>>>,
}

impl Load {
    fn start(contestant: &Arc<dyn Contestant>, live: &Arc<[Held]>) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        let begun = Instant::now();
        for caller in 0..CALLERS {
            let first = begun + Duration::from_secs(1) * caller / RATE;
            let (contestant, live, over) = (Arc::clone(contestant), Arc::clone(live), Arc::clone(&over));
            callers.spawn(async move {
                let mut latencies = Vec::new();
                let mut due = first;
                while !over.load(Ordering::Relaxed) {
                    // A timer is up to a millisecond late, which is not the store's; who could not begin in time because
                    // the last call took so long waits since then.
                    let begun = if Instant::now() < due {
                        sleep_until(due).await;
                        Instant::now()
                    } else {
                        due
                    };
                    contestant.load(sizes::any(&live)).await?;
                    latencies.push(begun.elapsed());
                    due += Duration::from_secs(1) * CALLERS / RATE;
                }
                Ok(latencies)
            });
        }
        Self { over, callers }
    }

    async fn end(mut self) -> Result<Latencies> {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        while let Some(ended) = self.callers.join_next().await {
            all.extend(ended??);
        }
        all.sort_unstable();
        Ok(Latencies {
            count: all.len(),
            p50: quantile(&all, 0.5),
            p99: quantile(&all, 0.99),
            p999: quantile(&all, 0.999),
        })
    }
}

impl Swept {
    fn per_second(&self) -> f64 {
        f64::from(self.rows) / self.duration.as_secs_f64()
    }

    fn ratio(&self) -> f64 {
        self.busy.p99.as_secs_f64() / self.quiet.p99.as_secs_f64()
    }

    pub(crate) fn json(&self) -> Value {
        let figures = |of: &Latencies| {
            let micros = |length: Duration| length.as_secs_f64() * 1e6;
            json!({
                "loads": of.count,
                "p50_us": micros(of.p50),
                "p99_us": micros(of.p99),
                "p999_us": micros(of.p999),
            })
        };
        json!({
            "rows": self.rows,
            "live": POPULATION,
            "seconds": self.duration.as_secs_f64(),
            "rows_per_second": self.per_second(),
            "loads_per_second": RATE,
            "quiet": figures(&self.quiet),
            "under_sweep": figures(&self.busy),
            "p99_ratio": self.ratio(),
        })
    }
}

impl fmt::Display for Swept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} expired records beside {POPULATION} live ones were removed in {:.1} s, {:.0} per second.\n\n\
             Microseconds of a load of a live session, at {RATE} loads per second by {CALLERS} callers:\n",
            self.rows,
            self.duration.as_secs_f64(),
            self.per_second()
        )?;
        writeln!(
            f,
            "             {:>10}  {:>8}  {:>8}  {:>8}",
            "p50", "p99", "p99.9", "loads"
        )?;
        for (name, of) in [("quiet", &self.quiet), ("under sweep", &self.busy)] {
            let micros = |length: Duration| length.as_secs_f64() * 1e6;
            writeln!(
                f,
                "  {name:<11}  {:>8.0}  {:>8.0}  {:>8.0}  {:>8}",
                micros(of.p50),
                micros(of.p99),
                micros(of.p999),
                of.count
            )?;
        }
        write!(f, "\np99 under sweep / quiet: {:.2}", self.ratio())
    }
}
