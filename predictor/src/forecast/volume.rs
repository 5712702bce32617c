//! Vehicles: how many are usual at a local time of week, and how many will come.
//!
//! What is usual is kept by hour of the week, as sums over all dates; in between it is linear. Days are weighted as for
//! speeds. What comes is what is usual then, times what the last half hour had to what is usual now; that ratio is worth
//! less the further ahead.

use super::calendar::Slot;
use super::profile::{BINS_PER_DAY, BINS_PER_HOUR, HOURS, weight_of_day};

/// Windows whose counts may still be corrected: an hour.
pub const RECENT: usize = 12;
/// Windows that tell how the present compares with what is usual.
const PRESENT: usize = 6;
/// Vehicles that a ratio must have seen to be worth more than 1:1.
const SHRINK: f64 = 5.0;
/// The ratio's worth halves in so many windows: an hour and a half.
const HALF_LIFE: f64 = 18.0;
/// No count.
const NONE: u16 = u16::MAX;

/// Vehicles counted on one segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Volumes {
    /// By step modulo [`RECENT`]; [`NONE`] where nothing was counted.
    pub recent: [u16; RECENT],
    /// The newest window counted, in windows since the epoch.
    pub newest: i64,
    /// Vehicles and windows by hour of the week.
    pub hours: Vec<(f32, f32)>,
}

impl Default for Volumes {
    fn default() -> Self {
        Self { recent: [NONE; RECENT], newest: i64::MIN / 2, hours: vec![(0.0, 0.0); HOURS] }
    }
}

/// As it is counted: what is more than that is no road.
#[must_use]
pub fn counted(vehicles: u64) -> u16 {
    u16::try_from(vehicles.min(u64::from(NONE) - 1)).expect("below the limit")
}

impl Volumes {
    /// Puts a window's count in the place of one that was there; one that is too long ago is left.
    pub fn put(&mut self, step: i64, at: Slot, vehicles: u16) {
        if step > self.newest {
            for passed in (self.newest + 1).max(step - RECENT as i64 + 1)..=step {
                self.recent[place(passed)] = NONE;
            }
            self.newest = step;
        } else if step <= self.newest - RECENT as i64 {
            return;
        }
        let before = std::mem::replace(&mut self.recent[place(step)], vehicles);
        let (sum, windows) = &mut self.hours[at.hour_of_week()];
        if before == NONE {
            *windows += 1.0;
        } else {
            *sum -= f32::from(before);
        }
        *sum += f32::from(vehicles);
    }

    /// What is usual in five minutes; `None` without a count near that time of day.
    fn usual(&self, at: Slot) -> Option<f64> {
        // An hour's mean stands at its middle.
        let hours_in = (f64::from(at.bin) + 0.5) / BINS_PER_HOUR as f64 - 0.5;
        let (first, share) = (hours_in.floor(), hours_in.rem_euclid(1.0));
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "hours of a day")]
        let first = first.rem_euclid(24.0) as usize;
        let (mut vehicles, mut windows) = (0.0, 0.0);
        for day in 0..7_u8 {
            for (hour, near) in [(first, 1.0 - share), ((first + 1) % 24, share)] {
                let weight = near * weight_of_day(day, at);
                let (sum, count) = self.hours[usize::from(day) * 24 + hour];
                vehicles += weight * f64::from(sum);
                windows += weight * f64::from(count);
            }
        }
        (windows > 1e-3).then(|| vehicles / windows)
    }

    /// How many vehicles are to be expected in the window so many windows ahead of `step`; `None` if nothing was counted
    /// in the last half hour.
    #[must_use]
    pub fn forecast(&self, step: i64, now: Slot, ahead: i64, target: Slot) -> Option<u16> {
        let (mut vehicles, mut expected, mut windows) = (0.0, 0.0, 0.0);
        for back in 0..PRESENT {
            let at = step - back as i64;
            let is_kept = at <= self.newest && at > self.newest - RECENT as i64;
            let count = if is_kept { self.recent[place(at)] } else { NONE };
            if count != NONE {
                let bin = (usize::from(now.bin) + BINS_PER_DAY - back) % BINS_PER_DAY;
                let slot = Slot { bin: u16::try_from(bin).expect("of a day"), ..now };
                vehicles += f64::from(count);
                expected += self.usual(slot).unwrap_or(f64::from(count));
                windows += 1.0;
            }
        }
        if windows == 0.0 {
            return None;
        }
        let Some(usual) = self.usual(target) else { return Some(rounded(vehicles / windows)) };
        let ratio = (vehicles + SHRINK) / (expected + SHRINK);
        #[expect(clippy::cast_precision_loss, reason = "a few windows")]
        let worth = 0.5_f64.powf(ahead as f64 / HALF_LIFE);
        Some(rounded(usual * (1.0 + (ratio - 1.0) * worth)))
    }
}

