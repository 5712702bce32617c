//! What librdkafka tells its clients: log lines, errors, rebalances, failed deliveries.
//!
//! Callbacks run inside `poll`, on the thread that polls, and only take notes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message as _};
use rdkafka::producer::ProducerContext;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, TopicPartitionList};
use tracing::{debug, error, info, warn};

use crate::stream::log::TopicPartition;

/// Locks, whatever happened to another holder: these values are replaced whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Logs, and remembers what librdkafka last complained about: its error codes alone say little.
#[derive(Debug, Default, Clone)]
pub(super) struct Reports(Arc<Noted>);

#[derive(Debug, Default)]
struct Noted {
    complaint: Mutex<Option<String>>,
    served: AtomicU64,
}

impl Reports {
    pub fn complaint(&self) -> Option<String> {
        lock(&self.0.complaint).clone()
    }

    /// How many events were served; unchanged by a poll that found none.
    pub fn served(&self) -> u64 {
        self.0.served.load(Ordering::Relaxed)
    }

    fn count(&self) {
        self.0.served.fetch_add(1, Ordering::Relaxed);
    }
}

impl ClientContext for Reports {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.count();
        if facility == "CONFWARN" {
            // Overrides are given to all clients, and some concern only consumers or only producers.
            debug!(target: "librdkafka", facility, "{line}");
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                error!(target: "librdkafka", facility, "{line}");
            }
            // It reconnects and retries by itself: nothing has failed yet.
            RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => warn!(target: "librdkafka", facility, "{line}"),
            RDKafkaLogLevel::Notice => info!(target: "librdkafka", facility, "{line}"),
            RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => debug!(target: "librdkafka", facility, "{line}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.count();
        let code = error.rdkafka_error_code();
        if code == Some(RDKafkaErrorCode::PartitionEOF) {
            return;
        }
        debug!(target: "librdkafka", %error, reason, "client error");
        // "All brokers are down" follows the reason why and would hide it.
        if code != Some(RDKafkaErrorCode::AllBrokersDown) {
            *lock(&self.0.complaint) = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Reports {}

/// What a rebalance asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rebalanced {
    Assign(Vec<TopicPartition>),
    Revoke(Vec<TopicPartition>),
}

/// A group member's context: rebalances are only noted; librdkafka waits for `assign` or `unassign`
/// and meanwhile keeps the heartbeat, so the member may commit or restore first.
#[derive(Debug, Default)]
pub(super) struct GroupContext {
    pub reports: Reports,
    rebalanced: Mutex<Option<Rebalanced>>,
    closing: AtomicBool,
}

impl GroupContext {
    pub fn take_rebalance(&self) -> Option<Rebalanced> {
        lock(&self.rebalanced).take()
    }

    /// From now on rebalances are answered at once: the consumer's `drop` polls until it is closed.
    pub fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.reports.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reports.error(error, reason);
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, kind: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        self.reports.count();
        if self.closing.load(Ordering::SeqCst) {
            if let Err(error) = consumer.unassign() {
                warn!(%error, "unassigning while closing failed");
            }
            return;
        }
        let partitions = topic_partitions(partitions);
        let rebalanced = if kind == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            Rebalanced::Assign(partitions)
        } else {
            Rebalanced::Revoke(partitions)
        };
        *lock(&self.rebalanced) = Some(rebalanced);
    }
}

/// The partitions of a list, in its order.
pub(super) fn topic_partitions(list: &TopicPartitionList) -> Vec<TopicPartition> {
    let elements = list.elements();
    let known = elements.iter().filter_map(|e| Some((e.topic(), u32::try_from(e.partition()).ok()?)));
    known.map(|(topic, partition)| TopicPartition::new(topic, partition)).collect()
}

/// A record that the log did not take.
#[derive(Debug, Clone)]
pub(super) struct Undelivered {
    pub error: KafkaError,
    pub topic: String,
    pub partition: i32,
}

/// A producer's context: remembers the first record that was not delivered.
#[derive(Debug, Default)]
pub(super) struct DeliveryContext {
    pub reports: Reports,
    failed: AtomicBool,
    first: Mutex<Option<Undelivered>>,
}

impl DeliveryContext {
    pub fn take_undelivered(&self) -> Option<Undelivered> {
        if !self.failed.swap(false, Ordering::SeqCst) {
            return None;
        }
        lock(&self.first).take()
    }
}

impl ClientContext for DeliveryContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.reports.log(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reports.error(error, reason);
    }
}

impl ProducerContext for DeliveryContext {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let undelivered =
                Undelivered { error: error.clone(), topic: message.topic().to_owned(), partition: message.partition() };
            lock(&self.first).get_or_insert(undelivered);
            self.failed.store(true, Ordering::SeqCst);
        }
    }
}
