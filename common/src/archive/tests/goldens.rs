//! Files of every version of the columns stay readable, by themselves and merged with today's.
//!
//! `goldens/<version>/<table>.parquet` are never written anew. A new version of the columns gets files of its own: run
//! this with `TRAFFIC_WRITE_GOLDENS=<version>` once.

use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;

use super::compaction::everything;
use super::*;
use crate::archive::layout::Table;

const AGGREGATE: &str = r#"{"aggregate_id":"AGG_S1_1789999200000","segment_id":"S1","window_start":1789999200000,"window_end":1789999500000,"avg_speed":61.5,"speed_stddev":4.25,"speed_min":50.0,"speed_max":70.0,"vehicle_count":7,"occupancy_avg":12.25,"occupancy_max":20.0,"congestion_level":"LIGHT","event_count":3,"quality_score":0.9}"#;
const PREDICTION: &str = r#"{"prediction_id":"PRED_S1_1789999500000_15","segment_id":"S1","prediction_timestamp":1789999500000,"prediction_horizon":15,"target_timestamp":1790000400000,"predicted_speed":10.5,"predicted_volume":null,"current_speed":11.0,"predicted_congestion_level":"SEVERE","uncertainty_bounds":{"speed_lower":1.5,"speed_upper":19.5},"speed_quantiles":[1.5,2.5,3.5,4.5,5.5,6.5,7.5,8.5,9.5,10.5,11.5,12.5,13.5,14.5,15.5,16.5,17.5,18.5,19.5],"confidence_score":0.5,"model_version":"v0.1.0","model_type":"LINEAR_REGRESSION","features_used":["HISTORICAL_SPEED"],"historical_context":{"avg_speed_1h":12.0}}"#;
const EVENT: &str = r#"{"event_id":"E1","segment_id":"S1","timestamp":1789999201000,"speed":61.5,"volume":7,"occupancy":12.25,"coordinates":{"latitude":34.05,"longitude":-118.24},"source":"SENSOR","quality_score":0.9,"metadata":{"lanes":"4"}}"#;

/// What the goldens hold: one record and one that is none.
fn setup(dataset: Dataset) -> Setup {
    let message = match dataset {
        Dataset::Events => EVENT,
        Dataset::Aggregates => AGGREGATE,
        Dataset::Predictions => PREDICTION,
    };
    let record = |offset: i64, value: &[u8]| StoredRecord {
        offset,
        timestamp_ms: START_MS + HOUR_MS,
        key: Some(b"S1".to_vec()),
        value: Some(value.to_vec()),
        headers: vec![Header { name: "traceparent".to_owned(), value: b"00-1".to_vec() }],
    };
    let records = vec![record(0, message.as_bytes()), record(1, b"?")];
    let mut setup = Setup::new(FakeLog::new(vec![Partition { first: 0, high: 2, records }], 10));
    setup.dataset = dataset;
    setup
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/archive/tests/goldens")
}

fn name(dataset: Dataset, path: &str) -> String {
    let kind = if path.contains("/rejected/") { "rejected-" } else { "" };
    format!("{kind}{dataset:?}.parquet").to_lowercase()
}

fn rows(content: Bytes) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(content).expect("Parquet");
    reader.build().expect("reads").next().expect("one batch").expect("rows")
}

/// Today's file of each table: its path in the store and its content.
fn today(dataset: Dataset) -> Vec<(String, Bytes)> {
    let (setup, store) = (setup(dataset), memory());
    setup.run(&store).expect("archives");
    let dirs = [Table::Accepted(dataset).dir(), Table::Rejected(dataset).dir()];
    let mut files: Vec<String> = dirs.iter().flat_map(|dir| setup.files(&store, dir)).collect();
    files.sort();
    files.dedup();
    files.into_iter().map(|path| (path.clone(), setup.read(&store, &path))).collect()
}

#[test]
#[expect(clippy::disallowed_methods, reason = "asked for by hand, once a version")]
fn files_of_every_version_hold_what_they_held() {
    if let Ok(version) = std::env::var("TRAFFIC_WRITE_GOLDENS") {
        let folder = folder().join(version);
        std::fs::create_dir_all(&folder).expect("made");
        for dataset in Dataset::ALL {
            for (path, content) in today(dataset) {
                let file = folder.join(name(dataset, &path));
                assert!(!file.exists(), "{} is there already, for ever", file.display());
                std::fs::write(file, content).expect("written");
            }
        }
    }
    let mut found = 0;
    for version in std::fs::read_dir(folder()).expect("goldens") {
        let version = version.expect("a folder").path();
        for dataset in Dataset::ALL {
            for (path, content) in today(dataset) {
                let golden = std::fs::read(version.join(name(dataset, &path))).expect("a golden");
                let (golden, now) = (rows(golden.into()), rows(content));
                for (field, column) in golden.schema().fields().iter().zip(golden.columns()) {
                    assert_eq!(now.column_by_name(field.name()), Some(column), "{version:?}: {field}");
                }
                found += 1;
            }
        }
    }
    assert!(found >= 6, "{found}");
}

/// A file without a column that came later is merged with today's, and has nulls there.
#[test]
fn files_of_every_version_are_merged_with_todays() {
    for version in std::fs::read_dir(folder()).expect("goldens") {
        let version = version.expect("a folder").path();
        for dataset in Dataset::ALL {
            let setup = setup(dataset);
            let store = memory();
            setup.run(&store).expect("archives");
            for (path, content) in today(dataset) {
                let golden = std::fs::read(version.join(name(dataset, &path))).expect("a golden");
                let old = without(&rows(golden.into()), "headers");
                let number = |name: &str| format!("{}-compacted-{:020}-{name}.parquet", setup.topic(), 0);
                let dir = path.rsplit_once('/').expect("a path").0;
                let file = format!("{dir}/{}", number("old"));
                setup.runtime.block_on(store.replace(&file, old)).expect("written");
                drop(content);
            }
            setup.compact(&store, &everything()).expect("merges");
            for dir in [Table::Accepted(dataset).dir(), Table::Rejected(dataset).dir()] {
                for path in setup.files(&store, &dir) {
                    let merged = rows(setup.read(&store, &path));
                    let headers = merged.column_by_name("headers").expect("a column");
                    assert_eq!((merged.num_rows(), headers.null_count()), (2, 1), "{path}");
                }
            }
        }
    }
}

/// The same rows as a file without one of the columns.
fn without(rows: &RecordBatch, column: &str) -> Bytes {
    let kept: Vec<usize> = (0..rows.num_columns()).filter(|i| rows.schema().field(*i).name() != column).collect();
    let rows = rows.project(&kept).expect("columns");
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(Vec::new(), rows.schema(), None).expect("a writer");
    writer.write(&rows).expect("written");
    writer.into_inner().expect("closed").into()
}
