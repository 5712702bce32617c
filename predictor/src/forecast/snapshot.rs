//! What is known of a segment at a window's end: own lags, means and deviations, and what is usual now and ahead.
//!
//! Everything is rounded to [`fixed`] speeds at once, so that it is the same whether it was told by another instance,
//! read back after a restart, or worked out in one go while fitting.

use super::calendar::Calendar;
use super::profile::{Past, Usual};

/// Windows kept: four hours.
pub const HISTORY: usize = 48;
/// Windows of an hour.
const HOUR: usize = 12;
/// Windows before the newest of which a snapshot tells the speed …
pub const LAGS: [usize; 7] = [1, 2, 3, 5, 6, 8, 11];
/// … and the deviation from what is usual.
pub const DEVIATIONS: [usize; 6] = [0, 1, 2, 3, 4, 8];
/// What a deviation is still worth a window later, while nothing is measured.
const STALE: f64 = 0.97;

/// A speed or difference of speeds to the nearest 1/128 km/h, within ±255.99 km/h; NaN stays.
#[must_use]
pub fn fixed(speed: f64) -> f32 {
    #[expect(clippy::cast_possible_truncation, reason = "exact: 16 bits")]
    let rounded = ((speed * 128.0).round().clamp(-32_767.0, 32_767.0) / 128.0) as f32;
    rounded
}

/// No speed, [`packed`].
pub const NOTHING: i16 = i16::MIN;

/// A [`fixed`] speed in two bytes.
#[must_use]
pub fn packed(speed: f32) -> i16 {
    #[expect(clippy::cast_possible_truncation, reason = "within 16 bits")]
    if speed.is_nan() { NOTHING } else { (speed * 128.0) as i16 }
}

/// The speed that was [`packed`].
#[must_use]
pub fn unpacked(speed: i16) -> f32 {
    if speed == NOTHING { f32::NAN } else { f32::from(speed) / 128.0 }
}

/// A segment's newest windows.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// Speeds by step modulo [`HISTORY`], km/h; NaN where nothing was measured …
    speeds: [f32; HISTORY],
    /// … and what was usual then; NaN where nothing was measured or nobody knew.
    usual: [f32; HISTORY],
    /// The newest window, in windows since the epoch.
    newest: i64,
}

impl History {
    /// One that stands at `step` and knows nothing.
    #[must_use]
    pub fn new(step: i64) -> Self {
        Self { speeds: [f32::NAN; HISTORY], usual: [f32::NAN; HISTORY], newest: step }
    }

    /// As it was, by step modulo [`HISTORY`].
    #[must_use]
    pub fn restored(newest: i64, speeds: [f32; HISTORY], usual: [f32; HISTORY]) -> Self {
        Self { speeds, usual, newest }
    }

    #[must_use]
    pub fn newest(&self) -> i64 {
        self.newest
    }

    /// Speeds and what was usual, by step modulo [`HISTORY`].
    #[must_use]
    pub fn rings(&self) -> (&[f32; HISTORY], &[f32; HISTORY]) {
        (&self.speeds, &self.usual)
    }

    /// Windows up to `step` follow, without a speed so far.
    pub fn advance(&mut self, step: i64) {
        for passed in (self.newest + 1).max(step - HISTORY as i64 + 1)..=step {
            self.speeds[slot(passed)] = f32::NAN;
            self.usual[slot(passed)] = f32::NAN;
        }
        self.newest = self.newest.max(step);
    }

    /// Puts the speed of a window that has been reached, [`fixed`], and what was usual then; `false` if it is too long ago
    /// to matter.
    pub fn put(&mut self, step: i64, speed: f32, usual: Option<Usual>) -> bool {
        let is_kept = step <= self.newest && step > self.newest - HISTORY as i64;
        if is_kept {
            self.speeds[slot(step)] = speed;
            self.usual[slot(step)] = usual.map_or(f32::NAN, |usual| fixed(usual.mean));
        }
        is_kept
    }

