//! One payload of each dialect in `goldens/`, and beside it the event it means: readable for ever.
//!
//! `NAME.json` is the payload; `NAME.event.json` says under which settings it is read, and what comes out.

use std::fs;
use std::path::{Path, PathBuf};

use common::model::{Event, Normaliser, SpeedUnit, Volume};
use jiff::tz::TimeZone;
use serde_json::{Value, json};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn normaliser(settings: &Value) -> Normaliser {
    let speed_unit = match settings["speed_unit"].as_str() {
        Some("kmh") => SpeedUnit::Kmh,
        Some("mph") => SpeedUnit::Mph,
        other => panic!("speed_unit {other:?}"),
    };
    let zone = settings["time_zone"].as_str().expect("a zone's name");
    Normaliser { speed_unit, time_zone: TimeZone::get(zone).expect("the zone is bundled") }
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

#[test]
fn every_dialect_means_what_it_always_meant() {
    let mut wrong = Vec::new();
    let mut payloads: Vec<PathBuf> = fs::read_dir(folder())
        .expect("the folder of goldens")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| !path.to_string_lossy().ends_with(".event.json"))
        .collect();
    payloads.sort();
    assert_eq!(payloads.len(), 10, "one payload per dialect");
    for path in payloads {
        let payload = read(&path);
        let expected_path = path.with_extension("event.json");
        let expected = read(&expected_path);
        let settings = serde_json::from_str::<Value>(&expected).expect("JSON")["settings"].take();
        let event = normaliser(&settings).parse(payload.as_bytes());
        let event = event.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let found = json!({ "settings": settings, "event": readable(&event) });
        // Texts are compared, so that a number differs in its last bit or not at all.
        let found = serde_json::to_string_pretty(&found).expect("JSON");
        if found != expected.trim_end() {
            wrong.push(format!("{} should be:\n{found}", expected_path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
