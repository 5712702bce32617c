//! Aggregates and predictions: what was written comes back equal, to the last byte of its JSON.

use arrow::array::RecordBatch;
use arrow::datatypes::ArrowPrimitiveType;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::model::{
    Aggregate, CongestionLevel, Feature, HistoricalContext, ModelType, Position, Prediction, UncertaintyBounds,
};

/// A row, its columns looked up by name.
struct Row<'a>(&'a RecordBatch, usize);

impl Row<'_> {
    fn primitive<T: ArrowPrimitiveType>(&self, name: &str) -> Option<T::Native> {
        let column = self.0.column_by_name(name).expect("a column").as_primitive::<T>();
        column.iter().nth(self.1).expect("a row")
    }

    fn number(&self, name: &str) -> Option<f64> {
        self.primitive::<Float64Type>(name)
    }

    fn integer(&self, name: &str) -> i64 {
        self.primitive::<Int64Type>(name).expect("no null")
    }

    fn instant(&self, name: &str) -> i64 {
        self.primitive::<TimestampMillisecondType>(name).expect("no null")
    }

    fn text(&self, name: &str) -> Option<String> {
        let column = self.0.column_by_name(name).expect("a column").as_string::<i32>();
        column.iter().nth(self.1).expect("a row").map(str::to_owned)
    }

    fn id(&self, name: &str) -> std::borrow::Cow<'static, str> {
        self.text(name).expect("no null").into()
    }

    fn words<T: DeserializeOwned>(&self, name: &str) -> Vec<T> {
        let list = self.0.column_by_name(name).expect("a column").as_list::<i32>().value(self.1);
        list.as_string::<i32>().iter().map(|word| named(word.expect("no null"))).collect()
    }

    fn position(&self) -> Option<Position> {
        Some(Position { latitude: self.number("latitude")?, longitude: self.number("longitude")? })
    }

    fn aggregate(&self) -> Aggregate<'static> {
        Aggregate {
            aggregate_id: self.id("aggregate_id"),
            segment_id: self.id("segment_id"),
            window_start: self.instant("window_start"),
            window_end: self.instant("window_end"),
            avg_speed: self.number("avg_speed"),
            speed_stddev: self.number("speed_stddev"),
            speed_min: self.number("speed_min"),
            speed_max: self.number("speed_max"),
            vehicle_count: self.integer("vehicle_count").unsigned_abs(),
            occupancy_avg: self.number("occupancy_avg").expect("no null"),
            occupancy_max: self.number("occupancy_max"),
            congestion_level: self.text("congestion_level").as_deref().map(named),
            coordinates: self.position(),
            event_count: self.integer("event_count").unsigned_abs(),
            quality_score: self.number("quality_score").expect("no null"),
        }
    }

    fn prediction(&self) -> Prediction<'static> {
        let number = |name: &str| self.number(name).expect("no null");
        Prediction {
            prediction_id: self.id("prediction_id"),
            segment_id: self.id("segment_id"),
            prediction_timestamp: self.instant("prediction_timestamp"),
            prediction_horizon: u32::try_from(self.integer("prediction_horizon")).expect("minutes"),
            target_timestamp: self.instant("target_timestamp"),
            predicted_speed: number("predicted_speed"),
            predicted_volume: self
                .primitive::<Int64Type>("predicted_volume")
                .map(|n| u32::try_from(n).expect("vehicles")),
            current_speed: number("current_speed"),
            predicted_congestion_level: named(&self.id("predicted_congestion_level")),
            uncertainty_bounds: UncertaintyBounds {
                speed_lower: number("speed_lower"),
                speed_upper: number("speed_upper"),
            },
            speed_quantiles: std::array::from_fn(|i| number(&format!("q{:02}", 5 * (i + 1)))),
            confidence_score: number("confidence_score"),
            model_version: self.id("model_version"),
            model_type: named(&self.id("model_type")),
            features_used: self.words::<Feature>("features_used").into(),
            coordinates: self.position(),
            historical_context: HistoricalContext {
                avg_speed_1h: self.number("avg_speed_1h"),
                avg_speed_24h: self.number("avg_speed_24h"),
                avg_speed_7d: self.number("avg_speed_7d"),
            },
        }
    }
}

