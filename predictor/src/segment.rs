//! One segment: its newest windows and its profile.

use crate::bytes::{Reader, Writer};
use crate::forecast::calendar::{Ahead, Calendar, LocalTime, Slot, epoch_hour};
use crate::forecast::profile::{BINS_PER_HOUR, Bin, Combined, Hour, Past as _, Profile};
use crate::forecast::snapshot::{HISTORY, History, Snapshot};
use crate::forecast::volume::Volumes;

/// What is kept of a segment. Times are window ends, in windows since the epoch.
#[derive(Debug, Clone)]
pub struct Segment {
    history: History,
    /// The newest window with a speed.
    heard: i64,
    /// Speeds and vehicles of windows that have not been passed yet.
    open: Vec<(i64, f32, u16)>,
    pub profile: Profile,
    /// The profile that the present model was fitted on, as far as it tells more than the segment's own.
    fitted: Option<Box<Profile>>,
    /// Since the first vehicle was counted.
    volumes: Option<Box<Volumes>>,
    pub position: Option<(f64, f64)>,
    /// What changed since the last commit: the segment itself, and hours of its profile.
    pub dirty: bool,
    pub dirty_hours: Vec<usize>,
}

/// What a segment's windows are seen in the light of.
#[derive(Debug, Clone, Copy)]
pub struct Light<'a> {
    pub time: &'a LocalTime,
    /// Whether the profile that a model was fitted on stays as it was.
    pub frozen: bool,
}

impl Segment {
    /// A segment first heard of when the partition stands at `step`.
    #[must_use]
    pub fn new(step: i64) -> Self {
        Self {
            history: History::new(step),
            heard: step,
            open: Vec::new(),
            profile: Profile::default(),
            fitted: None,
            volumes: None,
            position: None,
            dirty: true,
            dirty_hours: Vec::new(),
        }
    }

    /// Another model forecasts from now on: this is the profile that it was fitted on. Of what it tells, no more is kept
    /// than makes a difference.
    pub fn adopt(&mut self, fitted: Option<Profile>, frozen: bool) {
        let kept = fitted.and_then(|fitted| if frozen { Some(fitted) } else { fitted.beyond(&self.profile) });
        self.fitted = kept.map(Box::new);
    }

    /// The partition stands at `passed`. What is restored may stand further back: windows that passed without a speed
    /// are not kept. One that is new with a window from the past waits for the next window's end, as it is.
    pub fn catch_up(&mut self, passed: i64) {
        if self.history.newest() < passed && self.open().all(|open| open > passed) {
            self.history.advance(passed);
        }
    }

    /// A window's speed, km/h, and vehicles: of one to come, or a correction of one that has passed.
    pub fn hear(&mut self, step: i64, (speed, vehicles): (f32, u16), light: Light<'_>) {
        self.dirty = true;
        if step > self.history.newest() {
            match self.open.iter_mut().find(|(open, _, _)| *open == step) {
                Some(open) => (open.1, open.2) = (speed, vehicles),
                None => self.open.push((step, speed, vehicles)),
            }
        } else if step > self.history.newest() - HISTORY as i64 {
            self.put(step, Slot::of(step, light.time), (speed, vehicles), light);
        }
    }

    /// Takes in a window that has been reached.
    fn put(&mut self, step: i64, at: Slot, (speed, vehicles): (f32, u16), light: Light<'_>) {
        self.heard = self.heard.max(step);
        let usual = self.past(light).usual(at);
        self.history.put(step, speed, usual);
        let fitted = self.fitted.as_deref().filter(|_| !light.frozen);
        self.profile.put(at, epoch_hour(step), speed, fitted);
        if let Some(fitted) = self.fitted.as_mut().filter(|_| !light.frozen) {
            fitted.give_way(at.hour_of_week(), &self.profile);
        }
        // Nobody counts where no vehicle ever was.
        if vehicles > 0 || self.volumes.is_some() {
            self.volumes.get_or_insert_default().put(step, at, vehicles);
        }
        if !self.dirty_hours.contains(&at.hour_of_week()) {
            self.dirty_hours.push(at.hour_of_week());
        }
    }

