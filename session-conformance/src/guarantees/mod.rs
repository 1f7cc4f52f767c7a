//! The guarantees, by topic.

mod answers;
mod concurrency;
mod expiry;
mod failure;
mod identity;
mod limits;
mod renewal;
mod round_trip;
mod session;
mod subjects;
mod sweep;
mod wire;

use crate::Group;

/// Every guarantee, by topic, in the order of the matrix.
#[must_use]
pub fn groups() -> &'static [Group] {
    &[
        round_trip::TABLE,
        answers::TABLE,
        identity::TABLE,
        expiry::TABLE,
        concurrency::TABLE,
        failure::TABLE,
        wire::TABLE,
        limits::TABLE,
        subjects::TABLE,
        sweep::TABLE,
        session::TABLE,
        renewal::TABLE,
    ]
}
