//! Asks the broker, beside the poll loop, where partitions end: a broker that does not answer must
//! delay no record.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use tracing::debug;

use super::context::GroupContext;
use super::deadline::monotonic;
use super::signal::Signal;
use crate::stream::log::{END_CONFIRMATION, LogError, TopicPartition};

/// Two questions, so that the second can confirm the first, fit into one confirmation.
const INTERVAL: Duration = Duration::from_secs(END_CONFIRMATION.as_secs() * 2 / 5);

const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

type Stable = Vec<(TopicPartition, i64)>;

/// A thread that asks for last stable offsets.
pub(super) struct Probe {
    /// Dropping it ends the thread.
    questions: Option<SyncSender<Vec<TopicPartition>>>,
    answers: Receiver<Stable>,
    due: Cell<Instant>,
    asked: Cell<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Probe {
    pub fn start(consumer: Arc<BaseConsumer<GroupContext>>, signal: Arc<Signal>) -> Result<Self, LogError> {
        let (questions, asked) = mpsc::sync_channel::<Vec<TopicPartition>>(1);
        let (answer, answers) = mpsc::sync_channel(1);
        let work = move || {
            while let Ok(partitions) = asked.recv() {
                if answer.send(last_stable_offsets(&consumer, &partitions)).is_err() {
                    return;
                }
                signal.raise();
            }
        };
        let thread = std::thread::Builder::new().name("kafka-end-probe".to_owned()).spawn(work);
        let thread = thread.map_err(|error| LogError::Retry(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            questions: Some(questions),
            answers,
            due: Cell::new(monotonic() + INTERVAL),
            asked: Cell::new(false),
            thread: Some(thread),
        })
    }

    /// Until when nothing needs to be asked.
    pub fn until_due(&self) -> Duration {
        if self.asked.get() { INTERVAL } else { self.due.get().saturating_duration_since(monotonic()) }
    }

    pub fn ask(&self, partitions: Vec<TopicPartition>) {
        let Some(questions) = &self.questions else { return };
        self.due.set(monotonic() + INTERVAL);
        if !partitions.is_empty() && questions.try_send(partitions).is_ok() {
            self.asked.set(true);
        }
    }

    /// The answer, once it is here; empty if the broker gave none.
    pub fn answer(&self) -> Option<Stable> {
        match self.answers.try_recv() {
            Ok(stable) => {
                self.asked.set(false);
                Some(stable)
            }
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
        }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.questions = None;
        // The thread holds the consumer; the consumer must be closed by whoever drops the member.
        if let Some(thread) = self.thread.take() {
            // A panic in it has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// One question to each leader: what may a read_committed reader see at most?
fn last_stable_offsets(consumer: &BaseConsumer<GroupContext>, partitions: &[TopicPartition]) -> Stable {
    let mut question = TopicPartitionList::with_capacity(partitions.len());
    for at in partitions {
        // ListOffsets knows the timestamp -1, which is this, as "the end at our isolation level".
        let added = question.add_partition_offset(&at.topic, at.partition.cast_signed(), Offset::End);
        debug_assert!(added.is_ok(), "End is a representable offset");
    }
    match consumer.offsets_for_times(question, ANSWER_TIMEOUT) {
        Ok(answer) => {
            let elements = answer.elements();
            let known = elements.iter().filter(|e| e.error().is_ok());
            known
                .filter_map(|e| match (e.offset(), u32::try_from(e.partition())) {
                    (Offset::Offset(stable), Ok(partition)) => {
                        Some((TopicPartition::new(e.topic(), partition), stable))
                    }
                    _ => None,
                })
                .collect()
        }
        Err(error) => {
            debug!(%error, "ends not confirmed: the broker does not answer");
            Vec::new()
        }
    }
}
