//! Sessions: attributes, merge on conflict, renewal, log-out and timeouts, on top of any store.
//!
//! Everything here is built of the five calls of [`SessionStore`](crate::SessionStore); the protocol of those calls is
//! in `protocol/`, and `interleavings.rs` checks it over every order in which they can happen, replies that get lost
//! included.

mod assurance;
mod attributes;
mod burst;
mod changes;
mod client;
mod committed;
mod envelope;
mod error;
mod event;
mod handle;
mod limit;
mod own;
mod parts;
mod protocol;
mod sessions;
mod writes;

#[cfg(test)]
mod connections;
#[cfg(test)]
mod contended;
#[cfg(test)]
mod interleavings;
#[cfg(test)]
#[cfg(feature = "metrics")]
mod monitoring;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod tests;

#[cfg(test)]
#[cfg(feature = "metrics")]
pub(crate) use self::tests::{Fate, Scripted};
pub use self::{
    assurance::Assurance,
    committed::{ClientAction, Committed, Upkeep},
    error::SessionError,
    event::EVENTS,
    handle::{Session, SessionInfo},
    limit::OnLimit,
    own::OwnSession,
    parts::SessionParts,
    sessions::{ConfigError, Lengths, RetiredIdPolicy, Sessions, SessionsBuilder},
};
