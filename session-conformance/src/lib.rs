#![doc = include_str!("../README.md")]
//!
//! # Adding a guarantee
//!
//! 1. Write a private `async fn` in the file of `src/guarantees/` that has its topic. Its name is the sentence, its
//!    doc comment the full statement; it takes a [`Cx`] and returns a [`Verdict`].
//! 2. List it in the `table![…]` at the top of that file, with its marks: `name`, `name: needs Subjects`,
//!    `name: stochastic`, `name: provisional, needs Sweep` … A function that is not listed is dead code, and the build
//!    denies warnings. A new file is listed in `src/guarantees/mod.rs`.
//! 3. Add a mutant that breaks it to `tests/mutants/list.rs`, naming the guarantee: a guarantee that kills no mutant
//!    fails `tests/mutants.rs`.
//!
//! ```ignore
//! table! { "round trip":
//!     absent_session_is_none_not_an_error,
//! }
//!
//! /// `load` of a key that was never written is `None`.
//! async fn absent_session_is_none_not_an_error(cx: Cx) -> Verdict {
//!     same("load(absent)", cx.store().load(&cx.key()).await.answer(), Ok(None))
//! }
//! ```

mod backend;
mod callers;
mod cx;
mod expect;
mod guarantees;
mod history;
mod report;
mod run;
mod table;
mod witness;

pub use async_trait::async_trait;
pub use session_core;

pub use self::{
    backend::{Backend, BoxError, Hook, Raw, Server},
    cx::Cx,
    expect::{Stop, Verdict},
    guarantees::groups,
    report::{Outcome, Report},
    run::{Runtime, check, run},
    table::{Group, Guarantee},
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
