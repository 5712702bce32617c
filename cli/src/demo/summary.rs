//! What a demo has done, worked out from what is committed: the log and the archive.

use std::collections::HashMap;
use std::fmt;

use anyhow::{Result, ensure};
use common::stream::{Log, TopicPartition};
use common::topics::Topics;
use serde::{Deserialize, Serialize};

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
    /// Wall time of this run.
    pub seconds: f64,
}

/// The newest aggregate of a window; older ones are corrected by it.
#[derive(Deserialize)]
struct Final<'a> {
    #[serde(borrow)]
    aggregate_id: std::borrow::Cow<'a, str>,
    event_count: u64,
}

/// Adds up what the log and the archive hold.
///
/// # Errors
/// If they can not be read, or if the sums do not agree: sent = counted + duplicates + invalid + late = raw rows.
pub fn of(log: &dyn Log, topics: &Topics, raw_rows: u64, parquet_files: u64, seconds: f64) -> Result<Summary> {
    let events = sensors::progress(log)?.map_or(0, |p| p.events);
    let mut finals: HashMap<String, u64> = HashMap::new();
    each(log, &topics.aggregates, &mut |_, value| {
        let aggregate: Final<'_> = serde_json::from_slice(value)?;
        finals.insert(aggregate.aggregate_id.into_owned(), aggregate.event_count);
        Ok(())
    })?;
    let mut totals: HashMap<u32, aggregator::Totals> = HashMap::new();
    each(log, &topics.changelog("aggregator"), &mut |(partition, key), value| {
        if let Some(newest) = aggregator::decode_totals(key, value) {
            totals.insert(partition, newest);
        }
        Ok(())
    })?;
    let sum = |of: fn(&aggregator::Totals) -> u64| totals.values().map(of).sum::<u64>();
    let summary = Summary {
        events,
        counted: finals.values().sum(),
        duplicates: sum(|t| t.duplicates),
        invalid: sum(|t| t.invalid),
        late: sum(|t| t.late),
        aggregates: finals.len() as u64,
        raw_rows,
        parquet_files,
        seconds,
    };
    let told = summary.counted + summary.duplicates + summary.invalid + summary.late;
    ensure!(
        events == told && events == summary.raw_rows && summary.counted == sum(|t| t.counted),
        "the sums do not agree: {summary}"
    );
    Ok(summary)
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
        write!(
            f,
            "{} events sent = {} counted + {} duplicates + {} invalid + {} late; {} aggregates; {} raw rows in {} Parquet files; {:.1} s",
            self.events,
            self.counted,
            self.duplicates,
            self.invalid,
            self.late,
            self.aggregates,
            self.raw_rows,
            self.parquet_files,
            self.seconds
        )
    }
}
