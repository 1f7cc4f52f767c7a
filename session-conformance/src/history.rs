//! Whether a history of calls on one key is linearizable.
//!
//! The key is a register that is absent or holds a value under a version. A history is linearizable if its calls can be
//! put in one order such that each takes effect at a point between its call and its return, and each answer is the one
//! that the register gives in that order (Herlihy and Wing, 1990). The search is Wing and Gong's, with Lowe's memory of
//! the configurations that were seen before.

use std::{collections::HashSet, fmt::Write, time::Duration};

use session_core::{ErrorKind, Version};

/// A call on the key and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// When it was called, since the run's begin.
    pub(crate) called: Duration,
    /// When it returned.
    pub(crate) returned: Duration,
    pub(crate) action: Action,
}

/// The calls and their answers. Every value is written once.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    Create {
        value: u64,
        seen: Result<Version, ErrorKind>,
    },
    Load {
        seen: Result<Option<(u64, Version)>, ErrorKind>,
    },
    Update {
        expected: Version,
        value: u64,
        seen: Result<Version, ErrorKind>,
    },
    Touch {
        seen: Result<(), ErrorKind>,
    },
    Delete {
        expected: Option<Version>,
        seen: Result<bool, ErrorKind>,
    },
}

/// Writes that may end `Unavailable` in one history: each doubles the orders to search.
const MOST_OPEN: usize = 3;

/// The register: a value under a version, or nothing.
///
/// A version is `None` if its write ended `Unavailable`: then nobody was told it, and only a load can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Register {
    Absent,
    Held { value: u64, version: Option<Version> },
}

/// Tells why the history is not linearizable, if it is not.
pub(crate) fn check(events: &[Event]) -> Result<(), String> {
    // An answer that tells nothing and changes nothing takes part in no order.
    let mut events: Vec<&Event> = events.iter().filter(|event| !is_void(&event.action)).collect();
    events.sort_by_key(|event| event.called);
    let open = events.iter().filter(|event| is_open(&event.action)).count();
    if open > MOST_OPEN {
        return Err(format!(
            "{open} writes ended Unavailable: more than {MOST_OPEN} cannot be checked"
        ));
    }
    let mut search = Search {
        events: &events,
        done: vec![false; events.len()],
        seen: HashSet::new(),
        furthest: 0,
        stuck: None,
    };
    if search.from(Register::Absent, 0) {
        return Ok(());
    }
    Err(search.explain())
}

struct Search<'a> {
    /// By the time of their call.
    events: &'a [&'a Event],
    done: Vec<bool>,
    seen: HashSet<(Vec<bool>, Register)>,
    furthest: usize,
    stuck: Option<(Vec<bool>, Register)>,
}

impl Search<'_> {
    /// Whether the events that are left can follow on `register`. Depth: the number of events, a few hundred.
    fn from(&mut self, register: Register, count: usize) -> bool {
        let left = || {
            self.events
                .iter()
                .zip(&self.done)
                .filter(|(_, done)| !**done)
                .map(|(event, _)| event)
        };
        // A write whose outcome is unknown may never have been applied.
        if left().all(|event| is_open(&event.action)) {
            return true;
        }
        if !self.seen.insert((self.done.clone(), register)) {
            return false;
        }
        if count >= self.furthest {
            self.furthest = count;
            self.stuck = Some((self.done.clone(), register));
        }
        // Only what was called before anything left had returned can come next.
        let horizon = left()
            .filter(|event| !is_open(&event.action))
            .map(|event| event.returned)
            .min()
            .unwrap_or(Duration::MAX);
        for at in 0..self.events.len() {
            let event = self.events[at];
            if event.called > horizon {
                break;
            }
            if self.done[at] {
                continue;
            }
            if let Some(next) = step(register, &event.action) {
                self.done[at] = true;
                if self.from(next, count + 1) {
                    return true;
                }
                self.done[at] = false;
            }
        }
        false
    }

    /// The place beyond which no order goes, with the calls around it.
    fn explain(&self) -> String {
        let mut text = String::from("no order of the calls gives their answers");
        if let Some((done, register)) = &self.stuck {
            let _ = write!(
                text,
                "\nafter {} of {} calls the key would hold {register:?}, and then one of:",
                self.furthest,
                self.events.len()
            );
            let left = self.events.iter().zip(done).filter(|(_, done)| !**done);
            for (event, _) in left.take(8) {
                let _ = write!(
                    text,
                    "\n    {:?} to {:?}: {:?}",
                    event.called, event.returned, event.action
                );
            }
        }
        text
    }
}

