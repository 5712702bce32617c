//! The log in one SQLite file: for one machine, without services.
//!
//! A transaction of the log is one SQLite transaction, in WAL mode with every commit synced to the disk, so
//! outputs, state and offsets become visible and durable together. Records are stored in batches, one row
//! for each partition written to. Of each application id there is one member, held by a file lock that the
//! kernel gives back when the process dies; producers and readers may use the file beside it. The file must
//! lie on a local disk: locks and shared memory do not work on network file systems.
//!
//! The calls block, on SQLite connections that `sqlx` runs on threads of their own: call them on plain
//! threads (or `spawn_blocking`), never inside asynchronous code, where they panic.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | the port, and what the parts share |
//! | `batch.rs` | the bytes of a stored batch |
//! | `schema.rs` | the tables |
//! | `connection.rs` | blocking calls, and what errors mean |
//! | `lock.rs` | locks between processes |
//! | `writer.rs` | the one connection that writes; transactions |
//! | `housekeeping.rs` | retention and compaction |
//! | `heads.rs` | noticing new records |
//! | `scan.rs` | reading a partition forward |
//! | `pending.rs` | records on their way into the file |
//! | `member.rs`, `producer.rs` | the sessions |

mod batch;
mod connection;
mod heads;
mod housekeeping;
mod lock;
mod member;
mod pending;
mod producer;
mod scan;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use tokio::runtime::Handle;

use self::batch::RecordBuffer;
use self::connection::{Connection, Place};
use self::heads::Heads;
use self::member::SqliteMember;
use self::pending::Pending;
use self::producer::SqliteProducer;
use self::scan::{Scan, SqliteReader};
use self::schema::{PartitionId, Topic};
use self::writer::{GroupOffsets, Writer};
use super::log::{Ends, Log, LogError, Member, Membership, Producer, Reader, TopicPartition, TopicSpec};
use crate::clock::Clock;

/// A log in a SQLite file.
pub struct SqliteLog {
    shared: Arc<Shared>,
}

impl SqliteLog {
    /// Opens the file, creating it if it is missing. `runtime` drives the calls; `clock` stamps the records.
    ///
    /// # Errors
    /// `Retry` if the file cannot be opened now; `Fatal` if it is no log, or one of another version.
    pub fn open(path: &Path, runtime: Handle, clock: Arc<dyn Clock>) -> Result<Self, LogError> {
        let place = Place { path: path.into(), runtime };
        let heads = Arc::new(Heads::default());
        let writer = Writer::open(place.clone(), Arc::clone(&heads))?;
        let shared = Arc::new(Shared {
            place,
            clock,
            heads: Arc::clone(&heads),
            writer: tokio::sync::Mutex::new(writer),
            readers: Mutex::default(),
            topics: RwLock::default(),
        });
        heads::watch(path, heads, Arc::downgrade(&shared))?;
        Ok(Self { shared })
    }
}

/// What members, readers and producers of one process share.
struct Shared {
    place: Place,
    clock: Arc<dyn Clock>,
    heads: Arc<Heads>,
    /// First come, first served.
    writer: tokio::sync::Mutex<Writer>,
    /// Connections that nobody reads with just now.
    readers: Mutex<Vec<Connection>>,
    topics: RwLock<HashMap<String, Arc<Topic>>>,
}

/// Idle reading connections kept; each has a thread.
const IDLE_READERS: usize = 4;

impl Shared {
    /// Lends a connection for a short read.
    fn read<T>(&self, read: impl FnOnce(&mut Connection) -> Result<T, LogError>) -> Result<T, LogError> {
        let idle = self.readers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut connection = match idle {
            Some(connection) => connection,
            None => Connection::reader(&self.place)?,
        };
        let done = read(&mut connection)?;
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if readers.len() < IDLE_READERS {
            readers.push(connection);
        }
        Ok(done)
    }

    /// Stores what is pending and a group's offsets as one transaction; on success nothing is pending.
    fn append(&self, pending: &mut Pending, group: Option<GroupOffsets<'_>>) -> Result<(), LogError> {
        let batches = pending.seal();
        let mut writer = self.writer.blocking_lock();
        writer.append(batches, group)?;
        writer.keep_house(batches, self.clock.now_ms());
        drop(writer);
        pending.clear();
        Ok(())
    }

