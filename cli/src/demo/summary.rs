//! What a demo has done, worked out from what is committed: the log and the archive.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use anyhow::{Result, ensure};
use common::model::{Alert, AlertStatus, AlertType, Prediction};
use common::stream::{Log, TopicPartition};
use common::topics::Topics;
use serde::{Deserialize, Serialize};

use super::incidents::{self, Open};
use super::sensors;

/// The demo's last line.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Events sent.
    pub events: u64,
    /// Events in final aggregates.
    pub counted: u64,
    pub duplicates: u64,
    pub invalid: u64,
    pub late: u64,
    /// Final aggregates: one a segment and window.
    pub aggregates: u64,
    /// Rows of the raw archive, rejected ones included.
    pub raw_rows: u64,
    pub parquet_files: u64,
    /// Forecasts: one a segment, window and horizon.
    pub predictions: u64,
    /// Mean absolute error of the forecasts whose truth has come, by minutes ahead.
    pub mae_kmh: BTreeMap<String, f64>,
    /// The same of the last value as forecast.
    pub persistence_mae_kmh: BTreeMap<String, f64>,
    pub alerts_opened: u64,
    pub alerts_resolved: u64,
    /// Simulated incidents that have begun.
    pub incidents: u64,
    /// Those that slowed the traffic down to congestion: see [`Found`].
    pub incidents_congested: u64,
    /// Of these, those with an alert of congestion there and then.
    pub incidents_alerted: u64,
    /// Wall time of this run.
    pub seconds: f64,
}

/// The newest aggregate of a window; older ones are corrected by it.
#[derive(Deserialize)]
struct Final<'a> {
    #[serde(borrow)]
    segment_id: Cow<'a, str>,
    window_end: i64,
    avg_speed: Option<f64>,
    event_count: u64,
}

/// Adds up what the log and the archive hold.
///
/// # Errors
/// If they can not be read, or if the sums do not agree: sent = counted + duplicates + invalid + late = raw rows.
pub fn of(log: &dyn Log, topics: &Topics, raw_rows: u64, parquet_files: u64, seconds: f64) -> Result<Summary> {
    let progress = sensors::progress(log)?;
    let events = progress.as_ref().map_or(0, |p| p.events);
    let finals = finals(log, topics)?;
    let (accuracy, alerts) = (accuracy(log, topics, &finals)?, alerts(log, topics)?);
    let mut totals: HashMap<u32, aggregator::Totals> = HashMap::new();
    each(log, &topics.changelog("aggregator"), &mut |(partition, key), value| {
        if let Some(newest) = aggregator::decode_totals(key, value) {
            totals.insert(partition, newest);
        }
        Ok(())
    })?;
    let sum = |of: fn(&aggregator::Totals) -> u64| totals.values().map(of).sum::<u64>();
    let found = progress.map_or_else(Default::default, |p| incidents::find(&p.config, &finals, &alerts.congestion));
    let summary = Summary {
        events,
        counted: finals.values().map(|(count, _)| count).sum(),
        duplicates: sum(|t| t.duplicates),
        invalid: sum(|t| t.invalid),
        late: sum(|t| t.late),
        aggregates: finals.len() as u64,
        raw_rows,
        parquet_files,
        predictions: accuracy.predictions,
        mae_kmh: accuracy.mean(|sums| sums.forecast),
        persistence_mae_kmh: accuracy.mean(|sums| sums.persistence),
        alerts_opened: alerts.opened,
        alerts_resolved: alerts.resolved,
        incidents: found.incidents,
        incidents_congested: found.congested,
        incidents_alerted: found.alerted,
        seconds,
    };
    let told = summary.counted + summary.duplicates + summary.invalid + summary.late;
    ensure!(
        events == told && events == summary.raw_rows && summary.counted == sum(|t| t.counted),
        "the sums do not agree: {summary}"
    );
    Ok(summary)
}

/// Events and mean speed of every (segment, window end).
pub type Finals = HashMap<(String, i64), (u64, Option<f64>)>;

fn finals(log: &dyn Log, topics: &Topics) -> Result<Finals> {
    let mut finals = Finals::new();
    each(log, &topics.aggregates, &mut |_, value| {
        let last: Final<'_> = serde_json::from_slice(value)?;
        finals.insert((last.segment_id.into_owned(), last.window_end), (last.event_count, last.avg_speed));
        Ok(())
    })?;
    Ok(finals)
}

/// How forecasts did.
#[derive(Default)]
struct Accuracy {
    predictions: u64,
    /// By horizon in minutes.
    sums: BTreeMap<u32, Errors>,
}

