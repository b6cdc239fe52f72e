//! One time for decisions, duties, issuers and sessions.
//!
//! It begins at the wall clock, or where the last broker on this start of the machine left it, and never below the
//! highest instant of the ledger; from there it runs on at the pace of the machine's own clock, which nobody sets and
//! which counts sleep. It never steps back. It leans towards the wall clock by at most a millisecond each second, and
//! only while the two are close: a wall clock that steps is not followed but told of.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Clock;
use crate::domain::Time;
use crate::domain::clock::{Accepted, Apart};

/// It leans by one in so many.
const LEANS_BY_ONE_IN: i128 = 1_000;
const NANOS_A_MILLI: i128 = 1_000_000;

/// What a machine's clocks showed at one instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sample {
    /// The wall clock, which anybody may set.
    pub wall: Time,
    /// How long the machine has been running, sleep included: nobody sets this.
    pub running: Duration,
}

/// A machine with its clocks.
pub trait Machine: Send + Sync + 'static {
    /// What they show now.
    fn sample(&self) -> Sample;

    /// Which start of which machine this is; `None` when nobody can tell.
    fn start(&self) -> Option<String>;
}

/// Where the time stood on a start of a machine: what the next broker there goes on from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// Which start of which machine.
    pub start: String,
    /// How long it had been running, in milliseconds.
    pub running_millis: u64,
    /// The broker's time then.
    pub time: Time,
    /// What right clocks elsewhere showed then, as far as was known.
    pub utc: Time,
    /// What the operator had said of it.
    pub accepted: Accepted,
}

/// The course of time: pure.
#[derive(Clone, Copy, Debug)]
struct Course {
    /// The broker's time, in nanoseconds since 1970.
    nanos: i128,
    /// What right clocks elsewhere show: where the wall clock was when the two were last not apart, gone on from there.
    utc: i128,
    /// How long the machine had been running then.
    running: Duration,
    accepted: Accepted,
    /// It began at the wall clock, and what was accepted of that is not known yet.
    at_wall: bool,
}

impl Course {
    fn from(time: Time, running: Duration) -> Self {
        Self {
            nanos: nanos(time),
            utc: nanos(time),
            running,
            accepted: Accepted::default(),
            at_wall: false,
        }
    }

    fn at_wall(sample: Sample) -> Self {
        Self {
            at_wall: true,
            ..Self::from(sample.wall, sample.running)
        }
    }

    fn time(&self) -> Time {
        instant(self.nanos)
    }

    /// Goes on to what the machine shows now.
    fn advance(&mut self, sample: Sample) {
        let passed = sample.running.saturating_sub(self.running).as_nanos();
        let passed = i128::try_from(passed).unwrap_or(i128::MAX);
        self.running = self.running.max(sample.running);
        self.nanos = self.nanos.saturating_add(passed);
        self.utc = self.utc.saturating_add(passed);
        let now = self.time();
        if Apart::between(sample.wall, now, &self.accepted).is_none() {
            let ahead = i128::from(self.accepted.ahead_at(now)) * NANOS_A_MILLI;
            let gap = nanos(sample.wall) + ahead - self.nanos;
            let most = passed / LEANS_BY_ONE_IN;
            self.nanos += gap.clamp(-most, most);
            self.utc = self.nanos - ahead;
        }
    }

    /// Goes on from the highest instant of the ledger, where that is later. A course that began at the wall clock goes on
    /// from where that stood, as was accepted: otherwise what passed while no broker ran would be lost.
    fn follow(&mut self, ledger: Time, accepted: Accepted) {
        if std::mem::take(&mut self.at_wall) {
            self.nanos = nanos(accepted.time_at(self.time()));
        }
        self.nanos = self.nanos.max(nanos(ledger));
        self.accepted = accepted;
    }
}

fn instant(nanos: i128) -> Time {
    Time::from_millis(i64::try_from(nanos / NANOS_A_MILLI).unwrap_or(i64::MAX))
}

fn nanos(time: Time) -> i128 {
    i128::from(time.millis()) * NANOS_A_MILLI
}

