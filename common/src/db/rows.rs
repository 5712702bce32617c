//! Messages as rows: what is taken and what is refused.
//!
//! What a database would refuse is refused here, so that no record can stop a projection.

use serde::Serialize;

use super::retention::DAY_MS;
use crate::model::{Aggregate, Alert, Position, Prediction};
use crate::stream::Record;

/// Windows are this long: a forecast's target is the end of one, which is how they meet.
pub(super) const WINDOW_MS: i64 = 300_000;
/// Forecasts reach no further than a day.
pub(super) const LONGEST_HORIZON_MINUTES: u32 = 1440;
/// Nothing on a road is faster, km/h; keeps sums of squares far from overflowing.
const FASTEST_KMH: f64 = 1000.0;
/// 2000-01-01 and 2100-01-01.
const YEARS_MS: std::ops::Range<i64> = 946_684_800_000..4_102_444_800_000;
/// Longest text that is taken, bytes.
const LONGEST_TEXT: usize = 10_000;

/// Why a record becomes no row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Refused(String);

fn refused(why: impl Into<String>) -> Refused {
    Refused(why.into())
}

/// (`segment_id`, `window_start`).
pub(super) type AggregateKey = (String, i64);

#[derive(Debug, Clone, PartialEq)]
pub(super) struct AggregateRow {
    pub segment_id: String,
    pub window_start: i64,
    pub window_end: i64,
    pub avg_speed: Option<f64>,
    pub speed_stddev: Option<f64>,
    pub speed_min: Option<f64>,
    pub speed_max: Option<f64>,
    pub vehicle_count: i64,
    pub occupancy_avg: f64,
    pub occupancy_max: Option<f64>,
    pub congestion_level: Option<String>,
    pub position: Option<Position>,
    pub event_count: i64,
    pub quality_score: f64,
}

/// (`segment_id`, `prediction_timestamp`, `horizon_minutes`).
pub(super) type PredictionKey = (String, i64, i32);

