//! What is told of it.

use std::{fmt::Write as _, time::Duration};

use serde_json::{Value, json};

use super::{ENOUGH, READS, Step};
use crate::{
    Result,
    options::Options,
    report::{aligned, write},
    zipf::EXPONENT,
};

/// Quantiles that are told.
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// Prints the figures of all contestants, and writes them where they are wanted.
///
/// # Errors
///
/// The file cannot be written.
pub fn conclude(server: &str, who: &str, all: &[(&'static str, Vec<Step>)], options: &Options) -> Result<()> {
    let seconds = options.length.as_secs_f64();
    let what = format!(
        "one call: a session of {}, of 400 to 600 bytes, is loaded ({:.0} %) or updated; which one is Zipf-distributed \
         with the exponent {EXPONENT}, and updates of one session wait for each other",
        options.rows,
        READS * 100.0
    );
    println!(
        "{server}\n{who}\n{what}\n{seconds} s for each rate, {} calls at once at most\n\n\
         Microseconds from the moment when a call was due to its answer\n\n{}",
        options.callers,
        table(all)
    );
    for (name, steps) in all {
        if let Some(last) = steps.iter().find(|step| !step.keeps_up()) {
            println!(
                "  {name} fell behind at {} calls per second: {:.0} were answered, less than {:.0} %.",
                last.offered,
                last.achieved,
                ENOUGH * 100.0
            );
        }
    }
    let contestants = all.iter().map(|(name, steps)| {
        json!({
            "contestant": name,
            "steps": steps.iter().map(figures).collect::<Vec<_>>(),
        })
    });
    write(
        options.json.as_deref(),
        &json!({
            "server": server,
            "contestants": who,
            "is": what,
            "seconds": seconds,
            "callers": options.callers,
            "workload": contestants.collect::<Vec<_>>(),
        }),
    )
}

fn micros(step: &Step, quantile: f64) -> f64 {
    let nanos = step.latencies.value_at_quantile(quantile);
    Duration::from_nanos(nanos).as_secs_f64() * 1e6
}

fn table(all: &[(&'static str, Vec<Step>)]) -> String {
    let mut lines = vec![vec![
        String::new(),
        "offered/s".to_owned(),
        "answered/s".to_owned(),
    ]];
    lines[0].extend(QUANTILES.map(|(name, _)| name.to_owned()));
    lines[0].push("failed".to_owned());
    for (name, steps) in all {
        for step in steps {
            let mut line = vec![
                (*name).to_owned(),
                step.offered.to_string(),
                format!("{:.0}", step.achieved),
            ];
            line.extend(QUANTILES.map(|(_, quantile)| format!("{:.0}", micros(step, quantile))));
            line.push(step.failed.to_string());
            if !step.keeps_up() {
                let _ = write!(line[0], " (falls behind)");
            }
            lines.push(line);
        }
    }
    aligned(&lines)
}

fn figures(step: &Step) -> Value {
    let mut figures = json!({
        "offered_per_second": step.offered,
        "answered_per_second": step.achieved,
        "keeps_up": step.keeps_up(),
        "failed": step.failed,
    });
    for (name, quantile) in QUANTILES {
        figures[format!("{}_us", name.replace('.', ""))] = micros(step, quantile).into();
    }
    figures
}
