//! A member's transactions: outputs and input offsets, visible together or not at all.
//!
//! Any error ends the producer's life: librdkafka cannot find out how an ambiguous commit ended, but a
//! new producer of the same `transactional.id` can (`init_transactions` finishes or aborts what it finds).

use std::sync::{Arc, mpsc};
use std::thread;
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

/// By then whatever was open is over.
pub(super) const OVER: Duration = Duration::from_secs(18);

/// How long any step of a transaction may take.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);

/// So much later a call that should have timed out is given up.
const OVERDUE: Duration = Duration::from_secs(2);

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
    pub fn commit(&mut self, offsets: Option<(TopicPartitionList, ConsumerGroupMetadata)>) -> Result<(), LogError> {
        self.begin()?;
        // Committing with records in flight would wait in steps of 100 ms.
        self.sender.settle(STEP_TIMEOUT)?;
        if let Some((offsets, group)) = offsets {
            self.hand_over(offsets, group, STEP_TIMEOUT)?;
            if let Some(Failpoint::ExitBetweenOffsetsAndCommit { after_commits }) = self.failpoint
                && self.commits >= after_commits
            {
                tracing::error!(after_commits, "failpoint: dying between offsets and commit");
                std::process::abort();
            }
            self.commits += 1;
        }
        self.sender.producer.commit_transaction(STEP_TIMEOUT).map_err(|error| self.error("committing", &error))?;
        self.open = false;
        Ok(())
    }

    /// Makes offsets part of the transaction. librdkafka's call ignores its limit, and never returns if the group's
    /// coordinator leaves the cluster meanwhile (its issues 5456 and 5511). So a thread makes it; one that does not come
    /// back is left behind with the producer, which its successor fences.
    fn hand_over(
        &self,
        offsets: TopicPartitionList,
        group: ConsumerGroupMetadata,
        limit: Duration,
    ) -> Result<(), LogError> {
        let (answer, answered) = mpsc::sync_channel(1);
        let producer = Arc::clone(&self.sender.producer);
        let call = move || {
            // Nobody listens any more if it took too long.
            let _ = answer.send(producer.send_offsets_to_transaction(&offsets, &group, limit));
        };
        let thread = thread::Builder::new().name("kafka-offsets".to_owned()).spawn(call);
        thread.map_err(|error| LogError::Retry(format!("cannot start a thread: {error}")))?;
        match answered.recv_timeout(limit + OVERDUE) {
            Ok(done) => done.map_err(|error| self.error("handing offsets to", &error)),
            Err(_) => {
                let doing = format!("handing offsets to transactions of {}", self.id);
                Err(self.sender.explain.too_late(&doing, limit, &self.sender.producer.context().reports))
            }
        }
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

#[cfg(test)]
mod tests {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::mocking::{MockCluster, MockCoordinator};
    use rdkafka::producer::DefaultProducerContext;

    use super::*;

    #[test]
    fn offsets_that_are_never_taken_do_not_block_for_ever() {
        let cluster: MockCluster<'_, DefaultProducerContext> = MockCluster::new(2).expect("a cluster");
        cluster.create_topic("in", 1, 2).expect("a topic");
        cluster.coordinator(MockCoordinator::Transaction("t".to_owned()), 1).expect("a coordinator");
        cluster.coordinator(MockCoordinator::Group("g".to_owned()), 2).expect("a coordinator");
        let config = KafkaConfig { bootstrap_servers: cluster.bootstrap_servers(), ..KafkaConfig::default() };
        let consumer: BaseConsumer = config.client(&[("group.id", "g")]).create().expect("a consumer");
        let group = consumer.group_metadata().expect("of its group");
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset("in", 0, rdkafka::Offset::Offset(1)).expect("an offset");

        let explain = Explain { servers: config.bootstrap_servers.clone(), member: String::new() };
        let mut transactions = Transactions::begin_session(&config, explain, "t".to_owned()).expect("begun");
        transactions.begin().expect("begun");
        cluster.broker_down(2).expect("down");
        // The mock broker counts as a coordinator that does not answer: with the limit alone this call blocks until it is back.
        let limit = Duration::from_millis(500);
        let error = transactions.hand_over(offsets, group, limit).expect_err("nobody takes them");
        assert!(matches!(&error, LogError::Retry(text) if text.contains("gave up")), "{error}");
        // Lets the call that was left behind end.
        cluster.broker_up(2).expect("up");
    }
}
