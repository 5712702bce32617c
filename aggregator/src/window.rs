//! A window: one accumulator per segment, and the events it has seen.
//!
//! Sums are exact integers in units of 1e-9, so that any order and any split of the input gives the same
//! aggregate, bit for bit.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use common::model::{Aggregate, CongestionLevel, Coordinates, Event, Position, Volume};
use twox_hash::XxHash3_64;

use crate::Settings;

/// Units in one km/h, one percent, one vehicle per hour.
const UNIT: f64 = 1e9;

#[expect(clippy::cast_possible_truncation, reason = "values are at most 100,000, checked by the parser")]
fn to_units(value: f64) -> i64 {
    (value * UNIT).round() as i64
}

#[expect(clippy::cast_precision_loss, reason = "a result, rounded once")]
fn mean(sum: i128, n: u64) -> f64 {
    sum as f64 / UNIT / n as f64
}

/// The events of one segment in one window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Accumulator {
    pub count: u64,
    pub speeds: Sum,
    pub occupancies: Sum,
    pub flows: Sum,
    pub vehicles: u64,
    pub quality: i128,
    /// (event time, hash) of the event that gave the coordinates: the greatest wins, in whatever order.
    pub place: Option<(i64, u64, i64, i64)>,
    /// Events in the aggregate that was last emitted.
    pub emitted: u64,
    pub dirty: bool,
}

/// Exact moments of some values, in units of 1e-9.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sum {
    pub n: u64,
    pub sum: i128,
    pub squares: i128,
    pub min: i64,
    pub max: i64,
}

impl Default for Sum {
    fn default() -> Self {
        Self { n: 0, sum: 0, squares: 0, min: i64::MAX, max: i64::MIN }
    }
}

impl Sum {
    fn add(&mut self, value: f64) {
        let units = to_units(value);
        self.n += 1;
        self.sum += i128::from(units);
        self.squares += i128::from(units) * i128::from(units);
        self.min = self.min.min(units);
        self.max = self.max.max(units);
    }

    fn mean(&self) -> Option<f64> {
        (self.n > 0).then(|| mean(self.sum, self.n))
    }

    /// Sample standard deviation: s² = (n·Σx² − (Σx)²) / (n·(n − 1)).
    #[expect(clippy::cast_precision_loss, reason = "a result, rounded once")]
    fn deviation(&self) -> Option<f64> {
        let n = i128::from(self.n);
        let spread = n * self.squares - self.sum * self.sum;
        (n > 1).then(|| (spread as f64 / (n * (n - 1)) as f64).sqrt() / UNIT)
    }

    #[expect(clippy::cast_precision_loss, reason = "a result, rounded once")]
    fn bound(&self, bound: i64) -> Option<f64> {
        (self.n > 0).then_some(bound as f64 / UNIT)
    }
}

impl Accumulator {
    pub fn add(&mut self, event: &Event<'_>, hash: u64) {
        self.count += 1;
        if let Some(speed) = event.speed_kmh {
            self.speeds.add(speed);
        }
        if let Some(occupancy) = event.occupancy_percent {
            self.occupancies.add(occupancy);
        }
        match event.volume {
            Some(Volume::Count(count)) => self.vehicles += u64::from(count),
            Some(Volume::PerHour(flow)) => self.flows.add(flow),
            None => {}
        }
        self.quality += i128::from(to_units(event.quality_score));
        if let Some(Coordinates { latitude, longitude }) = event.coordinates {
            let place = (event.timestamp_ms, hash, to_units(latitude), to_units(longitude));
            self.place = self.place.max(Some(place));
        }
    }

    /// Vehicles counted, and those that the mean flow rate amounts to.
    fn vehicle_count(&self, window_ms: i64) -> u64 {
        #[expect(clippy::cast_precision_loss, reason = "a window's length")]
        let hours = window_ms as f64 / 3_600_000.0;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a flow is 0-100,000")]
        let flowing = (self.flows.mean().unwrap_or(0.0) * hours).round() as u64;
        self.vehicles + flowing
    }

    pub fn aggregate<'a>(&self, segment: &'a str, start_ms: i64, settings: &Settings) -> Aggregate<'a> {
        #[expect(clippy::cast_precision_loss, reason = "a few events")]
        let complete = settings
            .reading_interval_ms
            .map_or(1.0, |interval_ms| (self.count as f64 * interval_ms as f64 / settings.window_ms as f64).min(1.0));
        let avg_speed = self.speeds.mean();
        #[expect(clippy::cast_precision_loss, reason = "degrees")]
        let coordinates = self.place.map(|(_, _, latitude, longitude)| Position {
            latitude: latitude as f64 / UNIT,
            longitude: longitude as f64 / UNIT,
        });
        Aggregate {
            aggregate_id: Cow::Owned(format!("AGG_{segment}_{start_ms}")),
            segment_id: Cow::Borrowed(segment),
            window_start: start_ms,
            window_end: start_ms + settings.window_ms,
            avg_speed,
            speed_stddev: self.speeds.deviation(),
            speed_min: self.speeds.bound(self.speeds.min),
            speed_max: self.speeds.bound(self.speeds.max),
            vehicle_count: self.vehicle_count(settings.window_ms),
            occupancy_avg: self.occupancies.mean().unwrap_or(0.0),
            occupancy_max: self.occupancies.bound(self.occupancies.max),
            congestion_level: avg_speed.map(CongestionLevel::of),
            coordinates,
            event_count: self.count,
            quality_score: mean(self.quality, self.count.max(1)) * complete,
        }
    }
}

