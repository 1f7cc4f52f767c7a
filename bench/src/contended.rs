//! One session, which many callers change at once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{
    Result,
    contest::Held,
    options::Options,
    report::{Progress, aligned},
    requests::Requests,
};

/// Callers of one session.
pub const CALLERS: usize = 16;

/// What one operation is.
pub const WHAT: &str = "one attribute of a session is counted up, by 16 callers of one session at once";

/// What became of a contestant's counting.
#[derive(Debug)]
pub struct Counted {
    pub name: &'static str,
    /// Acknowledged per second: the median of the rounds.
    pub rate: f64,
    /// Increments that were acknowledged.
    pub acknowledged: u64,
    /// Increments that were answered with an error: they may have been applied, or not.
    pub failed: u64,
    /// What the session says at the end.
    pub kept: u64,
    /// Calls of the store for each that was acknowledged.
    pub calls: f64,
}

impl Counted {
    /// Acknowledged, and not in the session.
    pub fn lost(&self) -> u64 {
        self.acknowledged.saturating_sub(self.kept)
    }

    /// In the session, and asked for by nobody.
    pub fn surplus(&self) -> u64 {
        self.kept.saturating_sub(self.acknowledged + self.failed)
    }
}

/// Counts with each contestant in turn, round by round.
///
/// # Errors
///
/// A session cannot be made or read, or a contestant has no increment that was acknowledged.
pub async fn run(
    contestants: &[Arc<dyn Requests>],
    options: &Options,
    progress: &mut Progress,
) -> Result<Vec<Counted>> {
    let mut all = Vec::new();
    for contestant in contestants {
        let (contestant, calls) = contestant.counting()?;
        let held = contestant.create().await?;
        let before = calls.total();
        let (mut rates, mut acknowledged, mut failed) = (Vec::new(), 0, 0);
        for round in 0..options.rounds {
            progress.tell(&format!(
                "contended, round {} of {}: {}",
                round + 1,
                options.rounds,
                contestant.name()
            ));
            let (done, wrong, took) = count(&contestant, &held, options.length).await?;
            rates.push(done as f64 / took.as_secs_f64());
            acknowledged += done;
            failed += wrong;
        }
        if acknowledged == 0 {
            return Err(format!("{}: no increment was acknowledged", contestant.name()).into());
        }
        let calls = (calls.total() - before) as f64 / acknowledged as f64;
        rates.sort_by(f64::total_cmp);
        all.push(Counted {
            name: contestant.name(),
            rate: rates[rates.len() / 2],
            acknowledged,
            failed,
            kept: contestant.count(&held).await?,
            calls,
        });
    }
    progress.end();
    Ok(all)
}

/// What was acknowledged, what failed, and how long it took.
async fn count(
    contestant: &Arc<dyn Requests>,
    held: &Held,
    length: Duration,
) -> Result<(u64, u64, Duration)> {
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (contestant, held) = (Arc::clone(contestant), held.clone());
        callers.spawn(async move {
            let (mut done, mut failed, mut failure) = (0, 0, None);
            while begun.elapsed() < length {
                match contestant.count_up(&held).await {
                    Ok(()) => done += 1,
                    Err(error) => {
                        failed += 1;
                        failure = Some(error.to_string());
                    }
                }
            }
            (done, failed, failure)
        });
    }
    let (mut done, mut failed, mut failure) = (0, 0, None);
    while let Some(ended) = callers.join_next().await {
        let ended = ended?;
        done += ended.0;
        failed += ended.1;
        failure = ended.2.or(failure);
    }
    let took = begun.elapsed();
    if let Some(failure) = failure {
        eprintln!(
            "\ncontended of {}: {failed} failed, one of them so: {failure}",
            contestant.name()
        );
    }
    Ok((done, failed, took))
}

/// The table.
pub fn table(all: &[Counted]) -> String {
    let mut lines = vec![
        [
            "",
            "per second",
            "acknowledged",
            "in the session",
            "lost",
            "failed",
            "store calls each",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for one in all {
        lines.push(vec![
            one.name.to_owned(),
            format!("{:.0}", one.rate),
            one.acknowledged.to_string(),
            one.kept.to_string(),
            one.lost().to_string(),
            one.failed.to_string(),
            format!("{:.2}", one.calls),
        ]);
    }
    format!("\ncontended: {WHAT}\n\n{}", aligned(&lines))
}

/// The figures, as a row of a contest has them.
pub fn json(all: &[Counted]) -> Value {
    let one = |one: &Counted| {
        json!({
            "contestant": one.name,
            "per_second": one.rate,
            "acknowledged": one.acknowledged,
            "in_the_session": one.kept,
            "lost": one.lost(),
            "failed": one.failed,
            "store_calls": one.calls,
        })
    };
    json!({
        "operation": "contended",
        "is": WHAT,
        "callers": CALLERS,
        "contestants": all.iter().map(one).collect::<Vec<_>>(),
    })
}

/// Ours is the first, and keeps each increment that it acknowledged, once.
///
/// # Errors
///
/// It does not.
pub fn verify(all: &[Counted]) -> Result<()> {
    match all.first() {
        Some(ours) if ours.lost() > 0 => {
            Err(format!("{} lost {} acknowledged increments", ours.name, ours.lost()).into())
        }
        Some(ours) if ours.surplus() > 0 => {
            Err(format!("{} counted {} increments twice", ours.name, ours.surplus()).into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(acknowledged: u64, failed: u64, kept: u64) -> Counted {
        Counted {
            name: "store",
            rate: 1.0,
            acknowledged,
            failed,
            kept,
            calls: 2.0,
        }
    }

    #[test]
    fn what_was_acknowledged_must_be_there_once() {
        assert!(verify(&[counted(5, 0, 5)]).is_ok());
        // What failed may have been applied.
        assert!(verify(&[counted(5, 2, 6)]).is_ok());
        assert!(verify(&[counted(5, 0, 4)]).is_err());
        assert!(verify(&[counted(5, 1, 7)]).is_err());
        // Peers may lose.
        assert!(verify(&[counted(5, 0, 5), counted(5, 0, 1)]).is_ok());
    }
}
