//! What is known of a segment at a window's end: own lags, means and the profile now and ahead.

use jiff::tz::TimeZone;

use super::STEP_MS;
use super::profile::{Profile, Slot};

/// Windows kept: four hours.
pub const HISTORY: usize = 48;

/// The times that forecasts made at a window's end speak of, in the local week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    pub step: i64,
    now: Slot,
    /// By horizon.
    ahead: Vec<Slot>,
}

impl Calendar {
    /// `horizons`: windows ahead.
    #[must_use]
    pub fn at(step: i64, horizons: &[i64], zone: &TimeZone) -> Self {
        Self { step, now: Slot::of(step, zone), ahead: horizons.iter().map(|h| Slot::of(step + h, zone)).collect() }
    }

    /// The hour since the epoch that holds the window.
    #[must_use]
    pub fn epoch_hour(&self) -> i64 {
        epoch_hour(self.step)
    }

    #[must_use]
    pub fn now(&self) -> Slot {
        self.now
    }
}

/// The hour since the epoch that holds the window that ends at `step`.
#[must_use]
pub fn epoch_hour(step: i64) -> i64 {
    ((step - 1) * STEP_MS).div_euclid(3_600_000)
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
    /// `filled` as it was 1, 2, 3 and 6 windows before.
    pub lags: [f32; 4],
    pub mean_1h: f32,
    pub mean_4h: f32,
    /// Largest minus smallest speed of an hour; NaN without any.
    pub range_1h: f32,
    /// Largest speed of four hours.
    pub top_4h: f32,
    /// Over the last 24 hours and 7 days; NaN without readings.
    pub mean_24h: f32,
    pub mean_7d: f32,
    /// What the profile says for now, else the mean of four hours.
    pub base_now: f32,
    /// The same for each horizon.
    pub base_ahead: Vec<f32>,
    /// Whether the profile had something to say for every horizon.
    pub profiled: bool,
}

impl Snapshot {
    /// From the newest [`HISTORY`] windows, oldest first, NaN where nothing was measured; `None` if nothing was at all.
    #[must_use]
    pub fn take(history: &[f32; HISTORY], profile: &Profile, calendar: &Calendar) -> Option<Self> {
        let first = *history.iter().find(|speed| !speed.is_nan())?;
        let newest = history.iter().rposition(|speed| !speed.is_nan())?;
        let (mut filled, mut value) = ([0.0_f32; HISTORY], first);
        for (filled, speed) in filled.iter_mut().zip(history) {
            value = if speed.is_nan() { value } else { *speed };
            *filled = value;
        }
        let lag = |k: usize| filled[HISTORY - 1 - k];
        let mean_4h = mean(history);
        let base = |slot| profile.at(slot);
        let ahead: Vec<Option<f64>> = calendar.ahead.iter().map(|slot| base(*slot)).collect();
        let now = base(calendar.now);
        let hour = calendar.epoch_hour();
        Some(Self {
            measured: history[HISTORY - 1],
            filled: lag(0),
            age: u8::try_from(HISTORY - 1 - newest).unwrap_or(u8::MAX),
            lags: [lag(1), lag(2), lag(3), lag(6)],
            mean_1h: mean(&history[HISTORY - 12..]),
            mean_4h,
            range_1h: range(&history[HISTORY - 12..]),
            top_4h: history.iter().copied().fold(f32::NAN, f32::max),
            mean_24h: narrow(profile.mean_since(hour - 23).unwrap_or(f64::NAN)),
            mean_7d: narrow(profile.mean_since(hour - 167).unwrap_or(f64::NAN)),
            base_now: now.map_or(mean_4h, narrow),
            profiled: now.is_some() && ahead.iter().all(Option::is_some),
            base_ahead: ahead.into_iter().map(|base| base.or(now).map_or(mean_4h, narrow)).collect(),
        })
    }
}

/// Of those measured; NaN if none was.
fn mean(speeds: &[f32]) -> f32 {
    let measured = speeds.iter().filter(|speed| !speed.is_nan());
    let (sum, count) = measured.fold((0.0, 0.0), |(sum, count), speed| (sum + f64::from(*speed), count + 1.0));
    narrow(sum / count)
}

fn range(speeds: &[f32]) -> f32 {
    speeds.iter().copied().fold(f32::NAN, f32::max) - speeds.iter().copied().fold(f32::NAN, f32::min)
}

#[expect(clippy::cast_possible_truncation, reason = "a speed needs no more digits")]
fn narrow(speed: f64) -> f32 {
    speed as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_filled_with_the_last_value_and_have_an_age() {
        let mut history = [f32::NAN; HISTORY];
        let calendar = Calendar::at(5_000_000, &[3, 6, 12], &TimeZone::UTC);
        assert_eq!(Snapshot::take(&history, &Profile::default(), &calendar), None);
        history[HISTORY - 5] = 40.0;
        history[HISTORY - 3] = 60.0;
        let snapshot = Snapshot::take(&history, &Profile::default(), &calendar).expect("two readings");
        assert!(snapshot.measured.is_nan());
        assert_eq!((snapshot.filled, snapshot.age), (60.0, 2));
        assert_eq!(snapshot.lags, [60.0, 60.0, 40.0, 40.0]);
        assert_eq!((snapshot.mean_1h, snapshot.mean_4h, snapshot.base_now), (50.0, 50.0, 50.0));
        assert_eq!(snapshot.base_ahead, [50.0; 3]);
        assert!(!snapshot.profiled && snapshot.mean_24h.is_nan());
    }
}
