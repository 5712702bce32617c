//! One partition's queue of fetched records, and whether we stand at its end.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;

use super::context::GroupContext;
use super::signal::Signal;
use crate::stream::log::TopicPartition;

/// At most this many records in one batch.
const BATCH_RECORDS: usize = 2_000;
/// A batch is closed after the record that takes it past this size.
const BATCH_BYTES: usize = 1 << 20;

/// Whether the last thing the partition said was "end".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Reading,
    /// At the end. `stable` is the last stable offset that the broker named since then, if it was asked.
    AtEnd {
        stable: Option<i64>,
    },
}

/// A partition's own queue. All flags are cells: batches borrow the queue while flags change.
pub(super) struct Queue {
    pub at: TopicPartition,
    /// Index into the membership's inputs.
    pub input: usize,
    queue: PartitionQueue<GroupContext>,
    paused: Cell<bool>,
    standing: Cell<Standing>,
    /// Whether the broker was asked since we stand at the end.
    asked: Cell<bool>,
    /// Whether an end is to be told.
    end: Cell<bool>,
    /// Met behind a batch; told after it.
    failed: RefCell<Option<KafkaError>>,
}

impl Queue {
    pub fn new(
        at: TopicPartition,
        input: usize,
        mut queue: PartitionQueue<GroupContext>,
        signal: &Arc<Signal>,
    ) -> Self {
        let signal = Arc::clone(signal);
        queue.set_nonempty_callback(move || signal.raise());
        Self {
            at,
            input,
            queue,
            paused: Cell::new(false),
            standing: Cell::new(Standing::Reading),
            asked: Cell::new(false),
            end: Cell::new(false),
            failed: RefCell::new(None),
        }
    }

    /// Pausing and resuming discards what is queued; the end is met anew afterwards.
    pub fn set_paused(&self, paused: bool) {
        self.paused.set(paused);
        self.stand(Standing::Reading);
        self.end.set(false);
    }

    pub fn is_paused(&self) -> bool {
        self.paused.get()
    }

    pub fn take_failure(&self) -> Option<KafkaError> {
        self.failed.borrow_mut().take()
    }

    /// Whether to tell now that we stand at the end; ask only when the queue is empty.
    pub fn take_end(&self) -> bool {
        self.end.take()
    }

    fn stand(&self, standing: Standing) {
        self.standing.set(standing);
        self.asked.set(false);
    }

    /// The records that are here now, up to a batch; behind an end or an error nothing is taken.
    pub fn take_batch(&self) -> Vec<BorrowedMessage<'_>> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            match self.queue.poll(Duration::ZERO) {
                None => break,
                Some(Ok(message)) => {
                    bytes += message.payload_len() + message.key_len();
                    batch.push(message);
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.stand(Standing::AtEnd { stable: None });
                    self.end.set(true);
                    return batch;
                }
                Some(Err(error)) => {
                    *self.failed.borrow_mut() = Some(error);
                    break;
                }
            }
        }
        if !batch.is_empty() {
            self.stand(Standing::Reading);
            self.end.set(false);
        }
        batch
    }

    /// Whether the broker should be asked if we still stand at the end.
    pub fn wants_confirmation(&self) -> bool {
        let at_end = matches!(self.standing.get(), Standing::AtEnd { .. });
        if at_end && !self.paused.get() {
            self.asked.set(true);
            return true;
        }
        false
    }

    /// The broker's answer. Two equal ones, with no record between them, confirm the end: a fetch answers
    /// within half a second, so records before that offset would have come.
    pub fn confirm(&self, stable: i64) {
        let Standing::AtEnd { stable: known } = self.standing.get() else { return };
        if self.asked.take() {
            self.standing.set(Standing::AtEnd { stable: Some(stable) });
            if known == Some(stable) {
                self.end.set(true);
            }
        }
    }
}
