//! Input that was written down beforehand, and the comparison of what came of it with an undisturbed run.

use std::collections::{BTreeMap, VecDeque};

use common::model::Aggregate;
use common::stream::{Cleanup, StoredRecord, TopicSpec};

use super::chance::Chance;
use super::sensors::{START_MS, WINDOW_MS};
use super::world::{Feed, Sent};

/// Wall time at which scripts are played, long after their event times: no record is ahead of its time, and what
/// waits for others waits as long as it takes.
pub const PLAYED_AT_MS: i64 = START_MS + 864_000_000;

/// How far a process's clock may be ahead of the log's.
pub const AHEAD_MS: i64 = 3_600_000;

/// Records in order by topic and partition; which of these goes on is up to chance.
pub struct Script {
    places: Vec<VecDeque<Sent>>,
    /// What is kept for processes that were restored when everything else was over.
    epilogue: Vec<Sent>,
    /// Markers not counted.
    length: usize,
    chance: Chance,
}

impl Script {
    pub fn new(records: &[Sent], seed: u64) -> Self {
        let mut places: BTreeMap<(&str, u32), VecDeque<Sent>> = BTreeMap::new();
        for sent in records {
            places.entry((&sent.topic, sent.partition)).or_default().push_back(sent.clone());
        }
        let length = records.iter().filter(|sent| sent.marker_ms.is_none()).count();
        let mut places: Vec<_> = places.into_values().collect();
        let rest = |place: &mut VecDeque<Sent>| place.split_off(place.len() - place.len() / 8);
        let epilogue = places.iter_mut().flat_map(rest).collect();
        Self { places, epilogue, length, chance: Chance::new(seed ^ 0x5c21) }
    }
}

impl Feed for Script {
    fn length(&self) -> usize {
        self.length
    }

    fn done(&self) -> bool {
        self.places.is_empty()
    }

    fn next(&mut self, _now_ms: i64) -> Vec<Sent> {
        let i = self.chance.index(self.places.len());
        // Now and then one is far ahead of the others.
        let most = if self.chance.one_in(20) { 150 } else { 8 };
        let n = (1 + self.chance.index(most)).min(self.places[i].len());
        let next = self.places[i].drain(..n).collect();
        self.places.retain(|place| !place.is_empty());
        next
    }

    fn last(&mut self) -> (i64, Vec<Sent>) {
        (0, std::mem::take(&mut self.epilogue))
    }
}

/// Keeps the first `events` records, and all markers: without these some would wait for ever.
pub fn shorten(records: &mut Vec<Sent>, events: Option<usize>) {
    let mut left = events.unwrap_or(usize::MAX);
    records.retain(|sent| {
        let kept = left > 0;
        left -= usize::from(kept && sent.marker_ms.is_none());
        kept || sent.marker_ms.is_some()
    });
}

/// The end of the window with this number, epoch ms.
pub fn end_of(step: i64) -> i64 {
    START_MS + step * WINDOW_MS
}

pub fn marker(topic: &str, partition: u32, step: i64) -> Sent {
    Sent { topic: topic.to_owned(), partition, key: None, value: None, marker_ms: Some(end_of(step)) }
}

pub fn record(topic: &str, partition: u32, segment: &str, value: Vec<u8>) -> Sent {
    let key = Some(segment.as_bytes().to_vec());
    Sent { topic: topic.to_owned(), partition, key, value: Some(value), marker_ms: None }
}

/// What the window that ends with `step` came to.
pub fn aggregate(topic: &str, partition: u32, segment: &str, step: i64, speed: Option<f64>, events: u64) -> Sent {
    let window_start = end_of(step - 1);
    let aggregate = Aggregate {
        aggregate_id: format!("AGG_{segment}_{window_start}").into(),
        segment_id: segment.into(),
        window_start,
        window_end: end_of(step),
        avg_speed: speed,
        speed_stddev: None,
        speed_min: None,
        speed_max: None,
        vehicle_count: 0,
        occupancy_avg: 0.0,
        occupancy_max: None,
        congestion_level: None,
        coordinates: None,
        event_count: events,
        quality_score: 1.0,
    };
    record(topic, partition, segment, serde_json::to_vec(&aggregate).expect("aggregates are JSON"))
}

pub fn topic(name: &str, partitions: u32, compacted: bool) -> TopicSpec {
    let cleanup = if compacted { Cleanup::Compact } else { Cleanup::Delete { retention_ms: None } };
    TopicSpec { name: name.to_owned(), partitions, replication: 1, cleanup }
}

/// Where two partitions' records differ first, in key or value.
pub fn compare(place: &str, found: &[StoredRecord], expected: &[StoredRecord]) -> Result<(), String> {
    let content = |record: &StoredRecord| (record.key.clone(), record.value.clone());
    let differs = found.iter().zip(expected).position(|(f, e)| content(f) != content(e));
    let longer = || (found.len() != expected.len()).then(|| found.len().min(expected.len()));
    let Some(at) = differs.or_else(longer) else { return Ok(()) };
    let value = |records: &[StoredRecord]| records.get(at).and_then(|record| record.value.clone()).unwrap_or_default();
    let (found_value, expected_value) = (value(found), value(expected));
    let same = found_value.iter().zip(&expected_value).take_while(|(f, e)| f == e).count();
    Err(format!(
        "{place}: {} records instead of {}; number {at} begins\n  {}\nand goes on\n  {}\ninstead of\n  {}",
        found.len(),
        expected.len(),
        excerpt(&found_value[..same.min(160)]),
        excerpt(&found_value[same..]),
        excerpt(&expected_value[same..])
    ))
}

pub fn excerpt(value: &[u8]) -> String {
    String::from_utf8_lossy(value).chars().take(400).collect()
}
