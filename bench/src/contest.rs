//! Contestants that do the same, in turn.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use session_core::async_trait;
use tokio::task::JoinSet;

use crate::{Result, options::Options, report::Progress};

pub use crate::operation::Operation;

/// Live sessions that each contestant has.
pub const POPULATION: usize = 10_000;

/// How long a session lives: longer than any run.
pub const TTL: Duration = Duration::from_secs(6 * 3600);

/// This part of a cell passes before it is measured.
const WARM_UP: f64 = 0.1;

/// Who is measured.
#[async_trait]
pub trait Contestant: Send + Sync + 'static {
    fn name(&self) -> &'static str;
    async fn create(&self) -> Result<Held>;
    /// Fails if the session is not there.
    async fn load(&self, held: &Held) -> Result<()>;
    async fn update(&self, held: &mut Held) -> Result<()>;
    async fn touch(&self, _: &Held) -> Result<()> {
        Err(MISSING.into())
    }
    /// What a page costs that only reads: the session is read, and lives on.
    async fn visit(&self, held: &Held) -> Result<()> {
        self.load(held).await?;
        self.touch(held).await
    }
    async fn delete(&self, _: &Held) -> Result<()> {
        Err(MISSING.into())
    }
}

/// Of an operation that is none of the contestant's.
const MISSING: &str = "the contestant has no such operation";

/// Where the idle time begins anew at most once a minute, a visitor who asks once a second costs one touch in so many visits.
pub const TOUCH_EVERY: u32 = 60;

/// What a caller knows of a session of its own.
#[derive(Debug, Clone)]
pub struct Held {
    pub id: [u8; 32],
    /// Of the last write, where the contestant has such a thing.
    pub version: [u8; 16],
    /// What the contestant calls it, if it chooses names by itself.
    pub name: Option<Box<str>>,
}

impl Held {
    pub fn random() -> Self {
        let mut id = [0; 32];
        fastrand::fill(&mut id);
        Self {
            id,
            version: version(),
            name: None,
        }
    }
}

pub fn version() -> [u8; 16] {
    fastrand::u128(..).to_le_bytes()
}

/// How it is measured.
#[derive(Debug)]
struct Plan<'a> {
    operations: &'a [Operation],
    callers: usize,
    rounds: usize,
    /// Of an operation of a contestant in a round.
    length: Duration,
}

/// One operation, as all contestants did it.
#[derive(Debug)]
pub struct Row {
    pub operation: Operation,
    pub callers: usize,
    /// In the order of the contestants.
    pub figures: Vec<Figures>,
}

/// How one contestant did one operation.
#[derive(Debug, Clone)]
pub struct Figures {
    /// Operations per second: the median of the rounds.
    pub rate: f64,
    /// The mean of the medians of the rounds.
    pub p50: Duration,
    /// Of all rounds together.
    pub p99: Duration,
    pub failed: usize,
}

/// A contestant, and the sessions that are there.
struct Side {
    contestant: Arc<dyn Contestant>,
    population: Vec<Held>,
    /// By `create`, for `delete`.
    created: Vec<Held>,
}

/// Contestants on one server.
pub struct Contest(Vec<Side>);

impl Contest {
    /// Makes the sessions of each.
    pub async fn prepare(
        contestants: Vec<Arc<dyn Contestant>>,
        sessions: usize,
        progress: &mut Progress,
    ) -> Result<Self> {
        let side = |contestant| Side {
            contestant,
            population: Vec::new(),
            created: Vec::new(),
        };
        let mut contest = Self(contestants.into_iter().map(side).collect());
        contest.grow(sessions, progress).await?;
        Ok(contest)
    }

    /// Makes what each has less than so many.
    pub async fn grow(&mut self, sessions: usize, progress: &mut Progress) -> Result<()> {
        for side in &mut self.0 {
            progress.tell(&format!("{sessions} sessions of {}", side.contestant.name()));
            let missing = sessions.saturating_sub(side.population.len());
            let callers = 64;
            let mut tasks = JoinSet::new();
            for caller in 0..callers {
                let contestant = Arc::clone(&side.contestant);
                let count = missing / callers + usize::from(caller < missing % callers);
                tasks.spawn(async move {
                    let mut own = Vec::with_capacity(count);
                    for _ in 0..count {
                        own.push(contestant.create().await?);
                    }
                    Result::Ok(own)
                });
            }
            while let Some(own) = tasks.join_next().await {
                side.population.extend(own??);
            }
        }
        Ok(())
    }

    /// The sessions of the first contestant.
    pub fn population(self) -> Vec<Held> {
        let first = self.populations().into_iter().next();
        first.map(|(_, population)| population).unwrap_or_default()
    }

    /// Every contestant and its sessions.
    pub fn populations(self) -> Vec<(Arc<dyn Contestant>, Vec<Held>)> {
        let of = |side: Side| (side.contestant, side.population);
        self.0.into_iter().map(of).collect()
    }

