//! Aggregates and predictions in the archive, as the readers that analysts use see them.

use std::path::Path;
use std::process::Command;

use common::archive::Dataset;
use common::clock::{Clock as _, SystemClock};
use common::model::{Aggregate, CongestionLevel, Feature, HistoricalContext, ModelType, Prediction, UncertaintyBounds};
use common::store::StoreOptions;
use serde_json::{Value, json};
use tests::archive::Archive;
use tests::services;

const WINDOW_MS: i64 = 300_000;

/// A window of segment `S1` that came to `avg_speed` over so many events.
fn aggregate(window_start: i64, avg_speed: f64, event_count: u64) -> Vec<u8> {
    let aggregate = Aggregate {
        aggregate_id: format!("AGG_S1_{window_start}").into(),
        segment_id: "S1".into(),
        window_start,
        window_end: window_start + WINDOW_MS,
        avg_speed: Some(avg_speed),
        speed_stddev: None,
        speed_min: None,
        speed_max: None,
        vehicle_count: 0,
        occupancy_avg: 0.0,
        occupancy_max: None,
        congestion_level: Some(CongestionLevel::of(avg_speed)),
        coordinates: None,
        event_count,
        quality_score: 1.0,
    };
    serde_json::to_vec(&aggregate).expect("JSON")
}

/// A forecast of 50 km/h for a window's end, a quarter of an hour ahead, that knew of 70.
fn prediction(target_timestamp: i64) -> Vec<u8> {
    let at = target_timestamp - 15 * 60_000;
    let quantiles: [f64; 19] = std::array::from_fn(|i| 41.0 + i as f64);
    let prediction = Prediction {
        prediction_id: format!("PRED_S1_{at}_15").into(),
        segment_id: "S1".into(),
        prediction_timestamp: at,
        prediction_horizon: 15,
        target_timestamp,
        predicted_speed: quantiles[9],
        current_speed: 70.0,
        predicted_congestion_level: CongestionLevel::of(quantiles[9]),
        uncertainty_bounds: UncertaintyBounds { speed_lower: quantiles[0], speed_upper: quantiles[18] },
        speed_quantiles: quantiles,
        confidence_score: 0.5,
        model_version: "v0.1.0".into(),
        model_type: ModelType::LinearRegression,
        features_used: vec![Feature::HistoricalSpeed, Feature::TimeOfDay].into(),
        coordinates: None,
        historical_context: HistoricalContext::default(),
    };
    serde_json::to_vec(&prediction).expect("JSON")
}

#[test]
fn the_documented_queries_answer_what_they_promise() {
    let Some(python) = services::python() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("file://{}", dir.path().display());
    let archive = |name: &str, dataset: Dataset| {
        let mut archive = Archive::new(name, &url, &StoreOptions::default(), 2);
        archive.dataset = dataset;
        archive
    };
    let events = archive("events", Dataset::Events);
    events.produce(0..100);
    // An hour ago, so that no time is ahead.
    let start = (SystemClock.now_ms() / WINDOW_MS - 12) * WINDOW_MS;
    let aggregates = archive("aggregates", Dataset::Aggregates);
    let messages = [
        aggregate(start, 60.0, 4),
        aggregate(start + WINDOW_MS, 62.0, 3),
        // Two corrections of the first.
        aggregate(start, 58.0, 5),
        aggregate(start, 52.0, 9),
        b"no aggregate".to_vec(),
    ];
    aggregates.send(messages.map(|message| ("S1", message)));
    let predictions = archive("predictions", Dataset::Predictions);
    predictions.send([start + WINDOW_MS, start + 2 * WINDOW_MS].map(|target| ("S1", prediction(target))));
    for (archive, rows) in [(&events, 100), (&aggregates, 5), (&predictions, 2)] {
        archive.run_to_end("archive");
        archive.assert_holds(rows);
    }

    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/storage-layout.md");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("readers/documented_queries.py");
    let output = Command::new(python).arg(script).arg(document).arg(dir.path()).output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let queries = answer["queries"].as_array().expect("a list");
    assert_eq!(queries.len(), 3, "{answer}");
    let newest: Vec<Value> = queries[1].as_array().expect("rows").iter().map(|row| json!([row[2], row[3]])).collect();
    assert_eq!(newest, [json!([52.0, 9]), json!([62.0, 3])], "of each window the aggregate of the most events");
    // |50 - 52| and |50 - 62|; |70 - 52| and |70 - 62|; one of the two is within 41 and 59.
    assert_eq!(queries[2], json!([[15, 7.0, 13.0, 0.5]]));
    assert_eq!(answer["features"], json!([["HISTORICAL_SPEED", "TIME_OF_DAY"], ["HISTORICAL_SPEED", "TIME_OF_DAY"]]));
}
