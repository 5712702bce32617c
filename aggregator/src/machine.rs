//! The machine: dispatches to the state of each assigned partition.

use std::collections::BTreeMap;

use common::stream::{Machine, Outbox, Records, Tick};

use crate::Settings;
use crate::codec::Totals;
use crate::partition::Partition;

/// Input: sensor events.
pub const EVENTS: usize = 0;
/// Input: events forwarded by the partition that they came to by mistake.
pub const REKEYED_INPUT: usize = 1;

/// Output: aggregates and their markers.
pub const AGGREGATES: usize = 0;
/// Output: events forwarded to the partition that owns their segment.
pub const REKEYED: usize = 1;
/// Output: events that were refused.
pub const DEAD_LETTERS: usize = 2;

/// The aggregator's logic.
pub struct Aggregator {
    settings: Settings,
    partitions: BTreeMap<u32, Partition>,
}

impl Aggregator {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, partitions: BTreeMap::new() }
    }

    /// What became of the events of the assigned partitions, since the beginning.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.partitions.values().fold(Totals::default(), |sum, partition| sum + partition.totals())
    }

    /// The event time up to which each assigned partition is complete, epoch ms.
    pub fn watermarks(&self) -> impl Iterator<Item = (u32, Option<i64>)> {
        self.partitions.iter().map(|(number, partition)| (*number, partition.watermark_ms()))
    }

    /// Windows held, and hashes of events seen in them.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        self.partitions.values().map(Partition::held).fold((0, 0), |sum, held| (sum.0 + held.0, sum.1 + held.1))
    }
}

impl Machine for Aggregator {
    fn assign(&mut self, partition: u32, partitions: u32) {
        self.partitions.insert(partition, Partition::new(partition, partitions));
    }

    fn restore(&mut self, partition: u32, key: &[u8], value: Option<&[u8]>) {
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.restore(key, value);
        }
    }

    fn records(&mut self, records: &Records<'_>, now_ms: i64, out: &mut Outbox) {
        let Some(state) = self.partitions.get_mut(&records.partition) else { return };
        for record in records.iter() {
            match records.input {
                EVENTS => state.event(&record, now_ms, &self.settings, out),
                _ => state.rekeyed(&record, &self.settings, out),
            }
        }
        state.announce(now_ms, None, &self.settings, out);
    }

    fn tick(&mut self, partition: u32, tick: Tick, out: &mut Outbox) {
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.tick(tick, &self.settings, out);
        }
    }

    fn flush(&mut self, partition: u32, _now_ms: i64, out: &mut Outbox) {
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.flush(&self.settings, out);
        }
    }

    fn release(&mut self, partition: u32) {
        self.partitions.remove(&partition);
    }
}
