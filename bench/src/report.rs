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
    contended::{self, Counted},
    contest::{Figures, Operation, Row},
    options::Options,
    requests::CallsEach,
    run,
};

/// A line on standard error that tells what is going on, and changes.
pub struct Progress {
    is_terminal: bool,
}

impl Progress {
    pub fn begin() -> Self {
        Self {
            is_terminal: io::stderr().is_terminal(),
        }
    }

    pub fn tell(&mut self, what: &str) {
        match self.is_terminal {
            true => eprint!("\r\x1b[K{what}"),
            false => eprintln!("{what}"),
        }
        let _ = io::stderr().flush();
    }

    pub fn end(&mut self) {
        if self.is_terminal {
            eprint!("\r\x1b[K");
        }
    }
}

/// Prints the figures of a contest on a server, and writes them where they are wanted. `who` took part, and how.
pub fn conclude(server: &str, who: &str, names: &[&str], rows: &[Row], options: &Options) -> Result<()> {
    print!("{}{}", heading(server, who, options), contest(names, rows));
    write(
        options.json.as_deref(),
        &figures(server, who, (names, rows), options),
    )
}

/// The same of whole requests: calls of the stores, and what became of one session that many change, are told too.
pub fn requests(
    server: &str,
    who: &str,
    (names, rows): (&[&str], &[Row]),
    (calls, counted): (&[CallsEach], &[Counted]),
    options: &Options,
) -> Result<()> {
    let mut table = vec![vec![String::new()]];
    table[0].extend(names.iter().map(|name| (*name).to_owned()));
    for (operation, of) in [
        (
            Operation::ReadOnly,
            (|one| one.read_only) as fn(&CallsEach) -> f64,
        ),
        (Operation::Changed, |one| one.changed),
    ] {
        let mut cells = vec![operation.name().to_owned()];
        cells.extend(calls.iter().map(|one| format!("{:.2}", of(one))));
        table.push(cells);
    }
    print!(
        "{}{}\nCalls of the store by one request\n\n{}{}",
        heading(server, who, options),
        contest(names, rows),
        aligned(&table),
        contended::table(counted)
    );
    let mut all = figures(server, who, (names, rows), options);
    if let Some(rows) = all["figures"].as_array_mut() {
        rows.push(contended::json(counted));
    }
    let calls = names
        .iter()
        .zip(calls)
        .map(|(name, one)| json!({ "contestant": name, "read_only": one.read_only, "changed": one.changed }));
    all["store_calls"] = calls.collect();
    write(options.json.as_deref(), &all)
}

fn heading(server: &str, who: &str, options: &Options) -> String {
    let (size, seconds) = (options.size, options.length.as_secs_f64());
    format!(
        "{server}\n{who}\nsessions of {size} bytes; {} rounds of {seconds} s\n",
        options.rounds
    )
}

fn figures(server: &str, who: &str, (names, rows): (&[&str], &[Row]), options: &Options) -> Value {
    json!({
        "server": server,
        "contestants": who,
        "bytes": options.size,
        "rounds": options.rounds,
        "seconds": options.length.as_secs_f64(),
        "figures": contest_json(names, rows),
    })
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
    let first = rows.first().map(|row| row.callers);
    for row in rows.iter().filter(|row| Some(row.callers) == first) {
        let _ = writeln!(text, "  {:<9}  {}", row.operation.name(), row.operation.what());
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
        false => format!("{} ({})", in_micros(one.p50), in_micros(one.p99)),
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

/// Microseconds in a table, with as many places as tell one short time from another.
pub fn in_micros(length: Duration) -> String {
    let micros = micros(length);
    match micros < 9.95 {
        true => format!("{micros:.1}"),
        false => format!("{micros:.0}"),
    }
}

/// As they are told.
pub fn micros(length: Duration) -> f64 {
    length.as_secs_f64() * 1e6
}

/// Cells in columns: the first to the left, the others to the right.
pub fn aligned(table: &[Vec<String>]) -> String {
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
            "is": row.operation.what(),
            "callers": row.callers,
            "contestants": figures.collect::<Vec<_>>(),
        })
    };
    rows.iter().map(of_row).collect()
}

/// Writes figures to a file, if there is one, with the run that they are of.
pub fn write(file: Option<&Path>, figures: &Value) -> Result<()> {
    if let Some(file) = file {
        let mut all = figures.clone();
        all["run"] = run::told();
        fs::write(file, format!("{all:#}\n")).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}
