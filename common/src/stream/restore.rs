//! What happens between an assignment and its first record.
//!
//! The markers of one transaction reach the offsets topic and the changelog at different moments
//! (Kafka Streams learnt it in KAFKA-10167), so the order is fixed: (1) the *stable* committed offsets;
//! (2) then the changelog's high watermark, open transactions included; (3) wait until its read_committed
//! end has reached it; (4) only then read the changelog to its end; (5) read on from (1). Any shorter way
//! can lose committed state.

use super::log::{Log, LogError, TopicPartition};
use super::machine::Machine;

/// The restoration of one partition number, advanced without blocking.
#[derive(Debug)]
pub(crate) struct Restore {
    pub partition: u32,
    inputs: Vec<TopicPartition>,
    changelog: Option<TopicPartition>,
    /// Set by (1).
    committed: Option<Vec<Option<i64>>>,
    /// Set by (2).
    high: Option<i64>,
}

/// Where a restored partition's inputs are read on from.
pub(crate) type Starts = Vec<(TopicPartition, Option<i64>)>;

impl Restore {
    pub fn new(partition: u32, inputs: &[String], changelog: Option<&str>) -> Self {
        Self {
            partition,
            inputs: inputs.iter().map(|topic| TopicPartition::new(topic, partition)).collect(),
            changelog: changelog.map(|topic| TopicPartition::new(topic, partition)),
            committed: None,
            high: None,
        }
    }

    /// Goes as far as it can; `None` while a transaction of the last owner is still undecided.
    pub fn advance(
        &mut self,
        log: &dyn Log,
        group: &str,
        machine: &mut dyn Machine,
    ) -> Result<Option<Starts>, LogError> {
        if self.committed.is_none() {
            self.committed = Some(log.committed(group, &self.inputs)?);
        }
        if let Some(changelog) = &self.changelog {
            let high = match self.high {
                Some(high) => high,
                None => *self.high.insert(log.ends(changelog)?.high),
            };
            if log.ends(changelog)?.stable < high {
                return Ok(None);
            }
            let partition = self.partition;
            let mut reader = log.read(changelog, None)?;
            while reader.next(&mut |entry| {
                if let Some(key) = entry.key {
                    machine.restore(partition, key, entry.value);
                }
            })? {}
        }
        let committed = self.committed.take().unwrap_or_default();
        Ok(Some(self.inputs.iter().cloned().zip(committed).collect()))
    }
}
