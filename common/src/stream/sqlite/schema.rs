//! The file's tables.
//!
//! A batch's row id is its partition's id and its *last* offset in one number, so that "the first batch
//! that reaches offset n" is one seek in one tree, and a partition's batches lie side by side.

use std::sync::Arc;

use super::connection::Connection;
use crate::stream::log::{Cleanup, LogError, TopicSpec};

/// The version of these tables and of the batches' bytes.
const VERSION: i64 = 1;
/// "trfl", so that `file` and we recognise a log.
const APPLICATION: i64 = 0x7472_666c;

const TABLES: &str = "\
BEGIN IMMEDIATE;
CREATE TABLE topics (
    name TEXT NOT NULL PRIMARY KEY,
    partitions INTEGER NOT NULL,
    first_partition INTEGER NOT NULL,  -- partitions.id of number 0; the others follow it
    compacted INTEGER NOT NULL,
    retention_ms INTEGER               -- null: kept for ever
) STRICT;
CREATE TABLE partitions (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    number INTEGER NOT NULL,
    first INTEGER NOT NULL,            -- the first offset still kept
    next INTEGER NOT NULL,             -- the offset that the next record gets
    bytes INTEGER NOT NULL,            -- of all batches
    compacted_bytes INTEGER NOT NULL   -- of all batches, after the last compaction
) STRICT;
CREATE TABLE batches (
    id INTEGER PRIMARY KEY,            -- partitions.id << 44 | last offset
    base INTEGER NOT NULL,             -- first offset
    records INTEGER NOT NULL,
    newest_timestamp_ms INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE TABLE offsets (
    consumer_group TEXT NOT NULL,
    partition INTEGER NOT NULL,        -- partitions.id
    next INTEGER NOT NULL,
    PRIMARY KEY (consumer_group, partition)
) STRICT, WITHOUT ROWID;
PRAGMA application_id = 1953654380;
PRAGMA user_version = 1;
COMMIT;
";

const OFFSET_BITS: u32 = 44;

/// One past the last offset that a partition can have.
pub(super) const OFFSET_LIMIT: i64 = 1 << OFFSET_BITS;

/// A partition of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PartitionId(pub i64);

impl PartitionId {
    /// The row of the batch that ends with `offset`, `0 <= offset <= OFFSET_LIMIT`.
    pub fn row(self, offset: i64) -> i64 {
        (self.0 << OFFSET_BITS) + offset
    }

    /// One past the partition's last possible row.
    pub fn rows_end(self) -> i64 {
        self.row(OFFSET_LIMIT)
    }

    /// The last offset of the batch in `row`.
    pub fn last_offset(self, row: i64) -> i64 {
        row - self.row(0)
    }

    /// The partition's place in a dense list.
    pub fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(0)
    }
}

/// A topic as the file has it; never changes but for its retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topic {
    pub name: String,
    pub partitions: u32,
    pub first_partition: i64,
    pub compacted: bool,
}

impl Topic {
    pub fn partition(&self, number: u32) -> Option<PartitionId> {
        (number < self.partitions).then(|| PartitionId(self.first_partition + i64::from(number)))
    }
}

/// Creates the tables in a new file, and refuses one that is not ours.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), LogError> {
    let version = connection.number(sqlx::query("PRAGMA user_version"))?;
    let application = connection.number(sqlx::query("PRAGMA application_id"))?;
    if application == APPLICATION && version == VERSION {
        return Ok(());
    }
    let path = connection.path().display().to_string();
    if application == APPLICATION {
        return Err(LogError::Fatal(format!(
            "the log {path} has format {version}, this version reads format {VERSION}: use the version that wrote it"
        )));
    }
    if connection.number(sqlx::query("SELECT count(*) FROM sqlite_schema"))? > 0 {
        return Err(LogError::Fatal(format!(
            "{path} is another program's database, not a log: check the path in the setting `log`"
        )));
    }
    // Only now, and for ever: the journal mode is kept in the file.
    let mode = connection.row(sqlx::query("PRAGMA journal_mode = WAL"))?;
    if mode.map(|row| connection.get::<String>(&row, 0)).transpose()?.as_deref() != Some("wal") {
        return Err(LogError::Fatal(format!(
            "the file system of {path} has no shared memory, which the log needs: put the file on a local disk"
        )));
    }
    connection.run(sqlx::query(TABLES))
}

/// Looks a topic up.
pub(super) fn topic(connection: &mut Connection, name: &str) -> Result<Option<Arc<Topic>>, LogError> {
    let query = sqlx::query("SELECT partitions, first_partition, compacted FROM topics WHERE name = ?").bind(name);
    let Some(row) = connection.row(query)? else { return Ok(None) };
    Ok(Some(Arc::new(Topic {
        name: name.to_owned(),
        partitions: connection.get(&row, 0)?,
        first_partition: connection.get(&row, 1)?,
        compacted: connection.get(&row, 2)?,
    })))
}

/// Creates a topic or verifies that it is as it should be, inside a transaction.
pub(super) fn ensure_topic(connection: &mut Connection, spec: &TopicSpec) -> Result<(), LogError> {
    let (compacted, retention_ms) = match spec.cleanup {
        Cleanup::Compact => (true, None),
        Cleanup::Delete { retention_ms } => (false, retention_ms),
    };
    let Some(topic) = topic(connection, &spec.name)? else {
        return create(connection, spec, compacted, retention_ms);
    };
    let kind = |compacted| if compacted { "compact" } else { "delete" };
    let differs = |what: &str, is: &str, wanted: &str| {
        LogError::Fatal(format!(
            "topic {} in {} has {what} {is}, but {wanted} is configured: change the configuration, or begin a new file",
            spec.name,
            connection.path().display()
        ))
    };
    if topic.partitions != spec.partitions {
        return Err(differs("partitions", &topic.partitions.to_string(), &spec.partitions.to_string()));
    }
    if topic.compacted != compacted {
        return Err(differs("cleanup", kind(topic.compacted), kind(compacted)));
    }
    let update = "UPDATE topics SET retention_ms = ? WHERE name = ?";
    connection.run(sqlx::query(update).bind(retention_ms).bind(&spec.name))
}

fn create(
    connection: &mut Connection,
    spec: &TopicSpec,
    compacted: bool,
    retention_ms: Option<i64>,
) -> Result<(), LogError> {
    if spec.name.is_empty() || spec.partitions == 0 {
        return Err(LogError::Fatal(format!(
            "topic {:?} with {} partitions: it needs a name and at least one partition",
            spec.name, spec.partitions
        )));
    }
    let first = connection.number(sqlx::query("SELECT coalesce(max(id), 0) + 1 FROM partitions"))?;
    connection.run(
        sqlx::query(
            "INSERT INTO topics (name, partitions, first_partition, compacted, retention_ms) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(&spec.name)
        .bind(spec.partitions)
        .bind(first)
        .bind(compacted)
        .bind(retention_ms),
    )?;
    for number in 0..spec.partitions {
        connection.run(
            sqlx::query(
                "INSERT INTO partitions (id, topic, number, first, next, bytes, compacted_bytes) VALUES (?, ?, ?, 0, 0, 0, 0)",
            )
            .bind(first + i64::from(number))
            .bind(&spec.name)
            .bind(number),
        )?;
    }
    Ok(())
}
