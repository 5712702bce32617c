//! Where truth and forecast meet: what a batch changes, given what the database already holds. Pure.
//!
//! A forecast is scored by the aggregate of its segment whose window ends at its target. Whichever of the two comes
//! first waits as a row for the other, in this batch or in the database, so the outcome depends on what came and never
//! on the order in which the two topics came together. Sums are of whole metres per hour: they take corrections back
//! exactly.

use std::collections::{BTreeMap, HashMap};

use super::batch::TrafficBatch;
use super::retention::{Day, day_of};
use super::rows::{AggregateRow, PredictionRow, WINDOW_MS};

/// What the database holds of what a batch touches.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Facts {
    pub aggregates: Vec<KnownAggregate>,
    pub predictions: Vec<KnownPrediction>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct KnownAggregate {
    pub segment_id: String,
    pub window_start: i64,
    pub event_count: i64,
    pub avg_speed: Option<f64>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct KnownPrediction {
    pub segment_id: String,
    pub prediction_timestamp: i64,
    pub horizon_minutes: i32,
    pub target_timestamp: i64,
    pub predicted_speed: f64,
    pub current_speed: f64,
    pub model_type: String,
    pub model_version: String,
    pub actual_speed: Option<f64>,
}

/// What to look up for a batch.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Questions<'b> {
    /// Aggregates by segment and `window_start`.
    pub aggregates: Vec<(&'b str, i64)>,
    /// Predictions by segment and target, of one horizon or of all.
    pub predictions: Vec<(&'b str, i64, Option<i32>)>,
}

/// What is to be written, in one transaction.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Changes<'b> {
    pub aggregates: Vec<&'b AggregateRow>,
    /// With the actual speed, where it is known.
    pub predictions: Vec<(&'b PredictionRow, Option<f64>)>,
    /// Predictions of the database that have met their truth, or another one than before.
    pub actuals: Vec<Actual>,
    pub metrics: BTreeMap<MetricKey, Sums>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Actual {
    pub segment_id: String,
    pub prediction_timestamp: i64,
    pub horizon_minutes: i32,
    pub actual_speed: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MetricKey {
    /// Of the target.
    pub day: Day,
    pub horizon_minutes: i32,
    pub model_version: String,
    pub model_type: String,
}

/// Sums over scored forecasts; errors in whole metres per hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub n: i64,
    pub absolute: i64,
    pub squared: i64,
    pub persistence: i64,
}

impl Sums {
    fn add(&mut self, other: Self, sign: i64) {
        self.n += sign * other.n;
        self.absolute += sign * other.absolute;
        self.squared += sign * other.squared;
        self.persistence += sign * other.persistence;
    }
}

/// What a scored forecast counts.
struct Score<'a> {
    target_timestamp: i64,
    horizon_minutes: i32,
    model_version: &'a str,
    model_type: &'a str,
    sums: Sums,
}

fn metres_per_hour(speed_kmh: f64) -> i64 {
    // Speeds are within 0 to 1000 km/h, so the difference fits.
    (speed_kmh * 1000.0).round() as i64
}

impl<'a> Score<'a> {
    fn of_known(known: &'a KnownPrediction, actual: f64) -> Self {
        Self {
            target_timestamp: known.target_timestamp,
            horizon_minutes: known.horizon_minutes,
            model_version: &known.model_version,
            model_type: &known.model_type,
            sums: sums(known.predicted_speed, known.current_speed, actual),
        }
    }

    fn of_row(row: &'a PredictionRow, actual: f64) -> Self {
        Self {
            target_timestamp: row.target_timestamp,
            horizon_minutes: row.horizon_minutes,
            model_version: &row.model_version,
            model_type: &row.model_type,
            sums: sums(row.predicted_speed, row.current_speed, actual),
        }
    }

    fn count(&self, metrics: &mut BTreeMap<MetricKey, Sums>, sign: i64) {
        let key = MetricKey {
            day: day_of(self.target_timestamp),
            horizon_minutes: self.horizon_minutes,
            model_version: self.model_version.to_owned(),
            model_type: self.model_type.to_owned(),
        };
        metrics.entry(key).or_default().add(self.sums, sign);
    }
}

fn sums(predicted: f64, current: f64, actual: f64) -> Sums {
    let error = metres_per_hour(predicted - actual);
    Sums { n: 1, absolute: error.abs(), squared: error * error, persistence: metres_per_hour(current - actual).abs() }
}

/// What the database must be asked before [`changes`] can tell.
pub(super) fn questions(batch: &TrafficBatch) -> Questions<'_> {
    let windows = batch.aggregates.values().map(|row| (row.segment_id.as_str(), row.window_start));
    let targets = batch.predictions.values().map(|row| (row.segment_id.as_str(), row.target_timestamp - WINDOW_MS));
    let mut aggregates: Vec<_> = windows.chain(targets).collect();
    aggregates.sort_unstable();
    aggregates.dedup();
    // All forecasts of a window that has ended, and those that are replaced.
    let ended = batch.aggregates.values().map(|row| (row.segment_id.as_str(), row.window_end, None));
    let new = batch.predictions.values().filter(|row| !batch.has_window(&row.segment_id, row.target_timestamp));
    let new = new.map(|row| (row.segment_id.as_str(), row.target_timestamp, Some(row.horizon_minutes)));
    Questions { aggregates, predictions: ended.chain(new).collect() }
}

impl TrafficBatch {
    fn has_window(&self, segment_id: &str, end: i64) -> bool {
        self.aggregates.contains_key(&(segment_id.to_owned(), end - WINDOW_MS))
    }
}

/// What the batch changes.
pub(super) fn changes<'b>(batch: &'b TrafficBatch, facts: &Facts) -> Changes<'b> {
    let mut changes = Changes::default();
    let mut counts: HashMap<(&str, i64), i64> = HashMap::new();
    // Mean speeds by segment and end of window, as they will be.
    let mut speeds: HashMap<(&str, i64), Option<f64>> = HashMap::new();
    for known in &facts.aggregates {
        counts.insert((&known.segment_id, known.window_start), known.event_count);
        speeds.insert((&known.segment_id, known.window_start + WINDOW_MS), known.avg_speed);
    }
    for row in batch.aggregates.values() {
        let known = counts.get(&(row.segment_id.as_str(), row.window_start));
        if known.is_none_or(|events| row.event_count > *events) {
            speeds.insert((&row.segment_id, row.window_end), row.avg_speed);
            changes.aggregates.push(row);
        }
    }
    for known in &facts.predictions {
        let key = (known.segment_id.clone(), known.prediction_timestamp, known.horizon_minutes);
        let actual = speeds.get(&(known.segment_id.as_str(), known.target_timestamp)).copied().flatten();
        let replaced = batch.predictions.contains_key(&key);
        if !replaced && actual == known.actual_speed {
            continue;
        }
        if let Some(actual) = known.actual_speed {
            Score::of_known(known, actual).count(&mut changes.metrics, -1);
        }
        if replaced {
            continue;
        }
        if let Some(actual) = actual {
            Score::of_known(known, actual).count(&mut changes.metrics, 1);
        }
        let (segment_id, prediction_timestamp, horizon_minutes) = key;
        changes.actuals.push(Actual { segment_id, prediction_timestamp, horizon_minutes, actual_speed: actual });
    }
    for row in batch.predictions.values() {
        let actual = speeds.get(&(row.segment_id.as_str(), row.target_timestamp)).copied().flatten();
        if let Some(actual) = actual {
            Score::of_row(row, actual).count(&mut changes.metrics, 1);
        }
        changes.predictions.push((row, actual));
    }
    changes.metrics.retain(|_, sums| *sums != Sums::default());
    changes
}
