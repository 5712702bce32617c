//! A sensor reading, from whatever dialect it came in.
//!
//! [`Normaliser::parse`] either accepts a payload as the [`Event`] it means or says what is wrong with
//! it: nothing is clamped, guessed or repaired. `canonical.rs` recognises the canonical form quickly
//! and `dialect.rs` reads everything else; both agree on every canonical event.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::ser::{CompactFormatter, Formatter as _};

use super::{canonical, dialect};

/// The longest segment id, characters.
pub const SEGMENT_ID_MAX: usize = 64;
/// The longest event id, characters.
pub const EVENT_ID_MAX: usize = 128;
/// How far an event's time may be ahead of its record's own timestamp, ms.
pub const AHEAD_MS: i64 = 5 * 60 * 1000;
/// km/h in one mph: the international mile.
pub const KMH_PER_MPH: f64 = 1.609_344;

/// Event times that are valid, epoch ms (2001-09-09 to 2286-11-20).
pub(super) const TIMESTAMP_MS: (i64, i64) = (1_000_000_000_000, 9_999_999_999_999);
pub(super) const SPEED_KMH: (f64, f64) = (0.0, 200.0);
/// Of a count and of a flow per hour alike.
pub(super) const VOLUME: (f64, f64) = (0.0, 10_000.0);
pub(super) const OCCUPANCY_PERCENT: (f64, f64) = (0.0, 100.0);
pub(super) const LATITUDE: (f64, f64) = (-90.0, 90.0);
pub(super) const LONGITUDE: (f64, f64) = (-180.0, 180.0);
pub(super) const QUALITY: (f64, f64) = (0.0, 1.0);
pub(super) const SOURCES: [&str; 5] = ["SENSOR", "CAMERA", "PROBE", "INCIDENT_REPORT", "WEATHER_STATION"];
/// The source of an event that names none.
pub(super) const DEFAULT_SOURCE: &str = SOURCES[0];
/// The quality of an event that states none.
pub(super) const DEFAULT_QUALITY: f64 = 1.0;

/// A position, WGS 84 degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coordinates {
    pub latitude: f64,
    pub longitude: f64,
}

/// How much traffic a reading saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Volume {
    /// Vehicles counted in the reading's interval, 0-10,000.
    Count(u32),
    /// A flow rate, 0-10,000 vehicles per hour.
    PerHour(f64),
}

/// A valid event, normalised: km/h, epoch ms, percent.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<'a> {
    /// 1-128 characters of `A-Za-z0-9_-`.
    pub event_id: Cow<'a, str>,
    /// 1-64 characters of `A-Za-z0-9_-`.
    pub segment_id: Cow<'a, str>,
    /// Event time, epoch ms.
    pub timestamp_ms: i64,
    /// 0-200 km/h; 0 is a stopped road, `None` a missing value.
    pub speed_kmh: Option<f64>,
    pub volume: Option<Volume>,
    /// 0-100 %.
    pub occupancy_percent: Option<f64>,
    pub coordinates: Option<Coordinates>,
    /// `SENSOR`, `CAMERA`, `PROBE`, `INCIDENT_REPORT` or `WEATHER_STATION`.
    pub source: &'static str,
    /// 0-1.
    pub quality_score: f64,
}

/// Why an event is no event: `field: what is wrong with it`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct Invalid {
    /// The field's path in the payload; `payload` where it is no JSON object at all.
    pub field: &'static str,
    pub problem: Cow<'static, str>,
}

impl Invalid {
    pub(super) fn new(field: &'static str, problem: impl Into<Cow<'static, str>>) -> Self {
        Self { field, problem: problem.into() }
    }
}

/// The unit of a bare `speed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpeedUnit {
    #[default]
    Kmh,
    Mph,
}

impl SpeedUnit {
    /// A speed in this unit as km/h.
    #[must_use]
    pub fn to_kmh(self, speed: f64) -> f64 {
        match self {
            Self::Kmh => speed,
            Self::Mph => speed * KMH_PER_MPH,
        }
    }
}

/// Turns a payload of any dialect into an [`Event`].
#[derive(Debug, Clone)]
pub struct Normaliser {
    /// The unit of a bare `speed`.
    pub speed_unit: SpeedUnit,
    /// The zone of a time without one.
    pub time_zone: jiff::tz::TimeZone,
}

