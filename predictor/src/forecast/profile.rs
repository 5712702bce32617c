//! Mean speed by local time of week: a day differs from the same day a week ago less than from yesterday.
//!
//! Sums are kept per five minutes and day of the week, so that a reading costs O(1). The profile at a time is a
//! weighted mean over neighbouring five minutes (triangular kernel of ±4) and days: same day of the week 3, same
//! kind (weekday or weekend) 1, other kind 0.05.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::STEP_MS;

pub const BINS_PER_HOUR: usize = 12;
const BINS_PER_DAY: i64 = 288;
pub const HOURS: usize = 168;
const KERNEL: i64 = 4;

/// A five-minute bin of the local week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Monday is 0.
    day: u8,
    /// Of the day.
    bin: u16,
}

impl Slot {
    /// The bin of the window that ends at `step` × 5 min after the epoch.
    #[must_use]
    pub fn of(step: i64, zone: &TimeZone) -> Self {
        let start = Timestamp::from_millisecond((step - 1) * STEP_MS).unwrap_or(Timestamp::UNIX_EPOCH);
        let local = zone.to_datetime(start);
        let minutes = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        Self { day: local.weekday().to_monday_zero_offset().unsigned_abs(), bin: minutes / 5 }
    }

    /// The hour of the week, below [`HOURS`].
    #[must_use]
    pub fn hour(self) -> usize {
        usize::from(self.day) * 24 + usize::from(self.bin) / BINS_PER_HOUR
    }
}

/// The readings of one hour of the week.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Hour {
    /// Sum and number of speeds in each five minutes, of all weeks.
    pub bins: [(f32, f32); BINS_PER_HOUR],
    /// The newest of these hours: hours since the epoch.
    pub newest: i64,
    /// Sum and number of speeds in that one.
    pub sum: f32,
    pub count: f32,
}

/// Mean speed of one segment by time of week.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    hours: Vec<Option<Box<Hour>>>,
}

impl Default for Profile {
    fn default() -> Self {
        Self { hours: vec![None; HOURS] }
    }
}

impl Profile {
    /// Adds a speed; `epoch_hour` counts hours since the epoch.
    pub fn add(&mut self, slot: Slot, epoch_hour: i64, speed: f32) {
        self.change(slot, epoch_hour, speed, 1.0);
    }

    /// Takes a speed that was added back out.
    pub fn remove(&mut self, slot: Slot, epoch_hour: i64, speed: f32) {
        self.change(slot, epoch_hour, -speed, -1.0);
    }

    fn change(&mut self, slot: Slot, epoch_hour: i64, speed: f32, count: f32) {
        let hour = self.hours[slot.hour()].get_or_insert_default();
        let bin = &mut hour.bins[usize::from(slot.bin) % BINS_PER_HOUR];
        bin.0 += speed;
        bin.1 += count;
        if epoch_hour > hour.newest {
            (hour.newest, hour.sum, hour.count) = (epoch_hour, 0.0, 0.0);
        }
        if epoch_hour == hour.newest {
            hour.sum += speed;
            hour.count += count;
        }
    }

    /// The mean speed to be expected, km/h; `None` without a reading near that time of day.
    #[must_use]
    pub fn at(&self, slot: Slot) -> Option<f64> {
        let (mut sum, mut weight) = (0.0, 0.0);
        for day in 0..7_u8 {
            let of_day = match (day == slot.day, (day >= 5) == (slot.day >= 5)) {
                (true, _) => 3.0,
                (false, true) => 1.0,
                (false, false) => 0.05,
            };
            for offset in -KERNEL..=KERNEL {
                let bin = i64::from(day) * BINS_PER_DAY + i64::from(slot.bin) + offset;
                let bin = usize::try_from(bin.rem_euclid(7 * BINS_PER_DAY)).expect("a remainder is not negative");
                let Some(hour) = &self.hours[bin / BINS_PER_HOUR] else { continue };
                let (speeds, count) = hour.bins[bin % BINS_PER_HOUR];
                #[expect(clippy::cast_precision_loss, reason = "at most 5")]
                let w = of_day * (KERNEL + 1 - offset.abs()) as f64;
                sum += w * f64::from(speeds);
                weight += w * f64::from(count);
            }
        }
        (weight > 0.0).then(|| sum / weight)
    }

