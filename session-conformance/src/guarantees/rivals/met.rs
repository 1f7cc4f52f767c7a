//! Calls that meet a lock, and what was committed under it.

use std::{ops::RangeInclusive, time::Duration};

use session_core::{ErrorKind, Record, SessionKey, Version};

use super::super::one::{Answered, Call, FIRST, State, Told, found};
use crate::{Cx, Deed, Stop, Verdict, callers::callers, expect::ensure};

/// The life that a record has at first: see [`Call::LIFE`].
const AT_FIRST: Duration = Duration::from_secs(10 * 60);

/// What the other program writes, and what a call writes.
const RIVAL: &str = "rival";
const OWN: &str = "own";

/// Another program locks, replaces, expires, extends or deletes records, and commits or rolls back a moment after calls of
/// every kind have met them: each call answers what the contract's table says of the record as it is then, and the record
/// is afterwards what it says. No update of the other's is lost, nothing comes back, and no call is `Unavailable`.
///
/// Catches a statement that goes on with the rows of its old snapshot.
pub(super) async fn call_that_met_a_lock_answers_as_what_was_committed(cx: Cx) -> Verdict {
    let rival = cx.rival().await?;
    for commits in [true, false] {
        let mut cells = Vec::new();
        for deed in ["Lock", "Replace", "Expire", "Extend", "Delete"] {
            for call in Call::ALL {
                cells.push(Cell::new(&cx, deed, call, commits).await?);
            }
        }
        let mut deeds = Vec::new();
        for cell in &cells {
            deeds.push((cell.key, cell.deed()?));
        }
        let transaction = rival.begin(&deeds).await?;
        let calls = callers(cells.len(), |at| {
            let (store, cell) = (cx.store(), cells[at]);
            async move { Ok(cell.call.make(&*store, &cell.key, cell.version, OWN).await) }
        });
        let end = async {
            // Most have met it by then; who comes later sees what is there.
            tokio::time::sleep(Duration::from_millis(150)).await;
            match commits {
                true => transaction.commit().await,
                false => transaction.roll_back().await,
            }
            .map_err(Stop::from)
        };
        let (answers, ()) = tokio::try_join!(calls, end)?;
        for (cell, answer) in cells.iter().zip(answers) {
            cell.check(&cx, answer).await?;
        }
    }
    Ok(())
}

/// A deed, how its transaction ends, and the call that meets it, on a record of their own.
#[derive(Debug, Clone, Copy)]
struct Cell {
    deed: &'static str,
    commits: bool,
    call: Call,
    key: SessionKey,
    version: Version,
}

impl Cell {
    async fn new(cx: &Cx, deed: &'static str, call: Call, commits: bool) -> Result<Self, Stop> {
        let key = cx.key();
        let version = cx.store().create(&key, &Record::new(FIRST), AT_FIRST).await?;
        Ok(Self {
            deed,
            commits,
            call,
            key,
            version,
        })
    }

    fn deed(&self) -> Result<Deed, Stop> {
        Ok(match self.deed {
            "Replace" => Deed::Replace {
                record: Record::new(RIVAL),
                version: Version::random()?,
            },
            "Expire" => Deed::Expire,
            "Extend" => Deed::Extend,
            "Delete" => Deed::Delete,
            _ => Deed::Lock,
        })
    }

    /// What the transaction leaves: whose record, and its life.
    fn left(&self) -> (State, Duration) {
        match self.deed {
            _ if !self.commits => (Some(FIRST), AT_FIRST),
            "Replace" => (Some(RIVAL), AT_FIRST),
            "Expire" | "Delete" => (None, Duration::ZERO),
            "Extend" => (Some(FIRST), Duration::from_secs(60 * 60)),
            _ => (Some(FIRST), AT_FIRST),
        }
    }

    async fn check(&self, cx: &Cx, answer: Answered) -> Verdict {
        let (state, life) = self.left();
        let mut right = self.call.on(state, OWN);
        if self.call == Call::Create && answer == Err(ErrorKind::AlreadyExists) {
            // It may have looked before the commit and waited for nothing.
            right = (answer, state);
        }
        let life = match answer {
            Ok(Told::Written) => Call::LIFE,
            Ok(Told::Touched) => Call::TOUCHED,
            _ => life,
        };
        let seen = found(&*cx.store(), &self.key).await?;
        let lives = lives(cx, life);
        let is_right = answer == right.0
            && seen.as_ref().map(|(data, _)| data.as_str()) == right.1
            && seen.as_ref().is_none_or(|(_, rest)| lives.contains(rest));
        ensure(is_right, || {
            let end = if self.commits { "committed" } else { "rolled back" };
            format!(
                "{:?} that met {}, which was {end}: its answer, and the record afterwards\n\
                 expected: {right:?}, with a rest in {lives:?}\nseen: {answer:?}, {seen:?}",
                self.call, self.deed
            )
        })
    }
}

/// What may be left of a life: a minute is more than this guarantee takes.
fn lives(cx: &Cx, life: Duration) -> RangeInclusive<Duration> {
    life.saturating_sub(Duration::from_secs(60))..=cx.most(life)
}
