//! The options of every command.

use std::{path::PathBuf, time::Duration};

use lexopt::{Arg, Error, Parser, ValueExt};

pub use crate::operation::Operation;
use crate::sizes::Sizes;

/// What `--help` prints of them.
pub const HELP: &str = "\
Options:
  --json FILE        writes the figures to a file, too
  --size BYTES       data of a session [default: 1024]
  --help             print this and stop

Options of a contest:
  --only OPERATION   load, update, touch, visit, create or delete (what was created), or of requests read-only or changed;
                     may come again [default: all of them]
  --callers N        callers at once; one alone is measured anyway [default: 64; 2 in memory]
  --rounds N         rounds, of which the median is reported [default: 5]
  --seconds N        how long each operation of each contestant is called in a round [default: 2]
";

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    pub url: Option<String>,
    pub json: Option<PathBuf>,
    pub size: usize,
    /// The number of the one contestant that is wanted.
    pub contestant: Option<usize>,
    /// In place of `size`, if sessions are not all alike.
    pub sizes: Option<Sizes>,
    /// Calls per second, rising.
    pub rates: Vec<u64>,
    /// In their order.
    pub operations: Vec<Operation>,
    pub callers: usize,
    pub rounds: usize,
    pub length: Duration,
    pub rows: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: None,
            json: None,
            size: 1024,
            contestant: None,
            sizes: None,
            rates: Vec::new(),
            operations: Operation::ALL.to_vec(),
            callers: 64,
            rounds: 5,
            length: Duration::from_secs(2),
            rows: 1_000_000,
        }
    }
}

impl Options {
    /// Reads what follows a command; what is not said is as it is here. `None`: help is asked for.
    ///
    /// # Errors
    ///
    /// An option that is not understood.
    pub fn read(mut self, mut parser: Parser) -> Result<Option<Self>, Error> {
        let mut asked = Vec::new();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("url") => self.url = Some(parser.value()?.parse()?),
                Arg::Long("json") => self.json = Some(parser.value()?.into()),
                Arg::Long("size") => self.size = parser.value()?.parse()?,
                Arg::Long("only") => asked.push(operation(&mut parser, &self.operations)?),
                Arg::Long("callers") => self.callers = positive(&mut parser)?,
                Arg::Long("rounds") => self.rounds = positive(&mut parser)?,
                Arg::Long("seconds") => self.length = length(&mut parser)?,
                Arg::Long("contestant") => self.contestant = Some(parser.value()?.parse()?),
                Arg::Long("rates") => self.rates = rates(&mut parser)?,
                Arg::Long("rows") => self.rows = parser.value()?.parse()?,
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        if !asked.is_empty() {
            self.operations.retain(|operation| asked.contains(operation));
        }
        Ok(Some(self))
    }
}

/// One of those that the command has.
fn operation(parser: &mut Parser, of: &[Operation]) -> Result<Operation, Error> {
    let name = parser.value()?.string()?;
    let known = of.iter().find(|operation| operation.name() == name);
    known.copied().ok_or_else(|| {
        let names: Vec<_> = of.iter().map(|operation| operation.name()).collect();
        format!("--only: one of these is expected: {}", names.join(", ")).into()
    })
}

fn positive(parser: &mut Parser) -> Result<usize, Error> {
    match parser.value()?.parse()? {
        0 => Err("one is the least".into()),
        number => Ok(number),
    }
}

/// Rising, or a contestant that fell behind would be asked for less.
fn rates(parser: &mut Parser) -> Result<Vec<u64>, Error> {
    let text = parser.value()?.string()?;
    let rates: Option<Vec<u64>> = text.split(',').map(|rate| rate.trim().parse().ok()).collect();
    match rates {
        Some(rates) if rates[0] > 0 && rates.is_sorted() => Ok(rates),
        _ => Err("--rates: rising numbers are expected, as in 1000,2000,5000".into()),
    }
}

fn length(parser: &mut Parser) -> Result<Duration, Error> {
    let seconds: f64 = parser.value()?.parse()?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(length) if !length.is_zero() => Ok(length),
        _ => Err("--seconds: a positive number is expected".into()),
    }
}
