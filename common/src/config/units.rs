//! Values with a unit, as people write them: durations ("30s", "15m", "30d") and sizes ("128 MB").

use std::fmt;
use std::time::Duration;

use jiff::{Span, SpanRelativeTo};
use serde::de::{Deserialize, Deserializer, Error, Visitor};

const DURATIONS: &str = "allowed: a duration with its unit, such as 100ms, 30s, 15m, 24h, 30d";
const SIZES: &str = "allowed: bytes, or a size with its unit, such as 64 MB or 64 MiB";

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).ok_or_else(|| Error::custom(DURATIONS))
}

pub(super) fn optional_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

/// A duration, or "forever" as `None`.
pub(super) fn duration_or_forever<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text == "forever" {
        return Ok(None);
    }
    parse_duration(&text).map(Some).ok_or_else(|| Error::custom(format_args!("{DURATIONS}, or forever")))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let span: Span = text.parse().ok()?;
    span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?.try_into().ok()
}

/// A size in bytes: a number, or a number with a decimal (kB, MB, GB) or binary (KiB, MiB, GiB) unit.
pub(super) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct Size;
    impl Visitor<'_> for Size {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size")
        }

        fn visit_i64<E: Error>(self, bytes: i64) -> Result<u64, E> {
            u64::try_from(bytes).map_err(|_| E::custom(SIZES))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
            parse_size(text).ok_or_else(|| E::custom(SIZES))
        }
    }
    deserializer.deserialize_any(Size)
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// A duration as a person would write it, for messages.
pub(super) fn shown(duration: Duration) -> String {
    format!("{duration:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let s = Duration::from_secs;
        for (text, expected) in [
            ("100ms", Some(Duration::from_millis(100))),
            ("30s", Some(s(30))),
            ("15m", Some(s(900))),
            ("1h 30m", Some(s(5400))),
            ("30d", Some(s(30 * 86_400))),
            ("2 days", Some(s(2 * 86_400))),
            ("0s", Some(s(0))),
            ("30", None),
            ("", None),
            ("-5s", None),
            ("1 month", None),
            ("soon", None),
        ] {
            assert_eq!(parse_duration(text), expected, "{text:?}");
        }
    }

    #[test]
    fn sizes_are_decimal_or_binary() {
        for (text, expected) in [
            ("128 MB", Some(128_000_000)),
            ("64MiB", Some(64 << 20)),
            ("2 GiB", Some(2 << 30)),
            ("4096", Some(4096)),
            ("0 B", Some(0)),
            ("1.5 GB", None),
            ("-1", None),
            ("MB", None),
            ("10 mb", None),
            ("99999999999999 GB", None),
        ] {
            assert_eq!(parse_size(text), expected, "{text:?}");
        }
    }
}
