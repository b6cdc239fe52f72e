//! The clocks of the machine this runs on.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::{Machine, OneClock, Sample};
use crate::domain::Time;

/// Counts sleep. macOS's monotonic clock does, too.
#[cfg(target_os = "linux")]
const RUNNING: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const RUNNING: ClockId = ClockId::CLOCK_MONOTONIC;
/// Another text for each start of a machine.
const START: &str = "/proc/sys/kernel/random/boot_id";

/// The machine this runs on.
#[derive(Clone, Debug)]
pub struct ThisMachine {
    start: Option<String>,
}

impl ThisMachine {
    /// Looks which start of the machine this is.
    pub fn new() -> Self {
        let start = std::fs::read_to_string(START).ok();
        Self {
            start: start.map(|text| text.trim_end().to_owned()),
        }
    }
}

impl Default for ThisMachine {
    fn default() -> Self {
        Self::new()
    }
}

impl OneClock<ThisMachine> {
    /// Begins at the wall clock.
    pub fn start() -> Self {
        Self::begin(ThisMachine::new(), None)
    }
}

impl Machine for ThisMachine {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the clock"
    )]
    #[expect(clippy::expect_used, reason = "without a clock nothing may go on")]
    fn sample(&self) -> Sample {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let wall = since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
        let running = clock_gettime(RUNNING).expect("the machine does not say how long it runs");
        Sample {
            wall: Time::from_millis(wall),
            running: Duration::from(running),
        }
    }

    fn start(&self) -> Option<String> {
        self.start.clone()
    }
}
