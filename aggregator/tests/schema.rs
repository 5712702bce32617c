//! Every aggregate that the machine emits fits its published schema, whatever the events.

use aggregator::{AGGREGATES, Aggregator, EVENTS, Settings};
use common::stream::{Header, Machine, Outbox, Records, StoredRecord, WATERMARK_HEADER};
use proptest::prelude::*;
use serde_json::{Value, json};

const START_MS: i64 = 1_750_000_200_000;

fn record(offset: usize, value: Option<Value>, marker_ms: Option<i64>) -> StoredRecord {
    let marker = marker_ms.map(|ms| Header { name: WATERMARK_HEADER.into(), value: ms.to_string().into_bytes() });
    StoredRecord {
        offset: i64::try_from(offset).expect("small"),
        timestamp_ms: START_MS + 600_000,
        key: None,
        value: value.map(|v| v.to_string().into_bytes()),
        headers: marker.into_iter().collect(),
    }
}

fn reading() -> impl Strategy<Value = Value> {
    let speed = proptest::option::of(0.0..=200.0_f64);
    let occupancy = proptest::option::of(0.0..=100.0_f64);
    let volume = proptest::option::of(0..=10_000_u32);
    (0..3_u8, 0..300_000_i64, speed, occupancy, volume, 0.0..=1.0_f64, any::<bool>(), any::<u32>()).prop_map(
        |(segment, at, speed, occupancy, volume, quality, placed, id)| {
            let mut event = json!({
                "event_id": format!("E{id}"), "segment_id": format!("S{segment}"), "timestamp": START_MS + at,
                "speed": speed, "occupancy": occupancy, "volume": volume, "source": "SENSOR", "quality_score": quality,
            });
            if placed {
                event["coordinates"] = json!({ "latitude": 34.05, "longitude": -118.25 });
            }
            event
        },
    )
}

proptest! {
    #[test]
    fn aggregates_fit_their_schema(readings in proptest::collection::vec(reading(), 1..40)) {
        let schema: Value =
            serde_json::from_str(include_str!("../../docs/schemas/processed-traffic-aggregate.json")).expect("JSON");
        let validator = jsonschema::validator_for(&schema).expect("a schema");
        let mut machine = Aggregator::new(Settings::default());
        machine.assign(0, 1);
        let mut records: Vec<StoredRecord> =
            readings.into_iter().enumerate().map(|(i, value)| record(i, Some(value), None)).collect();
        records.push(record(records.len(), None, Some(START_MS + 300_000)));
        let mut out = Outbox::default();
        machine.records(&Records::stored(EVENTS, 0, &records), START_MS + 900_000, &mut out);
        machine.flush(0, START_MS + 900_000, &mut out);
        let emitted: Vec<_> = out.emitted(AGGREGATES).into_iter().filter_map(|e| e.value).collect();
        prop_assert!(!emitted.is_empty());
        for value in emitted {
            let value: Value = serde_json::from_slice(&value).expect("JSON");
            let errors: Vec<String> = validator.iter_errors(&value).map(|e| e.to_string()).collect();
            prop_assert!(errors.is_empty(), "{value}: {errors:?}");
        }
    }
}
