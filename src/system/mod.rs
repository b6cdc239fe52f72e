//! The two things that come from outside as values: the time and randomness. Read here and nowhere else.

mod one_clock;
mod this_machine;

pub use self::one_clock::{Kept, Machine, OneClock, Sample};
pub use self::this_machine::ThisMachine;
use crate::domain::Time;
use crate::domain::clock::{Accepted, Apart};

/// A way to get the current time.
///
/// What has only [`Clock::now`] is a clock that everybody else's agrees with.
pub trait Clock: Send + Sync + 'static {
    /// The broker's time, in which everything of its own is decided, owed and compared. It never goes back.
    fn now(&self) -> Time;

    /// What right clocks elsewhere show now: for what others wrote, or will read, by a clock of their own.
    fn utc(&self) -> Time {
        self.now()
    }

    /// `theirs`, an instant by right clocks elsewhere, in the broker's time.
    fn ours(&self, theirs: Time) -> Time {
        let (now, utc) = (self.now().millis(), self.utc().millis());
        Time::from_millis(theirs.millis().saturating_add(now - utc))
    }

    /// What the wall clock shows, right or wrong.
    fn wall(&self) -> Time {
        self.now()
    }

    /// The wall clock and the broker's time, when they are so far apart that nothing may be minted.
    fn apart(&self) -> Option<Apart> {
        None
    }

    /// Takes in the highest instant of the ledger and the operator's word: time goes on from there where that is later.
    fn follow(&self, _ledger: Time, _accepted: Accepted) {}
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

/// The one clock of the machine this runs on.
pub type SystemClock = OneClock<ThisMachine>;

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