    /// The mean over the hours since `epoch_hour`, itself included, km/h; at most a week back.
    #[must_use]
    pub fn mean_since(&self, epoch_hour: i64) -> Option<f64> {
        let (mut sum, mut count) = (0.0, 0.0);
        for hour in self.hours.iter().flatten().filter(|hour| hour.newest >= epoch_hour) {
            sum += f64::from(hour.sum);
            count += f64::from(hour.count);
        }
        (count > 0.0).then(|| sum / count)
    }

    #[must_use]
    pub fn hour(&self, hour_of_week: usize) -> Option<&Hour> {
        self.hours[hour_of_week].as_deref()
    }

    /// Puts an hour back as it was.
    pub fn restore(&mut self, hour_of_week: usize, hour: Option<Hour>) {
        self.hours[hour_of_week] = hour.map(Box::new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Monday 2026-01-05 00:00 UTC, in windows.
    const MONDAY: i64 = 1_767_571_200_000 / STEP_MS;

    fn add(profile: &mut Profile, step: i64, speed: f32) {
        profile.add(Slot::of(step, &TimeZone::UTC), (step - 1) * STEP_MS / 3_600_000, speed);
    }

    #[test]
    fn slots_follow_the_local_clock_through_daylight_saving() {
        let zone = TimeZone::get("America/Los_Angeles").expect("bundled");
        let at = |text: &str| {
            let start: Timestamp = text.parse().expect("a time");
            Slot::of(start.as_millisecond() / STEP_MS + 1, &zone)
        };
        assert_eq!(at("2026-01-05T16:00:00Z"), Slot { day: 0, bin: 96 });
        assert_eq!(at("2026-07-06T15:00:00Z"), Slot { day: 0, bin: 96 });
        assert_eq!(Slot::of(MONDAY, &TimeZone::UTC), Slot { day: 6, bin: 287 });
    }

    #[test]
    fn the_same_day_of_the_week_counts_most_and_the_other_kind_least() {
        let mut profile = Profile::default();
        let noon = MONDAY + 145;
        assert_eq!(profile.at(Slot::of(noon, &TimeZone::UTC)), None);
        add(&mut profile, noon, 30.0);
        add(&mut profile, noon + 288, 60.0);
        add(&mut profile, noon + 5 * 288, 110.0);
        let monday = profile.at(Slot::of(noon + 7 * 288, &TimeZone::UTC)).expect("readings");
        assert!((monday - (3.0 * 30.0 + 60.0 + 0.05 * 110.0) / 4.05).abs() < 1e-9, "{monday}");
        let sunday = profile.at(Slot::of(noon + 6 * 288, &TimeZone::UTC)).expect("readings");
        assert!((sunday - (0.05 * 90.0 + 110.0) / 1.1).abs() < 1e-9, "{sunday}");
        assert_eq!(profile.at(Slot::of(noon + 20, &TimeZone::UTC)), None);
    }

    #[test]
    fn what_is_taken_out_was_never_there() {
        let (mut profile, mut other) = (Profile::default(), Profile::default());
        add(&mut other, MONDAY + 10, 50.0);
        add(&mut profile, MONDAY + 10, 50.0);
        add(&mut profile, MONDAY + 11, 70.0);
        profile.remove(Slot::of(MONDAY + 11, &TimeZone::UTC), (MONDAY + 10) * STEP_MS / 3_600_000, 70.0);
        assert_eq!(profile, other);
        assert_eq!(profile.mean_since(MONDAY * STEP_MS / 3_600_000), Some(50.0));
        assert_eq!(profile.mean_since((MONDAY + 12) * STEP_MS / 3_600_000), None);
    }
}
