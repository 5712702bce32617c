//! Rows in memory between two transactions: of each key the one that is to stay.

use std::collections::BTreeMap;

use super::retention::{Day, day_of};
use super::rows::{AggregateKey, AggregateRow, AlertRow, PredictionKey, PredictionRow, Refused};
use super::rows::{aggregate, alert, prediction};
use crate::model::Position;
use crate::stream::Record;

/// Rows of the traffic projection.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct TrafficBatch {
    /// The one with most events, of equals the first.
    pub aggregates: BTreeMap<AggregateKey, AggregateRow>,
    /// The last one.
    pub predictions: BTreeMap<PredictionKey, PredictionRow>,
    pub segments: BTreeMap<String, Seen>,
}

/// When and where a segment was heard of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Seen {
    pub first_ms: i64,
    pub last_ms: i64,
    /// The last one that a record held.
    pub position: Option<Position>,
}

/// Rows of the alerts projection.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct AlertBatch {
    /// By (`alert_id`, `sequence`), the first one of each.
    pub history: BTreeMap<(String, i32), AlertRow>,
}

impl TrafficBatch {
    /// Takes in a record of `processed-traffic-aggregates`.
    pub fn add_aggregate(&mut self, record: &Record<'_>, value: &[u8]) -> Result<(), Refused> {
        let row = aggregate(record, value)?;
        let seen = Seen { first_ms: row.window_start, last_ms: row.window_end, position: row.position };
        match self.segments.get_mut(&row.segment_id) {
            Some(known) => known.merge(seen),
            None => drop(self.segments.insert(row.segment_id.clone(), seen)),
        }
        let key = (row.segment_id.clone(), row.window_start);
        if self.aggregates.get(&key).is_none_or(|known| row.event_count > known.event_count) {
            self.aggregates.insert(key, row);
        }
        Ok(())
    }

    /// Takes in a record of `traffic-predictions`.
    pub fn add_prediction(&mut self, record: &Record<'_>, value: &[u8]) -> Result<(), Refused> {
        let row = prediction(record, value)?;
        self.predictions.insert((row.segment_id.clone(), row.prediction_timestamp, row.horizon_minutes), row);
        Ok(())
    }

    pub fn rows(&self) -> usize {
        self.aggregates.len() + self.predictions.len()
    }

    /// The newest times of aggregates and predictions, epoch ms.
    pub fn newest_ms(&self) -> (Option<i64>, Option<i64>) {
        let aggregates = self.aggregates.keys().map(|(_, start)| *start).max();
        (aggregates, self.predictions.keys().map(|(_, at, _)| *at).max())
    }

    /// Drops rows of days that do not stay; returns how many.
    pub fn expire(&mut self, aggregates_from: Option<Day>, predictions_from: Option<Day>) -> usize {
        let before = self.rows();
        if let Some(first) = aggregates_from {
            self.aggregates.retain(|(_, start), _| day_of(*start) >= first);
        }
        if let Some(first) = predictions_from {
            self.predictions.retain(|(_, at, _), _| day_of(*at) >= first);
        }
        before - self.rows()
    }
}

impl Seen {
    fn merge(&mut self, later: Self) {
        self.first_ms = self.first_ms.min(later.first_ms);
        self.last_ms = self.last_ms.max(later.last_ms);
        self.position = later.position.or(self.position);
    }
}

impl AlertBatch {
    /// Takes in a record of `traffic-alerts`.
    pub fn add(&mut self, record: &Record<'_>, value: &[u8]) -> Result<(), Refused> {
        let row = alert(record, value)?;
        self.history.entry((row.alert_id.clone(), row.sequence)).or_insert(row);
        Ok(())
    }

    /// The newest transition of each alert.
    pub fn present(&self) -> Vec<&AlertRow> {
        let mut present: BTreeMap<&str, &AlertRow> = BTreeMap::new();
        // Ascending by sequence within an alert.
        present.extend(self.history.values().map(|row| (row.alert_id.as_str(), row)));
        present.into_values().collect()
    }
}
