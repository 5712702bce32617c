//! Local time: which date, day and five minutes a window belongs to.

use std::collections::BTreeSet;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::STEP_MS;

/// Sunday, as which holidays count.
const SUNDAY: u8 = 6;

/// The clock on the wall, and the days that are no working days though their weekday says so.
#[derive(Debug, Clone)]
pub struct LocalTime {
    pub zone: TimeZone,
    pub holidays: BTreeSet<Date>,
}

impl From<TimeZone> for LocalTime {
    fn from(zone: TimeZone) -> Self {
        Self { zone, holidays: BTreeSet::new() }
    }
}

/// Five minutes of a local date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Days since the epoch.
    pub date: i32,
    /// Monday is 0; holidays are Sundays.
    pub day: u8,
    /// Below 288.
    pub bin: u16,
}

impl Slot {
    /// Where the window that ends at `step` × 5 min after the epoch belongs.
    #[must_use]
    pub fn of(step: i64, time: &LocalTime) -> Self {
        let start = Timestamp::from_millisecond((step - 1) * STEP_MS).unwrap_or(Timestamp::UNIX_EPOCH);
        let local = time.zone.to_datetime(start);
        let minutes = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        Self { bin: minutes / 5, ..Self::midnight(local.date(), time) }
    }

    fn midnight(date: Date, time: &LocalTime) -> Self {
        let weekday = date.weekday().to_monday_zero_offset().unsigned_abs();
        let day = if time.holidays.contains(&date) { SUNDAY } else { weekday };
        let days = (date - jiff::civil::date(1970, 1, 1)).get_days();
        Self { date: days, day, bin: 0 }
    }

    /// The same time of the day before.
    #[must_use]
    fn yesterday(self, time: &LocalTime) -> Self {
        let date = jiff::civil::date(1970, 1, 1).saturating_add(jiff::Span::new().days(self.date - 1));
        Self { bin: self.bin, ..Self::midnight(date, time) }
    }

    /// The hour of the week, below [`HOURS`](super::profile::HOURS).
    #[must_use]
    pub fn hour_of_week(self) -> usize {
        usize::from(self.day) * 24 + usize::from(self.bin) / 12
    }

    #[must_use]
    pub fn is_weekend(self) -> bool {
        self.day >= 5
    }
}

/// The times that a forecast speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// Windows ahead.
    pub steps: i64,
    pub target: Slot,
    pub halfway: Slot,
    /// A quarter of an hour after the target.
    pub after: Slot,
    /// A day before the target.
    pub yesterday: Slot,
}

/// The times that forecasts made at a window's end speak of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    pub step: i64,
    pub now: Slot,
    pub yesterday: Slot,
    /// By horizon.
    pub ahead: Vec<Ahead>,
}

impl Calendar {
    /// `horizons`: windows ahead.
    #[must_use]
    pub fn at(step: i64, horizons: &[i64], time: &LocalTime) -> Self {
        let now = Slot::of(step, time);
        let ahead = horizons.iter().map(|steps| {
            let target = Slot::of(step + steps, time);
            Ahead {
                steps: *steps,
                target,
                halfway: Slot::of(step + steps / 2, time),
                after: Slot::of(step + steps + 3, time),
                yesterday: target.yesterday(time),
            }
        });
        Self { step, now, yesterday: now.yesterday(time), ahead: ahead.collect() }
    }

    /// The hour since the epoch that holds the window.
    #[must_use]
    pub fn epoch_hour(&self) -> i64 {
        epoch_hour(self.step)
    }
}

/// The hour since the epoch that holds the window that ends at `step`.
#[must_use]
pub fn epoch_hour(step: i64) -> i64 {
    ((step - 1) * STEP_MS).div_euclid(3_600_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str, time: &LocalTime) -> Slot {
        let start: Timestamp = text.parse().expect("a time");
        Slot::of(start.as_millisecond() / STEP_MS + 1, time)
    }

    #[test]
    fn slots_follow_the_local_clock_through_daylight_saving() {
        let time = LocalTime::from(TimeZone::get("America/Los_Angeles").expect("bundled"));
        assert_eq!(at("2026-01-05T16:00:00Z", &time), Slot { date: 20_458, day: 0, bin: 96 });
        assert_eq!(at("2026-07-06T15:00:00Z", &time), Slot { date: 20_640, day: 0, bin: 96 });
        assert_eq!(at("2026-01-04T23:55:00Z", &TimeZone::UTC.into()), Slot { date: 20_457, day: 6, bin: 287 });
    }

    #[test]
    fn holidays_are_sundays_and_yesterday_is_the_same_time_of_day() {
        let time = LocalTime { zone: TimeZone::UTC, holidays: BTreeSet::from([jiff::civil::date(2026, 1, 5)]) };
        let monday = at("2026-01-05T08:00:00Z", &time);
        assert!(monday.is_weekend() && monday.hour_of_week() == 6 * 24 + 8);
        let tuesday = at("2026-01-06T08:00:00Z", &time);
        assert_eq!((tuesday.day, tuesday.yesterday(&time)), (1, monday));
    }
}