/// The register after `action`, if `action` has its answer there.
fn step(register: Register, action: &Action) -> Option<Register> {
    use Register::{Absent, Held};
    // An unknown version is whatever a caller says that it is: the store chose it and told nobody.
    let is = |held: Option<Version>, told: Version| held.is_none_or(|held| held == told);
    match (register, action) {
        (
            Absent,
            Action::Create {
                value,
                seen: Ok(version),
            },
        ) => Some(Held {
            value: *value,
            version: Some(*version),
        }),
        (
            Absent,
            Action::Create {
                value,
                seen: Err(ErrorKind::Unavailable),
            },
        ) => Some(Held {
            value: *value,
            version: None,
        }),
        (
            Held { .. },
            Action::Create {
                seen: Err(ErrorKind::AlreadyExists | ErrorKind::Unavailable),
                ..
            },
        ) => Some(register),

        (Absent, Action::Load { seen: Ok(None) }) => Some(register),
        (
            Held { value, version },
            Action::Load {
                seen: Ok(Some((seen, told))),
            },
        ) => (value == *seen && is(version, *told)).then_some(Held {
            value,
            version: Some(*told),
        }),

        (
            Absent,
            Action::Update {
                seen: Err(ErrorKind::NotFound | ErrorKind::Unavailable),
                ..
            },
        ) => Some(register),
        (
            Held { version, .. },
            Action::Update {
                expected,
                value,
                seen,
            },
        ) => match seen {
            Ok(next) => is(version, *expected).then_some(Held {
                value: *value,
                version: Some(*next),
            }),
            Err(ErrorKind::Unavailable) => is(version, *expected).then_some(Held {
                value: *value,
                version: None,
            }),
            Err(ErrorKind::Conflict) => (version != Some(*expected)).then_some(register),
            Err(_) => None,
        },

        (
            Absent,
            Action::Touch {
                seen: Err(ErrorKind::NotFound),
            },
        )
        | (Held { .. }, Action::Touch { seen: Ok(()) }) => Some(register),

        (
            Absent,
            Action::Delete {
                seen: Ok(false) | Err(ErrorKind::Unavailable),
                ..
            },
        ) => Some(register),
        (Held { version, .. }, Action::Delete { expected, seen }) => match seen {
            Ok(true) | Err(ErrorKind::Unavailable) => expected
                .is_none_or(|expected| is(version, expected))
                .then_some(Absent),
            Err(ErrorKind::Conflict) => expected
                .is_some_and(|expected| version != Some(expected))
                .then_some(register),
            _ => None,
        },
        _ => None,
    }
}

/// A write whose outcome nobody knows.
fn is_open(action: &Action) -> bool {
    matches!(
        action,
        Action::Create {
            seen: Err(ErrorKind::Unavailable),
            ..
        } | Action::Update {
            seen: Err(ErrorKind::Unavailable),
            ..
        } | Action::Delete {
            seen: Err(ErrorKind::Unavailable),
            ..
        }
    )
}

