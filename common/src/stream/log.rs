//! The log port: a durable, partitioned log with consumer groups and transactions.
//!
//! Everything is synchronous: a member lives on its worker's own thread, and the simulator steps
//! many members on one. Offsets count records *and* transaction markers, so "at the end" is an
//! event the log confirms ([`Event::End`]), never a comparison of offsets.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};

/// Header of a watermark marker: a record with null key and null value that says its partition is
/// complete up to this event time (decimal epoch ms).
pub const WATERMARK_HEADER: &str = "watermark";

/// A topic's partition.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: String,
    pub partition: u32,
}

impl TopicPartition {
    #[must_use]
    pub fn new(topic: impl Into<String>, partition: u32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a topic forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// Records older than `retention_ms` are deleted; `None` keeps them for ever.
    Delete { retention_ms: Option<i64> },
    /// Only the newest record of a key is kept; a null value deletes the key.
    Compact,
}

/// A topic as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: u32,
    /// Kafka only; embedded logs have one copy.
    pub replication: u16,
    pub cleanup: Cleanup,
}

/// A record header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub value: Vec<u8>,
}

/// A record held in memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredRecord {
    pub offset: i64,
    /// When the record was produced, epoch ms (never its event time).
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<Header>,
}

impl StoredRecord {
    #[must_use]
    pub fn as_record(&self) -> Record<'_> {
        Record {
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: Headers::Stored(&self.headers),
        }
    }
}

/// A record as a consumer sees it, borrowed from the log's own buffer.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub offset: i64,
    /// When the record was produced, epoch ms (never its event time).
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

#[derive(Clone, Copy)]
enum Headers<'a> {
    Stored(&'a [Header]),
    /// Looked up only when one is asked for: the client library parses them then.
    Kafka(&'a BorrowedMessage<'a>),
}

impl<'a> Record<'a> {
    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        match self.headers {
            Headers::Stored(headers) => headers.iter().find(|h| h.name == name).map(|h| h.value.as_slice()),
            Headers::Kafka(message) => message.headers()?.iter().find(|h| h.key == name).and_then(|h| h.value),
        }
    }

    /// A number that a header holds in decimal.
    #[must_use]
    pub fn header_number(&self, name: &str) -> Option<i64> {
        std::str::from_utf8(self.header(name)?).ok()?.parse().ok()
    }

    /// The event time up to which a watermark marker declares its partition complete; `None` for
    /// every other record.
    #[must_use]
    pub fn watermark_ms(&self) -> Option<i64> {
        if self.key.is_some() || self.value.is_some() {
            return None;
        }
        self.header_number(WATERMARK_HEADER)
    }

    /// All headers, in order.
    #[must_use]
    pub fn headers(&self) -> Vec<Header> {
        match self.headers {
            Headers::Stored(headers) => headers.to_vec(),
            Headers::Kafka(message) => message
                .headers()
                .into_iter()
                .flat_map(|h| h.iter())
                .map(|h| Header { name: h.key.to_owned(), value: h.value.unwrap_or_default().to_vec() })
                .collect(),
        }
    }

    #[must_use]
    pub fn to_stored(&self) -> StoredRecord {
        StoredRecord {
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.map(<[u8]>::to_vec),
            value: self.value.map(<[u8]>::to_vec),
            headers: self.headers(),
        }
    }
}

/// Consecutive records of one partition, in offset order, never empty.
pub struct Records<'a> {
    /// Index into [`Membership::inputs`].
    pub input: usize,
    pub partition: u32,
    batch: Batch<'a>,
}

