//! Pushes over time: in a closed loop, or at a rate that does not wait for the server.
//!
//! At a rate, the stamp of a push is the moment it was due, not the moment it was sent, so that a
//! server that stalls cannot hide it. The generator counts its own delays separately, so that they
//! do not look like the server's.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;

use crate::engine::{Engine, micros};
use crate::process::{Process, own_cpu};
use crate::progress::progress;
use crate::report::Report;
use crate::sampler::histogram;
use crate::settings::Window;
use crate::stamp::{SEQUENCE_MAX, first_of};

/// If the next push is due sooner than this, wait without sleeping, because a sleep would end too
/// late.
const SPIN: u64 = 1500;

/// The longest wait for events, so that hooks run.
const TURN_MAX: Duration = Duration::from_millis(5);

/// How long to sleep if the next push is due in this many microseconds: whole milliseconds, because
/// the kernel rounds up.
fn wait_for(micros: u64, no_spin: bool) -> Duration {
    let millis = if no_spin { micros.div_ceil(1000) } else { micros.saturating_sub(SPIN) / 1000 };
    Duration::from_millis(millis).min(TURN_MAX)
}

/// How long to wait for answers and frames after the last push.
const PATIENCE: Duration = Duration::from_secs(20);

/// When to send the next push.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// As soon as the previous push on its connection has its answer.
    Closed,
    /// When it is due.
    Open { per_second: f64 },
}

impl Pace {
    /// Open at a rate, otherwise closed.
    pub(crate) fn of(rate: Option<f64>) -> Self {
        rate.map_or(Self::Closed, |per_second| Self::Open { per_second })
    }
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed loop"),
            Self::Open { per_second } => write!(f, "{per_second}/s"),
        }
    }
}

/// The users to push to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Audience {
    /// User 0, whose connections get every message: one stream for each pusher.
    One,
    /// Users from 0 up to this number, in turn: one stream, counted for each user.
    Each(u32),
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) pace: Pace,
    pub(crate) audience: Audience,
    pub(crate) pushers: usize,
    pub(crate) events: u32,
    pub(crate) window: Window,
    /// Measures the latency of one message in this many; a power of two.
    pub(crate) sample_every: u32,
}

/// A pusher that has the answer to its last push.
#[derive(Debug, Clone, Copy)]
struct Idle {
    pusher: usize,
    since: u64,
}

/// The time in a course, in microseconds of the engine's clock: now, and when its window opens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: u64,
    pub(crate) from: u64,
}

/// The course of a run; figures are of the window unless the field says otherwise.
#[derive(Debug)]
pub(crate) struct Course {
    /// Messages sent since the start, of each stream or to each user.
    pub(crate) sequences: Vec<u32>,
    /// The sum of the counts in the server's answers, since the start.
    pub(crate) counted: u64,
    /// Pushes that the server refused, since the start.
    pub(crate) refused: u64,
    /// The lowest and the highest count in an answer, since the start.
    pub(crate) count_min: u64,
    pub(crate) count_max: u64,
    /// Pushes that were due but not sent, because no pusher was free.
    unsent: u64,
    pushes: u64,
    deliveries: u64,
    seconds: f64,
    server_cpu: Duration,
    broker_cpu: Duration,
    own_cpu: Duration,
    pub(crate) resident_max: u64,
    round_trips: Histogram<u64>,
    /// The time from when a push was due and a pusher idle until it was sent.
    lateness: Histogram<u64>,
}

impl Course {
    fn new(sequences: usize) -> Self {
        Self {
            sequences: vec![0; sequences],
            counted: 0,
            refused: 0,
            count_min: u64::MAX,
            count_max: 0,
            unsent: 0,
            pushes: 0,
            deliveries: 0,
            seconds: 0.0,
            server_cpu: Duration::ZERO,
            broker_cpu: Duration::ZERO,
            own_cpu: Duration::ZERO,
            resident_max: 0,
            round_trips: histogram(),
            lateness: histogram(),
        }
    }

    /// Adds the figures and the latencies to the report.
    #[expect(clippy::cast_precision_loss, reason = "no count comes near 2⁵²")]
    pub(crate) fn tell(&self, engine: &Engine, process: &Process, report: &mut Report) {
        report.figure("pushes_per_second", self.pushes as f64 / self.seconds);
        report.figure("deliveries_per_second", self.deliveries as f64 / self.seconds);
        if process.is_known() {
            let cpu = self.server_cpu.as_secs_f64() * 1e6;
            report.figure("cpu_us_per_delivery", cpu / self.deliveries.max(1) as f64);
            report.figure("cpu_us_per_push", cpu / self.pushes.max(1) as f64);
            report.figure("server_cpu_cores", cpu / 1e6 / self.seconds);
            report.count("resident_bytes_max", self.resident_max);
        }
        if let Some(broker) = process.broker() {
            let cpu = self.broker_cpu.as_secs_f64() * 1e6;
            report.figure("broker_cpu_us_per_push", cpu / self.pushes.max(1) as f64);
            report.figure("broker_cpu_cores", cpu / 1e6 / self.seconds);
            report.count("broker_resident_bytes", broker.resident());
        }
        report.figure("generator_cpu_cores", self.own_cpu.as_secs_f64() / self.seconds);
        report.count("pushes_unsent", self.unsent);
        report.latency("delivery", &engine.latency.histogram);
        report.latency("push round trip", &self.round_trips);
        report.latency("generator lateness", &self.lateness);
    }
}

