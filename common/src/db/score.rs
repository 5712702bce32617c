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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stream::{Record, StoredRecord};

    /// What a database would hold.
    #[derive(Debug, Clone, Default, PartialEq)]
    struct Rows {
        aggregates: BTreeMap<(String, i64), AggregateRow>,
        predictions: BTreeMap<(String, i64, i32), (PredictionRow, Option<f64>)>,
        metrics: BTreeMap<MetricKey, Sums>,
    }

    impl Rows {
        fn facts(&self, questions: &Questions<'_>) -> Facts {
            let aggregates = questions.aggregates.iter().filter_map(|(segment, start)| {
                let row = self.aggregates.get(&((*segment).to_owned(), *start))?;
                Some(KnownAggregate {
                    segment_id: row.segment_id.clone(),
                    window_start: row.window_start,
                    event_count: row.event_count,
                    avg_speed: row.avg_speed,
                })
            });
            let asked = |row: &PredictionRow| {
                let is_meant = |(segment, target, horizon): &(&str, i64, Option<i32>)| {
                    row.segment_id == *segment
                        && row.target_timestamp == *target
                        && horizon.is_none_or(|horizon| horizon == row.horizon_minutes)
                };
                questions.predictions.iter().filter(|question| is_meant(question)).count()
            };
            let predictions = self.predictions.values().flat_map(|(row, actual)| {
                // As a join would: once for each time that it is asked for.
                (0..asked(row)).map(|_| KnownPrediction {
                    segment_id: row.segment_id.clone(),
                    prediction_timestamp: row.prediction_timestamp,
                    horizon_minutes: row.horizon_minutes,
                    target_timestamp: row.target_timestamp,
                    predicted_speed: row.predicted_speed,
                    current_speed: row.current_speed,
                    model_type: row.model_type.clone(),
                    model_version: row.model_version.clone(),
                    actual_speed: *actual,
                })
            });
            Facts { aggregates: aggregates.collect(), predictions: predictions.collect() }
        }

        fn apply(&mut self, batch: &TrafficBatch) {
            let facts = self.facts(&questions(batch));
            let changes = changes(batch, &facts);
            for row in changes.aggregates {
                self.aggregates.insert((row.segment_id.clone(), row.window_start), row.clone());
            }
            for (row, actual) in changes.predictions {
                let key = (row.segment_id.clone(), row.prediction_timestamp, row.horizon_minutes);
                self.predictions.insert(key, (row.clone(), actual));
            }
            for Actual { segment_id, prediction_timestamp, horizon_minutes, actual_speed } in changes.actuals {
                let key = (segment_id, prediction_timestamp, horizon_minutes);
                self.predictions.get_mut(&key).expect("only known ones are scored").1 = actual_speed;
            }
            for (key, sums) in changes.metrics {
                self.metrics.entry(key).or_default().add(sums, 1);
            }
            self.metrics.retain(|_, sums| sums.n != 0);
        }

        /// The sums, counted afresh.
        fn counted(&self) -> BTreeMap<MetricKey, Sums> {
            let mut metrics = BTreeMap::new();
            for (row, actual) in self.predictions.values() {
                if let Some(actual) = actual {
                    Score::of_row(row, *actual).count(&mut metrics, 1);
                }
            }
            metrics
        }
    }

    #[derive(Debug, Clone)]
    enum Message {
        Aggregate { segment: u8, window: i64, events: i64, speed: Option<f64> },
        Prediction { segment: u8, window: i64, horizon: i64, speed: f64, version: u8 },
    }

    const START_MS: i64 = 1_759_622_400_000 - 4 * WINDOW_MS;

    impl Message {
        fn value(&self) -> String {
            match self {
                Self::Aggregate { segment, window, events, speed } => {
                    let start = START_MS + window * WINDOW_MS;
                    serde_json::json!({
                        "aggregate_id": "AGG", "segment_id": format!("S{segment}"), "window_start": start,
                        "window_end": start + WINDOW_MS, "avg_speed": speed, "vehicle_count": 1, "occupancy_avg": 0.0,
                        "event_count": events, "quality_score": 1.0,
                    })
                    .to_string()
                }
                Self::Prediction { segment, window, horizon, speed, version } => {
                    let at = START_MS + window * WINDOW_MS;
                    serde_json::json!({
                        "prediction_id": "PRED", "segment_id": format!("S{segment}"), "prediction_timestamp": at,
                        "prediction_horizon": 5 * horizon, "target_timestamp": at + horizon * WINDOW_MS,
                        "predicted_speed": speed, "current_speed": 30.0, "predicted_congestion_level": "LIGHT",
                        "uncertainty_bounds": { "speed_lower": 0.0, "speed_upper": 1.0 },
                        "speed_quantiles": vec![0.0; 19], "confidence_score": 0.5, "model_version": format!("v{version}"),
                        "model_type": "PERSISTENCE", "features_used": [], "historical_context": {},
                    })
                    .to_string()
                }
            }
        }

        fn add_to(&self, batch: &mut TrafficBatch) {
            let value = self.value();
            let stored = StoredRecord { timestamp_ms: START_MS + 86_400_000, ..StoredRecord::default() };
            let record: Record<'_> = stored.as_record();
            match self {
                Self::Aggregate { .. } => batch.add_aggregate(&record, value.as_bytes()),
                Self::Prediction { .. } => batch.add_prediction(&record, value.as_bytes()),
            }
            .expect("the message is valid");
        }
    }

    /// Plays the messages in batches of these sizes.
    fn play(messages: &[&Message], sizes: &[usize]) -> Rows {
        let (mut rows, mut rest) = (Rows::default(), messages);
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at((*size).min(rest.len()));
            let mut batch = TrafficBatch::default();
            now.iter().for_each(|message| message.add_to(&mut batch));
            rows.apply(&batch);
            rest = later;
        }
        rows
    }

    fn message() -> impl Strategy<Value = Message> {
        let speed = || (0_u32..200_000).prop_map(|speed| f64::from(speed) / 1003.0);
        prop_oneof![
            (0_u8..2, 0_i64..8, 1_i64..4, proptest::option::weighted(0.8, speed()))
                .prop_map(|(segment, window, events, speed)| Message::Aggregate { segment, window, events, speed }),
            (0_u8..2, 0_i64..8, 1_i64..4, speed(), 0_u8..2).prop_map(|(segment, window, horizon, speed, version)| {
                Message::Prediction { segment, window, horizon, speed, version }
            }),
        ]
    }

    proptest! {
        #[test]
        fn neither_batches_nor_the_meeting_of_topics_matter(
            messages in proptest::collection::vec(message(), 1..60),
            turns in proptest::collection::vec(any::<bool>(), 60),
            sizes in proptest::collection::vec(1_usize..12, 1..6),
        ) {
            let all: Vec<&Message> = messages.iter().collect();
            let rows = play(&all, &[usize::MAX]);
            prop_assert_eq!(&rows.metrics, &rows.counted());
            for (row, actual) in rows.predictions.values() {
                let truth = rows.aggregates.get(&(row.segment_id.clone(), row.target_timestamp - WINDOW_MS));
                prop_assert_eq!(*actual, truth.and_then(|truth| truth.avg_speed));
            }
            prop_assert_eq!(&play(&all, &sizes), &rows);
            // Each topic in its order, the two of them in any.
            let (mut aggregates, mut predictions): (Vec<&Message>, Vec<&Message>) =
                messages.iter().rev().partition(|message| matches!(message, Message::Aggregate { .. }));
            let mut mixed = Vec::new();
            for turn in turns.iter().cycle() {
                let (first, second) =
                    if *turn { (&mut aggregates, &mut predictions) } else { (&mut predictions, &mut aggregates) };
                match first.pop().or_else(|| second.pop()) {
                    Some(message) => mixed.push(message),
                    None => break,
                }
            }
            prop_assert_eq!(&play(&mixed, &sizes), &rows);
        }
    }

    #[test]
    fn a_forecast_counts_its_error_and_that_of_the_last_value() {
        let prediction = Message::Prediction { segment: 1, window: 4, horizon: 3, speed: 42.5, version: 1 };
        let truth = |events, speed| Message::Aggregate { segment: 1, window: 6, events, speed: Some(speed) };
        let rows = play(&[&prediction, &truth(5, 40.0)], &[1]);
        let key = MetricKey {
            day: day_of(START_MS + 7 * WINDOW_MS),
            horizon_minutes: 15,
            model_version: "v1".to_owned(),
            model_type: "PERSISTENCE".to_owned(),
        };
        let once = |absolute: i64, persistence| Sums { n: 1, absolute, squared: absolute * absolute, persistence };
        assert_eq!(rows.metrics, BTreeMap::from([(key.clone(), once(2_500, 10_000))]));
        let corrected = play(&[&prediction, &truth(5, 40.0), &truth(6, 43.25)], &[1]);
        assert_eq!(corrected.metrics, BTreeMap::from([(key.clone(), once(750, 13_250))]));
        let older = play(&[&truth(6, 43.25), &truth(5, 40.0), &prediction], &[1]);
        assert_eq!(older.metrics, BTreeMap::from([(key, once(750, 13_250))]));
    }
}