    /// The windows that are not passed yet and have a speed.
    pub fn open(&self) -> impl Iterator<Item = i64> {
        self.open.iter().map(|(step, _, _)| *step)
    }

    /// Passes to a window's end and tells what is known then; `None` if nothing is.
    pub fn pass(&mut self, calendar: &Calendar, light: Light<'_>) -> Option<Snapshot> {
        let step = calendar.step;
        self.history.advance(step);
        let mut passed: Vec<(i64, f32, u16)> = Vec::new();
        self.open.retain(|open| {
            if open.0 <= step {
                passed.push(*open);
            }
            open.0 > step
        });
        passed.sort_unstable_by_key(|(step, _, _)| *step);
        self.dirty |= !passed.is_empty();
        for (passed, speed, vehicles) in passed {
            let at = if passed == step { calendar.now } else { Slot::of(passed, light.time) };
            self.put(passed, at, (speed, vehicles), light);
        }
        let mut snapshot = self.history.snapshot(&self.past(light), calendar)?;
        if let Some(volumes) = &self.volumes {
            let of = |ahead: &Ahead| volumes.forecast(step, calendar.now, ahead.steps, ahead.target);
            snapshot.volumes = calendar.ahead.iter().map(of).collect::<Option<_>>().unwrap_or_default();
        }
        Some(snapshot)
    }

    fn past(&self, light: Light<'_>) -> Combined<'_> {
        Combined { own: &self.profile, fitted: self.fitted.as_deref(), frozen: light.frozen }
    }

    /// The newest window with a speed.
    #[must_use]
    pub fn heard(&self) -> i64 {
        self.heard
    }

    pub fn encode(&self, into: &mut Vec<u8>) {
        let mut out = Writer::new(into);
        out.i64(self.history.newest());
        out.i64(self.heard);
        let (latitude, longitude) = self.position.unwrap_or((f64::NAN, f64::NAN));
        out.f64(latitude);
        out.f64(longitude);
        let (speeds, usual) = self.history.rings();
        speeds.iter().chain(usual).for_each(|speed| out.speed(*speed));
        out.bytes(&[u8::from(self.volumes.is_some())]);
        if let Some(volumes) = &self.volumes {
            out.i64(volumes.newest);
            volumes.recent.iter().for_each(|vehicles| out.u16(*vehicles));
        }
        for (step, speed, vehicles) in &self.open {
            out.i64(*step);
            out.speed(*speed);
            out.u16(*vehicles);
        }
    }

    /// An hour of the week as an entry of the changelog.
    pub fn encode_hour(&self, hour_of_week: usize, into: &mut Vec<u8>) -> Option<()> {
        let hour = self.profile.hour(hour_of_week)?;
        let mut out = Writer::new(into);
        append_hour(hour, &mut out);
        let (vehicles, windows) = self.volumes.as_ref().map_or((0.0, 0.0), |volumes| volumes.hours[hour_of_week]);
        out.f32(vehicles);
        out.f32(windows);
        Some(())
    }

    /// Puts an hour back as it was; without one, as if it never was.
    pub fn restore_hour(&mut self, hour_of_week: usize, bytes: Option<&[u8]>) {
        let mut fields = bytes.and_then(Reader::new);
        self.profile.restore(hour_of_week, fields.as_mut().and_then(read_hour));
        let volume = fields.and_then(|mut fields| Some((fields.f32()?, fields.f32()?))).unwrap_or_default();
        if volume.1 > 0.0 || self.volumes.is_some() {
            self.volumes.get_or_insert_default().hours[hour_of_week] = volume;
        }
    }

    /// Puts back what was encoded; the profile is put back by its hours.
    pub fn restore(&mut self, bytes: &[u8]) -> Option<()> {
        let mut fields = Reader::new(bytes)?;
        let newest = fields.i64()?;
        self.heard = fields.i64()?;
        let position = (fields.f64()?, fields.f64()?);
        self.position = (!position.0.is_nan()).then_some(position);
        let (mut speeds, mut usual) = ([f32::NAN; HISTORY], [f32::NAN; HISTORY]);
        for speed in speeds.iter_mut().chain(&mut usual) {
            *speed = fields.speed()?;
        }
        self.history = History::restored(newest, speeds, usual);
        if fields.u8()? == 1 {
            let volumes = self.volumes.get_or_insert_default();
            volumes.newest = fields.i64()?;
            for vehicles in &mut volumes.recent {
                *vehicles = fields.u16()?;
            }
        }
        self.open.clear();
        while let Some(step) = fields.i64() {
            self.open.push((step, fields.speed()?, fields.u16()?));
        }
        Some(())
    }
}

/// An hour of the week; what was read in it is fixed speeds.
pub fn append_hour(hour: &Hour, out: &mut Writer<'_>) {
    out.i64(i64::from(hour.date));
    out.i64(i64::from(hour.epoch_hour));
    out.u32(hour.dates);
    hour.bins.iter().for_each(|bin| out.speed(bin.newest()));
    for bin in &hour.bins {
        out.f32(bin.speeds);
        out.f32(bin.squares);
        out.f32(f32::from(bin.count));
    }
}

#[must_use]
pub fn read_hour(fields: &mut Reader<'_>) -> Option<Hour> {
    let (date, epoch_hour) = (i32::try_from(fields.i64()?).ok()?, i32::try_from(fields.i64()?).ok()?);
    let mut hour = Hour { date, epoch_hour, dates: fields.u32()?, ..Hour::default() };
    let mut newest = [f32::NAN; BINS_PER_HOUR];
    for speed in &mut newest {
        *speed = fields.speed()?;
    }
    for (bin, newest) in hour.bins.iter_mut().zip(newest) {
        let (speeds, squares, count) = (fields.f32()?, fields.f32()?, fields.f32()?);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of dates")]
        let count = count as u16;
        *bin = Bin::new(speeds, squares, count, newest);
    }
    Some(hour)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: i64 = 5_890_000;

    fn utc() -> LocalTime {
        jiff::tz::TimeZone::UTC.into()
    }

    fn light(time: &LocalTime) -> Light<'_> {
        Light { time, frozen: false }
    }

