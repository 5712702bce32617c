//! Records that were sent and are not yet in the file.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Shared;
use super::batch::{BatchWriter, Content, EncodedBatch};
use super::schema::{PartitionId, Topic};
use crate::stream::log::{LogError, Outgoing};
use crate::stream::partitioner::partition_of;

/// A batch is closed at this size, so that reading one takes a bounded amount of memory.
const BATCH_BYTES: usize = 1 << 20;
const BATCH_RECORDS: i64 = 16_384;

/// A batch that waits for its offsets.
#[derive(Debug)]
pub(super) struct PendingBatch {
    pub partition: PartitionId,
    pub compacted: bool,
    pub batch: EncodedBatch,
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    topics: HashMap<String, Arc<Topic>>,
    open: BTreeMap<PartitionId, Open>,
    sealed: Vec<PendingBatch>,
    records: usize,
    bytes: usize,
    /// Where the next record without a key goes.
    turn: u32,
}

#[derive(Debug)]
struct Open {
    writer: BatchWriter,
    compacted: bool,
}

impl Pending {
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    pub fn records(&self) -> usize {
        self.records
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a record over.
    pub fn push(&mut self, log: &Shared, record: &Outgoing<'_>) -> Result<(), LogError> {
        if !self.topics.contains_key(record.topic) {
            self.topics.insert(record.topic.to_owned(), log.existing_topic(record.topic)?);
        }
        let topic = &self.topics[record.topic];
        let number = match (record.partition, record.key) {
            (Some(number), _) => number,
            (None, Some(key)) => partition_of(key, topic.partitions),
            (None, None) => {
                self.turn = self.turn.wrapping_add(1);
                self.turn % topic.partitions
            }
        };
        let partition = topic.partition(number).ok_or_else(|| log.no_partition(record.topic, number))?;
        if topic.compacted && record.key.is_none() {
            return Err(LogError::Fatal(format!(
                "a record for topic {} has no key, but the topic is compacted by key",
                topic.name
            )));
        }
        let compacted = topic.compacted;
        let open = self.open.entry(partition).or_insert_with(|| Open { writer: BatchWriter::new(), compacted });
        let before = open.writer.size();
        let content = Content { timestamp_ms: log.clock.now_ms(), key: record.key, value: record.value };
        open.writer.push(0, content, record.headers.iter().copied());
        self.bytes += open.writer.size() - before;
        self.records += 1;
        if open.writer.size() >= BATCH_BYTES || open.writer.records() >= BATCH_RECORDS {
            let full = std::mem::replace(&mut open.writer, BatchWriter::new());
            self.sealed.push(PendingBatch { partition, compacted, batch: full.finish() });
        }
        Ok(())
    }

    /// Everything taken over, as batches in order. They stay until [`clear`](Self::clear).
    pub fn seal(&mut self) -> &[PendingBatch] {
        while let Some((partition, open)) = self.open.pop_first() {
            if open.writer.records() > 0 {
                let compacted = open.compacted;
                self.sealed.push(PendingBatch { partition, compacted, batch: open.writer.finish() });
            }
        }
        &self.sealed
    }

    /// Forgets everything taken over.
    pub fn clear(&mut self) {
        self.open.clear();
        self.sealed.clear();
        self.records = 0;
        self.bytes = 0;
    }
}
