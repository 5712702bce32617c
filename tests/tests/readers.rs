//! Readers that share no code with the writers see the same in the archive: `PyArrow`, `DuckDB` and, with
//! `./test.sh --long`, Spark by way of the Hive metastore. So do the queries of `docs/analysts.md`.

use std::path::Path;
use std::process::Command;

use common::archive::Dataset;
use common::hive::Catalogue;
use common::store::StoreOptions;
use serde_json::{Value, json};
use tests::archive::Archive;
use tests::messages::{self, WINDOW_MS};
use tests::{metastore, services};

/// 2024-05-06T08:00Z: the hours are 08 and 09, which are no numbers to everyone.
const START_MS: i64 = 1_714_982_400_000;
const EVENTS: i64 = 72_000;

/// Every speed of its own, so that a column outgrows its dictionary; sums of them are exact in any order.
fn event(number: i64) -> (String, Vec<u8>) {
    let segment = format!("S{:02}", number % 40);
    let mut event = json!({
        "event_id": format!("E{number}"), "segment_id": segment, "timestamp": START_MS + number * 100,
        "speed": 20.0 + (number * 7 % EVENTS) as f64 / 1024.0, "source": "SENSOR", "quality_score": 0.5,
        "coordinates": {"latitude": 34.125, "longitude": -118.25},
    });
    if number % 1_000 == 0 {
        event["metadata"] = json!({"lane": number / 1_000});
    }
    (segment, event.to_string().into_bytes())
}

/// A window of those, by its number.
fn aggregate(segment: &str, window: i64, avg_speed: f64, event_count: u64) -> Vec<u8> {
    messages::aggregate(segment, START_MS + window * WINDOW_MS, avg_speed, event_count)
}

/// A forecast for the end of a window.
fn prediction(segment: &str, window: i64, horizon: u32) -> Vec<u8> {
    messages::prediction(segment, START_MS + (window + 1) * WINDOW_MS, horizon)
}

/// Two hours of all datasets in a directory.
fn archived(directory: &Path, hive: Option<&Catalogue>) {
    let url = format!("file://{}", directory.display());
    let archive = |name: &str, dataset: Dataset| {
        let mut archive = Archive::new(name, &url, &StoreOptions::default(), 2);
        archive.dataset = dataset;
        archive.hive = hive.cloned();
        archive
    };
    let events = archive("events", Dataset::Events);
    let sent: Vec<(String, Vec<u8>)> = (0..EVENTS).map(event).collect();
    events.send(sent.iter().map(|(segment, message)| (segment.as_str(), message.clone())));
    let aggregates = archive("aggregates", Dataset::Aggregates);
    let mut sent = Vec::new();
    for window in 0..24 {
        for segment in ["S00", "S01", "S02"] {
            sent.push((segment, aggregate(segment, window, 60.0, 4)));
        }
    }
    // Corrections: the newest is the one of the most events, wherever it stands.
    sent.push(("S00", aggregate("S00", 12, 18.0, 9)));
    sent.push(("S00", aggregate("S00", 12, 30.0, 7)));
    sent.push(("S01", aggregate("S01", 13, 35.0, 5)));
    aggregates.send(sent);
    let predictions = archive("predictions", Dataset::Predictions);
    predictions.send([12, 13].map(|window| ("S00", prediction("S00", window, 15))));
    predictions.send([("S01", prediction("S01", 13, 30))]);
    for (archive, rows) in [(&events, 72_000), (&aggregates, 75), (&predictions, 3)] {
        archive.run_to_end("archive");
        archive.assert_holds(rows);
        if hive.is_some() {
            let dir = common::archive::layout::Table::Accepted(archive.dataset).dir();
            assert_eq!(metastore::partitions(archive, archive.dataset), metastore::hours(archive, &dir));
        }
    }
}

/// What `same_answers.py` says of an archive in `directory`.
fn same_answers(python: &Path, directory: &Path, spark: &[&str]) -> Value {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(python);
    command
        .arg(tests.join("readers/same_answers.py"))
        .arg(tests.join("../docs/analysts.md"))
        .arg(directory)
        .args(spark);
    let output = command.output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    serde_json::from_str(text.lines().last().unwrap_or_default()).expect("JSON")
}

fn check(answers: &Value) {
    // The one form that readers in Java parse; see `common/src/archive/parquet.rs`.
    assert_eq!(answers["writers"], json!([concat!("traffic version ", env!("CARGO_PKG_VERSION"))]));
    let encodings = answers["encodings"].as_array().expect("names");
    for encoding in ["BYTE_STREAM_SPLIT", "DELTA_BINARY_PACKED", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"] {
        assert!(encodings.contains(&json!(encoding)), "{encoding} was not read: {encodings:?}");
    }
    assert_eq!(answers["hours"], json!([["2024-05-06", "08", 36_000], ["2024-05-06", "09", 36_000]]));
    assert_eq!(answers["speeds"].as_array().map(Vec::len), Some(40));
    let newest = answers["newest"].as_array().expect("rows");
    assert_eq!(newest.len(), 72);
    assert!(newest.contains(&json!(["S00", START_MS + 12 * WINDOW_MS, 18.0, 9])), "{newest:?}");
    let page = &answers["page"];
    assert_eq!(page["hours"], json!([["2024-05-06", "08", 36_000, 40], ["2024-05-06", "09", 36_000, 40]]));
    assert_eq!(page["worst congestion"], json!([["S00", 1, 18.0], ["S01", 1, 35.0]]));
    assert_eq!(page["corrections"], json!([["S00", 2, 42.0], ["S01", 1, 25.0]]));
    // |50 - 18| and |50 - 60|; |70 - 18| and |70 - 60|. |50 - 35|; |70 - 35|.
    assert_eq!(page["forecast error by horizon"], json!([[15, 2, 21.0, 31.0, 0.0], [30, 1, 15.0, 35.0, 0.0]]));
    let payloads = page["raw payload"].as_array().expect("rows");
    assert!(payloads.iter().any(|row| row.to_string().contains(r#"\"lane\":"#)), "{payloads:?}");
}

#[test]
fn pyarrow_and_duckdb_agree() {
    let Some(python) = services::python() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    archived(dir.path(), None);
    check(&same_answers(&python, dir.path(), &[]));
}

#[test]
fn spark_by_way_of_the_metastore_agrees() {
    let Some(spark) = services::spark() else { return };
    let Some(hive) = services::hive() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let catalogue = metastore::catalogue("hive_spark", &hive, &format!("file://{}", dir.path().display()));
    archived(dir.path(), Some(&catalogue));
    let jars = spark.jars.display().to_string();
    let answers = same_answers(&spark.python, dir.path(), &[&hive, &catalogue.database, &jars]);
    assert_eq!(answers["spark"], true);
    check(&answers);
}
