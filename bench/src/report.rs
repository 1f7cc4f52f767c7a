//! What is told.

use std::{
    fmt::Write as _,
    fs,
    io::{self, IsTerminal, Write as _},
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    Result,
    contest::{Figures, Operation, Row},
    options::Options,
};

/// A line on standard error that tells what is going on, and changes.
pub(crate) struct Progress {
    is_terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            is_terminal: io::stderr().is_terminal(),
        }
    }

    pub(crate) fn tell(&mut self, what: &str) {
        match self.is_terminal {
            true => eprint!("\r\x1b[K{what}"),
            false => eprintln!("{what}"),
        }
        let _ = io::stderr().flush();
    }

    pub(crate) fn end(&mut self) {
        if self.is_terminal {
            eprint!("\r\x1b[K");
        }
    }
}

/// Prints the figures of a contest on a server, and writes them where they are wanted. `who` took part, and how.
pub(crate) fn conclude(
    server: &str,
    who: &str,
    names: &[&str],
    rows: &[Row],
    options: &Options,
) -> Result<()> {
    let (size, seconds) = (options.size, options.length.as_secs_f64());
    println!(
        "{server}\n{who}\nsessions of {size} bytes; {} rounds of {seconds} s",
        options.rounds
    );
    print!("{}", contest(names, rows));
    write(
        options.json.as_deref(),
        &json!({
            "server": server,
            "contestants": who,
            "bytes": size,
            "rounds": options.rounds,
            "seconds": seconds,
            "figures": contest_json(names, rows),
        }),
    )
}

/// What one operation is.
fn what(operation: Operation) -> &'static str {
    match operation {
        Operation::Load => "a live session, chosen at random, is read",
        Operation::Create => "a new session is written",
        Operation::Update => {
            "a session is replaced, if it has the version that the caller knows (tower-sessions: in any case)"
        }
        Operation::Touch => "a session's life begins anew (tower-sessions: the session is saved)",
        Operation::Visit => {
            "a live session is read, and lives on (ours touches at most once a minute: here once in 60 visits; others each time)"
        }
        Operation::Delete => "a live session is removed",
    }
}

/// The tables: operations per second of many callers, latencies of one. The first contestant is ours.
fn contest(names: &[&str], rows: &[Row]) -> String {
    let mut text = String::new();
    for callers in rows.chunk_by(|one, other| one.callers == other.callers) {
        let many = callers.iter().any(|row| row.callers > 1);
        let title = match many {
            true => format!(
                "{} callers: operations per second, the median of the rounds; and ours divided by theirs: more is better",
                callers[0].callers
            ),
            false => {
                "1 caller: microseconds, the mean of the rounds' medians (the 99th percentile); and ours divided by theirs: \
                  less is better"
            .to_owned()
            }
        };
        let mut table = vec![header(names)];
        for row in callers {
            table.push(line(row, many));
        }
        let _ = write!(text, "\n{title}\n\n{}", aligned(&table));
    }
    text.push_str("\nOne operation:\n");
    for operation in Operation::ALL {
        let _ = writeln!(text, "  {:<6}  {}", operation.name(), what(operation));
    }
    let failed: usize = rows
        .iter()
        .flat_map(|row| &row.figures)
        .map(|one| one.failed)
        .sum();
    if failed > 0 {
        let _ = writeln!(text, "\n{failed} calls failed, and are not among these.");
    }
    text
}

fn header(names: &[&str]) -> Vec<String> {
    let mut cells = vec![String::new()];
    cells.extend(names.iter().map(|name| (*name).to_owned()));
    cells.extend(names.iter().skip(1).map(|other| format!("ours/{other}")));
    cells
}

fn line(row: &Row, many: bool) -> Vec<String> {
    let figure = |one: &Figures| match many {
        true => format!("{:.0}", one.rate),
        false => format!("{:.0} ({:.0})", micros(one.p50), micros(one.p99)),
    };
    let mut cells = vec![row.operation.name().to_owned()];
    cells.extend(row.figures.iter().map(figure));
    cells.extend(ratios(row).into_iter().map(|ratio| format!("{ratio:.2}")));
    cells
}

/// Ours to each other: of rates with many callers, of medians of latencies with one.
fn ratios(row: &Row) -> Vec<f64> {
    let figure = |one: &Figures| match row.callers {
        1 => one.p50.as_secs_f64(),
        _ => one.rate,
    };
    let all: Vec<f64> = row.figures.iter().map(figure).collect();
    all.iter().skip(1).map(|other| all[0] / other).collect()
}

fn micros(length: Duration) -> f64 {
    length.as_secs_f64() * 1e6
}

fn aligned(table: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = table.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for line in table {
        for (column, cell) in line.iter().enumerate() {
            let width = width(column);
            let _ = match column {
                0 => write!(text, "  {cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
    text
}

fn contest_json(names: &[&str], rows: &[Row]) -> Value {
    let of_row = |row: &Row| {
        let figures = names.iter().zip(&row.figures).map(|(name, one)| {
            json!({
                "contestant": name,
                "per_second": one.rate,
                "p50_us": micros(one.p50),
                "p99_us": micros(one.p99),
                "failed": one.failed,
            })
        });
        json!({
            "operation": row.operation.name(),
            "is": what(row.operation),
            "callers": row.callers,
            "contestants": figures.collect::<Vec<_>>(),
        })
    };
    rows.iter().map(of_row).collect()
}

pub(crate) fn write(file: Option<&Path>, figures: &Value) -> Result<()> {
    if let Some(file) = file {
        fs::write(file, format!("{figures:#}\n"))?;
    }
    Ok(())
}
