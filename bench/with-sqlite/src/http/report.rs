//! What is told.

use std::time::Duration;

use serde_json::{Value, json};
use session_bench::{
    Result,
    report::{aligned, write},
};

use super::{Options, Page, SESSIONS, Sample, Variant};

const WHO: &str = "\
session-http with its defaults on MemoryStore, session-sqlite and session-redis
tower-sessions 0.14 on its memory store and on tower-sessions-redis-store 0.16: with its defaults, by which reading is no activity and
  a session ends two weeks after its last change, and as idle, with Expiry::OnInactivity and with_always_save";

/// One page, as all variants answered it.
pub(super) struct Table {
    page: Page,
    /// The first is without sessions.
    figures: Vec<Figures>,
}

/// One variant.
pub(super) struct Figures {
    variant: Variant,
    /// Requests per second: the median of the rounds.
    rate: f64,
    /// Microseconds of the server's process for one request, of all rounds; zero where they are not known.
    cpu: f64,
    /// The medians of the rounds' medians and 99th percentiles.
    p50: Duration,
    p99: Duration,
    failed: u64,
    /// Calls of the store for one request.
    trips: f64,
}

impl Figures {
    /// Of the samples of all rounds, at least one.
    pub(super) fn of(variant: Variant, samples: &[Sample], trips: f64) -> Self {
        let mut rates: Vec<f64> = samples.iter().map(|sample| sample.rate).collect();
        rates.sort_by(f64::total_cmp);
        let cpu: Duration = samples.iter().map(|sample| sample.cpu).sum();
        let requests: u64 = samples.iter().map(|sample| sample.requests).sum();
        Self {
            variant,
            rate: rates.get(rates.len() / 2).copied().unwrap_or_default(),
            cpu: cpu.as_secs_f64() * 1e6 / requests.max(1) as f64,
            p50: median(samples.iter().map(|sample| sample.p50)),
            p99: median(samples.iter().map(|sample| sample.p99)),
            failed: samples.iter().map(|sample| sample.failed).sum(),
            trips,
        }
    }
}

fn median(lengths: impl Iterator<Item = Duration>) -> Duration {
    let mut sorted: Vec<Duration> = lengths.collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

impl Table {
    pub(super) fn new(page: Page, figures: Vec<Figures>) -> Self {
        Self { page, figures }
    }

    /// To the rate without sessions.
    fn ratio(&self, one: &Figures) -> f64 {
        one.rate / self.figures.first().map_or(0.0, |none| none.rate)
    }

    fn text(&self) -> String {
        let header = [
            "",
            "requests/s",
            "to none",
            "p50 us",
            "p99 us",
            "cpu us/request",
            "store calls/request",
        ];
        let mut table = vec![header.map(str::to_owned).to_vec()];
        for one in &self.figures {
            table.push(vec![
                one.variant.name().to_owned(),
                format!("{:.0}", one.rate),
                format!("{:.2}", self.ratio(one)),
                one.p50.as_micros().to_string(),
                one.p99.as_micros().to_string(),
                format!("{:.1}", one.cpu),
                format!("{:.2}", one.trips),
            ]);
        }
        let (page, failed) = (self.page, self.failed());
        let mut text = format!("\n{}: {}\n\n{}", page.path(), page.what(), aligned(&table));
        if failed > 0 {
            text.push_str(&format!("\n{failed} requests failed, and are not among these.\n"));
        }
        text
    }

    fn failed(&self) -> u64 {
        self.figures.iter().map(|one| one.failed).sum()
    }

    fn json(&self) -> Value {
        let variants = self.figures.iter().map(|one| {
            json!({
                "variant": one.variant.name(),
                "per_second": one.rate,
                "to_none": self.ratio(one),
                "p50_us": one.p50.as_micros() as u64,
                "p99_us": one.p99.as_micros() as u64,
                "cpu_us": one.cpu,
                "failed": one.failed,
                "store_calls": one.trips,
            })
        });
        json!({
            "page": self.page.path(),
            "is": self.page.what(),
            "variants": variants.collect::<Vec<_>>(),
        })
    }
}

/// Prints the figures, and writes them where they are wanted.
pub(super) fn conclude(places: &str, tables: &[Table], options: &Options) -> Result<()> {
    let Options {
        size,
        rounds,
        seconds,
        connections,
        threads,
        ..
    } = options;
    println!("{places}\n{WHO}");
    println!(
        "{SESSIONS} sessions of {size} bytes each; wrk with {connections} connections; {threads} threads of each server, and of \
         wrk; {rounds} rounds of {seconds} s"
    );
    for table in tables {
        print!("{}", table.text());
    }
    println!(
        "\nOne request is a GET with the cookie of a session, which is another one each time; without sessions (none) the page \
         answers the same line.\nRequests per second and latencies: the median of the rounds. Cpu: of the \
         server's process, user and kernel, which tells what a session costs even where wrk is the slower one. Store calls: counted on a server \
         of their own, for {} requests; a session that is only read is touched at most once a minute beside that.",
        super::COUNTED
    );
    write(
        options.json.as_deref(),
        &json!({
            "server": places,
            "contestants": WHO,
            "bytes": size,
            "connections": connections,
            "threads": threads,
            "rounds": rounds,
            "seconds": seconds,
            "figures": tables.iter().map(Table::json).collect::<Vec<_>>(),
        }),
    )
}
