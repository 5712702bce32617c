//! Writing records: the produce loop, and the producer without transactions.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use super::config::{KafkaConfig, PRODUCER};
use super::context::DeliveryContext;
use super::deadline::Deadline;
use super::error::Explain;
use crate::stream::log::{LogError, Outgoing, Producer};

/// How long a record may wait for its acknowledgement, and a full buffer for room.
pub(super) const DELIVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// A producer and its words for errors.
pub(super) struct Sender {
    /// Shared with calls that may never return.
    pub producer: Arc<BaseProducer<DeliveryContext>>,
    pub explain: Explain,
    sent: u32,
}

impl Sender {
    pub fn new(config: &KafkaConfig, explain: Explain, role: &[(&str, &str)]) -> Result<Self, LogError> {
        let context = DeliveryContext::default();
        let reports = context.reports.clone();
        let settings = config.client(&[&PRODUCER[..], role].concat());
        let producer = settings
            .create_with_context(context)
            .map_err(|error| explain.error("creating a producer", &error, &reports))?;
        Ok(Self { producer: Arc::new(producer), explain, sent: 0 })
    }

    pub fn error(&self, doing: &str, error: &KafkaError) -> LogError {
        self.explain.error(doing, error, &self.producer.context().reports)
    }

    /// Takes a record over, waiting at most `patience` for room.
    pub fn send(&mut self, record: &Outgoing<'_>, patience: Duration) -> Result<(), LogError> {
        // Serve errors and log lines now and then; successes make no events.
        self.sent = self.sent.wrapping_add(1);
        if self.sent.is_multiple_of(256) {
            self.producer.poll(Duration::ZERO);
            self.check()?;
        }
        let mut next = base_record(record)?;
        let mut deadline = None;
        loop {
            let Err((error, back)) = self.producer.send(next) else { return Ok(()) };
            let deadline = *deadline.get_or_insert_with(|| Deadline::after(patience));
            let full = error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull);
            if !full {
                return Err(self.error(&format!("writing to {}", record.topic), &error));
            }
            if deadline.has_passed() {
                let doing = format!("writing to {} with a full send buffer", record.topic);
                return Err(self.explain.too_late(&doing, patience, &self.producer.context().reports));
            }
            self.serve(Duration::from_millis(1));
            self.check()?;
            next = back;
        }
    }

    /// The first record that was not delivered since the last call, as an error.
    pub fn check(&self) -> Result<(), LogError> {
        match self.producer.context().take_undelivered() {
            None => Ok(()),
            Some(lost) => {
                Err(self.error(&format!("delivering a record to {}-{}", lost.topic, lost.partition), &lost.error))
            }
        }
    }

    /// Serves events, then lets time pass. (`poll` with a limit would spin through its last millisecond.)
    fn serve(&self, pause: Duration) {
        self.producer.poll(Duration::ZERO);
        thread::sleep(pause);
    }

    /// Waits until nothing is in flight. (`flush` would serve events in steps of 100 ms.)
    pub fn settle(&self, limit: Duration) -> Result<(), LogError> {
        let deadline = Deadline::after(limit);
        while self.producer.in_flight_count() > 0 {
            if deadline.has_passed() {
                let waiting = self.producer.in_flight_count();
                let doing = format!("waiting for the acknowledgement of {waiting} records");
                return Err(self.explain.too_late(&doing, limit, &self.producer.context().reports));
            }
            self.serve(Duration::from_micros(200));
        }
        self.producer.poll(Duration::ZERO);
        self.check()
    }
}

fn base_record<'a>(record: &Outgoing<'a>) -> Result<BaseRecord<'a, [u8], [u8]>, LogError> {
    let mut base = BaseRecord::to(record.topic);
    base.key = record.key;
    base.payload = record.value;
    if let Some(partition) = record.partition {
        let Ok(partition) = i32::try_from(partition) else {
            return Err(LogError::Fatal(format!("{} has no partition {partition}", record.topic)));
        };
        base.partition = Some(partition);
    }
    if !record.headers.is_empty() {
        let empty = OwnedHeaders::new_with_capacity(record.headers.len());
        base.headers = Some(
            record
                .headers
                .iter()
                .fold(empty, |headers, (key, value)| headers.insert(Header { key, value: Some(*value) })),
        );
    }
    Ok(base)
}

/// A producer without transactions: idempotent, in order, at least once.
pub(super) struct KafkaProducer(Sender);

impl KafkaProducer {
    pub fn new(config: &KafkaConfig, explain: Explain) -> Result<Self, LogError> {
        let timeout = DELIVERY_TIMEOUT.as_millis().to_string();
        Ok(Self(Sender::new(config, explain, &[("message.timeout.ms", &timeout)])?))
    }
}

impl Producer for KafkaProducer {
    fn send(&mut self, record: &Outgoing<'_>) -> Result<(), LogError> {
        self.0.send(record, DELIVERY_TIMEOUT)
    }

    fn flush(&mut self) -> Result<(), LogError> {
        self.0.settle(DELIVERY_TIMEOUT + Duration::from_secs(2))
    }
}