fn place(step: i64) -> usize {
    usize::try_from(step.rem_euclid(RECENT as i64)).expect("a remainder")
}

fn rounded(vehicles: f64) -> u16 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative")]
    counted(vehicles.round().max(0.0) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = BINS_PER_DAY as i64;
    /// Monday 2026-01-05, days since the epoch.
    const MONDAY: i32 = 20_458;

    fn slot(step: i64) -> Slot {
        let date = i32::try_from(step.div_euclid(DAY)).expect("small");
        let bin = u16::try_from(step.rem_euclid(DAY)).expect("of a day");
        Slot { date: MONDAY + date, day: u8::try_from(date.rem_euclid(7)).expect("of a week"), bin }
    }

    /// Two rush hours on weekdays; `level` is the day's.
    fn vehicles(step: i64, level: f64) -> u16 {
        let hour = step.rem_euclid(DAY) as f64 / 12.0;
        let rush = |at: f64| (-((hour - at) / 1.5).powi(2)).exp();
        let noise = ((step * 7_919) % 1_009) as f64 / 1_009.0 - 0.5;
        rounded(level * (20.0 + 150.0 * (rush(8.0) + rush(17.0)) + 10.0 * noise))
    }

    #[test]
    fn on_a_busier_day_more_are_expected_and_the_last_count_errs_more() {
        let mut volumes = Volumes::default();
        (0..10 * DAY).for_each(|step| volumes.put(step, slot(step), vehicles(step, 1.0)));
        let (mut error, mut last_error) = (0, 0);
        for step in 10 * DAY..11 * DAY {
            volumes.put(step, slot(step), vehicles(step, 1.3));
            let truth = i32::from(vehicles(step + 6, 1.3));
            let forecast = volumes.forecast(step, slot(step), 6, slot(step + 6)).expect("counts");
            error += (i32::from(forecast) - truth).abs();
            last_error += (i32::from(vehicles(step, 1.3)) - truth).abs();
        }
        assert!(error * 3 < last_error * 2, "{error} against {last_error}");
    }

    #[test]
    fn a_corrected_count_is_as_if_it_had_been_right_at_once() {
        let (mut volumes, mut right) = (Volumes::default(), Volumes::default());
        for (step, vehicles) in [(100, 7), (101, 9), (100, 8)] {
            volumes.put(step, slot(step), vehicles);
        }
        for (step, vehicles) in [(100, 8), (101, 9)] {
            right.put(step, slot(step), vehicles);
        }
        assert_eq!(volumes, right);
        // Too late.
        volumes.put(80, slot(80), 5_000);
        assert_eq!(volumes, right);
    }

    #[test]
    fn without_a_recent_count_nothing_is_expected() {
        let mut volumes = Volumes::default();
        assert_eq!(volumes.forecast(100, slot(100), 3, slot(103)), None);
        volumes.put(100, slot(100), 7);
        assert_eq!(volumes.forecast(100, slot(100), 3, slot(103)), Some(7));
        // Far from any hour that was counted: as lately.
        assert_eq!(volumes.forecast(100, slot(100), 80, slot(180)), Some(7));
        assert_eq!(volumes.forecast(106, slot(106), 3, slot(109)), None);
        assert_eq!(counted(u64::MAX), 65_534);
    }
}
