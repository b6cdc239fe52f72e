//! The two things that come from outside as values: the time and randomness. Read here and nowhere else.

use crate::domain::Time;

/// A way to get the current time.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Time;
}

/// A source of unpredictable bytes.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);

    /// 128 bits, for ids.
    fn draw(&self) -> u128 {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        u128::from_le_bytes(bytes)
    }
}

/// The machine's clock, which never goes back: when the wall clock is set back, time goes on from where it
/// was at its own pace, so that no credential lives longer for it.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    wall_at_start: Time,
    started: std::time::Instant,
}

impl SystemClock {
    /// Starts at the wall clock's time.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the clock"
    )]
    pub fn start() -> Self {
        Self {
            wall_at_start: wall(),
            started: std::time::Instant::now(),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock"
)]
fn wall() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Time::from_millis(since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let passed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let at_least = Time::from_millis(self.wall_at_start.millis().saturating_add(passed));
        wall().max(at_least)
    }
}

/// The operating system's random generator, through AWS-LC.
#[derive(Debug, Clone, Copy)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that draws randomness"
    )]
    #[expect(clippy::expect_used, reason = "without randomness nothing may go on")]
    fn fill(&self, bytes: &mut [u8]) {
        aws_lc_rs::rand::fill(bytes).expect("the operating system has no randomness");
    }
}
