//! The options of the command `http`.

use std::{path::PathBuf, thread};

use lexopt::{Arg, Error, Parser, ValueExt};

use super::{Page, Variant};

/// What `--help` prints of them.
pub(crate) const HELP: &str = "\
Options of http:
  --only NAME        none (always there), session-http/memory, session-http/sqlite, session-http/redis,
                     tower-sessions/memory, tower-sessions/memory/idle, tower-sessions/redis or
                     tower-sessions/redis/idle; may come again [default: all of them]
  --page PAGE        /read or /change [default: both]
  --connections N    connections that wrk holds, each with one request under way [default: 64]
  --threads N        threads of a server, and of wrk [default: half of the cores]
  --rounds N         rounds, of which the median is reported [default: 5]
  --seconds N        how long each page of each variant is called in a round; whole seconds, as wrk counts, and what is
                     less becomes one [default: 2]
  --size BYTES       data of a session, in 8 attributes [default: 1024]
  --json FILE        writes the figures to a file, too
";

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// In the order of [`Variant::ALL`]; the first is always there.
    pub(crate) variants: Vec<Variant>,
    pub(crate) pages: Vec<Page>,
    pub(crate) connections: usize,
    pub(crate) threads: usize,
    pub(crate) rounds: usize,
    pub(crate) seconds: u64,
    pub(crate) size: usize,
    pub(crate) json: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        Self {
            variants: Variant::ALL.to_vec(),
            pages: Page::ALL.to_vec(),
            connections: 64,
            threads: (cores / 2).max(1),
            rounds: 5,
            seconds: 2,
            size: 1024,
            json: None,
        }
    }
}

impl Options {
    /// Reads what follows the command. `None`: help is asked for.
    ///
    /// # Errors
    ///
    /// An option that is not understood.
    pub(crate) fn read(mut parser: Parser) -> Result<Option<Self>, Error> {
        let mut options = Self::default();
        let mut only = Vec::new();
        while let Some(argument) = parser.next()? {
            match argument {
                Arg::Long("only") => only.push(variant(&mut parser)?),
                Arg::Long("page") => options.pages = vec![page(&mut parser)?],
                Arg::Long("connections") => options.connections = positive(&mut parser)?,
                Arg::Long("threads") => options.threads = positive(&mut parser)?,
                Arg::Long("rounds") => options.rounds = positive(&mut parser)?,
                Arg::Long("seconds") => options.seconds = seconds(&mut parser)?,
                Arg::Long("size") => options.size = parser.value()?.parse()?,
                Arg::Long("json") => options.json = Some(parser.value()?.into()),
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                other => return Err(other.unexpected()),
            }
        }
        if !only.is_empty() {
            let asked = |variant: &Variant| *variant == Variant::None || only.contains(variant);
            options.variants.retain(asked);
        }
        if options.connections < options.threads {
            return Err("--connections: each thread of wrk needs one".into());
        }
        Ok(Some(options))
    }
}

fn variant(parser: &mut Parser) -> Result<Variant, Error> {
    let name = parser.value()?.string()?;
    Variant::named(&name).ok_or_else(|| format!("--only: there is no variant {name}").into())
}

fn page(parser: &mut Parser) -> Result<Page, Error> {
    let path = parser.value()?.string()?;
    let page = Page::ALL.into_iter().find(|page| page.path() == path);
    page.ok_or_else(|| "--page: /read or /change is expected".into())
}

fn positive(parser: &mut Parser) -> Result<usize, Error> {
    match parser.value()?.parse()? {
        0 => Err("one is the least".into()),
        number => Ok(number),
    }
}

fn seconds(parser: &mut Parser) -> Result<u64, Error> {
    match parser.value()?.parse::<f64>()?.ceil() {
        seconds if (1.0..86_400.0).contains(&seconds) => Ok(seconds as u64),
        _ => Err("--seconds: a positive number of less than a day is expected".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(arguments: &[&str]) -> Result<Option<Options>, Error> {
        Options::read(Parser::from_args(arguments))
    }

    #[test]
    fn help_names_every_variant_and_page() {
        let names = Variant::ALL.map(Variant::name);
        for name in names.into_iter().chain(Page::ALL.map(Page::path)) {
            assert!(HELP.contains(name), "{name}");
        }
    }

    #[test]
    fn comparison_is_there_whatever_is_left_out() {
        let options = read(&["--only", "session-http/redis", "--page", "/change"]).unwrap();
        let options = options.unwrap();
        assert_eq!(options.variants[0], Variant::None);
        assert_eq!(options.variants[1].name(), "session-http/redis");
        assert_eq!(options.variants.len(), 2);
        assert_eq!(options.pages, [Page::Change]);
    }

    #[test]
    fn what_wrk_cannot_do_is_refused_or_rounded() {
        assert_eq!(read(&["--seconds", "0.3"]).unwrap().unwrap().seconds, 1);
        for wrong in [
            ["--seconds", "0"],
            ["--connections", "0"],
            ["--only", "session-http/none"],
            ["--page", "/"],
        ] {
            read(&wrong).unwrap_err();
        }
        read(&["--threads", "65"]).unwrap_err();
    }
}
