//! One segment: its newest windows and its profile.

use jiff::tz::TimeZone;

use crate::bytes::{Reader, Writer};
use crate::forecast::profile::{BINS_PER_HOUR, Hour, Profile, Slot};
use crate::forecast::snapshot::{Calendar, HISTORY, Snapshot, epoch_hour};

const RING: i64 = HISTORY as i64;

/// What is kept of a segment. Times are window ends, in windows since the epoch.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Speeds of the newest [`HISTORY`] windows, by step modulo their number; NaN where nothing was measured.
    ring: [f32; HISTORY],
    /// The newest window in the ring.
    newest: i64,
    /// The newest window with a speed.
    heard: i64,
    /// Speeds of windows that have not been passed yet.
    open: Vec<(i64, f32)>,
    pub profile: Profile,
    pub position: Option<(f64, f64)>,
    /// What changed since the last commit: the segment itself, and hours of its profile.
    pub dirty: bool,
    pub dirty_hours: Vec<usize>,
}

impl Segment {
    /// A segment first heard of when the partition stands at `step`.
    #[must_use]
    pub fn new(step: i64) -> Self {
        Self {
            ring: [f32::NAN; HISTORY],
            newest: step,
            heard: step,
            open: Vec::new(),
            profile: Profile::default(),
            position: None,
            dirty: true,
            dirty_hours: Vec::new(),
        }
    }

    /// The partition stands at `passed`. What is restored may stand further back: windows that passed without a speed
    /// are not kept. One that is new with a window from the past waits for the next window's end, as it is.
    pub fn catch_up(&mut self, passed: i64) {
        if self.newest < passed && self.open().all(|open| open > passed) {
            self.clear(passed);
        }
    }

    /// Windows up to `step` follow in the ring, without a speed so far.
    fn clear(&mut self, step: i64) {
        for passed in (self.newest + 1).max(step - RING + 1)..=step {
            self.ring[slot(passed)] = f32::NAN;
        }
        self.newest = step;
    }

    /// A window's speed, km/h: of one to come, or a correction of one that has passed.
    pub fn hear(&mut self, step: i64, speed: f32, zone: &TimeZone) {
        self.dirty = true;
        if step > self.newest {
            match self.open.iter_mut().find(|(open, _)| *open == step) {
                Some(open) => open.1 = speed,
                None => self.open.push((step, speed)),
            }
        } else if step > self.newest - RING {
            let before = std::mem::replace(&mut self.ring[slot(step)], speed);
            let (of_week, hour) = (Slot::of(step, zone), epoch_hour(step));
            if !before.is_nan() {
                self.profile.remove(of_week, hour, before);
            }
            self.profile.add(of_week, hour, speed);
            self.touch(of_week);
            self.heard = self.heard.max(step);
        }
    }

    /// The windows that are not passed yet and have a speed.
    pub fn open(&self) -> impl Iterator<Item = i64> {
        self.open.iter().map(|(step, _)| *step)
    }

    /// Passes to a window's end and tells what is known then; `None` if nothing is. The window's speed goes into the
    /// profile afterwards, so that a profile never holds what it is compared with.
    pub fn pass(&mut self, calendar: &Calendar, zone: &TimeZone) -> Option<Snapshot> {
        let step = calendar.step;
        self.clear(step);
        let mut passed: Vec<(i64, f32)> = Vec::new();
        self.open.retain(|open| {
            if open.0 <= step {
                passed.push(*open);
            }
            open.0 > step
        });
        passed.sort_unstable_by_key(|(step, _)| *step);
        for (step, speed) in &passed {
            self.heard = self.heard.max(*step);
            if *step > self.newest - RING {
                self.ring[slot(*step)] = *speed;
            }
        }
        self.dirty |= !passed.is_empty();
        let oldest_first = std::array::from_fn(|i| self.ring[slot(step - RING + 1 + i as i64)]);
        let snapshot = Snapshot::take(&oldest_first, &self.profile, calendar);
        for (passed, speed) in passed {
            let of_week = if passed == step { calendar.now() } else { Slot::of(passed, zone) };
            self.profile.add(of_week, epoch_hour(passed), speed);
            self.touch(of_week);
        }
        snapshot
    }

    /// The newest window with a speed.
    #[must_use]
    pub fn heard(&self) -> i64 {
        self.heard
    }

    fn touch(&mut self, of_week: Slot) {
        if !self.dirty_hours.contains(&of_week.hour()) {
            self.dirty_hours.push(of_week.hour());
        }
    }

    pub fn encode(&self, into: &mut Vec<u8>) {
        let mut out = Writer::new(into);
        out.i64(self.newest);
        out.i64(self.heard);
        let (latitude, longitude) = self.position.unwrap_or((f64::NAN, f64::NAN));
        out.f64(latitude);
        out.f64(longitude);
        self.ring.iter().for_each(|speed| out.f32(*speed));
        for (step, speed) in &self.open {
            out.i64(*step);
            out.f32(*speed);
        }
    }

    /// Puts back what was encoded; the profile is put back by its hours.
    pub fn restore(&mut self, bytes: &[u8]) -> Option<()> {
        let mut fields = Reader::new(bytes)?;
        self.newest = fields.i64()?;
        self.heard = fields.i64()?;
        let position = (fields.f64()?, fields.f64()?);
        self.position = (!position.0.is_nan()).then_some(position);
        for speed in &mut self.ring {
            *speed = fields.f32()?;
        }
        self.open.clear();
        while let Some(step) = fields.i64() {
            self.open.push((step, fields.f32()?));
        }
        Some(())
    }
}

