//! The last writes of a record.

use std::ops::Deref;

/// Writes of which a record remembers the ids: so many may follow on one whose reply was lost before its writer
/// can no longer tell whether it had been applied.
pub(super) const WRITE_IDS: usize = 8;

/// Names one commit of one request, whatever the number of its attempts.
pub(super) type WriteId = [u8; 16];

/// The ids of the last [`WRITE_IDS`] writes, oldest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Writes {
    /// Zero from `len` on, so that equal ones are equal.
    ids: [WriteId; WRITE_IDS],
    len: usize,
}

impl Writes {
    /// Remembers a write: another try of the last one is no other.
    pub(super) fn remember(&mut self, id: WriteId) {
        if self.last() != Some(&id) {
            self.push(id);
        }
    }

    /// Adds one, and forgets the oldest beyond [`WRITE_IDS`].
    pub(super) fn push(&mut self, id: WriteId) {
        if self.len == WRITE_IDS {
            self.ids.rotate_left(1);
            self.len -= 1;
        }
        self.ids[self.len] = id;
        self.len += 1;
    }
}

impl Deref for Writes {
    type Target = [WriteId];

    fn deref(&self) -> &[WriteId] {
        &self.ids[..self.len]
    }
}
