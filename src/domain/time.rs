//! Instants and durations. An instant is milliseconds since 1970-01-01T00:00:00Z; a duration is whole seconds.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ids::parsed;

/// An instant in UTC, to the millisecond. In JSON it is RFC 3339 with `Z` and three decimals.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(i64);

impl Time {
    /// The last instant that can be written: 9999-12-30T22:00:00Z, the end of `jiff::Timestamp`.
    pub const MAX: Time = Time(253_402_207_200_000);

    /// From milliseconds since the Unix epoch, kept within what can be written.
    pub fn from_millis(millis: i64) -> Self {
        Time(millis.clamp(0, Self::MAX.0))
    }

    /// Milliseconds since the Unix epoch.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    pub fn unix_seconds(self) -> i64 {
        self.0 / 1000
    }

    /// The last whole second before it, or itself.
    pub fn whole_seconds(self) -> Self {
        Time(self.0 / 1000 * 1000)
    }

    /// This instant and `seconds` more, never past [`Time::MAX`].
    pub fn plus(self, seconds: Seconds) -> Self {
        let millis = i64::try_from(seconds.0.saturating_mul(1000)).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// `seconds` before this instant.
    pub fn minus(self, seconds: Seconds) -> Self {
        let millis = i64::try_from(seconds.0.saturating_mul(1000)).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_sub(millis))
    }

    /// This instant and `duration` more, rounded down to a millisecond and never past [`Time::MAX`].
    pub fn after(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// How long after `now` this instant is; zero when it is past.
    pub fn left_at(self, now: Time) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(now.0)).unwrap_or(0))
    }

    /// Seconds from `earlier` to this instant, rounded down; zero when `earlier` is not earlier.
    pub fn since(self, earlier: Time) -> Seconds {
        Seconds(u64::try_from((self.0 - earlier.0) / 1000).unwrap_or(0))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let timestamp: jiff::Timestamp = parsed(deserializer)?;
        Ok(Time::from_millis(timestamp.as_millisecond()))
    }
}

/// A duration in whole seconds. Zero means "already over", never "for ever".
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seconds(pub u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, minutes, seconds) = (self.0 / 3600, self.0 / 60 % 60, self.0 % 60);
        match (hours, minutes, seconds) {
            (0, 0, s) => write!(f, "{s}s"),
            (0, m, 0) => write!(f, "{m}m"),
            (0, m, s) => write!(f, "{m}m{s}s"),
            (h, 0, 0) => write!(f, "{h}h"),
            (h, m, 0) => write!(f, "{h}h{m}m"),
            (h, m, s) => write!(f, "{h}h{m}m{s}s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_written_to_the_millisecond_and_read_back() {
        let time = Time::from_millis(1_795_343_400_007);
        assert_eq!(time.to_string(), "2026-11-22T10:30:00.007Z");
        let json = serde_json::to_string(&time).unwrap();
        assert_eq!(serde_json::from_str::<Time>(&json).unwrap(), time);
        let whole = Time::from_millis(1_795_343_400_000);
        assert_eq!(whole.to_string(), "2026-11-22T10:30:00.000Z");
    }

    #[test]
    fn adding_never_passes_the_last_instant() {
        assert_eq!(Time::MAX.plus(Seconds(u64::MAX)), Time::MAX);
        assert_eq!(Time::MAX.to_string(), "9999-12-30T22:00:00.000Z");
        assert_eq!(Time::from_millis(i64::MIN).millis(), 0);
    }

    #[test]
    fn durations_read_as_people_write_them() {
        let shown: Vec<_> = [45, 60, 90, 3600, 5400, 3661]
            .map(|s| Seconds(s).to_string())
            .into();
        assert_eq!(shown, ["45s", "1m", "1m30s", "1h", "1h30m", "1h1m1s"]);
    }
}