/// The one clock.
#[derive(Debug)]
pub struct OneClock<M> {
    machine: M,
    course: Mutex<Course>,
}

impl<M: Machine> OneClock<M> {
    /// Goes on from what was kept on this start of the machine, whatever the wall clock shows since; else begins at the
    /// wall clock: nothing tells how long nobody looked, and a wall clock that is ahead then ends leases sooner, never later.
    pub fn begin(machine: M, kept: Option<&Kept>) -> Self {
        let sample = machine.sample();
        let here = kept.filter(|kept| machine.start().as_ref() == Some(&kept.start));
        let gone_on = here.and_then(|kept| {
            let then = Duration::from_millis(kept.running_millis);
            let passed = sample.running.checked_sub(then)?;
            let mut course = Course::from(kept.time.after(passed), sample.running);
            course.utc = nanos(kept.utc.after(passed));
            course.accepted = kept.accepted;
            Some(course)
        });
        let course = gone_on.unwrap_or_else(|| Course::at_wall(sample));
        Self {
            machine,
            course: Mutex::new(course),
        }
    }

    /// What the next broker on this start of the machine goes on from.
    pub fn kept(&self) -> Option<Kept> {
        let start = self.machine.start()?;
        let (course, _) = self.look();
        Some(Kept {
            start,
            running_millis: u64::try_from(course.running.as_millis()).ok()?,
            time: course.time(),
            utc: instant(course.utc),
            accepted: course.accepted,
        })
    }

    fn locked(&self) -> MutexGuard<'_, Course> {
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) -> (Course, Sample) {
        let mut course = self.locked();
        let sample = self.machine.sample();
        course.advance(sample);
        (*course, sample)
    }
}

impl<M: Machine> Clock for OneClock<M> {
    fn now(&self) -> Time {
        self.look().0.time()
    }

    fn utc(&self) -> Time {
        instant(self.look().0.utc)
    }

    fn wall(&self) -> Time {
        self.machine.sample().wall
    }

    fn apart(&self) -> Option<Apart> {
        let (course, sample) = self.look();
        Apart::between(sample.wall, course.time(), &course.accepted)
    }

    fn follow(&self, ledger: Time, accepted: Accepted) {
        let mut course = self.locked();
        course.advance(self.machine.sample());
        course.follow(ledger, accepted);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: i64 = 1_795_343_400_000;

    fn begun() -> Course {
        Course::from(Time::from_millis(START), Duration::ZERO)
    }

    /// What happens to a machine: time passes, and somebody sets its wall clock, or an entry of another broker is read.
    #[derive(Clone, Debug)]
    enum Step {
        Passes(u64),
        WallSteps(i64),
        Reads(i64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0u64..200_000_000).prop_map(Step::Passes),
            2 => (-7_200_000i64..7_200_000).prop_map(Step::WallSteps),
            2 => (-6_000i64..6_000).prop_map(Step::WallSteps),
            1 => (-100_000i64..100_000).prop_map(Step::Reads),
        ];
        proptest::collection::vec(step, 1..60)
    }

    proptest! {
        /// Whatever is done to the wall clock, time passes at the machine's pace within one in a thousand, and never goes back.
        #[test]
        fn finding_b05_no_step_of_the_wall_clock_moves_the_time(steps in steps()) {
            let (mut wall, mut running) = (START, Duration::ZERO);
            let mut course = begun();
            for step in steps {
                let before = course;
                match step {
                    Step::Passes(micros) => {
                        running += Duration::from_micros(micros);
                        wall += i64::try_from(micros / 1000).unwrap();
                    }
                    Step::WallSteps(by) => wall += by,
                    Step::Reads(by) => {
                        let ledger = Time::from_millis(course.time().millis() + by);
                        course.follow(ledger, Accepted::default());
                        prop_assert!(course.time() >= ledger && course.nanos >= before.nanos);
                        continue;
                    }
                }
                course.advance(Sample { wall: Time::from_millis(wall), running });
                let real = i128::try_from((running - before.running).as_nanos()).unwrap();
                let felt = course.nanos - before.nanos;
                prop_assert!((felt - real).abs() <= real / 1_000, "{felt} felt, {real} real");
                prop_assert!(felt >= 0);
            }
        }
    }

