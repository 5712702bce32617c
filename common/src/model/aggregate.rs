//! What five minutes of a segment came to.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// How freely traffic flows, by mean speed: at least 80, 60, 40, 20 km/h, or less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CongestionLevel {
    FreeFlow,
    Light,
    Moderate,
    Heavy,
    Severe,
}

impl CongestionLevel {
    #[must_use]
    pub fn of(speed_kmh: f64) -> Self {
        match speed_kmh {
            s if s >= 80.0 => Self::FreeFlow,
            s if s >= 60.0 => Self::Light,
            s if s >= 40.0 => Self::Moderate,
            s if s >= 20.0 => Self::Heavy,
            _ => Self::Severe,
        }
    }
}

/// A position, WGS 84 degrees, as it stands in messages.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Position {
    pub latitude: f64,
    pub longitude: f64,
}

/// A message of `processed-traffic-aggregates`: `docs/schemas/processed-traffic-aggregate.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Aggregate<'a> {
    /// `AGG_<segment>_<window_start>`: a correction has the same id and a larger `event_count`.
    pub aggregate_id: Cow<'a, str>,
    pub segment_id: Cow<'a, str>,
    /// Epoch ms, inclusive.
    pub window_start: i64,
    /// Epoch ms, exclusive.
    pub window_end: i64,
    /// Mean over the events that have a speed, km/h; `null` if none has.
    pub avg_speed: Option<f64>,
    /// Sample standard deviation, km/h; absent below two speeds.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub speed_stddev: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub speed_min: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub speed_max: Option<f64>,
    pub vehicle_count: u64,
    /// Mean, %; 0 if no event has one.
    pub occupancy_avg: f64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub occupancy_max: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub congestion_level: Option<CongestionLevel>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub coordinates: Option<Position>,
    pub event_count: u64,
    /// Mean quality of the events × received / expected.
    pub quality_score: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        let cases = [
            (200.0, "FREE_FLOW"),
            (80.0, "FREE_FLOW"),
            (79.999, "LIGHT"),
            (60.0, "LIGHT"),
            (59.999, "MODERATE"),
            (40.0, "MODERATE"),
            (39.999, "HEAVY"),
            (20.0, "HEAVY"),
            (19.999, "SEVERE"),
            (0.0, "SEVERE"),
        ];
        for (speed, name) in cases {
            assert_eq!(serde_json::to_value(CongestionLevel::of(speed)).ok(), Some(name.into()), "{speed}");
        }
    }
}
