//! Payloads that senders send, and the events they must be read as, for ever.

use common::model::{Event, Normaliser, Volume};
use serde_json::{Value, json};

fn shown(event: &Event<'_>) -> Value {
    let (count, flow) = match event.volume {
        Some(Volume::Count(count)) => (Some(count), None),
        Some(Volume::PerHour(flow)) => (None, Some(flow)),
        None => (None, None),
    };
    json!({
        "event_id": event.event_id, "segment_id": event.segment_id, "timestamp": event.timestamp_ms,
        "speed": event.speed_kmh, "count": count, "flow": flow, "occupancy": event.occupancy_percent,
        "latitude": event.coordinates.map(|c| c.latitude), "longitude": event.coordinates.map(|c| c.longitude),
        "source": event.source, "quality": event.quality_score,
    })
}

/// Numbers by value: 35 and 35.0 are one.
fn same(one: &Value, other: &Value) -> bool {
    match (one.as_f64(), other.as_f64()) {
        (Some(one), Some(other)) => (one - other).abs() < 1e-9,
        _ => one == other,
    }
}

#[test]
fn every_dialect_is_read_as_it_always_was() {
    let goldens: Vec<Value> = serde_json::from_str(include_str!("goldens/events.json")).expect("JSON");
    assert!(goldens.len() >= 6);
    for golden in goldens {
        let payload = golden["payload"].to_string();
        let event = Normaliser::default().parse(payload.as_bytes()).unwrap_or_else(|e| panic!("{payload}: {e}"));
        let found = shown(&event);
        for (field, expected) in golden["event"].as_object().expect("an object") {
            let right = expected == "*" || same(&found[field], expected);
            assert!(right, "{}: {field} is {}, not {expected}", golden["dialect"], found[field]);
        }
    }
}

#[test]
fn the_canonical_golden_fits_its_schema() {
    let schema: Value = serde_json::from_str(include_str!("../../docs/schemas/traffic-event.json")).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    let goldens: Vec<Value> = serde_json::from_str(include_str!("goldens/events.json")).expect("JSON");
    assert!(validator.is_valid(&goldens[0]["payload"]));
    assert!(!validator.is_valid(&goldens[1]["payload"]), "another dialect is not the canonical form");
}
