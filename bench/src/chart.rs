//! What was measured, as a chart and as tables.

mod draw;
mod page;
mod saved;
mod scale;
mod tables;

use std::{
    fs,
    path::{Path, PathBuf},
};

use lexopt::{Arg, Error, Parser};
use session_bench::Result;

use self::saved::Saved;

/// Where figures are, and what is made of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Chart {
    results: PathBuf,
    readme: Option<PathBuf>,
    scale: Option<PathBuf>,
}

impl Chart {
    /// Reads what follows the command; `None`: help is asked for.
    pub(crate) fn read(mut parser: Parser) -> std::result::Result<Option<Self>, Error> {
        let mut chart = Self::default();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Value(results) if chart.results.as_os_str().is_empty() => chart.results = results.into(),
                Arg::Long("readme") => chart.readme = Some(parser.value()?.into()),
                Arg::Long("scale") => chart.scale = Some(parser.value()?.into()),
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        match chart.results.as_os_str().is_empty() {
            true => Err("chart: the directory with the figures is expected next".into()),
            false => Ok(Some(chart)),
        }
    }

    /// Draws the chart, prints the tables, and writes both where they are wanted.
    pub(crate) fn make(&self) -> Result<()> {
        let saved = Saved::read(&self.results)?;
        let file = self.results.join("chart.svg");
        draw::draw(&saved, &file)?;
        let tables = tables::render(&saved)?;
        println!("{tables}");
        if let Some(readme) = &self.readme {
            let link = format!(
                "![How many times as fast as others: bars to the right are faster, to the left slower]({})\n\n",
                page::from(readme, &file)
            );
            replace(readme, page::BENCH, &format!("{link}{tables}"))?;
        }
        if let Some(scale) = &self.scale {
            replace(scale, page::SCALE, &scale::render(&saved)?)?;
        }
        Ok(())
    }
}

fn replace(file: &Path, marks: page::Marks, text: &str) -> Result<()> {
    let at = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let old = fs::read_to_string(file).map_err(|error| at(&error))?;
    let new = page::splice(&old, marks, text).map_err(|error| at(&error))?;
    fs::write(file, new).map_err(|error| at(&error))?;
    eprintln!("{}: written", file.display());
    Ok(())
}
