//! The first machine: the rules over forecasts and aggregates, per segment. Dispatches to each partition's state.

use std::collections::BTreeMap;

use common::stream::{Machine, Outbox, Records, Tick};

use crate::partition::Partition;
use crate::settings::Settings;
use crate::voice::Counts;

/// Input: forecasts.
pub const PREDICTIONS: usize = 0;
/// Input: aggregates and their watermark markers.
pub const AGGREGATES: usize = 1;
/// Input: what operators say.
pub const COMMANDS: usize = 2;

/// The rules' logic. Its output is [`TRANSITIONS`](crate::TRANSITIONS).
pub struct Rules {
    settings: Settings,
    partitions: BTreeMap<u32, Partition>,
    counts: Counts,
}

impl Rules {
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings, partitions: BTreeMap::new(), counts: Counts::default() }
    }

    /// What was done since the machine was made.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Machine for Rules {
    fn assign(&mut self, partition: u32, _partitions: u32) {
        self.partitions.insert(partition, Partition::new(partition, &self.settings));
    }

    fn restore(&mut self, partition: u32, key: &[u8], value: Option<&[u8]>) {
        if let Some(state) = self.partitions.get_mut(&partition) {
            state.restore(key, value, &self.settings);
        }
    }

    fn records(&mut self, records: &Records<'_>, _now_ms: i64, out: &mut Outbox) {
        let Some(state) = self.partitions.get_mut(&records.partition) else { return };
        let mut voice = state.voice(out, &mut self.counts);
        for record in records.iter() {
            match records.input {
                PREDICTIONS => state.forecast(&record, &self.settings, &mut voice),
                AGGREGATES => state.aggregate(&record, &self.settings, &mut voice),
                _ => state.command(&record, &self.settings, &mut voice),
            }
        }
    }

    fn tick(&mut self, partition: u32, _tick: Tick, out: &mut Outbox) {
        if let Some(state) = self.partitions.get_mut(&partition) {
            let mut voice = state.voice(out, &mut self.counts);
            state.end_orphans(&mut voice);
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
