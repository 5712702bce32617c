//! Reads committed records of one partition, without joining a group.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Offset, TopicPartitionList};

use super::config::{CONSUMER, KafkaConfig};
use super::context::Reports;
use super::deadline::Deadline;
use super::error::{Explain, Kind, kind};
use crate::stream::log::{LogError, Reader, Record, TopicPartition, kafka_record};

/// librdkafka assigns partitions only to consumers with a group name. Nothing is joined or committed.
const GROUP: &str = "traffic-reader";

/// Without a record or an end for so long, the broker is taken for unreachable.
const SILENCE: Duration = Duration::from_secs(10);

/// Records handed over per call at most.
const BATCH: usize = 5_000;

/// At the end, what is already in the log arrives within this time.
const ARRIVAL: Duration = Duration::from_millis(250);

/// A consumer of one partition.
pub(super) struct KafkaReader {
    consumer: BaseConsumer<Reports>,
    at: TopicPartition,
    explain: Explain,
    at_end: bool,
    /// The last stable offset when we were last asked to go on from the end.
    passed: Option<i64>,
}

impl KafkaReader {
    pub fn new(
        config: &KafkaConfig,
        explain: Explain,
        at: &TopicPartition,
        from: Option<i64>,
    ) -> Result<Self, LogError> {
        let role = [
            ("group.id", GROUP),
            ("isolation.level", "read_committed"),
            ("queued.max.messages.kbytes", "8192"),
            ("fetch.error.backoff.ms", "50"),
        ];
        let reports = Reports::default();
        let settings = config.client(&[&CONSUMER[..], &role].concat());
        let doing = || format!("reading {at}");
        let consumer: BaseConsumer<Reports> =
            settings.create_with_context(reports.clone()).map_err(|error| explain.error(&doing(), &error, &reports))?;
        let mut list = TopicPartitionList::with_capacity(1);
        let from = from.map_or(Offset::Beginning, Offset::Offset);
        list.add_partition_offset(&at.topic, at.partition.cast_signed(), from)
            .and_then(|()| consumer.assign(&list))
            .map_err(|error| explain.error(&doing(), &error, &reports))?;
        Ok(Self { consumer, at: at.clone(), explain, at_end: false, passed: None })
    }

    fn error(&self, error: &KafkaError) -> LogError {
        self.explain.error(&format!("reading {}", self.at), error, self.consumer.context())
    }

    /// How long the next record may take to come.
    fn patience(&mut self) -> Result<Duration, LogError> {
        if !self.at_end {
            return Ok(SILENCE);
        }
        let partition = self.at.partition.cast_signed();
        let ends = self.consumer.fetch_watermarks(&self.at.topic, partition, SILENCE);
        let (_, stable) = ends.map_err(|error| self.error(&error))?;
        // Unchanged: nothing was added, except what came too late for the last call.
        Ok(if self.passed.replace(stable) == Some(stable) { Duration::ZERO } else { ARRIVAL })
    }
}

impl Reader for KafkaReader {
    fn next(&mut self, each: &mut dyn FnMut(Record<'_>)) -> Result<bool, LogError> {
        let deadline = Deadline::after(self.patience()?);
        let mut handed = 0;
        while handed < BATCH {
            // Wait for the first record only.
            let wait = if handed == 0 { deadline.remaining() } else { Duration::ZERO };
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    handed += 1;
                    each(kafka_record(&message));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.at_end = true;
                    return Ok(false);
                }
                // librdkafka tries again; silence ends it.
                Some(Err(error)) if !matches!(kind(&error), Kind::Fatal) || is_group_error(&error) => {}
                Some(Err(error)) => return Err(self.error(&error)),
                None if handed > 0 => break,
                None if !deadline.has_passed() => {}
                None if self.at_end => return Ok(false),
                None => {
                    let doing = format!("reading {}", self.at);
                    return Err(self.explain.too_late(&doing, SILENCE, self.consumer.context()));
                }
            }
        }
        self.at_end = false;
        Ok(true)
    }
}

/// The group is only a name here; that it may not be joined does not matter.
fn is_group_error(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(rdkafka::error::RDKafkaErrorCode::GroupAuthorizationFailed)
}
