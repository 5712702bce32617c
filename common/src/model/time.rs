//! Times written as text.

use std::borrow::Cow;

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};

/// `YYYY-MM-DD`, then `T` or a space, then `HH:MM:SS` with or without a fraction and with or without a
/// zone (`Z`, `±HH`, `±HHMM`, `±HH:MM`), as epoch ms, cut to the millisecond. `zone` is the zone of a
/// time without one: of an ambiguous local hour the first, and a local time that the clocks skip is none.
pub(super) fn parse_time(text: &str, zone: &TimeZone) -> Result<i64, Cow<'static, str>> {
    let Some((local, offset)) = split(text.as_bytes()) else {
        return Err(Cow::Borrowed("no time of the form YYYY-MM-DDTHH:MM:SS[.fraction][zone]"));
    };
    let local = local.datetime().ok_or("no such date or time of day")?;
    match offset {
        Some(offset_ms) => Ok(utc_ms(local)? - offset_ms),
        None if *zone == TimeZone::UTC => utc_ms(local),
        None => local_ms(local, zone),
    }
}

/// A local time as epoch ms: of an ambiguous hour the first; one that the clocks skip is an error.
pub(super) fn local_ms(local: DateTime, zone: &TimeZone) -> Result<i64, Cow<'static, str>> {
    let offset = match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => offset,
        AmbiguousOffset::Gap { .. } => {
            let zone = zone.iana_name().unwrap_or("its zone");
            return Err(Cow::Owned(format!("{local} does not exist in {zone}: the clocks skip it")));
        }
    };
    Ok(utc_ms(local)? - i64::from(offset.seconds()) * 1000)
}

fn utc_ms(local: DateTime) -> Result<i64, Cow<'static, str>> {
    let timestamp = TimeZone::UTC.to_timestamp(local).map_err(|_| "outside the representable years")?;
    Ok(timestamp.as_millisecond())
}

/// A time as written, not yet checked.
struct Written {
    year: i16,
    month: i8,
    day: i8,
    hour: i8,
    minute: i8,
    second: i8,
    milliseconds: i32,
}

impl Written {
    fn datetime(self) -> Option<DateTime> {
        let Self { year, month, day, hour, minute, second, milliseconds } = self;
        DateTime::new(year, month, day, hour, minute, second, milliseconds * 1_000_000).ok()
    }
}

/// The local time and, if there is one, its offset from UTC in ms.
fn split(text: &[u8]) -> Option<(Written, Option<i64>)> {
    const SHAPE: &[u8; 19] = b"0000-00-00T00:00:00";
    let (stem, rest) = text.split_at_checked(SHAPE.len())?;
    let fits = SHAPE.iter().zip(stem).all(|(shape, byte)| match shape {
        b'0' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        separator => byte == separator,
    });
    if !fits {
        return None;
    }
    let (milliseconds, rest) = fraction(rest)?;
    let two = |at: usize| two_digits(stem, at);
    let written = Written {
        year: i16::from(two(0)) * 100 + i16::from(two(2)),
        month: two(5),
        day: two(8),
        hour: two(11),
        minute: two(14),
        second: two(17),
        milliseconds,
    };
    Some((written, offset_ms(rest)?))
}

/// The number that two ASCII digits spell.
fn two_digits(text: &[u8], at: usize) -> i8 {
    let digit = |byte: u8| (byte - b'0').cast_signed();
    digit(text[at]) * 10 + digit(text[at + 1])
}

/// Milliseconds of a fraction of a second, and what follows it.
fn fraction(text: &[u8]) -> Option<(i32, &[u8])> {
    let Some(digits) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 || count > 9 {
        return None;
    }
    let (fraction, rest) = digits.split_at(count);
    let padded = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(3);
    Some((padded.fold(0, |number, digit| number * 10 + i32::from(digit - b'0')), rest))
}

/// `Some(None)` without a zone, `None` if it is malformed.
fn offset_ms(text: &[u8]) -> Option<Option<i64>> {
    let (sign, digits) = match text {
        [] => return Some(None),
        b"Z" | b"z" => return Some(Some(0)),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes): (&[u8], &[u8]) = match digits {
        [_, _] => (digits, b"00"),
        [_, _, _, _] => digits.split_at(2),
        [_, _, b':', _, _] => (&digits[..2], &digits[3..]),
        _ => return None,
    };
    if !hours.iter().chain(minutes).all(u8::is_ascii_digit) {
        return None;
    }
    let (hours, minutes) = (i64::from(two_digits(hours, 0)), i64::from(two_digits(minutes, 0)));
    (hours < 24 && minutes < 60).then_some(Some(sign * (hours * 60 + minutes) * 60_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn los_angeles() -> TimeZone {
        TimeZone::get("America/Los_Angeles").expect("the zone is bundled")
    }

    #[test]
    fn reads_every_form() {
        // 2025-10-05T14:30:00Z
        let noon = 1_759_674_600_000;
        let cases = [
            ("2025-10-05T14:30:00", noon),
            ("2025-10-05 14:30:00", noon),
            ("2025-10-05T14:30:00Z", noon),
            ("2025-10-05T14:30:00.6", noon + 600),
            ("2025-10-05T14:30:00.600000", noon + 600),
            ("2025-10-05T14:30:00.123999999Z", noon + 123),
            ("2025-10-05T07:30:00-07:00", noon),
            ("2025-10-05T16:30:00.001+0200", noon + 1),
            ("2025-10-05 16:30:00+02", noon),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_time(text, &TimeZone::UTC), Ok(expected), "{text}");
        }
    }

    #[test]
    fn rejects_what_is_no_time() {
        let cases = [
            "",
            "2025-10-05",
            "2025-10-05T14:30",
            "2025-13-05T14:30:00",
            "2025-02-29T14:30:00",
            "2025-10-05T24:00:00",
            "2025-10-05T14:30:60",
            "2025-10-05T14:30:00.",
            "2025-10-05T14:30:00.1234567890",
            "2025-10-05T14:30:00+2",
            "2025-10-05T14:30:00+24:00",
            "2025-10-05T14:30:00 Z",
            "2025-10-05T14:30:00Zx",
            "05/10/2025 14:30:00",
            "२०२५-10-05T14:30:00",
        ];
        for text in cases {
            assert!(parse_time(text, &TimeZone::UTC).is_err(), "{text}");
        }
    }

    #[test]
    fn a_zone_applies_only_to_a_time_without_one() {
        let zone = los_angeles();
        assert_eq!(parse_time("2012-03-01 00:00:00", &zone), Ok(1_330_588_800_000));
        assert_eq!(parse_time("2012-03-01 00:00:00Z", &zone), Ok(1_330_560_000_000));
    }

    #[test]
    fn clock_changes() {
        let zone = los_angeles();
        // 01:30 came twice on 2012-11-04: first in PDT (UTC-7), then in PST.
        assert_eq!(parse_time("2012-11-04T01:30:00", &zone), parse_time("2012-11-04T08:30:00Z", &zone));
        // 02:30 never came on 2012-03-11.
        let problem = parse_time("2012-03-11T02:30:00", &zone).expect_err("there is no such local time");
        assert_eq!(problem, "2012-03-11T02:30:00 does not exist in America/Los_Angeles: the clocks skip it");
    }
}
