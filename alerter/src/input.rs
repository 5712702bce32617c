//! What the rules read of forecasts and aggregates: only the fields they need, borrowed from the record.

use std::borrow::Cow;

use common::model::{CongestionLevel, Position, QUANTILES};
use common::stream::Record;
use serde::Deserialize;

/// The part of a forecast that rules look at.
#[derive(Debug, Deserialize)]
pub struct Forecast<'a> {
    #[serde(borrow)]
    pub segment_id: Cow<'a, str>,
    pub prediction_timestamp: i64,
    pub prediction_horizon: u32,
    pub predicted_speed: f64,
    pub predicted_congestion_level: CongestionLevel,
    pub speed_quantiles: [f64; QUANTILES],
    #[serde(default)]
    pub coordinates: Option<Position>,
}

/// The part of an aggregate that rules look at.
#[derive(Debug, Deserialize)]
pub struct Window<'a> {
    #[serde(borrow)]
    pub segment_id: Cow<'a, str>,
    pub window_end: i64,
    pub event_count: u64,
    #[serde(default)]
    pub coordinates: Option<Position>,
}

/// How far ahead of its record's own time an event time may be, as everywhere in the flow.
const AHEAD_MS: i64 = 5 * 60_000;

impl<'a> Forecast<'a> {
    /// # Errors
    /// What is wrong with it.
    pub fn parse(record: &Record<'a>) -> Result<Self, String> {
        let forecast: Self =
            serde_json::from_slice(record.value.unwrap_or_default()).map_err(|error| error.to_string())?;
        check_segment(&forecast.segment_id)?;
        check_time(forecast.prediction_timestamp, record)?;
        Ok(forecast)
    }
}

impl<'a> Window<'a> {
    /// # Errors
    /// What is wrong with it.
    pub fn parse(record: &Record<'a>) -> Result<Self, String> {
        let window: Self =
            serde_json::from_slice(record.value.unwrap_or_default()).map_err(|error| error.to_string())?;
        check_segment(&window.segment_id)?;
        check_time(window.window_end, record)?;
        Ok(window)
    }
}

fn check_segment(id: &str) -> Result<(), String> {
    let plain = id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if plain && (1..=64).contains(&id.len()) { Ok(()) } else { Err("segment_id is not one".into()) }
}

/// One record from the far future would make everything after it late.
pub fn check_time(at_ms: i64, record: &Record<'_>) -> Result<(), String> {
    if !(1_000_000_000_000..=9_999_999_999_999).contains(&at_ms) {
        return Err(format!("{at_ms} is not in epoch milliseconds of the years 2001 to 2286"));
    }
    if at_ms > record.timestamp_ms.saturating_add(AHEAD_MS) {
        return Err(format!("{at_ms} is ahead of the record's own time {}", record.timestamp_ms));
    }
    Ok(())
}
