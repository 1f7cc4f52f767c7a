//! Where contestants meet.

use std::sync::Arc;

use session_core::async_trait;

use crate::{
    Result, contended,
    contest::{Contest, Contestant},
    options::Options,
    report::{self, Progress},
    requests::{Requests, calls_each},
    workload,
};

/// What the contestants' sessions are kept in: a server, or this process.
#[async_trait]
pub trait Ground: Send + Sync {
    /// What it is, and how durable.
    fn told(&self) -> String;

    /// What such a server does by itself after a while, once it has its sessions.
    async fn settle(&self) -> Result<()> {
        Ok(())
    }

    /// Bytes that all sessions there take together.
    async fn taken(&self) -> Result<u64> {
        Err("it is not known how to ask what sessions take here".into())
    }

    /// Whose bytes these are.
    fn taken_is(&self) -> &'static str {
        ""
    }

    /// Removes what was made there.
    async fn clean(&self) -> Result<()> {
        Ok(())
    }
}

/// A ground, and who is measured there.
pub struct Arena<C: ?Sized = dyn Contestant> {
    pub ground: Box<dyn Ground>,
    /// Who takes part, and how.
    pub who: &'static str,
    /// Ours is the first.
    pub contestants: Vec<Arc<C>>,
    /// Live sessions that each contestant has.
    pub sessions: usize,
}

impl Arena {
    /// The operations of every contestant.
    ///
    /// # Errors
    ///
    /// A contestant cannot make its sessions, or a round has no call that succeeded.
    pub async fn contest(self, options: &Options, mut progress: Progress) -> Result<()> {
        let mut contest = Contest::prepare(self.contestants, self.sessions, &mut progress).await?;
        self.ground.settle().await?;
        let rows = contest.rows(options, &mut progress).await?;
        let names = contest.names();
        // Their connections close.
        drop(contest);
        self.ground.clean().await?;
        report::conclude(&self.ground.told(), self.who, &names, &rows, options)
    }
}

impl Arena {
    /// Calls of each contestant at rising rates.
    ///
    /// # Errors
    ///
    /// A contestant cannot make its sessions.
    pub async fn workload(self, options: &Options, mut progress: Progress) -> Result<()> {
        let sessions = options.rows as usize;
        let contest = Contest::prepare(self.contestants, sessions, &mut progress).await?;
        self.ground.settle().await?;
        let mut all = Vec::new();
        for (contestant, sessions) in contest.populations() {
            let side = workload::Side::new(contestant, sessions, options.callers);
            all.push(side.run(&options.rates, options.length, &mut progress).await?);
        }
        progress.end();
        self.ground.clean().await?;
        workload::conclude(&self.ground.told(), self.who, &all, options)
    }
}

impl Arena<dyn Requests> {
    /// Whole requests of every contestant: by callers who share no session, and by callers of one.
    ///
    /// # Errors
    ///
    /// As of a contest; and our sessions lose an increment, or apply one twice.
    pub async fn requests(self, options: &Options, mut progress: Progress) -> Result<()> {
        let same = self.contestants.iter().map(|one| Arc::clone(one) as _).collect();
        let mut contest = Contest::prepare(same, self.sessions, &mut progress).await?;
        self.ground.settle().await?;
        let rows = contest.rows(options, &mut progress).await?;
        let names = contest.names();
        drop(contest);
        progress.tell("calls of the stores");
        let mut calls = Vec::new();
        for contestant in &self.contestants {
            calls.push(calls_each(&**contestant).await?);
        }
        let counted = contended::run(&self.contestants, options, &mut progress).await?;
        drop(self.contestants);
        self.ground.clean().await?;
        report::requests(
            &self.ground.told(),
            self.who,
            (&names, &rows),
            (&calls, &counted),
            options,
        )?;
        contended::verify(&counted)
    }
}
