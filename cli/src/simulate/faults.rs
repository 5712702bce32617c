//! Sensors that fail: silent for minutes to hours, or stuck at one reading.

use super::calendar::Day;
use super::chance::{Dice, Topic};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// Sends nothing.
    Silent,
    /// Sends what it measured when it got stuck.
    Stuck,
}

/// A sensor's fault, from `begin_ms` to before `end_ms`, epoch ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    pub begin_ms: i64,
    pub end_ms: i64,
}

impl Fault {
    fn active(&self, at_ms: i64) -> bool {
        self.begin_ms <= at_ms && at_ms < self.end_ms
    }
}

/// No sensor is stuck for longer.
pub const STUCK_MS: i64 = 3 * 3_600_000;
const SILENT_MINUTES: (f64, f64) = (2.0, 360.0);
const STUCK_MINUTES: (f64, f64) = (10.0, 180.0);
/// Sensors get stuck so many times as often as they fall silent.
const STUCK_SHARE: f64 = 0.25;

/// The faults of all sensors around the present, loaded day by day.
#[derive(Debug)]
pub struct Faults {
    seed: u64,
    /// Silences by sensor and day, on average.
    rate: f64,
    sensors: Vec<Vec<Fault>>,
    /// The next day to load.
    next: Day,
}

impl Faults {
    /// Knows the faults from `from_ms` on.
    pub fn new(seed: u64, rate: f64, sensors: usize, from_ms: i64) -> Self {
        // The day before may last into this one.
        let first = Day::of(from_ms).previous();
        let mut faults = Self { seed, rate, sensors: vec![Vec::new(); sensors], next: first };
        faults.cover(from_ms);
        faults
    }

    /// Up to which time everything is known, epoch ms.
    pub fn covered_ms(&self) -> i64 {
        self.next.begin_ms
    }

    /// Loads what begins until `to_ms` and later on its day.
    pub fn cover(&mut self, to_ms: i64) {
        while self.next.begin_ms <= to_ms {
            for (sensor, faults) in self.sensors.iter_mut().enumerate() {
                of_day(self.seed, self.rate, sensor, self.next, faults);
            }
            self.next = self.next.next();
        }
    }

    /// Drops what was over before.
    pub fn forget(&mut self, before_ms: i64) {
        self.sensors.iter_mut().for_each(|faults| faults.retain(|f| f.end_ms > before_ms));
    }

    pub fn silent(&self, sensor: usize, at_ms: i64) -> bool {
        self.sensors[sensor].iter().any(|f| f.kind == FaultKind::Silent && f.active(at_ms))
    }

    /// When the sensor got stuck, if it is, epoch ms.
    pub fn stuck(&self, sensor: usize, at_ms: i64) -> Option<i64> {
        let stuck = |f: &&Fault| f.kind == FaultKind::Stuck && f.active(at_ms);
        self.sensors[sensor].iter().find(stuck).map(|f| f.begin_ms)
    }

    /// Every fault that is known, with its sensor.
    pub fn all(&self) -> impl Iterator<Item = (usize, Fault)> {
        self.sensors.iter().enumerate().flat_map(|(sensor, faults)| faults.iter().map(move |f| (sensor, *f)))
    }
}

fn of_day(seed: u64, rate: f64, sensor: usize, day: Day, out: &mut Vec<Fault>) {
    let mut dice = Dice::new(seed, Topic::Faults, sensor, day.number());
    let chances = [
        (FaultKind::Silent, rate, (25.0, 1.1), SILENT_MINUTES),
        (FaultKind::Stuck, rate * STUCK_SHARE, (60.0, 0.7), STUCK_MINUTES),
    ];
    for (kind, mean, (median, sigma), (shortest, longest)) in chances {
        for _ in 0..dice.poisson(mean) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a day in milliseconds")]
            let begin_ms = day.begin_ms + (dice.uniform() * (day.end_ms - day.begin_ms) as f64) as i64;
            #[expect(clippy::cast_possible_truncation, reason = "minutes in milliseconds")]
            let length_ms = (dice.log_normal(median, sigma).clamp(shortest, longest) * 60_000.0) as i64;
            // Whole seconds read better.
            let begin_ms = begin_ms / 1_000 * 1_000;
            out.push(Fault { kind, begin_ms, end_ms: begin_ms + length_ms / 1_000 * 1_000 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FROM_MS: i64 = 1_767_600_000_000;
    const DAY_MS: i64 = 86_400_000;

    #[test]
    fn faults_come_as_often_as_asked_for() {
        let mut faults = Faults::new(9, 0.05, 200, FROM_MS);
        faults.cover(FROM_MS + 100 * DAY_MS);
        let count = |kind| faults.all().filter(|(_, f)| f.kind == kind).count();
        assert!((850..1_200).contains(&count(FaultKind::Silent)), "{}", count(FaultKind::Silent));
        assert!((200..320).contains(&count(FaultKind::Stuck)), "{}", count(FaultKind::Stuck));
        assert!(faults.all().all(|(_, f)| f.kind == FaultKind::Silent || f.end_ms - f.begin_ms <= STUCK_MS));
    }

    #[test]
    fn it_does_not_matter_where_one_begins_to_look() {
        let mut early = Faults::new(9, 0.5, 20, FROM_MS);
        early.cover(FROM_MS + 9 * DAY_MS);
        let from_ms = FROM_MS + 7 * DAY_MS;
        let mut late = Faults::new(9, 0.5, 20, from_ms);
        late.cover(FROM_MS + 9 * DAY_MS);
        early.forget(from_ms);
        late.forget(from_ms);
        assert!(early.all().count() > 10);
        assert_eq!(early.all().collect::<Vec<_>>(), late.all().collect::<Vec<_>>());
    }

    #[test]
    fn silent_and_stuck_are_told_apart() {
        let faults = Faults::new(9, 0.5, 50, FROM_MS);
        for (sensor, fault) in faults.all() {
            let (silent, stuck) = (faults.silent(sensor, fault.begin_ms), faults.stuck(sensor, fault.begin_ms));
            assert!(if fault.kind == FaultKind::Silent { silent } else { stuck.is_some() });
        }
        assert!(!faults.silent(0, FROM_MS - 30 * DAY_MS));
    }
}
