//! The mutants, and who must kill them. A new one is a line here and its fault in `Fault`.

use crate::naive::Fault;

/// A broken store.
pub(crate) struct Mutant {
    /// What is wrong with it.
    pub(crate) fault: Fault,
    /// The guarantees that name the fault: each must be broken by it.
    pub(crate) killed_by: &'static [&'static str],
}

const fn mutant(fault: Fault, killed_by: &'static [&'static str]) -> Mutant {
    Mutant { fault, killed_by }
}

pub(crate) const MUTANTS: &[Mutant] = &[
    // round trip
    mutant(Fault::NotAfterDropped, &["created_session_is_loaded_whole"]),
    mutant(Fault::EmptyIsAbsent, &["empty_data_is_kept"]),
    mutant(Fault::NulEndsData, &["binary_data_is_kept"]),
    mutant(Fault::AbsentIsAnError, &["absent_session_is_none_not_an_error"]),
    mutant(
        Fault::DeletingAbsentIsAnError,
        &["deleting_an_absent_session_is_false_not_an_error"],
    ),
];