enum Batch<'a> {
    Stored(&'a [StoredRecord]),
    Shared(&'a [Arc<StoredRecord>]),
    Kafka(Vec<BorrowedMessage<'a>>),
}

impl<'a> Records<'a> {
    #[must_use]
    pub fn stored(input: usize, partition: u32, records: &'a [StoredRecord]) -> Self {
        Self { input, partition, batch: Batch::Stored(records) }
    }

    #[must_use]
    pub fn shared(input: usize, partition: u32, records: &'a [Arc<StoredRecord>]) -> Self {
        Self { input, partition, batch: Batch::Shared(records) }
    }

    #[must_use]
    pub fn kafka(input: usize, partition: u32, messages: Vec<BorrowedMessage<'a>>) -> Self {
        Self { input, partition, batch: Batch::Kafka(messages) }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        match &self.batch {
            Batch::Stored(records) => records.len(),
            Batch::Shared(records) => records.len(),
            Batch::Kafka(messages) => messages.len(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `i`-th record, `i < len()`.
    #[must_use]
    pub fn get(&self, i: usize) -> Record<'_> {
        match &self.batch {
            Batch::Stored(records) => records[i].as_record(),
            Batch::Shared(records) => records[i].as_record(),
            Batch::Kafka(messages) => kafka_record(&messages[i]),
        }
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        (0..self.len()).map(|i| self.get(i))
    }

    /// The offset to go on from after these records.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.len().checked_sub(1).map_or(0, |last| self.get(last).offset + 1)
    }
}

/// A Kafka message as a record, without copying.
pub(crate) fn kafka_record<'m>(message: &'m BorrowedMessage<'m>) -> Record<'m> {
    Record {
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(0),
        key: message.key(),
        value: message.payload(),
        headers: Headers::Kafka(message),
    }
}

/// A record to be written.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    pub topic: &'a str,
    /// `None`: murmur2 of the key, as Java producers do; a record without a key goes where the log likes.
    pub partition: Option<u32>,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// Why the log did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The session is lost or its transaction must be given up: join again after a pause, restore, re-read.
    #[error("{0}")]
    Retry(String),
    /// A transaction is about to change the offsets that were asked for: ask again, nothing is lost.
    #[error("{0}")]
    Unstable(String),
    /// Another session took this one's place: join again at once, restore, re-read.
    #[error("{0}")]
    Fenced(String),
    /// Trying again cannot help.
    #[error("{0}")]
    Fatal(String),
}

/// Where a partition begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ends {
    /// The first offset still kept.
    pub first: i64,
    /// One past the last record or marker, open transactions included.
    pub high: i64,
    /// One past what a read_committed reader may see; below `high` while a transaction is open.
    pub stable: i64,
}

/// Who joins a group, and for what.
#[derive(Debug, Clone)]
pub struct Membership {
    /// Names the consumer group and begins `transactional.id`.
    pub application_id: String,
    /// The member's lasting name: a restart under the same name takes its place back at once.
    pub instance: String,
    /// Topics read together; all have the same number of partitions. May be empty.
    pub inputs: Vec<String>,
    /// Whether [`Member::send`] and atomic [`Member::commit`] are used.
    pub transactional: bool,
}

/// What a poll brought.
pub enum Event<'a> {
    /// Nothing happened within the timeout.
    Idle,
    /// These partitions are now ours; reading begins after [`Member::start`].
    Assigned(Vec<TopicPartition>),
    /// These partitions are to be let go: commit or abort, then [`Member::release`].
    Revoked(Vec<TopicPartition>),
    Records(Records<'a>),
    /// The log has confirmed just now that we stand at this partition's end. Repeated at least
    /// every [`END_CONFIRMATION`] while it stays so; not sent while the broker does not answer.
    End {
        input: usize,
        partition: u32,
    },
}

/// How often a standing end is confirmed anew.
pub const END_CONFIRMATION: Duration = Duration::from_secs(10);

/// A durable, partitioned log.
pub trait Log: Send + Sync {
    /// Creates the topics that are missing and verifies the others.
    ///
    /// # Errors
    /// `Fatal` where an existing topic differs in partitions or cleanup, naming both.
    fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError>;

    /// The number of a topic's partitions; `None` if it does not exist.
    fn partitions(&self, topic: &str) -> Result<Option<u32>, LogError>;

    /// Where a partition begins and ends now.
    fn ends(&self, at: &TopicPartition) -> Result<Ends, LogError>;

    /// A group's committed offsets, *stable* ones: an offset that an undecided transaction is about to
    /// change is an error (`Unstable`, after a second at most), never the old value.
    fn committed(&self, group: &str, at: &[TopicPartition]) -> Result<Vec<Option<i64>>, LogError>;

    /// Committed records of one partition from `from` (or the first kept) up to the end as it is met.
    fn read(&self, at: &TopicPartition, from: Option<i64>) -> Result<Box<dyn Reader>, LogError>;

    /// Committed records of one partition from the first kept on, as they come: its `next` never waits, and `false`
    /// means that nothing more has come yet.
    fn tail(&self, at: &TopicPartition) -> Result<Box<dyn Reader>, LogError> {
        self.read(at, None)
    }

    /// Becomes a member of a group. Aborts a transaction that a predecessor of the same name left open.
    fn join(&self, membership: &Membership) -> Result<Box<dyn Member>, LogError>;

    /// A producer without transactions, for those who feed the log from outside.
    fn producer(&self) -> Result<Box<dyn Producer>, LogError>;
}

/// Reads committed records of one partition, without a group.
pub trait Reader: Send {
    /// Hands the next records to `each`; `false` once the end was met (call again to go on).
    fn next(&mut self, each: &mut dyn FnMut(Record<'_>)) -> Result<bool, LogError>;
}

/// One member of a consumer group, with its transactional producer.
///
/// After any error the member is of no more use: drop it and join again.
pub trait Member: Send {
    /// Waits at most `timeout` for what happens next.
    fn poll(&mut self, timeout: Duration) -> Result<Event<'_>, LogError>;

    /// Answers [`Event::Assigned`]: reading begins at these offsets (`None`: the first kept).
    fn start(&mut self, at: &[(TopicPartition, Option<i64>)]) -> Result<(), LogError>;

    /// Answers [`Event::Revoked`].
    fn release(&mut self) -> Result<(), LogError>;

    fn pause(&mut self, at: &[TopicPartition]) -> Result<(), LogError>;

    fn resume(&mut self, at: &[TopicPartition]) -> Result<(), LogError>;

    /// Writes a record in the open transaction, beginning one if there is none.
    fn send(&mut self, record: &Outgoing<'_>) -> Result<(), LogError>;

    /// Commits the open transaction, if any, together with these offsets (the next ones to read). The group is given
    /// them only once every record of the transaction is in the log.
    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError>;

    /// Gives the open transaction up, if any.
    fn abort(&mut self) -> Result<(), LogError>;
}

/// Writes records without transactions, at least once, in order.
pub trait Producer: Send {
    /// Takes the record over; may wait when buffers are full.
    fn send(&mut self, record: &Outgoing<'_>) -> Result<(), LogError>;

    /// Waits until the log has acknowledged everything sent.
    fn flush(&mut self) -> Result<(), LogError>;
}
