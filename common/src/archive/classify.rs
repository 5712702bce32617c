//! Which table and hour a record belongs to, and whether the columns say everything it said.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use super::layout::{Hour, Table};
use crate::model::event::AHEAD_MS;
use crate::model::{Aggregate, Coordinates, Event, Normaliser, Prediction, Volume};
use crate::stream::Record;

/// What a record is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Content<'a> {
    Event(Event<'a>),
    Aggregate(Aggregate<'a>),
    Prediction(Box<Prediction<'a>>),
    /// Not valid, and why.
    Rejected(String),
}

/// A record and its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Placed<'a> {
    pub(super) home: (Table, Hour),
    pub(super) content: Content<'a>,
    /// Whether the columns say all that the payload said, so that it need not be kept.
    pub(super) complete: bool,
}

/// A valid record's content, its time, and whether the columns say everything.
type Accepted<'a> = (Content<'a>, i64, bool);

/// Decides by the record alone: reading it again decides the same.
pub(super) fn classify<'a>(dataset: Dataset, normaliser: &Normaliser, record: &Record<'a>) -> Placed<'a> {
    let accepted = match (record.value, dataset) {
        (None, _) => Err("no value".to_owned()),
        (Some(payload), Dataset::Events) => event(normaliser, payload, record.timestamp_ms),
        (Some(payload), Dataset::Aggregates) => aggregate(payload, record.timestamp_ms),
        (Some(payload), Dataset::Predictions) => prediction(payload, record.timestamp_ms),
    };
    match accepted {
        Ok((content, at_ms, complete)) => {
            Placed { home: (Table::Accepted(dataset), Hour::of_ms(at_ms)), content, complete }
        }
        Err(reason) => Placed {
            home: (Table::Rejected(dataset), Hour::of_ms(record.timestamp_ms)),
            content: Content::Rejected(reason),
            complete: false,
        },
    }
}

fn event<'a>(normaliser: &Normaliser, payload: &'a [u8], record_ms: i64) -> Result<Accepted<'a>, String> {
    let checked = normaliser.parse_all(payload).and_then(|(event, known)| {
        event.check_not_ahead(record_ms)?;
        Ok((event, known))
    });
    let (event, known) = checked.map_err(|invalid| invalid.to_string())?;
    let complete = known.unwrap_or_else(|| says_all(payload, &event));
    let at_ms = event.timestamp_ms;
    Ok((Content::Event(event), at_ms, complete))
}

fn aggregate<'a>(payload: &[u8], record_ms: i64) -> Result<Accepted<'a>, String> {
    let aggregate: Aggregate<'a> = read(payload)?;
    check_time("window_start", aggregate.window_start)?;
    check_time("window_end", aggregate.window_end)?;
    check_count("vehicle_count", aggregate.vehicle_count)?;
    check_count("event_count", aggregate.event_count)?;
    check_not_ahead("window_start", aggregate.window_start, record_ms)?;
    let (at_ms, complete) = (aggregate.window_start, is_written_as(&aggregate, payload));
    Ok((Content::Aggregate(aggregate), at_ms, complete))
}

fn prediction<'a>(payload: &[u8], record_ms: i64) -> Result<Accepted<'a>, String> {
    let prediction: Prediction<'a> = read(payload)?;
    check_time("prediction_timestamp", prediction.prediction_timestamp)?;
    check_time("target_timestamp", prediction.target_timestamp)?;
    check_not_ahead("prediction_timestamp", prediction.prediction_timestamp, record_ms)?;
    let (at_ms, complete) = (prediction.prediction_timestamp, is_written_as(&prediction, payload));
    Ok((Content::Prediction(Box::new(prediction)), at_ms, complete))
}

fn read<T: for<'de> Deserialize<'de>>(payload: &[u8]) -> Result<T, String> {
    serde_json::from_slice(payload).map_err(|error| format!("payload: {error}"))
}

/// Whether this value as JSON is this very payload: its columns then say it all, to the last byte.
fn is_written_as(value: &impl Serialize, payload: &[u8]) -> bool {
    serde_json::to_vec(value).is_ok_and(|written| written == payload)
}

/// The times of windows and forecasts whose events may be valid, epoch ms (2001 to 2290).
const TIMES_MS: RangeInclusive<i64> = 999_000_000_000..=10_100_000_000_000;

