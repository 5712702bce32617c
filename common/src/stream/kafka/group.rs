//! A member's consumer: assignments as events, records by partition, confirmed ends.
//!
//! Each partition has its own queue, so that a batch is of one partition and an end names its topic
//! (librdkafka's error carries only the number). A queue is split off *before* `assign`: librdkafka then
//! never forwards it to the common queue, not even for a moment.

use std::cell::Cell;
use std::ops::Deref;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tracing::{info, warn};

use super::config::{CONSUMER, KafkaConfig};
use super::context::{GroupContext, Rebalanced};
use super::deadline::Deadline;
use super::error::{Explain, Kind, kind, kind_of};
use super::probe::Probe;
use super::queue::Queue;
use super::reader::is_alone;
use super::signal::Signal;
use crate::stream::log::{Event, LogError, Membership, Records, TopicPartition};

const SESSION_TIMEOUT_MS: &str = "6000";
const HEARTBEAT_MS: &str = "1500";

/// Memory for fetched records, over all partitions of the inputs: more makes nothing faster.
const PREFETCH_KBYTES: u32 = 8 * 1024;

/// A place in a consumer group.
pub(super) struct Group {
    // Dropped in this order: whoever holds the consumer goes before it.
    queues: Vec<Queue>,
    probe: Probe,
    consumer: Closing,
    inputs: Vec<String>,
    signal: Arc<Signal>,
    explain: Explain,
    name: String,
    /// Where the next round over the queues begins.
    next: Cell<usize>,
}

impl Group {
    /// Joins; `partitions` is the number of each input.
    pub fn join(
        config: &KafkaConfig,
        explain: Explain,
        membership: &Membership,
        partitions: u32,
    ) -> Result<Self, LogError> {
        let name = format!("{}-{}", membership.application_id, membership.instance);
        let inputs = &membership.inputs;
        let queues = partitions.max(1) * u32::try_from(inputs.len()).unwrap_or(u32::MAX);
        let queued = (PREFETCH_KBYTES / queues.max(1)).clamp(512, 4 * 1024).to_string();
        // Whoever commits state with its offsets must not be led elsewhere by the client: where its offset is gone, the
        // takeover says what that means.
        let reset = if membership.transactional { "error" } else { "earliest" };
        let role = [
            ("group.id", membership.application_id.as_str()),
            ("auto.offset.reset", reset),
            ("group.instance.id", &name),
            ("isolation.level", "read_committed"),
            // Topics read together: partition p of all of them goes to one member.
            ("partition.assignment.strategy", "range"),
            ("session.timeout.ms", SESSION_TIMEOUT_MS),
            ("heartbeat.interval.ms", HEARTBEAT_MS),
            // New partitions hold records that nobody reads until they are noticed: 5 minutes by default.
            ("topic.metadata.refresh.interval.ms", "10000"),
            ("queued.max.messages.kbytes", &queued),
            ("fetch.message.max.bytes", "524288"),
            // An end is known, and a resumed partition fetched, when the fetch before comes back.
            ("fetch.wait.max.ms", "100"),
        ];
        let context = GroupContext::default();
        let reports = context.reports.clone();
        let settings = config.client(&[&CONSUMER[..], &role].concat());
        let mut consumer: BaseConsumer<GroupContext> = settings
            .create_with_context(context)
            .map_err(|error| explain.error("creating a consumer", &error, &reports))?;
        let signal = Arc::new(Signal::default());
        let raised = Arc::clone(&signal);
        consumer.set_nonempty_callback(move || raised.raise());
        let topics: Vec<&str> = inputs.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(|error| explain.error("subscribing", &error, &reports))?;
        let consumer = Arc::new(consumer);
        let probe = Probe::start(Arc::clone(&consumer), Arc::clone(&signal))?;
        let (queues, next) = (Vec::new(), Cell::new(0));
        let consumer = Closing(Some(consumer));
        Ok(Self { queues, probe, consumer, inputs: inputs.clone(), signal, explain, name, next })
    }

    fn error(&self, doing: &str, error: &KafkaError) -> LogError {
        self.explain.error(&format!("{doing} as {}", self.name), error, &self.consumer.context().reports)
    }

    pub fn metadata(&self) -> Result<ConsumerGroupMetadata, LogError> {
        self.consumer.group_metadata().ok_or_else(|| LogError::Retry(format!("{} is not in its group", self.name)))
    }

