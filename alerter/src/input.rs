//! What the rules read of forecasts and aggregates: only the fields they need, borrowed from the record.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use common::model::{CongestionLevel, Position, QUANTILES};
use common::stream::Record;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// The part of a forecast that rules look at.
#[derive(Debug)]
pub struct Forecast<'a> {
    pub segment_id: Cow<'a, str>,
    pub prediction_timestamp: i64,
    pub prediction_horizon: u32,
    pub predicted_speed: f64,
    pub predicted_congestion_level: CongestionLevel,
    pub speed_quantiles: [f64; QUANTILES],
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
    /// `None` if its horizon is not wanted: the rest is not even read then, because most forecasts are such.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(record: &Record<'a>, wanted: impl Fn(u32) -> bool) -> Result<Option<Self>, String> {
        let unwanted = Cell::new(false);
        let mut json = serde_json::Deserializer::from_slice(record.value.unwrap_or_default());
        let forecast = match (Selected { wanted, unwanted: &unwanted }).deserialize(&mut json) {
            Ok(forecast) => forecast,
            Err(_) if unwanted.get() => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        json.end().map_err(|error| error.to_string())?;
        check_segment(&forecast.segment_id)?;
        check_time(forecast.prediction_timestamp, record)?;
        Ok(Some(forecast))
    }
}

/// Reads a forecast until its horizon turns out not to be wanted.
struct Selected<'w, W> {
    wanted: W,
    unwanted: &'w Cell<bool>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    SegmentId,
    PredictionTimestamp,
    PredictionHorizon,
    PredictedSpeed,
    PredictedCongestionLevel,
    SpeedQuantiles,
    Coordinates,
    #[serde(other)]
    Other,
}

/// Text that is borrowed where it can be.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de, W: Fn(u32) -> bool> DeserializeSeed<'de> for Selected<'_, W> {
    type Value = Forecast<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, W: Fn(u32) -> bool> Visitor<'de> for Selected<'_, W> {
    type Value = Forecast<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a forecast")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut segment, mut at, mut horizon, mut speed) = (None, None, None, None);
        let (mut level, mut quantiles, mut coordinates) = (None, None, None);
        while let Some(field) = map.next_key()? {
            match field {
                Field::SegmentId => segment = Some(map.next_value::<Text<'de>>()?.0),
                Field::PredictionTimestamp => at = Some(map.next_value()?),
                Field::PredictionHorizon => {
                    let minutes = map.next_value()?;
                    if !(self.wanted)(minutes) {
                        self.unwanted.set(true);
                        return Err(A::Error::custom("not wanted"));
                    }
                    horizon = Some(minutes);
                }
                Field::PredictedSpeed => speed = Some(map.next_value()?),
                Field::PredictedCongestionLevel => level = Some(map.next_value()?),
                Field::SpeedQuantiles => quantiles = Some(map.next_value()?),
                Field::Coordinates => coordinates = map.next_value()?,
                Field::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let missing = A::Error::missing_field;
        Ok(Forecast {
            segment_id: segment.ok_or_else(|| missing("segment_id"))?,
            prediction_timestamp: at.ok_or_else(|| missing("prediction_timestamp"))?,
            prediction_horizon: horizon.ok_or_else(|| missing("prediction_horizon"))?,
            predicted_speed: speed.ok_or_else(|| missing("predicted_speed"))?,
            predicted_congestion_level: level.ok_or_else(|| missing("predicted_congestion_level"))?,
            speed_quantiles: quantiles.ok_or_else(|| missing("speed_quantiles"))?,
            coordinates,
        })
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

#[cfg(test)]
mod tests {
    use common::stream::StoredRecord;

    use super::*;

    const AT_MS: i64 = 1_750_000_200_000;

    fn parse(json: &str) -> Result<Option<u32>, String> {
        let value = Some(json.as_bytes().to_vec());
        let record = StoredRecord { timestamp_ms: AT_MS, value, ..StoredRecord::default() };
        Forecast::parse(&record.as_record(), |horizon| horizon == 30).map(|f| f.map(|f| f.prediction_horizon))
    }

    fn json(horizon: u32, at_ms: i64) -> String {
        format!(
            r#"{{"prediction_horizon":{horizon},"segment_id":"S1","prediction_timestamp":{at_ms},"predicted_speed":50,
            "predicted_congestion_level":"MODERATE","speed_quantiles":{:?},"new":[{{}}]}}"#,
            [50; QUANTILES]
        )
    }

    #[test]
    fn only_wanted_horizons_are_read_and_these_whole() {
        let whole = json(30, AT_MS);
        assert_eq!(parse(&whole), Ok(Some(30)));
        assert_eq!(parse(&json(15, AT_MS)), Ok(None));
        for (from, to, expected) in [
            (r#""segment_id":"S1","#, "", "missing field `segment_id`"),
            ("[50, ", "[", "invalid length 18"),
            ("[50, ", "[50, 50, ", "trailing characters"),
            ("MODERATE", "BAD", "unknown variant `BAD`"),
            (r#""S1""#, r#""S 1""#, "segment_id is not one"),
            ("[{}]}", "[{}]}}", "trailing characters"),
        ] {
            let changed = whole.replacen(from, to, 1);
            assert_ne!(changed, whole);
            let error = parse(&changed).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn a_time_far_ahead_of_its_record_is_refused() {
        assert_eq!(parse(&json(30, AT_MS + AHEAD_MS)), Ok(Some(30)));
        assert!(parse(&json(30, AT_MS + AHEAD_MS + 1)).is_err_and(|e| e.contains("ahead of the record's own time")));
        assert!(parse(&json(30, 5)).is_err_and(|e| e.contains("epoch milliseconds")));
    }
}