/// A segment's part of an event's [`identity`].
pub fn hash_of(segment: &str) -> u64 {
    XxHash3_64::oneshot(segment.as_bytes())
}

/// What tells events of a window apart: two with the same id, segment and time are one.
pub fn identity(segment_hash: u64, event: &Event<'_>) -> u64 {
    XxHash3_64::oneshot_with_seed(segment_hash ^ event.timestamp_ms.cast_unsigned(), event.event_id.as_bytes())
}

/// Hashes are hashed already.
#[derive(Default)]
pub struct Identity(u64);

impl Hasher for Identity {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// One window of one partition.
#[derive(Default)]
pub struct Window {
    /// Of the segments in it, by the partition's number for them; `EMPTY` where there is none.
    slots: Vec<u32>,
    entries: Vec<(u32, Accumulator)>,
    /// Entries touched since the last flush.
    touched: Vec<u32>,
    pub seen: HashSet<u64, BuildHasherDefault<Identity>>,
    /// Seen since the last flush.
    pub fresh: Vec<u64>,
    /// Blocks of hashes in the changelog.
    pub blocks: u32,
}

const EMPTY: u32 = u32::MAX;

impl Window {
    pub fn accumulator(&mut self, segment: u32) -> &mut Accumulator {
        let index = segment as usize;
        if index >= self.slots.len() {
            self.slots.resize(index + 1, EMPTY);
        }
        if self.slots[index] == EMPTY {
            self.slots[index] = u32::try_from(self.entries.len()).expect("segments fit in 32 bits");
            self.entries.push((segment, Accumulator::default()));
        }
        let slot = self.slots[index];
        let entry = &mut self.entries[slot as usize].1;
        if !entry.dirty {
            entry.dirty = true;
            self.touched.push(slot);
        }
        entry
    }

    /// Puts back what the changelog holds.
    pub fn restore(&mut self, segment: u32, accumulator: Accumulator) {
        *self.accumulator(segment) = accumulator;
        self.touched.clear();
    }

    /// The segments' numbers have changed; each that stands here has a new one.
    pub fn renumber(&mut self, numbers: &HashMap<u32, u32>) {
        self.slots.clear();
        for (slot, (segment, _)) in (0_u32..).zip(&mut self.entries) {
            *segment = numbers[segment];
            let index = *segment as usize;
            if index >= self.slots.len() {
                self.slots.resize(index + 1, EMPTY);
            }
            self.slots[index] = slot;
        }
    }

    pub fn holds(&self, segment: u32) -> bool {
        self.slots.get(segment as usize).is_some_and(|slot| *slot != EMPTY)
    }

    /// (segment, accumulator) of every segment.
    pub fn all(&mut self) -> impl Iterator<Item = (u32, &mut Accumulator)> {
        self.entries.iter_mut().map(|(segment, accumulator)| (*segment, accumulator))
    }

    /// Those touched since the last call, which are clean from here on.
    pub fn take_touched(&mut self, mut each: impl FnMut(u32, &mut Accumulator)) {
        for slot in self.touched.drain(..) {
            let (segment, accumulator) = &mut self.entries[slot as usize];
            accumulator.dirty = false;
            each(*segment, accumulator);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(speed: f64) -> Event<'static> {
        Event {
            event_id: "E".into(),
            segment_id: "S".into(),
            timestamp_ms: 1_750_000_200_000,
            speed_kmh: Some(speed),
            volume: Some(Volume::PerHour(120.0)),
            occupancy_percent: None,
            coordinates: None,
            source: "SENSOR",
            quality_score: 0.5,
        }
    }

    #[test]
    fn moments_are_those_of_the_textbook() {
        let mut accumulator = Accumulator::default();
        [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0].iter().for_each(|s| accumulator.add(&event(*s), 0));
        let aggregate = accumulator.aggregate("S", 0, &Settings::default());
        assert_eq!(aggregate.avg_speed, Some(5.0));
        let expected = (32.0_f64 / 7.0).sqrt();
        assert!((aggregate.speed_stddev.expect("eight speeds") - expected).abs() < 1e-12);
        assert_eq!((aggregate.speed_min, aggregate.speed_max), (Some(2.0), Some(9.0)));
        assert_eq!(aggregate.vehicle_count, 10, "120 vehicles an hour for five minutes");
        assert_eq!(aggregate.quality_score, 0.5);
    }

    #[test]
    fn quality_falls_when_readings_are_missing() {
        let mut accumulator = Accumulator::default();
        accumulator.add(&event(50.0), 0);
        let settings = Settings { reading_interval_ms: Some(30_000), ..Settings::default() };
        assert!((accumulator.aggregate("S", 0, &settings).quality_score - 0.05).abs() < 1e-12);
    }

    proptest::proptest! {
        #[test]
        fn order_does_not_matter(speeds in proptest::collection::vec(0.0..200.0_f64, 1..50), turn in 0..50_usize) {
            let (mut one, mut other) = (Accumulator::default(), Accumulator::default());
            speeds.iter().for_each(|s| one.add(&event(*s), 0));
            let turn = turn % speeds.len();
            speeds[turn..].iter().chain(&speeds[..turn]).rev().for_each(|s| other.add(&event(*s), 0));
            proptest::prop_assert_eq!(one, other);
        }
    }
}