    /// All operations, by many callers and by one.
    pub async fn rows(&mut self, options: &Options, progress: &mut Progress) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for callers in [options.callers, 1] {
            let plan = Plan {
                operations: &options.operations,
                callers,
                rounds: options.rounds,
                length: options.length,
            };
            rows.extend(self.run(&plan, progress).await?);
        }
        progress.end();
        Ok(rows)
    }

    /// The contestants' names, in their order.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|side| side.contestant.name()).collect()
    }

    /// Every operation, by each contestant in turn, round by round: what disturbs the machine meanwhile disturbs all.
    async fn run(&mut self, plan: &Plan<'_>, progress: &mut Progress) -> Result<Vec<Row>> {
        let mut samples: Vec<Vec<Vec<Sample>>> =
            vec![self.0.iter().map(|_| Vec::new()).collect(); plan.operations.len()];
        for round in 0..plan.rounds {
            for (of_operation, operation) in samples.iter_mut().zip(plan.operations) {
                for turn in 0..self.0.len() {
                    let at = (round + turn) % self.0.len();
                    let side = &mut self.0[at];
                    progress.tell(&format!(
                        "callers: {}, round {} of {}: {}, {}",
                        plan.callers,
                        round + 1,
                        plan.rounds,
                        operation.name(),
                        side.contestant.name()
                    ));
                    of_operation[at].push(side.sample(*operation, plan).await?);
                }
            }
        }
        let rows = samples.into_iter().zip(plan.operations);
        let rows = rows.map(|(of_operation, operation)| {
            Ok(Row {
                operation: *operation,
                callers: plan.callers,
                figures: of_operation.into_iter().map(figures).collect::<Result<_>>()?,
            })
        });
        rows.collect()
    }
}

/// What was seen of one operation of one contestant in one round.
#[derive(Debug, Clone, Default)]
struct Sample {
    /// The callers' rates together.
    rate: f64,
    latencies: Vec<Duration>,
    failed: usize,
    failure: Option<String>,
}

impl Side {
    async fn sample(&mut self, operation: Operation, plan: &Plan<'_>) -> Result<Sample> {
        let sessions = match operation {
            Operation::Create => &mut Vec::new(),
            Operation::Delete => &mut self.created,
            _ => &mut self.population,
        };
        // Each caller has its own: nobody waits for a lock of somebody else.
        let mut tasks = JoinSet::new();
        for caller in (1..=plan.callers).rev() {
            let own = sessions.split_off(sessions.len() - sessions.len() / caller);
            let contestant = Arc::clone(&self.contestant);
            tasks.spawn(call(contestant, operation, own, plan.length));
        }
        let mut all = Sample::default();
        while let Some(ended) = tasks.join_next().await {
            let (sample, own) = ended?;
            all.rate += sample.rate;
            all.latencies.extend(sample.latencies);
            all.failed += sample.failed;
            all.failure = sample.failure.or(all.failure);
            match operation {
                Operation::Create | Operation::Delete => self.created.extend(own),
                _ => self.population.extend(own),
            }
        }
        if let Some(failure) = &all.failure {
            eprintln!(
                "\n{} of {}: {} failed, one of them so: {failure}",
                operation.name(),
                self.contestant.name(),
                all.failed
            );
        }
        Ok(all)
    }
}

/// One caller: one call after the other, on its own sessions. What failed is in doubt, and left.
async fn call(
    contestant: Arc<dyn Contestant>,
    operation: Operation,
    mut own: Vec<Held>,
    length: Duration,
) -> (Sample, Vec<Held>) {
    let mut sample = Sample::default();
    let begun = Instant::now();
    let warm = begun + length.mul_f64(WARM_UP);
    let end = begun + length;
    let (mut first, mut last) = (None, begun);
    while last < end {
        if own.is_empty() && operation != Operation::Create {
            break;
        }
        let at = fastrand::usize(..own.len().max(1));
        let before = Instant::now();
        let ended = match operation {
            Operation::Load | Operation::ReadOnly => contestant.load(&own[at]).await,
            Operation::Create => contestant.create().await.map(|held| own.push(held)),
            Operation::Update | Operation::Changed => contestant.update(&mut own[at]).await,
            Operation::Touch => contestant.touch(&own[at]).await,
            Operation::Visit => contestant.visit(&own[at]).await,
            Operation::Delete => contestant.delete(&own[at]).await,
        };
        last = Instant::now();
        if operation == Operation::Delete || (ended.is_err() && operation != Operation::Create) {
            own.swap_remove(at);
        }
        match ended {
            Ok(()) if before >= warm => {
                first.get_or_insert(before);
                sample.latencies.push(last - before);
            }
            Ok(()) => {}
            Err(error) => {
                sample.failed += 1;
                sample.failure = Some(error.to_string());
            }
        }
    }
    if let Some(first) = first {
        sample.rate = sample.latencies.len() as f64 / (last - first).as_secs_f64();
    }
    (sample, own)
}

fn figures(rounds: Vec<Sample>) -> Result<Figures> {
    let mut rates: Vec<f64> = rounds.iter().map(|sample| sample.rate).collect();
    rates.sort_by(f64::total_cmp);
    let failed = rounds.iter().map(|sample| sample.failed).sum();
    let mut medians = Vec::new();
    let mut all = Vec::new();
    for mut sample in rounds {
        if sample.latencies.is_empty() {
            return Err("a round without a call that succeeded: give it more --seconds".into());
        }
        sample.latencies.sort_unstable();
        medians.push(quantile(&sample.latencies, 0.5));
        all.extend(sample.latencies);
    }
    all.sort_unstable();
    let count = u32::try_from(medians.len())?;
    Ok(Figures {
        rate: rates[rates.len() / 2],
        p50: medians.iter().sum::<Duration>() / count,
        p99: quantile(&all, 0.99),
        failed,
    })
}

/// Of durations in order; zero if there is none.
pub fn quantile(sorted: &[Duration], part: f64) -> Duration {
    let place = (sorted.len() as f64 * part) as usize;
    let last = sorted.len().saturating_sub(1);
    sorted.get(place.min(last)).copied().unwrap_or_default()
}
