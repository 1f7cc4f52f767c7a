//! The guarantees, by topic.

mod round_trip;

use crate::Group;

/// Every guarantee, by topic, in the order of the matrix.
#[must_use]
pub fn groups() -> &'static [Group] {
    &[round_trip::TABLE]
}
