//! A member's transactions: outputs and input offsets, visible together or not at all.
//!
//! Any error ends the producer's life: librdkafka cannot find out how an ambiguous commit ended, but a
//! new producer of the same `transactional.id` can (`init_transactions` finishes or aborts what it finds).

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;

use super::config::{Failpoint, KafkaConfig};
use super::error::Explain;
use super::producer::Sender;
use crate::stream::log::{LogError, Outgoing};

/// The broker aborts a transaction this long after it began. It looks every 10 s by default: partitions of a process
/// that died in a transaction are free after 18 s at the latest.
const TRANSACTION_TIMEOUT_MS: &str = "8000";

/// How long any step of a transaction may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// How long finding the coordinator and ending a predecessor's transaction may take.
const INIT_TIMEOUT: Duration = Duration::from_secs(9);

/// A transactional producer and whether its transaction is open.
pub(super) struct Transactions {
    sender: Sender,
    id: String,
    open: bool,
    failpoint: Option<Failpoint>,
    /// Commits with offsets so far.
    commits: u64,
}

impl Transactions {
    /// Fences whoever used this id before and ends their open transaction.
    pub fn begin_session(config: &KafkaConfig, explain: Explain, id: String) -> Result<Self, LogError> {
        let role = [("transactional.id", id.as_str()), ("transaction.timeout.ms", TRANSACTION_TIMEOUT_MS)];
        let sender = Sender::new(config, explain, &role)?;
        let this = Self { sender, id, open: false, failpoint: config.failpoint, commits: 0 };
        let begun = this.sender.producer.init_transactions(INIT_TIMEOUT);
        begun.map_err(|error| {
            // Errors wait in the event queue with their reasons.
            this.sender.producer.poll(Duration::ZERO);
            this.error("taking over", &error)
        })?;
        Ok(this)
    }

    fn error(&self, doing: &str, error: &KafkaError) -> LogError {
        self.sender.error(&format!("{doing} transactions of {}", self.id), error)
    }

    pub fn send(&mut self, record: &Outgoing<'_>) -> Result<(), LogError> {
        self.begin()?;
        self.sender.send(record, STEP_TIMEOUT)
    }

    fn begin(&mut self) -> Result<(), LogError> {
        if !self.open {
            self.sender.producer.begin_transaction().map_err(|error| self.error("beginning", &error))?;
            self.open = true;
        }
        Ok(())
    }

    /// Whether [`Self::commit`] without offsets would do anything.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Commits what was sent together with the group's offsets.
    pub fn commit(&mut self, offsets: Option<(&TopicPartitionList, &ConsumerGroupMetadata)>) -> Result<(), LogError> {
        self.begin()?;
        // Committing with records in flight would wait in steps of 100 ms.
        self.sender.settle(STEP_TIMEOUT)?;
        let producer = &self.sender.producer;
        if let Some((offsets, group)) = offsets {
            producer
                .send_offsets_to_transaction(offsets, group, STEP_TIMEOUT)
                .map_err(|error| self.error("handing offsets to", &error))?;
            if let Some(Failpoint::ExitBetweenOffsetsAndCommit { after_commits }) = self.failpoint
                && self.commits >= after_commits
            {
                tracing::error!(after_commits, "failpoint: dying between offsets and commit");
                std::process::abort();
            }
            self.commits += 1;
        }
        producer.commit_transaction(STEP_TIMEOUT).map_err(|error| self.error("committing", &error))?;
        self.open = false;
        Ok(())
    }

    pub fn abort(&mut self) -> Result<(), LogError> {
        if !self.open {
            return Ok(());
        }
        // Aborting with records in flight fails after its whole timeout. Failed deliveries do not matter now.
        match self.sender.settle(STEP_TIMEOUT) {
            Err(error) if self.sender.producer.in_flight_count() > 0 => return Err(error),
            Ok(()) | Err(_) => {}
        }
        self.sender.producer.abort_transaction(STEP_TIMEOUT).map_err(|error| self.error("aborting", &error))?;
        self.open = false;
        Ok(())
    }
}