/// The state of the load.
struct Drive<'e> {
    engine: &'e mut Engine,
    plan: Plan,
    course: Course,
    /// The next user of each pusher, if there are several users.
    cursors: Vec<u32>,
    pushed: u64,
    answered: u64,
    from: u64,
    until: u64,
}

/// Pushes by `plan`, and calls `hook` in each turn. All connections must be open and registered.
pub(crate) fn drive(
    engine: &mut Engine,
    process: &Process,
    plan: Plan,
    mut hook: impl FnMut(&mut Engine, Moment) -> Result<()>,
) -> Result<Course> {
    let sequences = match plan.audience {
        Audience::One => plan.pushers,
        Audience::Each(users) => {
            ensure!(users as usize >= plan.pushers, "there are fewer users than pushers");
            users as usize
        }
    };
    engine.open_pushers(plan.pushers)?;
    engine.hold()?;
    let start = engine.now();
    let from = start + micros(plan.window.warmup);
    let until = from + micros(plan.window.duration);
    engine.sample(from, until - from, plan.sample_every);
    let cursors = (0..).take(plan.pushers).collect();
    let course = Course::new(sequences);
    let mut drive = Drive { engine, plan, course, cursors, pushed: 0, answered: 0, from, until };
    drive.run(process, start, &mut hook)?;
    drive.settle()?;
    Ok(drive.course)
}

impl Drive<'_> {
    fn run(
        &mut self,
        process: &Process,
        start: u64,
        hook: &mut impl FnMut(&mut Engine, Moment) -> Result<()>,
    ) -> Result<()> {
        let mut idle: VecDeque<Idle> =
            (0..self.plan.pushers).map(|pusher| Idle { pusher, since: start }).collect();
        let mut due = Due::new(self.plan.pace, start);
        let mut opening = None;
        let mut look_at = start;
        let mut progress_at = start;
        loop {
            let now = self.engine.now();
            if now >= self.from && opening.is_none() {
                opening = Some(self.mark(process));
            }
            if now >= self.until {
                break;
            }
            if now >= look_at {
                self.course.resident_max = self.course.resident_max.max(process.resident());
                look_at = now + 200_000;
            }
            if now >= progress_at + 5_000_000 {
                let left = (self.until - now) / 1_000_000;
                progress(&format!(
                    "{} pushes, {} frames, {left} s to go",
                    self.answered,
                    self.engine.ledger.received()
                ));
                progress_at = now;
            }
            while let Some(&first) = idle.front()
                && let Some(due) = due.take(now)
            {
                idle.pop_front();
                self.send(first, due)?;
            }
            let timeout = match due.next() {
                Some(next) if !idle.is_empty() => {
                    wait_for(next.saturating_sub(now), self.plan.window.no_spin)
                }
                _ => TURN_MAX,
            };
            self.engine.turn(Some(timeout))?;
            self.take_answers(Some(&mut idle));
            hook(self.engine, Moment { now, from: self.from })?;
        }
        let closing = self.mark(process);
        let opening = opening.unwrap_or(closing);
        self.course.seconds = Duration::from_micros(closing.now - opening.now).as_secs_f64();
        self.course.pushes = closing.answered - opening.answered;
        self.course.deliveries = closing.received - opening.received;
        self.course.server_cpu = closing.server_cpu.saturating_sub(opening.server_cpu);
        self.course.broker_cpu = closing.broker_cpu.saturating_sub(opening.broker_cpu);
        self.course.own_cpu = closing.own_cpu.saturating_sub(opening.own_cpu);
        self.course.unsent = due.left(self.until);
        Ok(())
    }

    /// Waits for messages and answers that are still under way.
    fn settle(&mut self) -> Result<()> {
        let last = self.engine.now();
        while self.answered < self.pushed {
            self.engine.turn(Some(TURN_MAX))?;
            self.take_answers(None);
            let waited = Duration::from_micros(self.engine.now() - last);
            ensure!(
                waited < PATIENCE,
                "the server did not answer {} pushes",
                self.pushed - self.answered
            );
        }
        Ok(())
    }

    fn send(&mut self, Idle { pusher, since }: Idle, due: u64) -> Result<()> {
        let (user, stream, counter) = match self.plan.audience {
            Audience::One => (0, u8::try_from(pusher)?, pusher),
            Audience::Each(users) => {
                let cursor = &mut self.cursors[pusher];
                let user = *cursor;
                *cursor += u32::try_from(self.plan.pushers)?;
                if *cursor >= users {
                    *cursor = u32::try_from(pusher)?;
                }
                (user, 0, user as usize)
            }
        };
        let sequence = self.course.sequences[counter];
        self.course.sequences[counter] = sequence.wrapping_add(1);
        let event = sequence % self.plan.events;
        if (self.from..self.until).contains(&due) {
            let lateness = self.engine.now().saturating_sub(due.max(since));
            self.course.lateness.saturating_record(lateness);
        }
        self.pushed += 1;
        let number = sequence.wrapping_add(first_of(user)) & SEQUENCE_MAX;
        self.engine.send(pusher, user, event, (stream, number), due)
    }

    fn take_answers(&mut self, mut idle: Option<&mut VecDeque<Idle>>) {
        let mut answers = std::mem::take(&mut self.engine.answers);
        for answer in answers.drain(..) {
            self.answered += 1;
            match answer.count {
                Some(count) if self.engine.is_accepted(answer.status) => {
                    self.course.counted += count;
                    self.course.count_min = self.course.count_min.min(count);
                    self.course.count_max = self.course.count_max.max(count);
                }
                // Nobody got the message, so its number is free again.
                _ => {
                    self.course.refused += 1;
                    self.take_back(answer.pusher, answer.user);
                }
            }
            if (self.from..self.until).contains(&answer.due) {
                self.course.round_trips.saturating_record(answer.done.saturating_sub(answer.due));
            }
            if let Some(idle) = &mut idle {
                idle.push_back(Idle { pusher: answer.pusher, since: answer.done });
            }
        }
        self.engine.answers = answers;
    }

    fn take_back(&mut self, pusher: usize, user: u32) {
        let counter = match self.plan.audience {
            Audience::One => pusher,
            Audience::Each(_) => user as usize,
        };
        let sequence = &mut self.course.sequences[counter];
        *sequence = sequence.wrapping_sub(1);
    }

    fn mark(&self, process: &Process) -> Mark {
        Mark {
            now: self.engine.now(),
            answered: self.answered,
            received: self.engine.ledger.received(),
            server_cpu: process.cpu(),
            broker_cpu: process.broker().map_or(Duration::ZERO, Process::cpu),
            own_cpu: own_cpu(),
        }
    }
}