    #[test]
    fn it_leans_towards_a_wall_clock_that_is_close() {
        for gap in [-4_000, 4_000] {
            let mut course = begun();
            for second in 1..=5_000 {
                course.advance(Sample {
                    wall: Time::from_millis(START + gap + second * 1_000),
                    running: Duration::from_secs(second.unsigned_abs()),
                });
            }
            let off = course.time().millis() - (START + gap + 5_000_000);
            assert!(off.abs() <= 1, "{off} ms off");
        }
    }

    #[test]
    fn it_tracks_an_accepted_difference_as_that_shrinks() {
        let mut course = begun();
        let accepted = Accepted::of(Time::from_millis(START - 3_600_000), course.time());
        course.follow(course.time(), accepted);
        for second in 1..=20_000 {
            let sample = Sample {
                wall: Time::from_millis(START - 3_600_000 + second * 1_000),
                running: Duration::from_secs(second.unsigned_abs()),
            };
            course.advance(sample);
            assert_eq!(Apart::between(sample.wall, course.time(), &accepted), None);
        }
        let ahead = course.time().millis() - (START - 3_600_000 + 20_000_000);
        assert!((3_589_990..=3_590_010).contains(&ahead), "{ahead}");
    }

    struct Shows(Sample, &'static str);

    impl Machine for Shows {
        fn sample(&self) -> Sample {
            self.0
        }

        fn start(&self) -> Option<String> {
            Some(self.1.into())
        }
    }

    fn shows(wall: i64, running: u64, start: &'static str) -> Shows {
        let wall = Time::from_millis(START + wall);
        let running = Duration::from_millis(running);
        Shows(Sample { wall, running }, start)
    }

    /// Down for a weekend is no reason for doubt; a wall clock that was set meanwhile is, where the machine ran on.
    #[test]
    fn finding_b05_a_start_tells_a_pause_from_a_step() {
        let weekend = 2 * 86_400_000;
        let first = OneClock::begin(shows(0, 10_000, "one"), None);
        let kept = first.kept().unwrap();
        let begin = |machine| OneClock::begin(machine, Some(&kept));
        let passed = u64::try_from(weekend).unwrap();
        let same = begin(shows(weekend, 10_000 + passed, "one"));
        assert_eq!((same.now(), same.apart()), (same.wall(), None));
        let rebooted = begin(shows(weekend, 5_000, "two"));
        assert_eq!((rebooted.now(), rebooted.apart()), (rebooted.wall(), None));
        let stepped = begin(shows(3_600_000, 20_000, "one"));
        assert_eq!(stepped.now(), Time::from_millis(START + 10_000));
        assert!(stepped.apart().is_some(), "an hour passed in ten seconds");
        rebooted.follow(Time::from_millis(START + 2 * weekend), Accepted::default());
        assert_eq!(rebooted.now(), Time::from_millis(START + 2 * weekend));
        assert!(rebooted.apart().is_some(), "the ledger is ahead");
    }

    /// What passed while no broker ran has passed, also where the ledger was accepted ahead of the wall clock.
    #[test]
    fn l15_a_ledger_that_was_accepted_ahead_loses_no_time_to_a_restart() {
        let (hour, down) = (3_600_000, 1_800_000);
        let ledger = Time::from_millis(START + hour);
        let accepted = Accepted::of(Time::from_millis(START), ledger);
        let rebooted = OneClock::begin(shows(down, 5_000, "two"), None);
        rebooted.follow(ledger, accepted);
        let passed = rebooted.now().millis() - ledger.millis();
        assert!(
            (down - down / 1_000..=down).contains(&passed),
            "{passed} ms"
        );
        assert_eq!(rebooted.apart(), None);
        assert!(rebooted.utc().millis().abs_diff(START + down) <= 1);
    }
}