#[derive(Debug, Clone, PartialEq)]
pub(super) struct PredictionRow {
    pub segment_id: String,
    pub prediction_timestamp: i64,
    pub horizon_minutes: i32,
    pub target_timestamp: i64,
    pub predicted_speed: f64,
    pub predicted_volume: Option<i32>,
    pub current_speed: f64,
    pub predicted_congestion_level: String,
    pub speed_lower: f64,
    pub speed_upper: f64,
    /// JSON.
    pub speed_quantiles: String,
    pub confidence_score: f64,
    pub model_type: String,
    pub model_version: String,
    /// JSON.
    pub features_used: String,
    pub position: Option<Position>,
    pub avg_speed_1h: Option<f64>,
    pub avg_speed_24h: Option<f64>,
    pub avg_speed_7d: Option<f64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct AlertRow {
    pub alert_id: String,
    pub sequence: i32,
    pub segment_id: String,
    pub rule: String,
    pub alert_type: String,
    pub severity: String,
    pub status: String,
    pub changed_at: i64,
    pub opened_at: i64,
    pub resolved_at: Option<i64>,
    pub detection_source: String,
    pub description: String,
    pub value: Option<f64>,
    pub threshold: Option<f64>,
    pub confidence_score: Option<f64>,
    pub position: Option<Position>,
    pub changed_by: Option<String>,
}

pub(super) fn aggregate(record: &Record<'_>, value: &[u8]) -> Result<AggregateRow, Refused> {
    let message: Aggregate<'_> = parse(value)?;
    if message.window_end.checked_sub(message.window_start) != Some(WINDOW_MS) {
        return Err(refused("window_start, window_end: not five minutes"));
    }
    let speeds = [
        ("avg_speed", message.avg_speed),
        ("speed_stddev", message.speed_stddev),
        ("speed_min", message.speed_min),
        ("speed_max", message.speed_max),
    ];
    speeds.into_iter().try_for_each(|(field, speed)| speed.map_or(Ok(()), |speed| check_speed(field, speed)))?;
    check_time("window_start", message.window_start, record)?;
    Ok(AggregateRow {
        segment_id: text("segment_id", &message.segment_id)?,
        window_start: message.window_start,
        window_end: message.window_end,
        avg_speed: message.avg_speed,
        speed_stddev: message.speed_stddev,
        speed_min: message.speed_min,
        speed_max: message.speed_max,
        vehicle_count: count("vehicle_count", message.vehicle_count)?,
        occupancy_avg: message.occupancy_avg,
        occupancy_max: message.occupancy_max,
        congestion_level: message.congestion_level.map(|level| name(&level)),
        position: message.coordinates,
        event_count: count("event_count", message.event_count)?,
        quality_score: message.quality_score,
    })
}

pub(super) fn prediction(record: &Record<'_>, value: &[u8]) -> Result<PredictionRow, Refused> {
    let message: Prediction<'_> = parse(value)?;
    let horizon = message.prediction_horizon;
    if !(1..=LONGEST_HORIZON_MINUTES).contains(&horizon) {
        return Err(refused(format!("prediction_horizon: not within 1 to {LONGEST_HORIZON_MINUTES} minutes")));
    }
    check_time("prediction_timestamp", message.prediction_timestamp, record)?;
    if message.target_timestamp != message.prediction_timestamp + i64::from(horizon) * 60_000 {
        return Err(refused("target_timestamp: not prediction_timestamp + prediction_horizon"));
    }
    check_speed("predicted_speed", message.predicted_speed)?;
    check_speed("current_speed", message.current_speed)?;
    let context = message.historical_context;
    Ok(PredictionRow {
        segment_id: text("segment_id", &message.segment_id)?,
        prediction_timestamp: message.prediction_timestamp,
        horizon_minutes: horizon.cast_signed(),
        target_timestamp: message.target_timestamp,
        predicted_speed: message.predicted_speed,
        predicted_volume: message.predicted_volume.map(u32::cast_signed).filter(|vehicles| *vehicles >= 0),
        current_speed: message.current_speed,
        predicted_congestion_level: name(&message.predicted_congestion_level),
        speed_lower: message.uncertainty_bounds.speed_lower,
        speed_upper: message.uncertainty_bounds.speed_upper,
        speed_quantiles: json(&message.speed_quantiles),
        confidence_score: message.confidence_score,
        model_type: name(&message.model_type),
        model_version: text("model_version", &message.model_version)?,
        features_used: json(&message.features_used),
        position: message.coordinates,
        avg_speed_1h: context.avg_speed_1h,
        avg_speed_24h: context.avg_speed_24h,
        avg_speed_7d: context.avg_speed_7d,
    })
}

pub(super) fn alert(record: &Record<'_>, value: &[u8]) -> Result<AlertRow, Refused> {
    let message: Alert<'_> = parse(value)?;
    check_time("timestamp", message.timestamp, record)?;
    check_time("opened_at", message.opened_at, record)?;
    message.resolved_at.map_or(Ok(()), |at| check_time("resolved_at", at, record))?;
    Ok(AlertRow {
        alert_id: text("alert_id", &message.alert_id)?,
        sequence: i32::try_from(message.sequence).map_err(|_| refused("sequence: too large"))?,
        segment_id: text("segment_id", &message.segment_id)?,
        rule: text("rule", &message.rule)?,
        alert_type: name(&message.alert_type),
        severity: name(&message.severity),
        status: name(&message.status),
        changed_at: message.timestamp,
        opened_at: message.opened_at,
        resolved_at: message.resolved_at,
        detection_source: name(&message.detection_source),
        description: text("description", &message.description)?,
        value: message.value,
        threshold: message.threshold,
        confidence_score: message.confidence_score,
        position: message.coordinates,
        changed_by: message.by.as_deref().map(|by| text("by", by)).transpose()?,
    })
}

fn parse<'a, T: serde::Deserialize<'a>>(value: &'a [u8]) -> Result<T, Refused> {
    serde_json::from_slice(value).map_err(|error| refused(error.to_string()))
}

/// The text, unless PostgreSQL cannot hold it.
fn text(field: &str, text: &str) -> Result<String, Refused> {
    if text.contains('\0') || text.len() > LONGEST_TEXT {
        return Err(refused(format!("{field}: holds U+0000, or more than {LONGEST_TEXT} bytes")));
    }
    Ok(text.to_owned())
}

fn count(field: &str, count: u64) -> Result<i64, Refused> {
    i64::try_from(count).map_err(|_| refused(format!("{field}: too large")))
}

fn check_speed(field: &str, speed_kmh: f64) -> Result<(), Refused> {
    if (0.0..=FASTEST_KMH).contains(&speed_kmh) {
        return Ok(());
    }
    Err(refused(format!("{field}: not within 0 to {FASTEST_KMH} km/h")))
}

/// By the record's own time: reading again must decide the same.
fn check_time(field: &str, time_ms: i64, record: &Record<'_>) -> Result<(), Refused> {
    if YEARS_MS.contains(&time_ms) && time_ms <= record.timestamp_ms.saturating_add(DAY_MS) {
        return Ok(());
    }
    Err(refused(format!("{field}: not within the years 2000 to 2099, or more than a day after its record")))
}

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("numbers and names are always JSON")
}

/// An enumerated value as it stands in messages.
fn name<T: Serialize>(value: &T) -> String {
    json(value).trim_matches('"').to_owned()
}
