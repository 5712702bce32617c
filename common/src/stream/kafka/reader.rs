//! Reads committed records of one partition, without joining a group.
//!
//! Consumers are lent by a pool: a new one needs a tenth of a second and more for connecting and closing,
//! and a restart reads one partition after the other. At the end a reader is paused, so that it costs
//! nothing while nobody asks; resuming makes librdkafka tell the end anew.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::config::{CONSUMER, KafkaConfig};
use super::context::Reports;
use super::deadline::Deadline;
use super::error::{Explain, Kind, kind};
use crate::stream::log::{LogError, Reader, Record, TopicPartition, kafka_record};

/// librdkafka assigns partitions only to consumers with a group name. Nothing is joined or committed.
const GROUP: &str = "traffic-reader";

/// Without a record or an end for so long, the broker is taken for unreachable.
const SILENCE: Duration = Duration::from_secs(9);

/// Records handed over per call at most.
const BATCH: usize = 5_000;

/// Idle consumers kept.
const KEPT: usize = 4;

type Consumer = BaseConsumer<Reports>;

/// Consumers that nobody reads with just now.
#[derive(Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Consumer>>>);

impl Pool {
    fn take(&self, config: &KafkaConfig, explain: &Explain) -> Result<Consumer, LogError> {
        let idle = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(consumer) = idle {
            return Ok(consumer);
        }
        let role = [
            ("group.id", GROUP),
            ("isolation.level", "read_committed"),
            ("queued.max.messages.kbytes", "8192"),
            ("fetch.error.backoff.ms", "20"),
            // The end is known only when a fetch comes back empty.
            ("fetch.wait.max.ms", "5"),
        ];
        let reports = Reports::default();
        let settings = config.client(&[&CONSUMER[..], &role].concat());
        let consumer = settings.create_with_context(reports.clone());
        consumer.map_err(|error| explain.error("creating a reader", &error, &reports))
    }

    /// Whoever found a consumer of no use trusts none of the others: they are as old.
    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn give_back(&self, consumer: Consumer) {
        let mut idle = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(consumer);
        }
    }
}

/// A consumer of one partition.
pub(super) struct KafkaReader {
    /// `None` only while it is dropped.
    consumer: Option<Consumer>,
    pool: Pool,
    at: TopicPartition,
    explain: Explain,
    at_end: bool,
    failed: bool,
}

impl KafkaReader {
    pub fn new(
        config: &KafkaConfig,
        explain: Explain,
        pool: &Pool,
        at: &TopicPartition,
        from: Option<i64>,
    ) -> Result<Self, LogError> {
        let consumer = pool.take(config, &explain)?;
        assign(&consumer, at, from)
            .map_err(|error| explain.error(&format!("reading {at}"), &error, consumer.context()))?;
        Ok(Self { consumer: Some(consumer), pool: pool.clone(), at: at.clone(), explain, at_end: false, failed: false })
    }

    /// What is read next: at most a batch; `false` at the end.
    fn advance(&mut self, each: &mut dyn FnMut(Record<'_>)) -> Result<bool, LogError> {
        let consumer = self.consumer.as_ref().expect("kept until dropped");
        let error = |error: &KafkaError| self.explain.error(&format!("reading {}", self.at), error, consumer.context());
        let list = single(&self.at);
        if self.at_end {
            consumer.resume(&list).map_err(|e| error(&e))?;
            self.at_end = false;
        }
        let deadline = Deadline::after(SILENCE);
        let mut handed = 0;
        while handed < BATCH {
            // Wait for the first record only.
            let wait = if handed == 0 { deadline.remaining() } else { Duration::ZERO };
            match consumer.poll(wait) {
                Some(Ok(message)) => {
                    handed += 1;
                    each(kafka_record(&message));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.at_end = true;
                    consumer.pause(&list).map_err(|e| error(&e))?;
                    return Ok(false);
                }
                Some(Err(e)) if is_final(&e) => return Err(error(&e)),
                // librdkafka tries again by itself.
                Some(Err(_)) => {}
                None if handed > 0 => break,
                None if deadline.has_passed() => {
                    return Err(self.explain.too_late(&format!("reading {}", self.at), SILENCE, consumer.context()));
                }
                None => {}
            }
        }
        Ok(true)
    }
}

impl Reader for KafkaReader {
    fn next(&mut self, each: &mut dyn FnMut(Record<'_>)) -> Result<bool, LogError> {
        let advanced = self.advance(each);
        self.failed |= advanced.is_err();
        advanced
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        let Some(consumer) = self.consumer.take() else { return };
        // A pause would outlive the assignment.
        let resumed = if self.at_end { consumer.resume(&single(&self.at)) } else { Ok(()) };
        if self.failed {
            self.pool.clear();
        } else if resumed.and_then(|()| consumer.unassign()).is_ok() {
            self.pool.give_back(consumer);
        }
    }
}

/// A consumer of one partition that follows it: never paused, because a resumed partition is fetched again only up
/// to a second later.
pub(super) struct KafkaTail {
    consumer: Consumer,
    at: TopicPartition,
    explain: Explain,
}

impl KafkaTail {
    pub fn new(config: &KafkaConfig, explain: Explain, at: &TopicPartition) -> Result<Self, LogError> {
        let role = [
            ("group.id", GROUP),
            ("isolation.level", "read_committed"),
            ("queued.max.messages.kbytes", "8192"),
            ("fetch.error.backoff.ms", "20"),
        ];
        let reports = Reports::default();
        let settings = config.client(&[&CONSUMER[..], &role].concat());
        let consumer: Consumer = settings
            .create_with_context(reports.clone())
            .map_err(|error| explain.error("creating a reader", &error, &reports))?;
        assign(&consumer, at, None)
            .map_err(|error| explain.error(&format!("reading {at}"), &error, consumer.context()))?;
        Ok(Self { consumer, at: at.clone(), explain })
    }
}

impl Reader for KafkaTail {
    fn next(&mut self, each: &mut dyn FnMut(Record<'_>)) -> Result<bool, LogError> {
        for _ in 0..BATCH {
            match self.consumer.poll(Duration::ZERO) {
                Some(Ok(message)) => each(kafka_record(&message)),
                // A client without brokers may stay so for ever, and nothing else would be heard of it.
                Some(Err(e)) if is_final(&e) || is_alone(&e) => {
                    return Err(self.explain.error(&format!("reading {}", self.at), &e, self.consumer.context()));
                }
                // The end; or librdkafka tries again by itself.
                Some(Err(_)) => {}
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

fn single(at: &TopicPartition) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(&at.topic, at.partition.cast_signed());
    list
}

fn assign(consumer: &Consumer, at: &TopicPartition, from: Option<i64>) -> Result<(), KafkaError> {
    // Otherwise librdkafka looks for the leader only some time later.
    consumer.fetch_metadata(Some(&at.topic), SILENCE)?;
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(&at.topic, at.partition.cast_signed(), from.map_or(Offset::Beginning, Offset::Offset))?;
    consumer.assign(&list)
}

/// Whether trying again cannot help. The group is only a name here: that it is forbidden does not matter.
fn is_final(error: &KafkaError) -> bool {
    kind(error) == Kind::Fatal && error.rdkafka_error_code() != Some(RDKafkaErrorCode::GroupAuthorizationFailed)
        || matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::UnknownPartition
            )
        )
}

pub(super) fn is_alone(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown)
}