    /// Notices what other processes have written.
    fn look(&self) -> Result<(), LogError> {
        self.writer.blocking_lock().look()
    }

    /// Asks the file itself where a partition ends.
    fn look_at(&self, partition: PartitionId) -> Result<(), LogError> {
        let ends = self.partition_ends(partition)?;
        self.heads.publish([(partition, ends.high)]);
        Ok(())
    }

    fn partition_ends(&self, partition: PartitionId) -> Result<Ends, LogError> {
        self.read(|connection| {
            let query = sqlx::query("SELECT first, next FROM partitions WHERE id = ?").bind(partition.0);
            let Some(row) = connection.row(query)? else {
                return Err(LogError::Fatal(format!(
                    "the log {} has lost a partition: was the file replaced while in use?",
                    connection.path().display()
                )));
            };
            let (first, next) = (connection.get(&row, 0)?, connection.get(&row, 1)?);
            Ok(Ends { first, high: next, stable: next })
        })
    }

    fn topic(&self, name: &str) -> Result<Option<Arc<Topic>>, LogError> {
        let known = self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let found = self.read(|connection| schema::topic(connection, name))?;
        if let Some(topic) = &found {
            let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
            topics.insert(name.to_owned(), Arc::clone(topic));
        }
        Ok(found)
    }

    fn existing_topic(&self, name: &str) -> Result<Arc<Topic>, LogError> {
        self.topic(name)?.ok_or_else(|| {
            let path = self.place.path.display();
            LogError::Fatal(format!("topic {name} does not exist in the log {path}; create it with `traffic init`"))
        })
    }

    fn existing_partition(&self, at: &TopicPartition) -> Result<PartitionId, LogError> {
        let partition = self.existing_topic(&at.topic)?.partition(at.partition);
        partition.ok_or_else(|| self.no_partition(&at.topic, at.partition))
    }

    fn no_partition(&self, topic: &str, number: u32) -> LogError {
        LogError::Fatal(format!("topic {topic} has no partition {number} in the log {}", self.place.path.display()))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.heads.close();
    }
}

impl Log for SqliteLog {
    fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        let mut writer = self.shared.writer.blocking_lock();
        writer
            .transaction(|connection, _| topics.iter().try_for_each(|spec| schema::ensure_topic(connection, spec)))?;
        writer.forget();
        Ok(())
    }

    fn partitions(&self, topic: &str) -> Result<Option<u32>, LogError> {
        Ok(self.shared.topic(topic)?.map(|topic| topic.partitions))
    }

    fn ends(&self, at: &TopicPartition) -> Result<Ends, LogError> {
        self.shared.partition_ends(self.shared.existing_partition(at)?)
    }

    fn committed(&self, group: &str, at: &[TopicPartition]) -> Result<Vec<Option<i64>>, LogError> {
        let mut partitions = Vec::with_capacity(at.len());
        for at in at {
            partitions.push(self.shared.existing_partition(at)?);
        }
        self.shared.read(|connection| {
            let query = sqlx::query("SELECT partition, next FROM offsets WHERE consumer_group = ?").bind(group);
            let mut offsets: HashMap<i64, i64> = HashMap::new();
            for row in connection.rows(query)? {
                offsets.insert(connection.get(&row, 0)?, connection.get(&row, 1)?);
            }
            Ok(partitions.iter().map(|partition| offsets.get(&partition.0).copied()).collect())
        })
    }

    fn read(&self, at: &TopicPartition, from: Option<i64>) -> Result<Box<dyn Reader>, LogError> {
        let partition = self.shared.existing_partition(at)?;
        let scan = Scan::new(at.clone(), partition, from.unwrap_or(0).max(0));
        Ok(Box::new(SqliteReader { log: Arc::clone(&self.shared), scan, buffer: RecordBuffer::default() }))
    }

    fn join(&self, membership: &Membership) -> Result<Box<dyn Member>, LogError> {
        Ok(Box::new(SqliteMember::join(Arc::clone(&self.shared), membership)?))
    }

    fn producer(&self) -> Result<Box<dyn Producer>, LogError> {
        Ok(Box::new(SqliteProducer::new(Arc::clone(&self.shared))))
    }
}

/// For deadlines and pauses only; records are stamped by the log's clock.
#[expect(clippy::disallowed_methods, reason = "measures waiting, which no injected clock can")]
fn now() -> Instant {
    Instant::now()
}
