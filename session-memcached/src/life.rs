//! How long an item lives, in the words of the protocol.
//! <https://github.com/memcached/memcached/blob/master/doc/protocol.txt>, "Expiration times"

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Up to here a number is a length by the server's clock. A larger one is a date, which is made of the client's.
const LONGEST_LENGTH: u64 = 30 * 24 * 60 * 60;

/// The last second that the server knows: it reads dates into 31 bits. An item that ends later vanishes at once.
const LAST_SECOND: u64 = i32::MAX as u64;

/// Clocks may differ: nothing ends so late that another clock would put it after the last second.
const MARGIN: u64 = 24 * 60 * 60;

/// Seconds that are asked for beyond a ttl. The server counts whole seconds from a tick of its own: an item of `n` ends
/// between `n - 1` and `n` seconds later, and one of 1 within milliseconds. And its tick is late where the machine is busy
/// (an item of 2 was seen to live 0.95 s), which the second one is for.
const MORE: u64 = 2;

/// What a session may live longer: the seconds that are added, and the rest of one that was begun.
pub(crate) const GRANULARITY: Duration = Duration::from_secs(MORE + 1);

/// The longest life that can be asked for today.
pub(crate) fn longest() -> Duration {
    Duration::from_secs(LAST_SECOND.saturating_sub(now() + MARGIN))
}

/// What the server is told for a life of at least `ttl`; `None`: it would end later than the server can count.
pub(crate) fn wire(ttl: Duration) -> Option<u32> {
    wire_at(ttl, now())
}

/// The least that is left of an item's life, as the server tells it in whole seconds; -1 is for ever, which no record of
/// ours is.
pub(crate) fn remaining(told: i64) -> Duration {
    match u64::try_from(told) {
        Ok(seconds) => Duration::from_secs(seconds.saturating_sub(MORE)),
        Err(_) => longest(),
    }
}

fn wire_at(ttl: Duration, now: u64) -> Option<u32> {
    let seconds = ttl
        .as_secs()
        .checked_add(u64::from(ttl.subsec_nanos() > 0) + MORE)?;
    let told = match seconds {
        0..=LONGEST_LENGTH => seconds,
        _ => {
            let end = now.checked_add(seconds)?;
            (end <= LAST_SECOND).then_some(end)?
        }
    };
    u32::try_from(told).ok()
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |length| length.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn length_is_rounded_up_and_two_more() {
        for (millis, told) in [(1, 3), (999, 3), (1000, 3), (1001, 4), (60_000, 62)] {
            assert_eq!(
                wire_at(Duration::from_millis(millis), NOW),
                Some(told),
                "{millis} ms"
            );
        }
    }

    #[test]
    fn longer_than_thirty_days_is_a_date_and_never_one_that_was() {
        let days = |count: u64| Duration::from_secs(count * 24 * 60 * 60);
        let month = 2_592_000;
        assert_eq!(wire_at(days(30) - Duration::from_secs(2), NOW), Some(month));
        assert_eq!(wire_at(days(30), NOW), Some(1_800_000_000 + month + 2));
        assert_eq!(wire_at(days(31), NOW), Some(1_800_000_000 + 31 * 86_400 + 2));
    }

    #[test]
    fn what_ends_after_2038_cannot_be_asked_for() {
        let left = LAST_SECOND - NOW;
        assert_eq!(wire_at(Duration::from_secs(left - 2), NOW), Some(2_147_483_647));
        assert_eq!(wire_at(Duration::from_secs(left - 1), NOW), None);
        assert_eq!(wire_at(Duration::MAX, NOW), None);
        assert!(wire(longest()).is_some());
    }

    #[test]
    fn the_rest_is_never_told_too_long() {
        for (told, seconds) in [(0, 0), (1, 0), (62, 60)] {
            assert_eq!(remaining(told), Duration::from_secs(seconds));
        }
        assert!(remaining(-1) > Duration::from_secs(24 * 60 * 60));
    }
}