/// A call that changed nothing and told nothing.
fn is_void(action: &Action) -> bool {
    matches!(
        action,
        Action::Load {
            seen: Err(ErrorKind::Unavailable)
        } | Action::Touch {
            seen: Err(ErrorKind::Unavailable)
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNKNOWN: ErrorKind = ErrorKind::Unavailable;

    fn version(tag: u8) -> Version {
        Version::from_bytes([tag; 16])
    }

    fn at(called: u64, returned: u64, action: Action) -> Event {
        let (called, returned) = (Duration::from_millis(called), Duration::from_millis(returned));
        Event {
            called,
            returned,
            action,
        }
    }

    fn create(value: u64, tag: u8) -> Action {
        Action::Create {
            value,
            seen: Ok(version(tag)),
        }
    }

    fn load(value: u64, tag: u8) -> Action {
        Action::Load {
            seen: Ok(Some((value, version(tag)))),
        }
    }

    fn update(expected: u8, value: u64, tag: u8) -> Action {
        Action::Update {
            expected: version(expected),
            value,
            seen: Ok(version(tag)),
        }
    }

    const NOTHING: Action = Action::Load { seen: Ok(None) };
    const DELETED: Action = Action::Delete {
        expected: None,
        seen: Ok(true),
    };

    #[test]
    fn known_good_histories_are_linearizable() {
        let good: &[&[Event]] = &[
            &[],
            // One after the other.
            &[
                at(0, 1, create(1, 1)),
                at(2, 3, load(1, 1)),
                at(4, 5, update(1, 2, 2)),
                at(6, 7, load(2, 2)),
                at(8, 9, DELETED),
                at(10, 11, NOTHING),
            ],
            // A load that overlaps a write sees the old or the new.
            &[
                at(0, 1, create(1, 1)),
                at(2, 10, update(1, 2, 2)),
                at(3, 4, load(1, 1)),
                at(5, 6, load(2, 2)),
            ],
            // The update returns last and took effect first.
            &[
                at(0, 1, create(1, 1)),
                at(2, 20, update(1, 2, 2)),
                at(3, 5, load(2, 2)),
                at(6, 8, DELETED),
            ],
            // Two creates overlap and one wins.
            &[
                at(0, 9, create(1, 1)),
                at(
                    1,
                    8,
                    Action::Create {
                        value: 2,
                        seen: Err(ErrorKind::AlreadyExists),
                    },
                ),
            ],
            // A write of unknown outcome took effect long after it was given up…
            &[
                at(0, 1, create(1, 1)),
                at(
                    2,
                    3,
                    Action::Update {
                        expected: version(1),
                        value: 2,
                        seen: Err(UNKNOWN),
                    },
                ),
                at(4, 5, load(1, 1)),
                at(6, 7, load(2, 9)),
            ],
            // … or never.
            &[
                at(0, 1, create(1, 1)),
                at(
                    2,
                    3,
                    Action::Delete {
                        expected: None,
                        seen: Err(UNKNOWN),
                    },
                ),
                at(4, 5, load(1, 1)),
                at(6, 7, update(1, 2, 2)),
            ],
            // Its version is told by a load, and then needed.
            &[
                at(
                    0,
                    1,
                    Action::Create {
                        value: 1,
                        seen: Err(UNKNOWN),
                    },
                ),
                at(2, 3, load(1, 7)),
                at(4, 5, update(7, 2, 8)),
            ],
        ];
        for (number, events) in good.iter().enumerate() {
            assert_eq!(check(events), Ok(()), "history {number}");
        }
    }

    #[test]
    fn known_bad_histories_are_not() {
        let conflict = |expected| Action::Update {
            expected: version(expected),
            value: 9,
            seen: Err(ErrorKind::Conflict),
        };
        let bad: &[(&str, &[Event])] = &[
            (
                "stale read",
                &[
                    at(0, 1, create(1, 1)),
                    at(2, 3, update(1, 2, 2)),
                    at(4, 5, load(1, 1)),
                ],
            ),
            (
                "read back and forth",
                &[
                    at(0, 1, create(1, 1)),
                    at(2, 10, update(1, 2, 2)),
                    at(3, 4, load(2, 2)),
                    at(5, 6, load(1, 1)),
                ],
            ),
            (
                "lost update",
                &[
                    at(0, 1, create(1, 1)),
                    at(2, 5, update(1, 2, 2)),
                    at(2, 5, update(1, 3, 3)),
                ],
            ),
            ("two winners", &[at(0, 5, create(1, 1)), at(0, 5, create(2, 2))]),
            (
                "resurrection",
                &[
                    at(0, 1, create(1, 1)),
                    at(2, 3, DELETED),
                    at(4, 5, update(1, 2, 2)),
                ],
            ),
            (
                "two deletions of one",
                &[at(0, 1, create(1, 1)), at(2, 5, DELETED), at(2, 5, DELETED)],
            ),
            (
                "value from nowhere",
                &[at(0, 1, create(1, 1)), at(2, 3, load(5, 5))],
            ),
            (
                "version from nowhere",
                &[at(0, 1, create(1, 1)), at(2, 3, load(1, 2))],
            ),
            (
                "conflict with the current version",
                &[at(0, 1, create(1, 1)), at(2, 3, conflict(1))],
            ),
            (
                "absent while live",
                &[at(0, 1, create(1, 1)), at(2, 3, NOTHING), at(4, 5, load(1, 1))],
            ),
            ("touch of nothing", &[at(0, 1, Action::Touch { seen: Ok(()) })]),
            (
                "unknown write seen before it was called",
                &[
                    at(0, 1, create(1, 1)),
                    at(2, 3, load(2, 2)),
                    at(
                        4,
                        5,
                        Action::Update {
                            expected: version(1),
                            value: 2,
                            seen: Err(UNKNOWN),
                        },
                    ),
                ],
            ),
            (
                "unknown write applied twice",
                &[
                    at(0, 1, create(1, 1)),
                    at(
                        2,
                        3,
                        Action::Update {
                            expected: version(1),
                            value: 2,
                            seen: Err(UNKNOWN),
                        },
                    ),
                    at(4, 5, load(2, 2)),
                    at(6, 7, update(2, 3, 3)),
                    at(8, 9, load(2, 2)),
                ],
            ),
        ];
        for (name, events) in bad {
            assert!(check(events).is_err(), "{name}");
        }
    }

    /// Histories of a true register, made by many callers in turns, are found good; and bad with one answer changed.
    #[test]
    fn generated_histories_are_judged_rightly() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut events = Vec::new();
            let mut held: Option<(u64, u8)> = None;
            for tag in 1..=120_u8 {
                let value = u64::from(tag);
                let action = match (rng.u8(..4), held) {
                    (0, None) => {
                        held = Some((value, tag));
                        create(value, tag)
                    }
                    (1, Some((_, current))) => {
                        held = Some((value, tag));
                        update(current, value, tag)
                    }
                    (2, Some(_)) if rng.bool() => {
                        held = None;
                        DELETED
                    }
                    (_, Some((value, tag))) => load(value, tag),
                    (_, None) => NOTHING,
                };
                // The point of effect is at `tag` tens; call and return lie up to three others around it.
                let point = u64::from(tag) * 10 + 100;
                events.push(at(point - rng.u64(1..35), point + rng.u64(1..35), action));
            }
            assert_eq!(check(&events), Ok(()), "seed {seed}");
            let Some(of) = events
                .iter()
                .position(|event| matches!(event.action, Action::Load { seen: Ok(Some(_)) }))
            else {
                continue;
            };
            events[of].action = load(1_000, 200);
            assert!(check(&events).is_err(), "seed {seed}");
        }
    }

    #[test]
    fn too_many_open_writes_are_said_to_be_unchecked() {
        let open = |value| {
            at(
                0,
                1,
                Action::Create {
                    value,
                    seen: Err(UNKNOWN),
                },
            )
        };
        let why = check(&[open(1), open(2), open(3), open(4)]).unwrap_err();
        assert!(why.contains("4 writes ended Unavailable"), "{why}");
    }
}
