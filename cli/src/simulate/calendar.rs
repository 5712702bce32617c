//! Traffic days: from 03:00 to 03:00 in Los Angeles, when the roads are as empty as they get.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;

/// Where the roads are.
pub const ZONE: &str = "America/Los_Angeles";
const BEGIN_HOUR: i8 = 3;
const HOUR_MS: f64 = 3_600_000.0;

/// The traffic day that begins at 03:00 of a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Day {
    date: Date,
    /// Epoch ms.
    pub begin_ms: i64,
    /// Epoch ms; 23 or 25 hours later where the clocks change.
    pub end_ms: i64,
}

impl Day {
    /// The day that holds this time, epoch ms.
    pub fn of(at_ms: i64) -> Self {
        let local = local(at_ms);
        let date = local.date();
        Self::at(if local.hour() < BEGIN_HOUR { date.yesterday().expect("a date of this age") } else { date })
    }

    fn at(date: Date) -> Self {
        let tomorrow = date.tomorrow().expect("a date of this age");
        Self { date, begin_ms: begin_ms(date), end_ms: begin_ms(tomorrow) }
    }

    pub fn next(self) -> Self {
        Self::at(self.date.tomorrow().expect("a date of this age"))
    }

    pub fn previous(self) -> Self {
        Self::at(self.date.yesterday().expect("a date of this age"))
    }

    /// The days that a stretch of time touches.
    pub fn span(from_ms: i64, until_ms: i64) -> impl Iterator<Item = Self> {
        std::iter::successors(Some(Self::of(from_ms)), |day| Some(day.next()))
            .take_while(move |day| day.begin_ms < until_ms)
    }

    /// Days since 1970-01-01: the number that draws are made with.
    pub fn number(self) -> i64 {
        self.begin_ms.div_euclid(86_400_000)
    }

    pub fn weekday(self) -> Weekday {
        self.date.weekday()
    }

    /// The local hour, 3-27. On the night in which the clocks change the last hour is off by one.
    pub fn hour(self, at_ms: i64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a day in milliseconds")]
        let passed_ms = (at_ms - self.begin_ms) as f64;
        f64::from(BEGIN_HOUR) + passed_ms / HOUR_MS
    }
}

/// What the clocks there show.
pub fn local(at_ms: i64) -> DateTime {
    zone().to_datetime(Timestamp::from_millisecond(at_ms).expect("a time of this age"))
}

fn zone() -> TimeZone {
    TimeZone::get(ZONE).expect("the zone is built in")
}

fn begin_ms(date: Date) -> i64 {
    let begin = zone().to_timestamp(date.at(BEGIN_HOUR, 0, 0, 0)).expect("a date of this age");
    begin.as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().expect("a time").as_millisecond()
    }

    #[test]
    fn a_day_goes_from_three_to_three() {
        let day = Day::of(ms("2026-01-06T10:59:59Z"));
        assert_eq!((day.begin_ms, day.end_ms), (ms("2026-01-05T11:00:00Z"), ms("2026-01-06T11:00:00Z")));
        assert_eq!(day.weekday(), Weekday::Monday);
        assert_eq!((day.next().previous(), Day::of(day.end_ms)), (day, day.next()));
        assert!((day.hour(ms("2026-01-05T16:30:00Z")) - 8.5).abs() < 1e-9);
        assert_eq!(Day::span(day.begin_ms, day.end_ms + 1).count(), 2);
    }

    #[test]
    fn clocks_change_between_two_days() {
        let hours = |text| (Day::of(ms(text)).end_ms - Day::of(ms(text)).begin_ms) / 3_600_000;
        assert_eq!(hours("2026-03-07T20:00:00Z"), 23);
        assert_eq!(hours("2026-03-08T20:00:00Z"), 24);
        assert_eq!(hours("2026-10-31T20:00:00Z"), 25);
    }
}
