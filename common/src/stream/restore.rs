//! What happens between an assignment and its first record.
//!
//! The markers of one transaction reach the offsets topic and the changelog at different moments
//! (Kafka Streams learnt it in KAFKA-10167), so the order is fixed: (1) the *stable* committed offsets;
//! (2) then the changelog's high watermark, open transactions included; (3) wait until its read_committed
//! end has reached it; (4) only then read the changelog to its end; (5) see that both agree; (6) read on from (1). Any
//! shorter way can lose committed state.

use super::log::{Log, LogError, TopicPartition};
use super::machine::Machine;
use super::place::{self, Found};

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
    /// Where the changelog's undecided transaction begins, once one was met at (3).
    pub undecided: Option<i64>,
}

/// Where an input of a restored partition is read on from.
#[derive(Debug)]
pub(crate) struct Start {
    pub at: TopicPartition,
    /// `None`: the first record kept.
    pub from: Option<i64>,
    /// Whether that is the group's own offset, and not one behind records that are gone.
    pub is_committed: bool,
}

impl Restore {
    pub fn new(partition: u32, inputs: &[String], changelog: Option<&str>) -> Self {
        Self {
            partition,
            inputs: inputs.iter().map(|topic| TopicPartition::new(topic, partition)).collect(),
            changelog: changelog.map(|topic| TopicPartition::new(topic, partition)),
            committed: None,
            high: None,
            undecided: None,
        }
    }

    /// What to tell whoever waits for it longer than a transaction of ours can take.
    pub fn why_so_long(&self) -> Option<String> {
        let (changelog, from) = (self.changelog.as_ref()?, self.undecided?);
        Some(format!(
            "{changelog} has a transaction that began at offset {from} and is not decided, though its time is over: the \
             broker has lost sight of it, and nothing of this partition goes on. To end it: kafka-transactions.sh \
             --bootstrap-server … abort --topic {} --partition {} --start-offset {from}",
            changelog.topic, changelog.partition
        ))
    }

    /// Goes as far as it can; `None` while a transaction of the last owner is still undecided.
    ///
    /// # Errors
    /// Those of the log; `Fatal` if the group's offsets, the changelog and the inputs contradict each other.
    pub fn advance(
        &mut self,
        log: &dyn Log,
        group: &str,
        machine: &mut dyn Machine,
    ) -> Result<Option<Vec<Start>>, LogError> {
        if self.committed.is_none() {
            self.committed = Some(log.committed(group, &self.inputs)?);
        }
        let mut state = Vec::new();
        if let Some(changelog) = &self.changelog {
            let high = match self.high {
                Some(high) => high,
                None => *self.high.insert(log.ends(changelog)?.high),
            };
            let stable = log.ends(changelog)?.stable;
            if stable < high {
                self.undecided = Some(stable);
                return Ok(None);
            }
            let partition = self.partition;
            let mut reader = log.read(changelog, None)?;
            while reader.next(&mut |entry| match entry.key {
                Some(place::KEY) => state = entry.value.and_then(place::decode).unwrap_or_default(),
                Some(key) => machine.restore(partition, key, entry.value),
                None => {}
            })? {}
        }
        let committed = self.committed.take().unwrap_or_default();
        let mut starts = Vec::new();
        for (number, (input, &committed)) in self.inputs.iter().zip(&committed).enumerate() {
            let changelog = self.changelog.as_ref().map(|changelog| (changelog, state.get(number).copied().flatten()));
            let found = Found { input, group, committed, changelog, ends: log.ends(input)? };
            let from = found.start().or_else(|refusal| {
                // They may differ because the group has gone on meanwhile: with others, without us.
                let now = log.committed(group, &self.inputs)?;
                Err(if now[number] == committed {
                    refusal
                } else {
                    LogError::Retry(format!("{input} is read by others"))
                })
            })?;
            starts.push(Start { at: input.clone(), from, is_committed: from == committed });
        }
        Ok(Some(starts))
    }
}