    pub fn poll(&self, timeout: Duration) -> Result<Event<'_>, LogError> {
        let deadline = Deadline::after(timeout);
        loop {
            self.signal.lower();
            if let Some(event) = self.serve()? {
                return Ok(event);
            }
            self.confirm_ends();
            if let Some(event) = self.read()? {
                return Ok(event);
            }
            let left = deadline.remaining();
            if left.is_zero() {
                return Ok(Event::Idle);
            }
            self.signal.wait(left.min(self.probe.until_due()));
        }
    }

    /// Serves the common queue: rebalances, errors, log lines.
    fn serve(&self) -> Result<Option<Event<'_>>, LogError> {
        loop {
            let served = self.consumer.context().reports.served();
            match self.consumer.poll(Duration::ZERO) {
                None => {}
                Some(Ok(message)) => return self.stray(message).map(Some),
                Some(Err(error)) => self.judge(&error)?,
            }
            if let Some(rebalanced) = self.consumer.context().take_rebalance() {
                return self.rebalance(rebalanced).map(Some);
            }
            if self.consumer.context().reports.served() == served {
                return Ok(None);
            }
        }
    }

    fn rebalance(&self, rebalanced: Rebalanced) -> Result<Event<'_>, LogError> {
        match rebalanced {
            Rebalanced::Assign(partitions) => Ok(Event::Assigned(partitions)),
            Rebalanced::Revoke(_) if self.consumer.assignment_lost() => Err(LogError::Retry(format!(
                "Kafka at {}: {} was silent for longer than its session and lost its partitions",
                self.explain.servers, self.name
            ))),
            Rebalanced::Revoke(partitions) => Ok(Event::Revoked(partitions)),
        }
    }

    /// A record that came through the common queue: not expected, and no reason to lose it.
    fn stray<'a>(&self, message: BorrowedMessage<'a>) -> Result<Event<'a>, LogError> {
        let at = TopicPartition::new(message.topic(), message.partition().cast_unsigned());
        match self.inputs.iter().position(|input| *input == at.topic) {
            Some(input) => Ok(Event::Records(Records::kafka(input, at.partition, vec![message]))),
            None => Err(LogError::Retry(format!("a record of {at}, which {} does not read", self.name))),
        }
    }

    /// Whether an error ends the session. librdkafka reconnects by itself, and a lost session comes as a
    /// lost assignment.
    fn judge(&self, error: &KafkaError) -> Result<(), LogError> {
        if let Some((code, reason)) = self.consumer.client().fatal_error() {
            warn!(%reason, "the consumer has failed for good");
            return Err(match kind_of(code) {
                Kind::DuplicateInstance | Kind::Fatal => self.error("reading", &KafkaError::Global(code)),
                _ => LogError::Retry(format!("Kafka at {}, {}: {reason}", self.explain.servers, self.name)),
            });
        }
        match kind(error) {
            // Without an assignment nobody would notice that a client stays alone for ever (see `observers.rs`).
            Kind::Unreachable if is_alone(error) && self.queues.is_empty() => Err(self.error("joining", error)),
            Kind::Unreachable => Ok(()),
            Kind::Fenced | Kind::DuplicateInstance | Kind::Fatal => Err(self.error("reading", error)),
            Kind::Retry => match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::UnknownTopicOrPartition
                    | RDKafkaErrorCode::UnknownTopic
                    | RDKafkaErrorCode::AutoOffsetReset
                    | RDKafkaErrorCode::OffsetOutOfRange,
                ) => Err(self.error(&format!("reading {:?}", self.inputs), error)),
                _ => {
                    info!(%error, member = self.name, "consumer error, left to librdkafka");
                    Ok(())
                }
            },
        }
    }

    /// The next batch or end, going round the partitions.
    fn read(&self) -> Result<Option<Event<'_>>, LogError> {
        let count = self.queues.len();
        for step in 0..count {
            let index = (self.next.get() + step) % count;
            let queue = &self.queues[index];
            if queue.is_paused() {
                continue;
            }
            if let Some(error) = queue.take_failure() {
                self.judge(&error)?;
            }
            let batch = queue.take_batch();
            let event = if !batch.is_empty() {
                Event::Records(Records::kafka(queue.input, queue.at.partition, batch))
            } else if queue.take_end() {
                Event::End { input: queue.input, partition: queue.at.partition }
            } else {
                continue;
            };
            self.next.set((index + 1) % count);
            return Ok(Some(event));
        }
        Ok(None)
    }

    fn confirm_ends(&self) {
        for (at, stable) in self.probe.answer().unwrap_or_default() {
            self.queues.iter().filter(|queue| queue.at == at).for_each(|queue| queue.confirm(stable));
        }
        if self.probe.until_due().is_zero() {
            let standing = self.queues.iter().filter(|queue| queue.wants_confirmation());
            self.probe.ask(standing.map(|queue| queue.at.clone()).collect());
        }
    }

    pub fn start(&mut self, at: &[(TopicPartition, Option<i64>)]) -> Result<(), LogError> {
        self.queues.clear();
        let mut list = TopicPartitionList::with_capacity(at.len());
        for (at, from) in at {
            let Some(input) = self.inputs.iter().position(|input| *input == at.topic) else {
                return Err(LogError::Fatal(format!("{} does not read {at}", self.name)));
            };
            let partition = at.partition.cast_signed();
            let from = from.map_or(Offset::Beginning, Offset::Offset);
            list.add_partition_offset(&at.topic, partition, from)
                .map_err(|error| self.error(&format!("reading {at} from {from:?}"), &error))?;
            let Some(queue) = self.consumer.split_partition_queue(&at.topic, partition) else {
                return Err(LogError::Retry(format!("{at} is not known to the client of {}", self.name)));
            };
            self.queues.push(Queue::new(at.clone(), input, queue, &self.signal));
        }
        self.consumer.assign(&list).map_err(|error| self.error("taking partitions", &error))
    }

    pub fn release(&mut self) -> Result<(), LogError> {
        // A pause would outlive the assignment.
        let paused = self.queues.iter().filter(|queue| queue.is_paused());
        let paused: Vec<_> = paused.map(|queue| queue.at.clone()).collect();
        if !paused.is_empty() {
            self.set_paused(&paused, false)?;
        }
        self.queues.clear();
        self.consumer.unassign().map_err(|error| self.error("giving partitions back", &error))
    }

    pub fn set_paused(&self, at: &[TopicPartition], paused: bool) -> Result<(), LogError> {
        let mut list = TopicPartitionList::with_capacity(at.len());
        for at in at {
            list.add_partition(&at.topic, at.partition.cast_signed());
        }
        let done = if paused { self.consumer.pause(&list) } else { self.consumer.resume(&list) };
        done.map_err(|error| self.error("pausing or resuming", &error))?;
        let changed = self.queues.iter().filter(|queue| at.contains(&queue.at));
        changed.for_each(|queue| queue.set_paused(paused));
        Ok(())
    }

    /// Commits offsets outside of any transaction.
    pub fn commit(&self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        let list = offset_list(offsets)?;
        self.consumer.commit(&list, CommitMode::Sync).map_err(|error| self.error("committing offsets", &error))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.consumer.context().close();
        self.queues.clear();
    }
}