    fn calendar(step: i64) -> Calendar {
        Calendar::at(step, &[3, 6, 12], &utc())
    }

    fn heard(speeds: &[(i64, f32)], upto: i64) -> (Segment, Option<Snapshot>) {
        let mut segment = Segment::new(STEP);
        let mut last = None;
        for step in STEP + 1..=upto {
            for (_, speed) in speeds.iter().filter(|(at, _)| *at == step) {
                segment.hear(step, (*speed, 7), light(&utc()));
            }
            last = segment.pass(&calendar(step), light(&utc()));
        }
        (segment, last)
    }

    #[test]
    fn a_correction_is_as_if_it_had_been_right_at_once() {
        let (mut segment, _) = heard(&[(STEP + 1, 50.0), (STEP + 2, 99.0), (STEP + 3, 40.0)], STEP + 3);
        segment.hear(STEP + 2, (60.0, 7), light(&utc()));
        let (right, _) = heard(&[(STEP + 1, 50.0), (STEP + 2, 60.0), (STEP + 3, 40.0)], STEP + 3);
        assert_eq!(format!("{:?}", segment.profile), format!("{:?}", right.profile));
        let next = |mut s: Segment| format!("{:?}", s.pass(&calendar(STEP + 4), light(&utc())));
        assert_eq!(next(segment), next(right));
    }

