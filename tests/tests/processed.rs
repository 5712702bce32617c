//! Aggregates and predictions in the archive, as the readers that analysts use see them.

use std::path::Path;
use std::process::Command;

use common::archive::Dataset;
use common::clock::{Clock as _, SystemClock};
use common::store::StoreOptions;
use serde_json::{Value, json};
use tests::archive::Archive;
use tests::messages::{self, WINDOW_MS};
use tests::services;

fn aggregate(window_start: i64, avg_speed: f64, event_count: u64) -> Vec<u8> {
    messages::aggregate("S1", window_start, avg_speed, event_count)
}

fn prediction(target_timestamp: i64) -> Vec<u8> {
    messages::prediction("S1", target_timestamp, 15)
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