/// How long closing may take: leaving the group is one request.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// A consumer that is closed on a thread of its own, which may be left behind: a rebalance that arrives in the midst of
/// closing makes librdkafka wait for ever for an answer from itself. The group misses such a member one session later, or
/// at once when its name joins again.
struct Closing(Option<Arc<BaseConsumer<GroupContext>>>);

impl Deref for Closing {
    type Target = Arc<BaseConsumer<GroupContext>>;

    fn deref(&self) -> &Self::Target {
        self.0.as_ref().expect("kept until dropped")
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let Some(consumer) = self.0.take() else { return };
        let (done, closed) = mpsc::channel();
        let close = move || {
            // Answers a revocation that nobody answered; the close that follows would wait for it.
            if let Err(error) = consumer.unassign() {
                warn!(%error, "giving partitions back while closing failed");
            }
            drop(consumer);
            // Nobody listens if it took too long.
            let _ = done.send(());
        };
        if let Err(error) = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(close) {
            warn!(%error, "no thread to close a consumer with: {error}");
        } else if closed.recv_timeout(CLOSE_PATIENCE).is_err() {
            warn!("a consumer was not closed within {} s and is left behind", CLOSE_PATIENCE.as_secs());
        }
    }
}

/// Offsets to commit, as librdkafka takes them.
pub(super) fn offset_list(offsets: &[(TopicPartition, i64)]) -> Result<TopicPartitionList, LogError> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (at, next) in offsets {
        list.add_partition_offset(&at.topic, at.partition.cast_signed(), Offset::Offset(*next))
            .map_err(|error| LogError::Fatal(format!("offset {next} of {at} cannot be committed: {error}")))?;
    }
    Ok(list)
}
