//! Calls that come at a steady rate, whether the store is slow or not.

mod report;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::{
    sync::{Mutex, Semaphore},
    task::JoinSet,
    time::timeout_at,
};

pub use self::report::conclude;
use crate::{
    Result,
    contest::{Contestant, Held},
    report::Progress,
    sizes::Sizes,
    zipf::Places,
};

/// Live sessions.
pub const SESSIONS: usize = 100_000;

/// The part of the calls that load; the others update.
pub const READS: f64 = 0.8;

/// Who achieves less of what is offered falls behind.
pub const ENOUGH: f64 = 0.95;

/// How large the sessions are.
pub fn sizes() -> Sizes {
    Sizes::between(400, 600)
}

/// Calls per second that are offered where nothing else is asked for.
pub fn rates() -> Vec<u64> {
    vec![1_000, 2_000, 5_000, 10_000, 20_000, 40_000, 80_000, 160_000]
}

/// How one contestant did at one rate.
#[derive(Debug)]
pub struct Step {
    /// Calls per second.
    pub offered: u64,
    /// Calls per second that were answered.
    pub achieved: f64,
    /// From the moment when a call was due to its answer, in nanoseconds; of those without one, to the end.
    pub latencies: Histogram<u64>,
    pub failed: u64,
}

impl Step {
    /// Whether it kept up.
    pub fn keeps_up(&self) -> bool {
        self.achieved >= ENOUGH * self.offered as f64
    }
}

/// A contestant, its sessions, and who asks.
pub struct Side {
    contestant: Arc<dyn Contestant>,
    /// As they were made: enough to load them.
    sessions: Vec<Held>,
    /// As they are: who updates a session waits for who does so already.
    latest: Vec<Mutex<Held>>,
    callers: usize,
}

impl Side {
    /// Its sessions are there; as many calls at once as there are `callers`.
    pub fn new(contestant: Arc<dyn Contestant>, sessions: Vec<Held>, callers: usize) -> Self {
        Self {
            contestant,
            latest: sessions.iter().cloned().map(Mutex::new).collect(),
            sessions,
            callers,
        }
    }

    /// The contestant's name.
    pub fn name(&self) -> &'static str {
        self.contestant.name()
    }

    /// Offers one rate after the other, until the contestant falls behind.
    ///
    /// # Errors
    ///
    /// A caller panics.
    pub async fn run(
        self,
        rates: &[u64],
        length: Duration,
        progress: &mut Progress,
    ) -> Result<(&'static str, Vec<Step>)> {
        let (name, side) = (self.name(), Arc::new(self));
        let mut steps = Vec::new();
        for &rate in rates {
            progress.tell(&format!("{name}: {rate} calls per second"));
            let step = side.offer(rate, length).await?;
            let keeps_up = step.keeps_up();
            steps.push(step);
            if !keeps_up {
                break;
            }
        }
        Ok((name, steps))
    }

    async fn offer(self: &Arc<Self>, rate: u64, length: Duration) -> Result<Step> {
        let schedule = Arc::new(Schedule::new(rate, length));
        let mut callers = JoinSet::new();
        for _ in 0..self.callers {
            callers.spawn(Arc::clone(self).call(Arc::clone(&schedule)));
        }
        let pace = Arc::clone(&schedule);
        let pacer = thread::spawn(move || pace.keep());
        let (mut latencies, mut failed) = (histogram()?, 0);
        let mut answered = 0;
        while let Some(ended) = callers.join_next().await {
            let (own, wrong) = ended??;
            answered += own.len();
            latencies.add(own)?;
            failed += wrong;
        }
        let end = schedule.end();
        // Whatever nobody came to has waited until now, at least.
        for late in schedule.next.load(Ordering::Relaxed).min(schedule.total)..schedule.total {
            latencies.saturating_record(nanos(end.saturating_duration_since(schedule.due(late))));
        }
        pacer.join().map_err(|_| "the pacer panicked")?;
        Ok(Step {
            offered: rate,
            achieved: answered as f64 / length.as_secs_f64(),
            latencies,
            failed,
        })
    }

    /// One caller: takes the next call that is due, until the time is over.
    async fn call(self: Arc<Self>, schedule: Arc<Schedule>) -> Result<(Histogram<u64>, u64)> {
        let (mut latencies, mut failed) = (histogram()?, 0);
        let mut places = Places::below(self.sessions.len())?;
        let end = schedule.end();
        while let Ok(Ok(permit)) = timeout_at(end.into(), schedule.ready.acquire()).await {
            permit.forget();
            let number = schedule.next.fetch_add(1, Ordering::Relaxed);
            let place = places.place();
            let ended = match places.chance(READS) {
                true => self.contestant.load(&self.sessions[place]).await,
                false => {
                    let mut held = self.latest[place].lock().await;
                    self.contestant.update(&mut held).await
                }
            };
            let answered = Instant::now();
            match ended {
                Ok(()) => latencies.saturating_record(nanos(answered - schedule.due(number))),
                Err(_) => failed += 1,
            }
            if answered >= end {
                break;
            }
        }
        Ok((latencies, failed))
    }
}

/// When calls are due.
struct Schedule {
    begun: Instant,
    rate: u64,
    length: Duration,
    /// Calls in all.
    total: u64,
    /// The number of the next call.
    next: AtomicU64,
    /// A permit for each call that is due.
    ready: Semaphore,
}

impl Schedule {
    fn new(rate: u64, length: Duration) -> Self {
        Self {
            begun: Instant::now(),
            rate,
            length,
            total: (rate as f64 * length.as_secs_f64()) as u64,
            next: AtomicU64::new(0),
            ready: Semaphore::new(0),
        }
    }

    fn due(&self, number: u64) -> Instant {
        self.begun + Duration::from_secs_f64(number as f64 / self.rate as f64)
    }

    fn end(&self) -> Instant {
        self.begun + self.length
    }

    /// Gives out permits when calls are due. In a thread of its own: the timers of tokio are as coarse as a millisecond.
    fn keep(&self) {
        let mut given = 0;
        while given < self.total {
            let passed = self.begun.elapsed().as_secs_f64();
            let due = ((passed * self.rate as f64) as u64 + 1).min(self.total);
            self.ready.add_permits((due - given) as usize);
            given = due;
            thread::sleep(self.due(given).saturating_duration_since(Instant::now()));
        }
    }
}

/// Of nanoseconds up to a minute, to a thousandth.
fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

fn nanos(length: Duration) -> u64 {
    u64::try_from(length.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_within_a_thousandth() {
        let mut all = histogram().unwrap();
        for micros in 1..=1000 {
            all.saturating_record(nanos(Duration::from_micros(micros)));
        }
        let p99 = all.value_at_quantile(0.99) as f64;
        assert!((p99 / 990_000.0 - 1.0).abs() < 0.002, "{p99}");
        // Longer than a minute counts as a minute.
        all.saturating_record(nanos(Duration::from_secs(600)));
        assert!(all.max() >= 60_000_000_000);
    }

    #[test]
    fn calls_are_due_at_equal_distances() {
        let schedule = Schedule::new(1000, Duration::from_secs(2));
        assert_eq!(schedule.total, 2000);
        assert_eq!(schedule.due(500) - schedule.due(0), Duration::from_millis(500));
    }

    #[test]
    fn who_answers_a_twentieth_less_falls_behind() {
        let step = |achieved| Step {
            offered: 1000,
            achieved,
            latencies: histogram().unwrap(),
            failed: 0,
        };
        assert!(step(950.0).keeps_up());
        assert!(!step(949.0).keeps_up());
    }
}
