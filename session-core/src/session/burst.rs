//! Finds out that unknown ids come in numbers: somebody may be guessing, or a store has lost its sessions.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Seconds of a window. One begins with the first unknown id after the last has ended.
const WINDOW: u32 = 60;

/// Counts unknown ids of all clients together: one word, whatever comes. A guesser has many addresses.
#[derive(Debug)]
pub(super) struct Burst {
    pub(super) limit: u32,
    /// When the window began, in seconds, and below it how many have come since.
    window: AtomicU64,
}

impl Burst {
    pub(super) const fn new(limit: u32) -> Self {
        Self {
            limit,
            window: AtomicU64::new(0),
        }
    }

    /// One more at `now`: whether it is the first of its window beyond the limit.
    pub(super) fn is_exceeded_by_one_more(&self, now: Duration) -> bool {
        let now = u32::try_from(now.as_secs()).unwrap_or(u32::MAX);
        let mut seen = self.window.load(Relaxed);
        loop {
            let next = one_more(seen, now);
            match self.window.compare_exchange_weak(seen, next, Relaxed, Relaxed) {
                Ok(_) => return u64::from(next as u32) == u64::from(self.limit) + 1,
                Err(newer) => seen = newer,
            }
        }
    }
}

fn one_more(window: u64, now: u32) -> u64 {
    let (began, count) = ((window >> 32) as u32, window as u32);
    let (began, count) = match now.checked_sub(began) {
        Some(age) if age < WINDOW && count > 0 => (began, count.saturating_add(1)),
        Some(_) => (now, 1),
        // The clock went back: what was counted stands, and the window ends a minute from now, not an hour.
        None => (now, count.saturating_add(1)),
    };
    u64::from(began) << 32 | u64::from(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds at which the burst was reported, if one unknown id came at each of `at`.
    fn reported(burst: &Burst, at: impl IntoIterator<Item = u64>) -> Vec<u64> {
        at.into_iter()
            .filter(|at| burst.is_exceeded_by_one_more(Duration::from_secs(*at)))
            .collect()
    }

    #[test]
    fn as_many_as_allowed_are_no_burst_and_one_more_is_one_once_a_window() {
        let burst = Burst::new(3);
        assert_eq!(reported(&burst, [0, 10, 20]), [0; 0]);
        assert_eq!(reported(&burst, [59, 59, 59]), [59]);
        // A window later the same again.
        assert_eq!(reported(&burst, [60, 61, 62, 63, 64, 119]), [63]);
        assert_eq!(reported(&burst, (0..100).map(|minute| 120 + minute * 60)), [0; 0]);
        assert_eq!(reported(&Burst::new(0), [7, 7]), [7]);
    }

    #[test]
    fn clock_that_goes_back_hides_no_burst() {
        let burst = Burst::new(3);
        assert_eq!(reported(&burst, [4000, 4001, 400]), [0; 0]);
        assert_eq!(reported(&burst, [401]), [401]);
        // The window is that of the clock as it is now.
        assert_eq!(reported(&burst, [459, 460, 461, 462, 463]), [463]);
    }

    #[test]
    fn time_without_end_is_one_window() {
        let burst = Burst::new(1);
        assert_eq!(reported(&burst, [u64::MAX - 1, u64::MAX]), [u64::MAX]);
    }

    #[test]
    fn unknown_ids_at_once_are_all_counted() {
        let burst = Burst::new(399);
        let found = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| reported(&burst, [5; 100]).len()))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .sum::<usize>()
        });
        assert_eq!(found, 1);
    }
}