    /// What is known at the newest window's end; `None` if nothing is.
    pub fn snapshot(&self, past: &impl Past, calendar: &Calendar) -> Option<Snapshot> {
        let now = past.usual(calendar.now);
        let at = |k: usize| slot(self.newest - k as i64);
        // Newest first from here on.
        let measured: [f32; HISTORY] = std::array::from_fn(|k| self.speeds[at(k)]);
        let age = measured.iter().position(|speed| !speed.is_nan())?;
        let mut oldest = *measured.iter().rfind(|speed| !speed.is_nan())?;
        let mean_4h = mean(&measured);
        let (mut filled, mut deviations, mut deviation) = ([0.0_f32; HISTORY], [0.0_f64; HISTORY], 0.0);
        for k in (0..HISTORY).rev() {
            if measured[k].is_nan() {
                deviation *= STALE;
            } else {
                let usual = f64::from(self.usual[at(k)]);
                oldest = measured[k];
                deviation = f64::from(oldest) - if usual.is_nan() { mean_4h } else { usual };
            }
            (filled[k], deviations[k]) = (oldest, deviation);
        }
        let mean_deviation = |count: usize| {
            #[expect(clippy::cast_precision_loss, reason = "at most 48")]
            let count_kmh = count as f64;
            deviations[..count].iter().sum::<f64>() / count_kmh
        };
        let ahead: Vec<Ahead> = calendar.ahead.iter().map(|ahead| Ahead::of(past, ahead)).collect();
        let low = |speeds: &[f32]| speeds.iter().copied().fold(f32::INFINITY, f32::min);
        let high = |speeds: &[f32]| speeds.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let usual_now = now.map_or(mean_4h, |usual| usual.mean);
        let hour = calendar.epoch_hour();
        Some(Snapshot {
            measured: measured[0],
            filled: filled[0],
            age: u8::try_from(age).expect("below HISTORY"),
            missing: u8::try_from(measured[..HOUR].iter().filter(|speed| speed.is_nan()).count()).expect("at most 12"),
            lags: LAGS.map(|k| filled[k]),
            low_1h: low(&filled[..HOUR]),
            high_1h: high(&filled[..HOUR]),
            deviation_1h: fixed(standard_deviation(&filled[..HOUR])),
            deviation_20min: fixed(standard_deviation(&filled[..4])),
            top_4h: high(&filled),
            mean_1h: fixed(mean(&measured[..HOUR])),
            mean_4h: fixed(mean_4h),
            mean_24h: fixed(past.mean_of_hours(hour, 24).unwrap_or(f64::NAN)),
            mean_7d: fixed(past.mean_of_hours(hour, 168).unwrap_or(f64::NAN)),
            usual_now: fixed(usual_now),
            unusual: DEVIATIONS.map(|k| fixed(deviations[k])),
            unusual_1h: fixed(mean_deviation(HOUR)),
            unusual_4h: fixed(mean_deviation(HISTORY)),
            yesterday: past.reading(calendar.yesterday),
            profiled: now.is_some() && ahead.iter().all(|ahead| !ahead.usual.is_nan()),
            ahead: ahead.into_iter().map(|ahead| ahead.or(usual_now)).collect(),
            volumes: Vec::new(),
        })
    }
}

/// What is usual at a horizon, km/h.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ahead {
    /// At the target, and the standard deviation there.
    pub usual: f32,
    pub spread: f32,
    /// Halfway to the target, and a quarter of an hour after it.
    pub halfway: f32,
    pub after: f32,
    /// A day before the target; NaN if nothing was measured.
    pub yesterday: f32,
}

impl Ahead {
    fn of(past: &impl Past, times: &super::calendar::Ahead) -> Self {
        let usual = past.usual(times.target);
        let mean = |at| past.usual(at).map_or(f32::NAN, |usual| fixed(usual.mean));
        Self {
            usual: usual.map_or(f32::NAN, |usual| fixed(usual.mean)),
            spread: usual.map_or(0.0, |usual| fixed(usual.spread)),
            halfway: mean(times.halfway),
            after: mean(times.after),
            yesterday: past.reading(times.yesterday),
        }
    }

    /// Something for what nobody knows.
    fn or(self, usual_now: f64) -> Self {
        let or = |speed: f32, other: f32| if speed.is_nan() { other } else { speed };
        let usual = or(self.usual, fixed(usual_now));
        Self { usual, halfway: or(self.halfway, usual), after: or(self.after, usual), ..self }
    }
}

