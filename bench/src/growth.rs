//! What more sessions do to those that are there.

use serde_json::json;

use crate::{
    Result,
    arena::Arena,
    contest::{Contest, Figures},
    options::Options,
    report::{Progress, aligned, in_micros, micros, write},
};

/// Sessions that there are, one after the other.
const COUNTS: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

impl Arena {
    /// Loads of our store with more and more sessions.
    ///
    /// # Errors
    ///
    /// A session cannot be made, or a round has no load that succeeded.
    pub async fn growth(mut self, options: &Options, mut progress: Progress) -> Result<()> {
        self.contestants.truncate(1);
        let mut contest = Contest::prepare(self.contestants, 0, &mut progress).await?;
        let mut steps = Vec::new();
        for count in COUNTS {
            if count > options.rows as usize {
                break;
            }
            contest.grow(count, &mut progress).await?;
            self.ground.settle().await?;
            let mut rows = contest.rows(options, &mut progress).await?.into_iter();
            if let (Some(mut many), Some(mut one)) = (rows.next(), rows.next()) {
                steps.push((count, many.figures.swap_remove(0), one.figures.swap_remove(0)));
            }
        }
        let name = contest.names().first().copied().unwrap_or_default();
        drop(contest);
        self.ground.clean().await?;
        conclude(&self.ground.told(), name, &steps, options)
    }
}

fn conclude(server: &str, name: &str, steps: &[(usize, Figures, Figures)], options: &Options) -> Result<()> {
    let mut lines = vec![vec![
        "sessions".to_owned(),
        format!("loads/s, {} callers", options.callers),
        "p50 in us, 1 caller".to_owned(),
        "p99 in us, 1 caller".to_owned(),
    ]];
    let mut figures = Vec::new();
    for (count, many, one) in steps {
        lines.push(vec![
            count.to_string(),
            format!("{:.0}", many.rate),
            in_micros(one.p50),
            in_micros(one.p99),
        ]);
        figures.push(json!({
            "sessions": count,
            "callers": options.callers,
            "per_second": many.rate,
            "p50_us": micros(one.p50),
            "p99_us": micros(one.p99),
            "failed": many.failed + one.failed,
        }));
    }
    println!(
        "{server}\n{name}, sessions of {} bytes; {} rounds of {} s\n\none load: a live session, chosen at random among all, is read\n\n{}",
        options.size,
        options.rounds,
        options.length.as_secs_f64(),
        aligned(&lines)
    );
    write(
        options.json.as_deref(),
        &json!({
            "server": server,
            "contestants": name,
            "bytes": options.size,
            "rounds": options.rounds,
            "seconds": options.length.as_secs_f64(),
            "growth": figures,
        }),
    )
}
