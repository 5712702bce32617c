//! The machine: one [`Partition`] per assigned partition, and the digests of all partitions.

use std::collections::BTreeMap;

use common::stream::{Machine, Outbox, Record, Records, Tick};

use crate::Settings;
use crate::digest::Digests;
use crate::frames::{Duel, Score};
use crate::live::Slot;
use crate::partition::Partition;

/// Output: forecasts.
pub const PREDICTIONS: usize = 0;
/// Output, and the topic that every instance reads whole: what partitions know.
pub const DIGEST: usize = 1;

/// The predictor's logic.
pub struct Predictor {
    settings: Settings,
    /// The models that forecast; they may change between frames.
    models: Slot,
    partitions: BTreeMap<u32, Partition>,
    digests: Digests,
}

impl Predictor {
    #[must_use]
    pub fn new(settings: Settings, models: Slot) -> Self {
        Self { settings, models, partitions: BTreeMap::new(), digests: Digests::default() }
    }

    /// How live forecasts of the assigned partitions did, by horizon in minutes.
    #[must_use]
    pub fn scores(&self) -> BTreeMap<u32, Score> {
        merge(self.partitions.values().flat_map(Partition::scores))
    }

    /// How the forecasts of the model at work did lately, by horizon in minutes.
    #[must_use]
    pub fn recent(&self) -> BTreeMap<u32, Score> {
        let Some(live) = self.models.get() else { return BTreeMap::new() };
        merge(self.partitions.values().flat_map(|partition| partition.recent(&live.version)))
    }

    /// How the challenger with this version did beside what was published.
    #[must_use]
    pub fn duel(&self, version: &str) -> Duel {
        let mut sum = Duel::default();
        self.partitions.values().for_each(|partition| sum.merge(&partition.duel(version)));
        sum
    }

    /// Segments of the assigned partitions, and aggregates that could not be read.
    #[must_use]
    pub fn totals(&self) -> (usize, u64) {
        self.partitions.values().fold((0, 0), |(segments, invalid), p| (segments + p.segments(), invalid + p.invalid))
    }

    /// The end of the newest window that was forecast, by partition, epoch ms.
    pub fn frames(&self) -> impl Iterator<Item = (u32, Option<i64>)> {
        self.partitions.iter().map(|(number, partition)| (*number, partition.closed_ms()))
    }

    fn close_frames(&mut self, now_ms: i64, out: &mut Outbox) {
        let at_work = self.models.at_work();
        for partition in self.partitions.values_mut() {
            partition.close_frames(&self.digests, &at_work, now_ms, &self.settings, out);
        }
        if let Some(next) = self.partitions.values().filter_map(Partition::next_frame).min() {
            self.digests.close(next);
        }
    }
}

fn merge(scores: impl Iterator<Item = (u32, Score)>) -> BTreeMap<u32, Score> {
    let mut sums: BTreeMap<u32, Score> = BTreeMap::new();
    scores.for_each(|(horizon, score)| sums.entry(horizon).or_default().merge(&score));
    sums
}

impl Machine for Predictor {
    fn assign(&mut self, partition: u32, partitions: u32) {
        self.digests.expect(partitions);
        self.partitions.insert(partition, Partition::new(partition, &self.settings));
    }

    fn restore(&mut self, partition: u32, key: &[u8], value: Option<&[u8]>) {
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.restore(key, value);
        }
    }

    fn records(&mut self, records: &Records<'_>, _now_ms: i64, out: &mut Outbox) {
        let Some(state) = self.partitions.get_mut(&records.partition) else { return };
        let live = self.models.get();
        for record in records.iter() {
            state.record(&record, live.as_deref(), &self.settings, out);
        }
    }

    fn tick(&mut self, _partition: u32, tick: Tick, out: &mut Outbox) {
        self.close_frames(tick.now_ms, out);
    }

    fn flush(&mut self, partition: u32, _now_ms: i64, out: &mut Outbox) {
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.flush(out);
        }
    }

    fn release(&mut self, partition: u32) {
        self.partitions.remove(&partition);
    }

    fn tailed(&mut self, record: &Record<'_>, now_ms: i64, out: &mut Outbox) {
        let Some(block) = record.value else { return };
        self.digests.tell(block);
        self.close_frames(now_ms, out);
    }

    fn takes_more(&self, partition: u32) -> bool {
        self.partitions.get(&partition).is_none_or(Partition::takes_more)
    }

    fn is_settled(&self) -> bool {
        self.partitions.values().all(Partition::is_settled)
    }
}
