//! A sensor reading, from whatever dialect it came in.
//!
//! The canonical form is parsed borrowed, without allocating; everything else goes through `dialect.rs`.
//! An event is accepted as normalised or refused with the field that is wrong: nothing is clamped.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;

/// A position, WGS 84 degrees.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct Coordinates {
    pub latitude: f64,
    pub longitude: f64,
}

/// How much traffic a reading saw.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Volume {
    /// Vehicles counted in the reading's interval.
    Count(u32),
    /// A flow rate, vehicles per hour.
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

/// km/h in one mph: the international mile.
pub const KMH_PER_MPH: f64 = 1.609_344;

impl SpeedUnit {
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

/// An event this much ahead of its record's own timestamp is refused. Not of the wall clock: reading the
/// record again must decide the same.
pub const AHEAD_MS: i64 = 300_000;

/// The canonical form; any other field, and the payload is some dialect.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Canonical<'a> {
    #[serde(borrow)]
    event_id: Cow<'a, str>,
    #[serde(borrow)]
    segment_id: Cow<'a, str>,
    timestamp: i64,
    #[serde(default)]
    speed: Option<f64>,
    #[serde(default)]
    volume: Option<u32>,
    #[serde(default)]
    occupancy: Option<f64>,
    #[serde(default)]
    coordinates: Option<Coordinates>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    quality_score: f64,
    #[serde(default, rename = "metadata")]
    _metadata: Option<IgnoredAny>,
}

impl Normaliser {
    /// Parses one payload.
    ///
    /// # Errors
    /// [`Invalid`] names the field, its value and what is allowed.
    pub fn parse<'a>(&self, value: &'a [u8]) -> Result<Event<'a>, Invalid> {
        let Ok(found) = serde_json::from_slice::<Canonical<'a>>(value) else {
            return self.parse_dialect(value);
        };
        Event {
            event_id: id("event_id", found.event_id, 128)?,
            segment_id: id("segment_id", found.segment_id, 64)?,
            timestamp_ms: found.timestamp,
            speed_kmh: found.speed.map(|speed| self.speed_unit.to_kmh(speed)),
            volume: found.volume.map(Volume::Count),
            occupancy_percent: found.occupancy,
            coordinates: found.coordinates,
            source: source(&found.source)?,
            quality_score: found.quality_score,
        }
        .checked()
    }
}

impl Event<'_> {
    /// The schema's ranges, after normalisation.
    pub(super) fn checked(self) -> Result<Self, Invalid> {
        if !(1_000_000_000_000..=9_999_999_999_999).contains(&self.timestamp_ms) {
            return Err(Invalid::new(
                "timestamp",
                format!("{} is outside 1000000000000-9999999999999 epoch ms", self.timestamp_ms),
            ));
        }
        range("speed", self.speed_kmh, 0.0, 200.0, "km/h")?;
        range("occupancy", self.occupancy_percent, 0.0, 100.0, "%")?;
        range("quality_score", Some(self.quality_score), 0.0, 1.0, "")?;
        range("coordinates.latitude", self.coordinates.map(|c| c.latitude), -90.0, 90.0, "degrees")?;
        range("coordinates.longitude", self.coordinates.map(|c| c.longitude), -180.0, 180.0, "degrees")?;
        match self.volume {
            Some(Volume::Count(count)) => range("volume", Some(f64::from(count)), 0.0, 10_000.0, "vehicles")?,
            Some(Volume::PerHour(flow)) => range("volume", Some(flow), 0.0, 100_000.0, "vehicles/h")?,
            None => {}
        }
        Ok(self)
    }

    /// Refuses an event that is ahead of the time at which its record was produced.
    ///
    /// # Errors
    /// If it is ahead by more than [`AHEAD_MS`].
    pub fn check_not_ahead(&self, record_timestamp_ms: i64) -> Result<(), Invalid> {
        let ahead_ms = self.timestamp_ms - record_timestamp_ms;
        if ahead_ms <= AHEAD_MS {
            return Ok(());
        }
        Err(Invalid::new(
            "timestamp",
            format!("{} is {ahead_ms} ms ahead of its record, at most {AHEAD_MS} are allowed", self.timestamp_ms),
        ))
    }
}

fn range(field: &'static str, value: Option<f64>, low: f64, high: f64, unit: &str) -> Result<(), Invalid> {
    match value {
        Some(value) if !(low..=high).contains(&value) => {
            Err(Invalid::new(field, format!("{value} is outside {low}-{high} {unit}").trim_end().to_owned()))
        }
        _ => Ok(()),
    }
}

/// An id of at most `longest` characters; characters outside `A-Za-z0-9_-` become `_`.
pub(super) fn id<'a>(field: &'static str, text: Cow<'a, str>, longest: usize) -> Result<Cow<'a, str>, Invalid> {
    let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
    if text.is_empty() {
        return Err(Invalid::new(field, "is empty"));
    }
    let text = if text.bytes().all(fits) {
        text
    } else {
        let keep = |c: char| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' };
        Cow::Owned(text.chars().map(keep).collect())
    };
    if text.len() > longest {
        return Err(Invalid::new(field, format!("has {} characters, at most {longest} are allowed", text.len())));
    }
    Ok(text)
}

pub(super) fn source(text: &str) -> Result<&'static str, Invalid> {
    const SOURCES: [&str; 5] = ["SENSOR", "CAMERA", "PROBE", "INCIDENT_REPORT", "WEATHER_STATION"];
    SOURCES
        .into_iter()
        .find(|known| *known == text)
        .ok_or_else(|| Invalid::new("source", format!("{text:?} is none of {}", SOURCES.join(", "))))
}