/// The counters at one end of the window.
#[derive(Debug, Clone, Copy)]
struct Mark {
    now: u64,
    answered: u64,
    received: u64,
    server_cpu: Duration,
    broker_cpu: Duration,
    own_cpu: Duration,
}

/// When pushes are due.
#[derive(Debug)]
struct Due {
    pace: Pace,
    start: u64,
    taken: u64,
}

impl Due {
    fn new(pace: Pace, start: u64) -> Self {
        Self { pace, start, taken: 0 }
    }

    /// When the next push is due, if that does not depend on answers.
    fn next(&self) -> Option<u64> {
        self.at(self.taken)
    }

    fn at(&self, number: u64) -> Option<u64> {
        let Pace::Open { per_second } = self.pace else { return None };
        #[expect(clippy::cast_precision_loss, reason = "no count comes near 2⁵²")]
        let seconds = number as f64 / per_second;
        Some(self.start + micros(Duration::from_secs_f64(seconds)))
    }

    /// Takes a push that is due now.
    fn take(&mut self, now: u64) -> Option<u64> {
        let due = self.next().unwrap_or(now);
        (due <= now).then(|| {
            self.taken += 1;
            due
        })
    }

    /// How many pushes were due before `until` and not taken.
    fn left(&self, until: u64) -> u64 {
        (self.taken..).take_while(|&number| self.at(number).is_some_and(|at| at < until)).count()
            as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_does_not_wait() {
        let mut due = Due::new(Pace::Open { per_second: 1000.0 }, 500);
        assert_eq!(due.take(499), None);
        assert_eq!(due.take(3600), Some(500));
        assert_eq!(due.take(3600), Some(1500));
        assert_eq!(due.take(3600), Some(2500));
        assert_eq!(due.take(3600), Some(3500));
        assert_eq!(due.take(3600), None);
        assert_eq!(due.left(6500), 2);
        let mut due = Due::new(Pace::Closed, 500);
        assert_eq!(due.take(700), Some(700));
        assert_eq!((due.next(), due.left(1_000_000)), (None, 0));
    }

    #[test]
    fn nobody_sleeps_into_what_is_due() {
        for (micros, millis) in
            [(0, 0), (1499, 0), (2000, 0), (2499, 0), (2500, 1), (5900, 4), (6500, 5), (90_000, 5)]
        {
            assert_eq!(wait_for(micros, false), Duration::from_millis(millis), "{micros}");
        }
    }

    #[test]
    fn who_does_not_spin_sleeps_until_it_is_due() {
        for (micros, millis) in [(0, 0), (1, 1), (1000, 1), (1001, 2), (90_000, 5)] {
            assert_eq!(wait_for(micros, true), Duration::from_millis(millis), "{micros}");
        }
    }
}
