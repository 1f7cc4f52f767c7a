//! The tables of guarantees.

use std::{fmt, future::Future, pin::Pin};

use session_core::Capability;

use crate::{Cx, Verdict};

/// The guarantees of one topic.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Group {
    /// The topic: `"round trip"`, `"expiry"` …
    pub name: &'static str,
    /// Its guarantees, in the order of the table.
    pub guarantees: &'static [Guarantee],
}

/// One sentence of the contract, and the function that checks it.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct Guarantee {
    /// The sentence.
    pub name: &'static str,
    /// The topic: the name of its [`Group`].
    pub group: &'static str,
    /// The capabilities without which it ends as `unsupported`.
    pub needs: &'static [Capability],
    /// About what survives a crash: ends as `unsupported`, and is not run, where the store does not claim
    /// [`Durability::Crash`](session_core::Durability::Crash).
    pub durable: bool,
    /// New: reported, but a run does not fail by it.
    pub provisional: bool,
    /// Depends on the seed: a failure names it.
    pub stochastic: bool,
    pub(crate) run: fn(Cx) -> Running,
}

pub(crate) type Running = Pin<Box<dyn Future<Output = Verdict> + Send>>;

impl Guarantee {
    /// A guarantee without marks.
    pub(crate) const fn new(group: &'static str, name: &'static str, run: fn(Cx) -> Running) -> Self {
        Self {
            name,
            group,
            needs: &[],
            durable: false,
            provisional: false,
            stochastic: false,
            run,
        }
    }
}

impl fmt::Debug for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}::{}", self.group, self.name)
    }
}

/// Registers the guarantees of a file: their functions' names are their sentences.
///
/// Marks: `needs Subjects`, `needs Sweep`, `durable`, `provisional`, `stochastic`.
macro_rules! table {
    ($group:literal: $($name:ident $(: $($mark:ident $($capability:ident)?),+)?;)+) => {
        pub(super) const TABLE: $crate::Group = $crate::Group {
            name: $group,
            guarantees: &[$({
                #[allow(unused_mut)]
                let mut guarantee = $crate::Guarantee::new($group, stringify!($name), |cx| Box::pin($name(cx)));
                $($($crate::table::mark!(guarantee $mark $($capability)?);)+)?
                guarantee
            }),+],
        };
    };
}

macro_rules! mark {
    ($guarantee:ident needs $capability:ident) => {
        $guarantee.needs = &[session_core::Capability::$capability];
    };
    ($guarantee:ident durable) => {
        $guarantee.durable = true;
    };
    ($guarantee:ident provisional) => {
        $guarantee.provisional = true;
    };
    ($guarantee:ident stochastic) => {
        $guarantee.stochastic = true;
    };
}

pub(crate) use {mark, table};
