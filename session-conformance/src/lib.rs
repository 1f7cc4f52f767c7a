#![doc = include_str!("../README.md")]
//!
//! # In the suite's own code
//!
//! A guarantee beside the others, with the helpers of `expect` (`same`, `refused`, `ensure`, `loads`), `callers` (calls
//! that begin together, `cut` futures) and [`Cx`], whose `behind_proxy` is a store with a [`Proxy`] before its server:
//!
//! ```text
//! table! { "round trip":
//!     absent_session_is_none_not_an_error;
//!     subject_lists_its_live_sessions: needs Subjects, stochastic;
//! }
//!
//! /// `load` of a key that was never written is `None`.
//! async fn absent_session_is_none_not_an_error(cx: Cx) -> Verdict {
//!     same("load(absent)", cx.store().load(&cx.key()).await.answer(), Ok(None))
//! }
//! ```
//!
//! A new file of guarantees has a table of its own and is listed in `src/guarantees/mod.rs`. An error that `?` passes on
//! is a broken guarantee with its place, except `Unsupported`, which is held against what the store claims.

mod backend;
mod callers;
mod crash;
mod cx;
mod expect;
mod guarantees;
mod history;
pub mod matrix;
mod proxy;
mod report;
mod rival;
mod run;
mod table;
mod wire;
mod witness;

pub use async_trait::async_trait;
pub use session_core;

pub use self::{
    backend::{Backend, BoxError, Hook, Raw, Server, Skew},
    crash::Crash,
    cx::Cx,
    expect::{Stop, Verdict},
    guarantees::groups,
    proxy::{Fault, Proxy},
    report::{Outcome, Report},
    rival::{Deed, Rival, Scope, Transaction},
    run::{Runtime, check, run},
    table::{Group, Guarantee},
    wire::Wire,
};

/// The `main` of a test target with `harness = false`: runs every guarantee on a [`Backend`].
/// The crate's front page has a registration in full.
#[macro_export]
macro_rules! main {
    ($backend:ty) => {
        fn main() -> ::std::process::ExitCode {
            $crate::run::<$backend>()
        }
    };
}