fn slot(step: i64) -> usize {
    usize::try_from(step.rem_euclid(RING)).expect("a remainder is not negative")
}

pub fn encode_hour(hour: &Hour, into: &mut Vec<u8>) {
    let mut out = Writer::new(into);
    out.i64(hour.newest);
    out.f32(hour.sum);
    out.f32(hour.count);
    for (sum, count) in hour.bins {
        out.f32(sum);
        out.f32(count);
    }
}

#[must_use]
pub fn decode_hour(bytes: &[u8]) -> Option<Hour> {
    let mut fields = Reader::new(bytes)?;
    let mut hour = Hour { newest: fields.i64()?, sum: fields.f32()?, count: fields.f32()?, ..Hour::default() };
    for bin in hour.bins.iter_mut().take(BINS_PER_HOUR) {
        *bin = (fields.f32()?, fields.f32()?);
    }
    Some(hour)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: i64 = 5_890_000;

    fn calendar(step: i64) -> Calendar {
        Calendar::at(step, &[3, 6, 12], &TimeZone::UTC)
    }

    fn heard(speeds: &[(i64, f32)], upto: i64) -> (Segment, Option<Snapshot>) {
        let mut segment = Segment::new(STEP);
        let mut last = None;
        for step in STEP + 1..=upto {
            for (_, speed) in speeds.iter().filter(|(at, _)| *at == step) {
                segment.hear(step, *speed, &TimeZone::UTC);
            }
            last = segment.pass(&calendar(step), &TimeZone::UTC);
        }
        (segment, last)
    }

    #[test]
    fn a_correction_is_as_if_it_had_been_right_at_once() {
        let (mut segment, _) = heard(&[(STEP + 1, 50.0), (STEP + 2, 99.0), (STEP + 3, 40.0)], STEP + 3);
        segment.hear(STEP + 2, 60.0, &TimeZone::UTC);
        let (right, _) = heard(&[(STEP + 1, 50.0), (STEP + 2, 60.0), (STEP + 3, 40.0)], STEP + 3);
        assert_eq!(segment.profile, right.profile);
        let next = |mut s: Segment| format!("{:?}", s.pass(&calendar(STEP + 4), &TimeZone::UTC));
        assert_eq!(next(segment), next(right));
    }

    #[test]
    fn a_correction_after_a_restart_is_as_without_it() {
        let (mut segment, _) = heard(&[(STEP + 1, 50.0)], STEP + 1);
        let (mut back, mut bytes) = (Segment::new(i64::MIN / 2), Vec::new());
        segment.encode(&mut bytes);
        back.restore(&bytes).expect("it was encoded");
        back.profile = segment.profile.clone();
        segment.dirty = false;
        (STEP + 2..STEP + 4).for_each(|step| drop(segment.pass(&calendar(step), &TimeZone::UTC)));
        assert!(!segment.dirty, "silence is not kept");
        back.catch_up(STEP + 3);
        let next = |s: &mut Segment| {
            s.hear(STEP + 2, 60.0, &TimeZone::UTC);
            format!("{:?}", s.pass(&calendar(STEP + 4), &TimeZone::UTC))
        };
        assert_eq!(next(&mut back), next(&mut segment));
        assert_eq!(back.profile, segment.profile);
    }

    #[test]
    fn windows_may_be_heard_ahead_of_the_marker_and_in_any_order() {
        let mut ahead = Segment::new(STEP);
        for (step, speed) in [(STEP + 3, 40.0), (STEP + 1, 50.0), (STEP + 2, 60.0)] {
            ahead.hear(step, speed, &TimeZone::UTC);
        }
        assert_eq!(ahead.open().min(), Some(STEP + 1));
        let mut last = None;
        for step in STEP + 1..=STEP + 3 {
            last = ahead.pass(&calendar(step), &TimeZone::UTC);
        }
        let (in_order, expected) = heard(&[(STEP + 1, 50.0), (STEP + 2, 60.0), (STEP + 3, 40.0)], STEP + 3);
        assert_eq!(last, expected);
        assert_eq!(ahead.profile, in_order.profile);
    }

    #[test]
    fn it_is_read_back_as_it_was() {
        let (mut segment, _) = heard(&[(STEP + 1, 50.0), (STEP + 60, 40.0)], STEP + 60);
        segment.position = Some((34.05, -118.24));
        segment.hear(STEP + 61, 45.0, &TimeZone::UTC);
        let (mut bytes, mut back) = (Vec::new(), Segment::new(0));
        segment.encode(&mut bytes);
        back.restore(&bytes).expect("its own format");
        for hour in 0..crate::forecast::profile::HOURS {
            if let Some(of_week) = segment.profile.hour(hour) {
                encode_hour(of_week, &mut bytes);
                back.profile.restore(hour, decode_hour(&bytes));
            }
        }
        let next = |s: &mut Segment| format!("{:?}", s.pass(&calendar(STEP + 61), &TimeZone::UTC));
        assert_eq!(next(&mut back), next(&mut segment));
        assert_eq!(back.position, segment.position);
        assert_eq!(back.profile, segment.profile);
    }
}