/// What is known of a segment at a window's end, km/h.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Mean speed of the window; NaN if nothing was measured.
    pub measured: f32,
    /// The newest speed measured.
    pub filled: f32,
    /// Windows since then.
    pub age: u8,
    /// Windows of the last hour in which nothing was measured.
    pub missing: u8,
    /// `filled` as it was [`LAGS`] windows before.
    pub lags: [f32; LAGS.len()],
    pub low_1h: f32,
    pub high_1h: f32,
    /// Standard deviations of `filled`.
    pub deviation_1h: f32,
    pub deviation_20min: f32,
    /// Largest speed of four hours.
    pub top_4h: f32,
    /// Of what was measured; NaN without.
    pub mean_1h: f32,
    pub mean_4h: f32,
    pub mean_24h: f32,
    pub mean_7d: f32,
    /// What is usual now, else the mean of four hours.
    pub usual_now: f32,
    /// By how much `filled` was above what is usual, [`DEVIATIONS`] windows before; less the older the speed was.
    pub unusual: [f32; DEVIATIONS.len()],
    /// Means of the same.
    pub unusual_1h: f32,
    pub unusual_4h: f32,
    /// The speed a day ago; NaN if nothing was measured.
    pub yesterday: f32,
    /// By horizon.
    pub ahead: Vec<Ahead>,
    /// Vehicles to be expected by horizon; empty where nobody counts.
    pub volumes: Vec<u16>,
    /// Whether the profile had something to say for now and every horizon.
    pub profiled: bool,
}

fn slot(step: i64) -> usize {
    usize::try_from(step.rem_euclid(HISTORY as i64)).expect("a remainder is not negative")
}

/// Of those that are numbers; NaN if none is.
fn mean(speeds: &[f32]) -> f64 {
    let measured = speeds.iter().filter(|speed| !speed.is_nan());
    let (sum, count) = measured.fold((0.0, 0.0), |(sum, count), speed| (sum + f64::from(*speed), count + 1.0));
    sum / count
}

fn standard_deviation(speeds: &[f32]) -> f64 {
    let mean = mean(speeds);
    let squares: f64 = speeds.iter().map(|speed| (f64::from(*speed) - mean).powi(2)).sum();
    #[expect(clippy::cast_precision_loss, reason = "a dozen")]
    (squares / speeds.len() as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::forecast::profile::{Combined, Profile};

    const STEP: i64 = 5_000_000;

    #[test]
    fn gaps_are_filled_with_the_last_value_and_have_an_age() {
        let mut history = History::new(STEP - 1);
        history.advance(STEP);
        let nothing = Combined { own: &Profile::default(), fitted: None, frozen: false };
        let calendar = Calendar::at(STEP, &[3, 6, 12], &TimeZone::UTC.into());
        assert_eq!(history.snapshot(&nothing, &calendar), None);
        assert!(history.put(STEP - 4, 40.0, None) && history.put(STEP - 2, 60.0, None));
        assert!(!history.put(STEP + 1, 1.0, None) && !history.put(STEP - 48, 1.0, None));
        let snapshot = history.snapshot(&nothing, &calendar).expect("two readings");
        assert!(snapshot.measured.is_nan());
        assert_eq!((snapshot.filled, snapshot.age, snapshot.missing), (60.0, 2, 10));
        assert_eq!(snapshot.lags, [60.0, 60.0, 40.0, 40.0, 40.0, 40.0, 40.0]);
        assert_eq!((snapshot.mean_1h, snapshot.mean_4h, snapshot.usual_now), (50.0, 50.0, 50.0));
        assert_eq!((snapshot.low_1h, snapshot.high_1h, snapshot.top_4h), (40.0, 60.0, 60.0));
        assert_eq!(snapshot.unusual[..3], [fixed(10.0 * 0.97 * 0.97), fixed(10.0 * 0.97), 10.0]);
        assert!(snapshot.ahead.iter().all(|ahead| ahead.usual == 50.0 && ahead.yesterday.is_nan()));
        assert!(!snapshot.profiled && snapshot.mean_24h.is_nan());
    }

    #[test]
    fn speeds_are_fixed_to_128ths() {
        assert_eq!((fixed(50.003), fixed(50.004), fixed(-1e9)), (50.0, 50.0 + 1.0 / 128.0, 1.0 / 128.0 - 256.0));
        assert!(fixed(f64::NAN).is_nan());
    }
}