/// Absolute errors in km/h, summed.
#[derive(Default)]
struct Errors {
    scored: f64,
    forecast: f64,
    persistence: f64,
}

impl Accuracy {
    fn mean(&self, of: fn(&Errors) -> f64) -> BTreeMap<String, f64> {
        let scored = self.sums.iter().filter(|(_, sums)| sums.scored > 0.0);
        scored
            .map(|(horizon, sums)| (horizon.to_string(), (of(sums) / sums.scored * 1000.0).round() / 1000.0))
            .collect()
    }
}

fn accuracy(log: &dyn Log, topics: &Topics, finals: &Finals) -> Result<Accuracy> {
    let (mut accuracy, mut seen) = (Accuracy::default(), HashSet::new());
    each(log, &topics.predictions, &mut |_, value| {
        let made: Prediction<'_> = serde_json::from_slice(value)?;
        ensure!(seen.insert(made.prediction_id.to_string()), "{} was forecast twice", made.prediction_id);
        accuracy.predictions += 1;
        if let Some((_, Some(speed))) = finals.get(&(made.segment_id.into_owned(), made.target_timestamp)) {
            let sums = accuracy.sums.entry(made.prediction_horizon).or_default();
            sums.scored += 1.0;
            sums.forecast += (made.predicted_speed - speed).abs();
            sums.persistence += (made.current_speed - speed).abs();
        }
        Ok(())
    })?;
    Ok(accuracy)
}

/// What became of alerts.
#[derive(Default)]
struct Alerts {
    opened: u64,
    resolved: u64,
    /// When alerts of congestion were open, by segment.
    congestion: HashMap<String, Vec<Open>>,
}

fn alerts(log: &dyn Log, topics: &Topics) -> Result<Alerts> {
    let (mut alerts, mut seen) = (Alerts::default(), HashSet::new());
    each(log, &topics.alerts, &mut |_, value| {
        let alert: Alert<'_> = serde_json::from_slice(value)?;
        let transition = (alert.alert_id.to_string(), alert.sequence);
        ensure!(seen.insert(transition), "transition {} of {} is there twice", alert.sequence, alert.alert_id);
        alerts.opened += u64::from(alert.sequence == 1);
        alerts.resolved += u64::from(matches!(alert.status, AlertStatus::Resolved | AlertStatus::Cleared));
        if alert.alert_type == AlertType::Congestion {
            let open = alerts.congestion.entry(alert.segment_id.into_owned()).or_default();
            if alert.sequence == 1 {
                open.push(Open { from_ms: alert.opened_at, until_ms: i64::MAX });
            }
            if let (Some(last), Some(resolved_at)) = (open.last_mut(), alert.resolved_at) {
                last.until_ms = resolved_at;
            }
        }
        Ok(())
    })?;
    Ok(alerts)
}

/// Takes (partition, key) and value.
type Take<'a> = dyn FnMut((u32, &[u8]), &[u8]) -> Result<()> + 'a;

/// Every record of a topic that has a key and a value.
fn each(log: &dyn Log, topic: &str, take: &mut Take<'_>) -> Result<()> {
    for partition in 0..log.partitions(topic)?.unwrap_or(0) {
        let mut reader = log.read(&TopicPartition::new(topic, partition), None)?;
        let mut outcome = Ok(());
        while reader.next(&mut |record| {
            if let (Some(key), Some(value), true) = (record.key, record.value, outcome.is_ok()) {
                outcome = take((partition, key), value);
            }
        })? {}
        outcome?;
    }
    Ok(())
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} events sent = {} counted + {} duplicates + {} invalid + {} late; {} raw rows in {} Parquet files",
            self.events, self.counted, self.duplicates, self.invalid, self.late, self.raw_rows, self.parquet_files
        )?;
        writeln!(
            f,
            "{} aggregates, {} forecasts, {} alerts opened, {} resolved",
            self.aggregates, self.predictions, self.alerts_opened, self.alerts_resolved
        )?;
        writeln!(
            f,
            "{} incidents simulated, {} of them congested the road, {} of these had an alert there and then",
            self.incidents, self.incidents_congested, self.incidents_alerted
        )?;
        for (horizon, mae) in &self.mae_kmh {
            let last = self.persistence_mae_kmh.get(horizon).copied().unwrap_or(f64::NAN);
            writeln!(f, "{horizon:>4} min ahead: mean error {mae:.2} km/h; the last value's {last:.2}")?;
        }
        write!(f, "{:.1} s", self.seconds)
    }
}