fn check_time(field: &str, at_ms: i64) -> Result<(), String> {
    if TIMES_MS.contains(&at_ms) {
        return Ok(());
    }
    Err(format!("{field}: {at_ms} is outside {} to {} ms", TIMES_MS.start(), TIMES_MS.end()))
}

fn check_not_ahead(field: &str, at_ms: i64, record_ms: i64) -> Result<(), String> {
    let ahead_ms = at_ms.saturating_sub(record_ms);
    if ahead_ms <= AHEAD_MS {
        return Ok(());
    }
    Err(format!("{field}: {at_ms} is {ahead_ms} ms ahead of its record's timestamp {record_ms}"))
}

fn check_count(field: &str, count: u64) -> Result<(), String> {
    i64::try_from(count).map(|_| ()).map_err(|_| format!("{field}: {count} is no count of anything on earth"))
}

/// Whether a payload is a canonical event with no field beyond those that have a column.
fn says_all(payload: &[u8], event: &Event<'_>) -> bool {
    let Ok(said) = serde_json::from_slice::<Canonical<'_>>(payload) else { return false };
    let coordinates = |c: Position| Coordinates { latitude: c.latitude, longitude: c.longitude };
    said.event_id == event.event_id
        && said.segment_id == event.segment_id
        && said.timestamp == event.timestamp_ms
        && said.speed == event.speed_kmh
        && said.volume.map(Volume::Count) == event.volume
        && said.occupancy == event.occupancy_percent
        && said.coordinates.map(coordinates) == event.coordinates
        && said.source == event.source
        && said.quality_score == event.quality_score
}

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
    coordinates: Option<Position>,
    source: Cow<'a, str>,
    quality_score: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Position {
    latitude: f64,
    longitude: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::SpeedUnit;
    use crate::stream::StoredRecord;

    const NOW_MS: i64 = 1_790_000_000_000;

    /// The reason why a record is rejected; else whether its columns say everything.
    fn verdict(dataset: Dataset, value: Option<&str>) -> Result<bool, String> {
        let value = value.map(|v| v.as_bytes().to_vec());
        let record = StoredRecord { timestamp_ms: NOW_MS, value, ..StoredRecord::default() };
        let placed = classify(dataset, &Normaliser::default(), &record.as_record());
        match placed.content {
            Content::Rejected(reason) => {
                assert_eq!(placed.home, (Table::Rejected(dataset), Hour::of_ms(NOW_MS)));
                Err(reason)
            }
            _ => {
                assert_eq!(placed.home.0, Table::Accepted(dataset));
                Ok(placed.complete)
            }
        }
    }

    fn event(timestamp: i64, more: &str) -> String {
        format!(
            r#"{{"event_id":"E1","segment_id":"S1","timestamp":{timestamp},"speed":61.5,"volume":7,"occupancy":12.25,
                "coordinates":{{"latitude":34.05,"longitude":-118.24}},"source":"SENSOR","quality_score":0.9{more}}}"#
        )
    }

    fn rejected(dataset: Dataset, value: &str, because: &str) {
        let reason = verdict(dataset, Some(value)).expect_err(value);
        assert!(reason.contains(because), "{reason}");
    }

    #[test]
    fn a_canonical_event_needs_no_payload_and_anything_more_does() {
        assert_eq!(verdict(Dataset::Events, Some(&event(NOW_MS, ""))), Ok(true));
        assert_eq!(verdict(Dataset::Events, Some(&event(NOW_MS, r#","metadata":{"lanes":"4"}"#))), Ok(false));
    }

    /// What the fast path says of an event is what a second reading of its payload finds.
    #[test]
    fn reading_an_event_tells_whether_the_columns_say_all() {
        let whole = event(NOW_MS, "");
        let swaps = [
            ("", ""),
            (r#""speed":61.5"#, r#""speed":0"#),
            (r#""speed":61.5"#, r#""speed":-0"#),
            (r#""speed":61.5,"#, ""),
            (r#""volume":7"#, r#""volume":null"#),
            (r#","quality_score":0.9"#, ""),
            (r#""source":"SENSOR","#, ""),
            (r#""occupancy":12.25,"#, r#""metadata":{},"#),
            (r#""latitude":34.05,"longitude":-118.24"#, r#""longitude":-118.24,"latitude":34.05"#),
        ];
        let mut found = [0, 0];
        for (from, to) in swaps {
            let payload = if from.is_empty() { whole.clone() } else { whole.replace(from, to) };
            assert!(from.is_empty() || payload != whole, "{from}");
            for speed_unit in [SpeedUnit::Kmh, SpeedUnit::Mph] {
                let rules = Normaliser { speed_unit, ..Normaliser::default() };
                let (event, known) = rules.parse_all(payload.as_bytes()).expect("an event");
                let known = known.unwrap_or_else(|| panic!("it is canonical: {payload}"));
                assert_eq!(known, says_all(payload.as_bytes(), &event), "{payload}");
                found[usize::from(known)] += 1;
            }
        }
        assert!(found[0] > 0 && found[1] > 0, "{found:?}");
    }

    #[test]
    fn what_is_no_event_of_this_time_is_rejected() {
        assert_eq!(verdict(Dataset::Events, None), Err("no value".to_owned()));
        rejected(Dataset::Events, "{", "payload");
        // 1999-12-31T23:59Z: a clock that was never set.
        rejected(Dataset::Events, &event(946_684_799_999, ""), "timestamp");
        rejected(Dataset::Events, &event(NOW_MS + 300_001, ""), "timestamp");
        assert_eq!(verdict(Dataset::Events, Some(&event(NOW_MS + 300_000, ""))), Ok(true));
    }

    const AGGREGATE: &str = r#"{"aggregate_id":"AGG_S1_1789999800000","segment_id":"S1","window_start":1789999800000,"window_end":1790000100000,"avg_speed":61.5,"vehicle_count":7,"occupancy_avg":12.25,"event_count":3,"quality_score":0.9}"#;

    #[test]
    fn an_aggregate_as_it_is_written_needs_no_payload_and_anything_else_does() {
        let with = |from: &str, to: &str| AGGREGATE.replace(from, to);
        assert_eq!(verdict(Dataset::Aggregates, Some(AGGREGATE)), Ok(true));
        for other in [with("12.25", "12.250"), with("{", "{ "), with(":3,", r#":3,"producer":"x","#)] {
            assert_eq!(verdict(Dataset::Aggregates, Some(&other)), Ok(false), "{other}");
        }
        rejected(Dataset::Aggregates, "{}", "aggregate_id");
        rejected(Dataset::Aggregates, &with(":3,", ":-3,"), "-3");
        rejected(Dataset::Aggregates, &with(":3,", ":18446744073709551615,"), "event_count");
        rejected(Dataset::Aggregates, &with(r#""window_start":1789999800000"#, r#""window_start":0"#), "window_start");
        let ahead = with(r#""window_start":1789999800000"#, r#""window_start":1790000300001"#);
        rejected(Dataset::Aggregates, &ahead, "ahead of its record");
    }

    #[test]
    fn a_prediction_as_it_is_written_needs_no_payload_and_anything_else_does() {
        let quantiles = (1..20).map(|n| format!("{n}.5")).collect::<Vec<_>>().join(",");
        let written = format!(
            r#"{{"prediction_id":"PRED_S1_1789999800000_15","segment_id":"S1","prediction_timestamp":1789999800000,"prediction_horizon":15,"target_timestamp":1790000700000,"predicted_speed":10.5,"predicted_volume":7,"current_speed":11.0,"predicted_congestion_level":"SEVERE","uncertainty_bounds":{{"speed_lower":1.5,"speed_upper":19.5}},"speed_quantiles":[{quantiles}],"confidence_score":0.5,"model_version":"v0.1.0","model_type":"LINEAR_REGRESSION","features_used":["HISTORICAL_SPEED"],"historical_context":{{"avg_speed_1h":12.0}}}}"#
        );
        assert_eq!(verdict(Dataset::Predictions, Some(&written)), Ok(true));
        let more = written.replace("{\"avg_speed_1h\"", "{\"similar_conditions\":3,\"avg_speed_1h\"");
        assert_eq!(verdict(Dataset::Predictions, Some(&more)), Ok(false));
        rejected(Dataset::Predictions, &written.replace("1.5,2.5", "1.5"), "array of length 19");
        rejected(Dataset::Predictions, &written.replace("1790000700000", "17900007"), "target_timestamp");
    }
}
