//! Which days stay, pure.
//!
//! A day stays for so long, counted back from the newest one there is rows of, but not from one in the future: a
//! replay of an old year is kept like the present, and a pipeline that stands still loses nothing.

use std::time::Duration;

pub(super) const DAY_MS: i64 = 86_400_000;

/// A day, UTC, counted from 1970-01-01.
pub(super) type Day = i64;

pub(super) fn day_of(time_ms: i64) -> Day {
    time_ms.div_euclid(DAY_MS)
}

/// The first day that stays.
pub(super) fn first_kept(newest_ms: Option<i64>, now_ms: i64, kept: Option<Duration>) -> Option<Day> {
    let days = i64::try_from(kept?.as_secs().div_ceil(86_400)).unwrap_or(i64::MAX / 2);
    Some(day_of(newest_ms?.min(now_ms)) - days)
}

/// `YYYY-MM-DD`.
pub(super) fn iso(day: Day) -> String {
    let days = i32::try_from(day).unwrap_or(0);
    let date = jiff::civil::date(1970, 1, 1).checked_add(jiff::Span::new().days(days));
    date.map_or_else(|_| "9999-12-31".to_owned(), |date| date.to_string())
}

/// The day that [`iso`] wrote.
#[cfg(test)]
pub(super) fn parse_iso(text: &str) -> Option<Day> {
    let date: jiff::civil::Date = text.parse().ok()?;
    Some(i64::from(date.since(jiff::civil::date(1970, 1, 1)).ok()?.get_days()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_760_000_000_000;

    #[test]
    fn days() {
        assert_eq!((day_of(0), day_of(-1), day_of(DAY_MS - 1), day_of(DAY_MS)), (0, -1, 0, 1));
        for day in [-1, 0, 59, 15_000, 20_369] {
            assert_eq!(parse_iso(&iso(day)), Some(day), "{}", iso(day));
        }
        assert_eq!(iso(20_369), "2025-10-08");
    }

    #[test]
    fn kept_days_count_back_from_the_newest_but_not_from_the_future() {
        let month = Some(Duration::from_secs(30 * 86_400));
        let today = day_of(NOW_MS);
        assert_eq!(first_kept(None, NOW_MS, month), None);
        assert_eq!(first_kept(Some(NOW_MS), NOW_MS, None), None);
        assert_eq!(first_kept(Some(NOW_MS), NOW_MS, month), Some(today - 30));
        assert_eq!(first_kept(Some(NOW_MS + 40 * DAY_MS), NOW_MS, month), Some(today - 30));
        assert_eq!(first_kept(Some(NOW_MS - 4000 * DAY_MS), NOW_MS, month), Some(today - 4030));
        assert_eq!(first_kept(Some(NOW_MS), NOW_MS, Some(Duration::from_secs(86_401))), Some(today - 2));
    }
}
