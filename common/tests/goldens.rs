//! Payloads of each dialect in `goldens/`, and beside them the events they mean: readable for ever.
//!
//! Each line of `NAME.ndjson` is a payload; the same line of `NAME.expected.ndjson` says what it is about and what
//! comes out: the event, read as km/h and UTC, or why it is invalid. Where another setting reads it otherwise, that
//! setting says which fields differ.

use std::fs;
use std::path::{Path, PathBuf};

use common::model::{Event, Normaliser, SpeedUnit, Volume};
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

/// Settings beside the default ones, by the name they have in the files.
const OTHERS: [(&str, SpeedUnit, &str); 2] =
    [("mph", SpeedUnit::Mph, "UTC"), ("America/Los_Angeles", SpeedUnit::Kmh, "America/Los_Angeles")];

const DIALECTS: [&str; 13] = [
    "a_canonical",
    "b_csv_replay",
    "c1_generator",
    "c2_scenario",
    "csv_row",
    "d1_script",
    "d2_pipeline",
    "e_minimal",
    "f_early_producer",
    "fields",
    "g_api",
    "node_output",
    "refused",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

fn lines(name: &str) -> Vec<String> {
    let path = folder().join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().map(str::to_owned).collect()
}

fn readable(event: &Event<'_>) -> Value {
    json!({
        "event_id": event.event_id,
        "segment_id": event.segment_id,
        "timestamp_ms": event.timestamp_ms,
        "speed_kmh": event.speed_kmh,
        "volume": event.volume.map(|volume| match volume {
            Volume::Count(count) => json!({ "count": count }),
            Volume::PerHour(flow) => json!({ "per_hour": flow }),
        }),
        "occupancy_percent": event.occupancy_percent,
        "coordinates": event.coordinates.map(|c| json!({ "latitude": c.latitude, "longitude": c.longitude })),
        "source": event.source,
        "quality_score": event.quality_score,
    })
}

/// The event, or `invalid` alone.
fn read(payload: &str, speed_unit: SpeedUnit, zone: &str) -> Value {
    let time_zone = TimeZone::get(zone).expect("the zone is bundled");
    match (Normaliser { speed_unit, time_zone }).parse(payload.as_bytes()) {
        Ok(event) => readable(&event),
        Err(invalid) => json!({ "invalid": invalid.to_string() }),
    }
}

/// The fields of `other` that are not as in `base`.
fn difference(base: &Value, other: &Value) -> Map<String, Value> {
    let fields = other.as_object().expect("an object").iter();
    fields.filter(|(name, value)| base.get(name) != Some(value)).map(|(n, v)| (n.clone(), v.clone())).collect()
}

fn meaning(payload: &str) -> Map<String, Value> {
    let base = read(payload, SpeedUnit::Kmh, "UTC");
    let mut found = Map::new();
    for (name, speed_unit, zone) in OTHERS {
        let differs = difference(&base, &read(payload, speed_unit, zone));
        if !differs.is_empty() {
            found.insert(name.to_owned(), differs.into());
        }
    }
    match base.get("invalid") {
        Some(reason) => found.insert("invalid".to_owned(), reason.clone()),
        None => found.insert("event".to_owned(), base),
    };
    found
}

#[test]
fn every_dialect_means_what_it_always_meant() {
    let mut wrong = Vec::new();
    for name in DIALECTS {
        let (payloads, expected) = (lines(&format!("{name}.ndjson")), lines(&format!("{name}.expected.ndjson")));
        assert_eq!(payloads.len(), expected.len(), "{name}: as many lines in both files");
        for (number, (payload, expected)) in payloads.iter().zip(expected).enumerate() {
            let mut found = meaning(payload);
            let about = serde_json::from_str::<Value>(&expected).expect("JSON")["about"].take();
            assert!(about.is_string(), "{name}, line {}: what is it about?", number + 1);
            found.insert("about".to_owned(), about);
            // Texts are compared, so that a number differs in its last bit or not at all.
            let found = Value::Object(found).to_string();
            if found != expected {
                wrong.push(format!("{name}.expected.ndjson, line {}, should be:\n{found}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_golden_is_left_out() {
    let mut files: Vec<String> = fs::read_dir(folder())
        .expect("the folder of goldens")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    files.sort();
    let named = DIALECTS.iter().flat_map(|name| [format!("{name}.expected.ndjson"), format!("{name}.ndjson")]);
    assert_eq!(files, named.collect::<Vec<_>>());
}