impl Default for Normaliser {
    fn default() -> Self {
        Self { speed_unit: SpeedUnit::Kmh, time_zone: jiff::tz::TimeZone::UTC }
    }
}

impl Normaliser {
    /// Reads one event, borrowing from `value`.
    ///
    /// # Errors
    /// [`Invalid`] where `value` is no JSON object, a field has the wrong type or leaves its range, or
    /// segment or time are missing.
    pub fn parse<'a>(&self, value: &'a [u8]) -> Result<Event<'a>, Invalid> {
        self.parse_all(value).map(|(event, _)| event)
    }

    /// The same, and whether the event says all that `value` says; `None` where that is not known from reading it.
    ///
    /// # Errors
    /// As [`Normaliser::parse`].
    pub fn parse_all<'a>(&self, value: &'a [u8]) -> Result<(Event<'a>, Option<bool>), Invalid> {
        let text = std::str::from_utf8(value)
            .map_err(|e| Invalid::new("payload", format!("no UTF-8 after byte {}", e.valid_up_to())))?;
        match canonical::scan(text, self.speed_unit) {
            Some((event, says_all)) => Ok((event, Some(says_all))),
            None => dialect::parse(text, self).map(|event| (event, None)),
        }
    }
}

impl Event<'_> {
    /// Rejects an event from the future, judged by its record's own timestamp and not by the clock, so
    /// that reading the log again decides the same.
    ///
    /// # Errors
    /// [`Invalid`] where the event's time is more than [`AHEAD_MS`] ahead of the record's.
    pub fn check_not_ahead(&self, record_timestamp_ms: i64) -> Result<(), Invalid> {
        let ahead_ms = self.timestamp_ms.saturating_sub(record_timestamp_ms);
        if ahead_ms <= AHEAD_MS {
            return Ok(());
        }
        Err(Invalid::new(
            "timestamp",
            format!(
                "{} is {ahead_ms} ms ahead of its record's timestamp {record_timestamp_ms}, at most {AHEAD_MS} ms allowed",
                self.timestamp_ms
            ),
        ))
    }

    /// Appends the event in its canonical form; a flow rate goes to the optional field `volume_vph`.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        debug_assert!(is_id(&self.event_id) && is_id(&self.segment_id), "ids need no escaping");
        out.extend_from_slice(b"{\"event_id\":\"");
        out.extend_from_slice(self.event_id.as_bytes());
        out.extend_from_slice(b"\",\"segment_id\":\"");
        out.extend_from_slice(self.segment_id.as_bytes());
        out.extend_from_slice(b"\",\"timestamp\":");
        out.extend_from_slice(itoa::Buffer::new().format(self.timestamp_ms).as_bytes());
        write_optional(out, b",\"speed\":", self.speed_kmh);
        match self.volume {
            Some(Volume::Count(count)) => {
                out.extend_from_slice(b",\"volume\":");
                out.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
            }
            Some(Volume::PerHour(flow)) => write_optional(out, b",\"volume_vph\":", Some(flow)),
            None => {}
        }
        write_optional(out, b",\"occupancy\":", self.occupancy_percent);
        if let Some(at) = self.coordinates {
            write_optional(out, b",\"coordinates\":{\"latitude\":", Some(at.latitude));
            write_optional(out, b",\"longitude\":", Some(at.longitude));
            out.push(b'}');
        }
        out.extend_from_slice(b",\"source\":\"");
        out.extend_from_slice(self.source.as_bytes());
        out.push(b'"');
        write_optional(out, b",\"quality_score\":", Some(self.quality_score));
        out.push(b'}');
    }
}

fn write_optional(out: &mut Vec<u8>, name: &[u8], value: Option<f64>) {
    if let Some(value) = value {
        out.extend_from_slice(name);
        CompactFormatter.write_f64(out, value).expect("a Vec takes every write");
    }
}

/// Whether a string is an id as the schemas have them: one or more of `A-Za-z0-9_-`.
pub(super) fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_id_byte)
}

pub(super) const fn is_id_byte(byte: u8) -> bool {
    ID_BYTES[byte as usize]
}

/// By byte: one look instead of five comparisons.
const ID_BYTES: [bool; 256] = {
    let (mut table, mut byte) = ([false; 256], 0_u8);
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        byte += 1;
    }
    table
};

/// Whether `value` lies in a closed range; false for NaN.
pub(super) fn within(value: f64, (low, high): (f64, f64)) -> bool {
    value >= low && value <= high
}
