//! What a session costs a page, from the cookie to the response.

mod options;
mod pages;
mod place;
mod report;
mod server;
mod variant;
mod visitor;
mod wrk;

use session_bench::{Result, report::Progress};

pub(crate) use self::{
    options::{HELP, Options},
    server::serve,
};
use self::{
    pages::Page,
    place::Places,
    report::{Figures, Table},
    server::Server,
    variant::Variant,
    visitor::Visitor,
    wrk::{Sample, Wrk},
};

/// Sessions of each variant, which are asked for in turn: more than there are connections, so that no two requests of one
/// session meet.
const SESSIONS: usize = 1_000;

/// Requests of which the store's calls are counted.
const COUNTED: usize = 200;

/// One variant, and what was seen of it.
struct Side {
    variant: Variant,
    server: Server,
    wrk: Wrk,
}

/// All variants in turn, round by round: what disturbs the machine meanwhile disturbs all.
///
/// # Errors
///
/// wrk is not there, a server does not start, or an answer is none of a session.
pub(crate) async fn run(options: &Options, mut progress: Progress) -> Result<()> {
    wrk::check().await?;
    progress.tell("starting the servers");
    let places = Places::open(&options.variants).await?;
    let mut trips = Vec::new();
    for variant in &options.variants {
        progress.tell(&format!("{}: calls of the store", variant.name()));
        trips.push(count(*variant, &places, options).await?);
    }
    let mut sides = Vec::new();
    for variant in &options.variants {
        progress.tell(&format!("{SESSIONS} sessions of {}", variant.name()));
        sides.push(Side::open(*variant, &places, options).await?);
    }
    let mut tables = Vec::new();
    for (at, page) in Page::ALL.into_iter().enumerate() {
        if !options.pages.contains(&page) {
            continue;
        }
        let samples = rounds(&sides, page, options, &mut progress).await?;
        let rows = samples.iter().zip(&trips).zip(&sides);
        let rows = rows.map(|((samples, trips), side)| Figures::of(side.variant, samples, trips[at]));
        tables.push(Table::new(page, rows.collect()));
    }
    progress.end();
    drop(sides);
    report::conclude(&places.told(), &tables, options)
}

/// The samples of each variant.
async fn rounds(
    sides: &[Side],
    page: Page,
    options: &Options,
    progress: &mut Progress,
) -> Result<Vec<Vec<Sample>>> {
    let mut samples = vec![Vec::new(); sides.len()];
    for round in 0..options.rounds {
        for turn in 0..sides.len() {
            let at = (round + turn) % sides.len();
            let side = &sides[at];
            progress.tell(&format!(
                "{}, round {} of {}: {}",
                page.path(),
                round + 1,
                options.rounds,
                side.variant.name()
            ));
            samples[at].push(side.wrk.run(&side.server, page, options).await?);
        }
    }
    Ok(samples)
}

/// The store's calls for one request of each page.
async fn count(variant: Variant, places: &Places, options: &Options) -> Result<[f64; Page::ALL.len()]> {
    let server = Server::start(variant, places, true, options).await?;
    let mut visitor = Visitor::connect(server.address()).await?;
    let cookies = visitor.begin_sessions(variant, COUNTED).await?;
    let mut each = [0.0; Page::ALL.len()];
    for (page, each) in Page::ALL.into_iter().zip(&mut each) {
        let before = visitor.calls().await?;
        for cookie in &cookies {
            visitor.visit(page, cookie).await?;
        }
        *each = (visitor.calls().await? - before) as f64 / COUNTED as f64;
    }
    Ok(each)
}

impl Side {
    async fn open(variant: Variant, places: &Places, options: &Options) -> Result<Self> {
        let server = Server::start(variant, places, false, options).await?;
        let mut visitor = Visitor::connect(server.address()).await?;
        let cookies = visitor.begin_sessions(variant, SESSIONS).await?;
        for cookie in &cookies {
            visitor.visit(Page::Read, cookie).await?;
        }
        Ok(Self {
            variant,
            server,
            wrk: Wrk::new(&cookies)?,
        })
    }
}