    #[test]
    fn a_correction_after_a_restart_is_as_without_it() {
        let (mut segment, _) = heard(&[(STEP + 1, 50.0)], STEP + 1);
        let (mut back, mut bytes) = (Segment::new(i64::MIN / 2), Vec::new());
        segment.encode(&mut bytes);
        back.restore(&bytes).expect("it was encoded");
        back.profile = segment.profile.clone();
        back.volumes = segment.volumes.clone();
        segment.dirty = false;
        (STEP + 2..STEP + 4).for_each(|step| drop(segment.pass(&calendar(step), light(&utc()))));
        assert!(!segment.dirty, "silence is not kept");
        back.catch_up(STEP + 3);
        let next = |s: &mut Segment| {
            s.hear(STEP + 2, (60.0, 9), light(&utc()));
            format!("{:?}", s.pass(&calendar(STEP + 4), light(&utc())))
        };
        assert_eq!(next(&mut back), next(&mut segment));
        assert_eq!(format!("{:?}", back.profile), format!("{:?}", segment.profile));
    }

    #[test]
    fn windows_may_be_heard_ahead_of_the_marker_and_in_any_order() {
        let mut ahead = Segment::new(STEP);
        for (step, speed) in [(STEP + 3, 40.0), (STEP + 1, 50.0), (STEP + 2, 60.0)] {
            ahead.hear(step, (speed, 7), light(&utc()));
        }
        assert_eq!(ahead.open().min(), Some(STEP + 1));
        let mut last = None;
        for step in STEP + 1..=STEP + 3 {
            last = ahead.pass(&calendar(step), light(&utc()));
        }
        let (in_order, expected) = heard(&[(STEP + 1, 50.0), (STEP + 2, 60.0), (STEP + 3, 40.0)], STEP + 3);
        assert_eq!(format!("{last:?}"), format!("{expected:?}"));
        assert_eq!(format!("{:?}", ahead.profile), format!("{:?}", in_order.profile));
    }

    #[test]
    fn it_is_read_back_as_it_was() {
        let (mut segment, _) = heard(&[(STEP + 1, 50.0), (STEP + 60, 40.0)], STEP + 60);
        segment.position = Some((34.05, -118.24));
        segment.hear(STEP + 61, (45.0, 8), light(&utc()));
        let (mut bytes, mut back) = (Vec::new(), Segment::new(0));
        segment.encode(&mut bytes);
        back.restore(&bytes).expect("its own format");
        for hour in 0..crate::forecast::profile::HOURS {
            if segment.encode_hour(hour, &mut bytes).is_some() {
                back.restore_hour(hour, Some(&bytes));
            }
        }
        let next = |s: &mut Segment| format!("{:?}", s.pass(&calendar(STEP + 61), light(&utc())));
        assert_eq!(next(&mut back), next(&mut segment));
        assert_eq!((back.position, &back.volumes), (segment.position, &segment.volumes));
        assert!(segment.volumes.is_some());
        assert_eq!(format!("{:?}", back.profile), format!("{:?}", segment.profile));
    }

    mod streaming {
        use proptest::prelude::*;

        use super::*;
        use crate::forecast::series::Series;
        use crate::forecast::snapshot::fixed;

        const DAYS: usize = 3;
        const ALL: usize = DAYS * 288;

        /// Speeds with gaps of all lengths, from seeds.
        fn speeds(seeds: &[(u16, u16)]) -> Vec<f32> {
            let mut speeds = Vec::new();
            for (i, (length, level)) in seeds.iter().cycle().enumerate() {
                let run = usize::from(*length % 90) + 1;
                let speed = if i % 3 == 2 { f32::NAN } else { f32::from(*level % 110) + 0.3 };
                speeds.extend((0..run).map(|k| speed + f32::from(u8::try_from(k % 7).expect("small"))));
                if speeds.len() >= ALL {
                    speeds.truncate(ALL);
                    return speeds;
                }
            }
            unreachable!("cycles for ever")
        }