fn named<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_value(Value::String(name.to_owned())).expect("a name")
}

/// Archives these messages, a record each, and returns all rows of the accepted tree.
fn archived(dataset: Dataset, messages: &[impl Serialize]) -> (Setup, Store, Vec<RecordBatch>) {
    let records = messages.iter().enumerate().map(|(i, message)| StoredRecord {
        offset: i64::try_from(i).expect("few"),
        timestamp_ms: START_MS + 10 * HOUR_MS,
        key: Some(b"S".to_vec()),
        value: Some(serde_json::to_vec(message).expect("JSON")),
        headers: Vec::new(),
    });
    let records: Vec<StoredRecord> = records.chain([marker(i64::try_from(messages.len()).expect("few"))]).collect();
    let high = i64::try_from(records.len()).expect("few");
    let mut setup = Setup::new(FakeLog::new(vec![Partition { first: 0, high, records }], 10));
    setup.dataset = dataset;
    let store = memory();
    let summary = setup.run(&store).expect("archives");
    assert_eq!(summary.rows, messages.len() as u64, "a marker is no row");
    setup.assert_complete(&store);
    let mut batches = Vec::new();
    for path in setup.files(&store, &layout::Table::Accepted(dataset).dir()) {
        let reader = ParquetRecordBatchReaderBuilder::try_new(setup.read(&store, &path)).expect("Parquet");
        batches.extend(reader.build().expect("reads").map(|batch| batch.expect("rows")));
    }
    (setup, store, batches)
}

/// Checks that each message is the row of its offset, needs no payload, and is written as it was.
fn assert_comes_back<T: Serialize + PartialEq + std::fmt::Debug>(
    dataset: Dataset,
    messages: &[T],
    back: impl Fn(&Row<'_>) -> T,
) {
    let (_, _, batches) = archived(dataset, messages);
    let mut rows = 0;
    for batch in &batches {
        for at in 0..batch.num_rows() {
            let row = Row(batch, at);
            let message = &messages[usize::try_from(row.integer("offset")).expect("an offset")];
            let found = back(&row);
            assert_eq!(&found, message);
            assert_eq!(serde_json::to_vec(&found).expect("JSON"), serde_json::to_vec(message).expect("JSON"));
            rows += 1;
        }
        let payload = batch.column_by_name("payload").expect("a column");
        assert_eq!(payload.null_count(), batch.num_rows(), "columns say everything");
    }
    assert_eq!(rows, messages.len());
}

fn level() -> impl Strategy<Value = CongestionLevel> {
    (0.0..100.0f64).prop_map(CongestionLevel::of)
}

fn position() -> impl Strategy<Value = Option<Position>> {
    let position = (-90.0..90.0f64, -180.0..180.0f64);
    option::of(position.prop_map(|(latitude, longitude)| Position { latitude, longitude }))
}

fn aggregate() -> impl Strategy<Value = Aggregate<'static>> {
    let speeds = (option::of(0.0..200.0f64), option::of(0.0..100.0f64), option::of(0.0..200.0f64), 0.0..100.0f64);
    let counts = (0u64..100_000, 1u64..u64::from(u32::MAX), 0.0..1.0f64, option::of(0.0..100.0f64));
    (0u32..50, 0i64..100, speeds, counts, option::of(level()), position()).prop_map(
        |(segment, window, (avg, stddev, min, occupancy), (vehicles, events, quality, most), level, coordinates)| {
            let window_start = START_MS + window * 300_000;
            Aggregate {
                aggregate_id: format!("AGG_S{segment}_{window_start}").into(),
                segment_id: format!("S{segment}").into(),
                window_start,
                window_end: window_start + 300_000,
                avg_speed: avg,
                speed_stddev: stddev,
                speed_min: min,
                speed_max: avg,
                vehicle_count: vehicles,
                occupancy_avg: occupancy,
                occupancy_max: most,
                congestion_level: level,
                coordinates,
                event_count: events,
                quality_score: quality,
            }
        },
    )
}

