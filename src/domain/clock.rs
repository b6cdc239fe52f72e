//! The broker's time beside the wall clock: how far apart they may be, and the operator's word when they are.
//!
//! All that is decided, owed and compared is in the broker's time, which runs on at its own pace and never goes back.
//! Wall clocks are set by others: a step of one shows here, as a difference, and moves nothing.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::lease::Lease;
use super::time::{Seconds, Time};

/// How far apart the wall clock and the broker's time may be while credentials are minted, in milliseconds.
pub const TOLERANCE: i64 = 5_000;
/// An accepted difference grows smaller by one in so many: half a millisecond each second.
const SHRINKS_BY_ONE_IN: i64 = 2_000;

/// The operator's word that the wall clock is right.
///
/// Where it was ahead, the broker's time went on from it. Where it was behind, the broker's time is ahead of it from then
/// on, because it never goes back, and comes closer bit by bit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// Since when, in the broker's time.
    since: Time,
    /// How far ahead of the wall clock the broker's time was then, in milliseconds.
    ahead: i64,
}

impl Accepted {
    /// That `wall` is right when the broker's time is `ledger`.
    pub fn of(wall: Time, ledger: Time) -> Self {
        Self {
            since: ledger.max(wall),
            ahead: (ledger.millis() - wall.millis()).max(0),
        }
    }

    /// How far ahead of a right wall clock the broker's time is at `now`, in milliseconds.
    pub fn ahead_at(&self, now: Time) -> i64 {
        let passed = (now.millis() - self.since.millis()).max(0);
        (self.ahead - passed / SHRINKS_BY_ONE_IN).max(0)
    }

    /// What a right wall clock shows when the broker's time is `now`.
    pub fn wall_at(&self, now: Time) -> Time {
        Time::from_millis(now.millis() - self.ahead_at(now))
    }

    /// The broker's time when a right wall clock shows `wall`, to the millisecond and not too early: [`Self::wall_at`] turned round.
    pub fn time_at(&self, wall: Time) -> Time {
        let (wall, since) = (i128::from(wall.millis()), i128::from(self.since.millis()));
        let shrinks = i128::from(SHRINKS_BY_ONE_IN);
        let ahead = shrinks * (wall + i128::from(self.ahead)) + since;
        let begun = wall + i128::from(self.ahead);
        let time = match begun > since {
            true => (ahead + shrinks) / (shrinks + 1),
            false => begun,
        };
        Time::from_millis(i64::try_from(time.max(wall)).unwrap_or(i64::MAX))
    }

    /// What right wall clocks showed at `then`, or later, when nobody had said yet that the wall clock was.
    pub fn right_at(&self, then: Time) -> Time {
        match then >= self.since {
            true => self.wall_at(then),
            false => then,
        }
    }

    /// The instant by right wall clocks at which a credential is over that a target was told to end for `lease`: never
    /// too early, whatever was accepted since it was minted.
    pub fn end_of(&self, lease: &Lease) -> Time {
        let life = i64::try_from(lease.ttl_seconds.0.saturating_mul(1000)).unwrap_or(i64::MAX);
        let begun = Time::from_millis(lease.expires.millis().saturating_sub(life));
        match begun >= self.since {
            true => self.wall_at(lease.expires),
            false => lease.expires,
        }
    }
}

/// The wall clock and the broker's time, so far apart that one of them is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Apart {
    /// What the wall clock shows.
    pub wall: Time,
    /// The broker's time, which is at least that of the newest entry in the ledger.
    pub ledger: Time,
}

impl Apart {
    /// Whether the two are further apart than they may be, beyond what was accepted.
    pub fn between(wall: Time, ledger: Time, accepted: &Accepted) -> Option<Self> {
        let gap = accepted.wall_at(ledger).millis().abs_diff(wall.millis());
        (gap > TOLERANCE.unsigned_abs()).then_some(Self { wall, ledger })
    }
}

impl fmt::Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { wall, ledger } = self;
        let gap = Seconds(wall.millis().abs_diff(ledger.millis()) / 1000);
        let side = if wall > ledger { "ahead of" } else { "behind" };
        write!(
            f,
            "the wall clock ({wall}) is {gap} {side} the ledger's time ({ledger})"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn at(millis: i64) -> Time {
        Time::from_millis(1_795_343_400_000 + millis)
    }

    #[test]
    fn more_than_five_seconds_either_way_is_apart() {
        let none = Accepted::default();
        for (gap, apart) in [(0, false), (5_000, false), (5_001, true), (HOUR, true)] {
            for (wall, ledger) in [(at(0), at(gap)), (at(gap), at(0))] {
                let found = Apart::between(wall, ledger, &none);
                assert_eq!(found.is_some(), apart, "{gap}");
            }
        }
    }

    #[test]
    fn an_accepted_difference_is_the_right_one_and_shrinks() {
        let accepted = Accepted::of(at(0), at(HOUR));
        assert_eq!(Apart::between(at(0), at(HOUR), &accepted), None);
        assert_eq!(accepted.wall_at(at(HOUR)), at(0));
        assert!(
            Apart::between(at(HOUR), at(HOUR), &accepted).is_some(),
            "the wall clock that was called wrong is wrong"
        );
        assert_eq!(accepted.ahead_at(at(HOUR + 2_000_000)), HOUR - 1_000);
        assert_eq!(accepted.ahead_at(at(HOUR + 2_001 * HOUR)), 0);
    }

    #[test]
    fn the_time_is_found_from_a_right_wall_clock() {
        let accepted = Accepted::of(at(0), at(HOUR));
        for passed in [0, 1, 1_999, 2_000, 60_000, HOUR, 400 * HOUR, 3_000 * HOUR] {
            let time = accepted.time_at(at(passed));
            let off = accepted.wall_at(time).millis() - at(passed).millis();
            assert!((0..=1).contains(&off), "{off} ms off after {passed} ms");
        }
        assert_eq!(accepted.time_at(at(-HOUR)), at(0), "before it was accepted");
        assert_eq!(Accepted::default().time_at(at(0)), at(0));
    }

    #[test]
    fn accepting_a_wall_clock_that_is_ahead_leaves_no_difference() {
        let accepted = Accepted::of(at(HOUR), at(0));
        assert_eq!(accepted.ahead_at(at(HOUR)), 0);
        assert_eq!(Apart::between(at(HOUR), at(HOUR), &accepted), None);
    }

    #[test]
    fn it_says_both_times_and_which_is_ahead() {
        let apart = Apart::between(at(HOUR), at(0), &Accepted::default()).unwrap();
        assert_eq!(
            apart.to_string(),
            "the wall clock (2026-11-22T11:30:00.000Z) is 1h ahead of the ledger's time (2026-11-22T10:30:00.000Z)"
        );
    }
}