        /// What the definitions in `snapshot.rs` say, worked out over the whole series.
        fn by_definition(speeds: &[f32], window: usize) -> Option<(f32, usize, [f32; 7], f32, f32, f32)> {
            let kept = &speeds[(window + 1).saturating_sub(HISTORY)..=window];
            let first = *kept.iter().find(|speed| !speed.is_nan())?;
            let filled = |back: usize| {
                let before = (0..kept.len().saturating_sub(back)).rev();
                before.map(|at| kept[at]).find(|speed| !speed.is_nan()).unwrap_or(first)
            };
            let age = kept.iter().rev().position(|speed| !speed.is_nan())?;
            let hour: Vec<f32> = (0..12).map(filled).collect();
            let (low, high) = (hour.iter().copied().fold(1e9, f32::min), hour.iter().copied().fold(-1e9, f32::max));
            let mean = hour.iter().map(|v| f64::from(*v)).sum::<f64>() / 12.0;
            let variance = hour.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / 12.0;
            let lags = [1, 2, 3, 5, 6, 8, 11].map(filled);
            Some((filled(0), age, lags, low, high, fixed(variance.sqrt())))
        }

        proptest! {
            #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]
            /// One window at a time, out of order, corrected, with restarts between: the same as all at once, and as the
            /// definitions say.
            #[test]
            fn windows_one_by_one_are_as_all_at_once(
                seeds in proptest::collection::vec((0..u16::MAX, 0..u16::MAX), 5..40),
                restart_every in 5_usize..60,
            ) {
                let time: LocalTime = jiff::tz::TimeZone::get("America/Los_Angeles").expect("bundled").into();
                let series = Series::new(STEP, vec![("S".into(), speeds(&seeds))]);
                let slots = series.slots(&time);
                let fitted = series.profiles(0..288, &slots).remove(0);
                let speeds = &series.speeds[0];
                let light = Light { time: &time, frozen: true };
                let mut at_once = Vec::new();
                // Own readings as they stand at the end: only yesterday's are asked for.
                let own = series.profiles(0..ALL, &slots).remove(0);
                let past = [Combined { own: &own, fitted: Some(&fitted), frozen: true }];
                series.play(288..ALL, &past, &[3, 6, 12], &time, &mut |_, _, snapshots, _| {
                    at_once.push(snapshots[0].clone());
                });
                let mut segment = Segment::new(STEP - 1);
                segment.adopt(Some(fitted.clone()), true);
                for window in 0..ALL {
                    let step = series.step(window);
                    // The next window may come before this one, and this one wrong at first.
                    for ahead in [window + 1, window] {
                        if let Some(speed) = speeds.get(ahead).filter(|speed| !speed.is_nan()) {
                            let speed = if ahead > window { 1.0 } else { *speed };
                            segment.hear(series.step(ahead), (speed, 0), light);
                        }
                    }
                    if window % restart_every == 0 {
                        let (mut bytes, mut back) = (Vec::new(), Segment::new(0));
                        segment.encode(&mut bytes);
                        back.restore(&bytes).expect("what was written");
                        back.profile = segment.profile.clone();
                        segment = back;
                        segment.adopt(Some(fitted.clone()), true);
                        segment.catch_up(step - 1);
                    }
                    let found = segment.pass(&Calendar::at(step, &[3, 6, 12], &time), light);
                    if window < 288 + HISTORY {
                        continue;
                    }
                    let mut expected = at_once[window - 288].clone();
                    // Yesterday was overwritten where a date's hour came again: not within three days.
                    prop_assert_eq!(format!("{found:?}").contains("mean_24h"), expected.is_some());
                    if let (Some(found), Some(expected)) = (&found, &mut expected) {
                        (expected.mean_24h, expected.mean_7d) = (found.mean_24h, found.mean_7d);
                        prop_assert_eq!(format!("{found:?}"), format!("{expected:?}"));
                        let told = (found.filled, usize::from(found.age), found.lags, found.low_1h, found.high_1h, found.deviation_1h);
                        prop_assert_eq!(Some(told), by_definition(speeds, window));
                    }
                }
            }
        }
    }
}