fn prediction() -> impl Strategy<Value = Prediction<'static>> {
    let features = prop_oneof![
        Just(Feature::HistoricalSpeed),
        Just(Feature::TimeOfDay),
        Just(Feature::DayOfWeek),
        Just(Feature::AdjacentSegments)
    ];
    let context = (option::of(0.0..200.0f64), option::of(0.0..200.0f64), option::of(0.0..200.0f64));
    let model = prop_oneof![Just(ModelType::LinearRegression), Just(ModelType::Persistence)];
    let how = (model, proptest::collection::vec(features, 0..5), context, level(), position());
    let speeds = proptest::array::uniform19(0.0..200.0f64);
    (0u32..50, 0i64..100, 1u32..=60, speeds, how).prop_map(
        |(segment, window, horizon, quantiles, (model_type, features, (hour, day, week), level, coordinates))| {
            let at = START_MS + window * 300_000;
            Prediction {
                prediction_id: format!("PRED_S{segment}_{at}_{horizon}").into(),
                segment_id: format!("S{segment}").into(),
                prediction_timestamp: at,
                prediction_horizon: horizon,
                target_timestamp: at + i64::from(horizon) * 60_000,
                predicted_speed: quantiles[9],
                predicted_volume: (segment % 2 == 0).then_some(segment),
                current_speed: quantiles[3],
                predicted_congestion_level: level,
                uncertainty_bounds: UncertaintyBounds { speed_lower: quantiles[0], speed_upper: quantiles[18] },
                speed_quantiles: quantiles,
                confidence_score: quantiles[1] / 200.0,
                model_version: "v0.1.0".into(),
                model_type,
                features_used: features.into(),
                coordinates,
                historical_context: HistoricalContext { avg_speed_1h: hour, avg_speed_24h: day, avg_speed_7d: week },
            }
        },
    )
}

fn few() -> TestRunner {
    TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() })
}

#[test]
fn every_aggregate_written_comes_back_equal() {
    let messages = proptest::collection::vec(aggregate(), 1..60);
    few()
        .run(&messages, |messages| {
            assert_comes_back(Dataset::Aggregates, &messages, |row| row.aggregate());
            Ok(())
        })
        .expect("holds");
}

#[test]
fn every_prediction_written_comes_back_equal() {
    let messages = proptest::collection::vec(prediction(), 1..60);
    few()
        .run(&messages, |messages| {
            assert_comes_back(Dataset::Predictions, &messages, |row| row.prediction());
            Ok(())
        })
        .expect("holds");
}

#[test]
fn rows_lie_by_event_time_and_in_order_and_what_is_none_beside_them() {
    let mut one = aggregate().new_tree(&mut TestRunner::deterministic()).expect("a value").current();
    one.window_start = START_MS + HOUR_MS - 300_000;
    let mut next = one.clone();
    next.window_start += 300_000;
    let mut correction = one.clone();
    correction.event_count += 1;
    let values =
        |messages: &[&Aggregate<'_>]| messages.iter().map(|m| serde_json::to_value(m).expect("JSON")).collect();
    let mut messages: Vec<Value> = values(&[&next, &one, &correction]);
    messages.push(serde_json::json!({"no": "aggregate"}));
    let (setup, store, batches) = archived(Dataset::Aggregates, &messages);
    let files = setup.files(&store, "/traffic-data/processed");
    let places: Vec<&str> = files.iter().map(|path| path.rsplit_once('/').expect("a path").0).collect();
    assert_eq!(
        places,
        [
            "/traffic-data/processed/aggregates/date=2026-09-21/hour=14",
            "/traffic-data/processed/aggregates/date=2026-09-21/hour=15",
            // By the record's time, ten hours later.
            "/traffic-data/processed/rejected/aggregates/date=2026-09-22/hour=00",
        ]
    );
    let counts = |batch: &RecordBatch| -> Vec<i64> {
        (0..batch.num_rows()).map(|at| Row(batch, at).integer("event_count")).collect()
    };
    let (first, corrected) =
        (i64::try_from(one.event_count).expect("few"), i64::try_from(correction.event_count).expect("few"));
    assert_eq!(counts(&batches[0]), [first, corrected], "a correction is a row of its own");
    assert_eq!(batches[0].column_by_name("payload").expect("a column").null_count(), 0, "no order of fields is kept");
}
