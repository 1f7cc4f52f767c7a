//! The guarantees, by topic.

mod answers;
mod concurrency;
mod crash;
mod expiry;
mod failure;
mod identity;
mod limits;
mod one;
mod policies;
mod renewal;
mod rivals;
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
        rivals::TABLE,
        failure::TABLE,
        wire::TABLE,
        crash::TABLE,
        limits::TABLE,
        subjects::TABLE,
        sweep::TABLE,
        session::TABLE,
        renewal::TABLE,
        policies::TABLE,
    ]
}
