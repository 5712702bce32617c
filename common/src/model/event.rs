//! A sensor reading, from whatever dialect it came in.

use std::borrow::Cow;

/// A position, WGS 84 degrees.
#[derive(Debug, Clone, Copy, PartialEq)]
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

/// The unit of a bare `speed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpeedUnit {
    #[default]
    Kmh,
    Mph,
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
