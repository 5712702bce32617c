//! What makes the log forget: retention, and compaction by key.
//!
//! Both run after a write, on the writer's connection, each partition in a transaction of its own. A reader
//! in the middle of a partition stays right: surviving records keep their offsets and order, and a
//! tombstone outlives the readers that may have seen what it deletes.

use std::collections::HashMap;

use tracing::{info, warn};

use super::batch::{BatchWriter, Content, Damage, RecordBuffer};
use super::connection::Connection;
use super::pending::PendingBatch;
use super::scan::damaged;
use super::schema::PartitionId;
use super::writer::{PartitionState, Writer, size};
use crate::stream::log::{LogError, StoredRecord, TopicPartition};

/// How often expired batches are looked for.
const RETENTION_INTERVAL_MS: i64 = 60_000;
/// The most batches of a partition that one look removes, so that it stays short.
const RETENTION_ROWS: i64 = 512;
/// A pause after work that failed, so that a full disk is not reported with every commit.
const PAUSE_AFTER_ERROR_MS: i64 = 60_000;
/// A partition smaller than this is not compacted.
const COMPACTION_MIN_BYTES: i64 = 4 << 20;
/// How long a tombstone is kept: longer than any reader takes from the value it deletes to the end.
const TOMBSTONE_KEPT_MS: i64 = 600_000;
/// Size of the batches that compaction writes.
const COMPACTED_BATCH_BYTES: usize = 256 << 10;

/// When to look next, epoch ms.
#[derive(Debug, Default)]
pub(super) struct Housekeeping {
    retention_due_ms: i64,
    paused_until_ms: i64,
}

impl Writer {
    /// Does what is due after `written`. What fails is logged, and tried again later: the write itself is done.
    pub fn keep_house(&mut self, written: &[PendingBatch], now_ms: i64) {
        if now_ms < self.housekeeping.paused_until_ms {
            return;
        }
        let compaction =
            written.iter().filter(|b| b.compacted).try_for_each(|b| self.compact_if_due(b.partition, now_ms));
        let done = compaction.and_then(|()| self.retain_if_due(now_ms)).and_then(|()| self.checkpoint());
        if let Err(error) = done {
            warn!(%error, "the log could not be tidied; trying again in a minute");
            self.housekeeping.paused_until_ms = now_ms + PAUSE_AFTER_ERROR_MS;
        }
    }

    fn retain_if_due(&mut self, now_ms: i64) -> Result<(), LogError> {
        if now_ms < self.housekeeping.retention_due_ms {
            return Ok(());
        }
        self.housekeeping.retention_due_ms = now_ms + RETENTION_INTERVAL_MS;
        let expired_before = "SELECT partitions.id, ? - retention_ms
            FROM topics JOIN partitions ON partitions.topic = topics.name WHERE retention_ms IS NOT NULL";
        let removed = self.transaction(|connection, _| {
            let mut removed = 0;
            for row in connection.rows(sqlx::query(expired_before).bind(now_ms))? {
                let (partition, before_ms) = (PartitionId(connection.get(&row, 0)?), connection.get(&row, 1)?);
                removed += remove_expired(connection, partition, before_ms)?;
            }
            Ok(removed)
        })?;
        if removed > 0 {
            self.forget();
        }
        Ok(())
    }

    fn compact_if_due(&mut self, partition: PartitionId, now_ms: i64) -> Result<(), LogError> {
        let PartitionState { bytes, compacted_bytes, .. } = self.partition(partition);
        if bytes <= COMPACTION_MIN_BYTES.max(2 * compacted_bytes) {
            return Ok(());
        }
        let kept = self.transaction(|connection, _| compact(connection, partition, now_ms - TOMBSTONE_KEPT_MS))?;
        self.compacted(partition, kept);
        info!(partition = partition.0, bytes, kept, "partition compacted");
        Ok(())
    }
}

/// Removes the batches at the partition's front whose newest record is older than `before_ms`.
fn remove_expired(connection: &mut Connection, partition: PartitionId, before_ms: i64) -> Result<usize, LogError> {
    let front =
        "SELECT id, newest_timestamp_ms, length(data) FROM batches WHERE id >= ? AND id < ? ORDER BY id LIMIT ?";
    let (start, end) = (partition.row(0), partition.rows_end());
    let rows = connection.rows(sqlx::query(front).bind(start).bind(end).bind(RETENTION_ROWS))?;
    let (mut last, mut bytes, mut removed) = (None, 0_i64, 0);
    for row in &rows {
        let newest_ms: i64 = connection.get(row, 1)?;
        if newest_ms >= before_ms {
            break;
        }
        last = Some(connection.get::<i64>(row, 0)?);
        bytes += connection.get::<i64>(row, 2)?;
        removed += 1;
    }
    let Some(last) = last else { return Ok(0) };
    connection.run(sqlx::query("DELETE FROM batches WHERE id >= ? AND id <= ?").bind(start).bind(last))?;
    let update = "UPDATE partitions SET first = ?, bytes = bytes - ? WHERE id = ?";
    let first = partition.last_offset(last) + 1;
    connection.run(sqlx::query(update).bind(first).bind(bytes).bind(partition.0))?;
    Ok(removed)
}

/// Rewrites a partition so that it holds only the newest record of each key, and tombstones only since
/// `tombstones_from_ms`. Returns its bytes.
fn compact(connection: &mut Connection, partition: PartitionId, tombstones_from_ms: i64) -> Result<i64, LogError> {
    let mut newest: HashMap<Vec<u8>, i64> = HashMap::new();
    for_each_batch(connection, partition, |_, _, records| {
        for record in records {
            match record.key.as_ref().and_then(|key| newest.get_mut(key)) {
                Some(offset) => *offset = record.offset,
                None => {
                    newest.insert(record.key.clone().unwrap_or_default(), record.offset);
                }
            }
        }
        Ok(())
    })?;
    let mut survivors = Survivors { partition, writer: BatchWriter::new(), base: 0, next: 0, bytes: 0 };
    for_each_batch(connection, partition, |connection, row, records| {
        // Whatever is written back ends at or before this row, so no two rows get the same id.
        connection.run(sqlx::query("DELETE FROM batches WHERE id = ?").bind(row))?;
        for record in records {
            let newest = record.key.as_ref().and_then(|key| newest.get(key)) == Some(&record.offset);
            if newest && (record.value.is_some() || record.timestamp_ms >= tombstones_from_ms) {
                survivors.keep(record);
            }
        }
        if survivors.writer.size() >= COMPACTED_BATCH_BYTES { survivors.write(connection) } else { Ok(()) }
    })?;
    survivors.write(connection)?;
    let update = "UPDATE partitions SET bytes = ?1, compacted_bytes = ?1 WHERE id = ?2";
    connection.run(sqlx::query(update).bind(survivors.bytes).bind(partition.0))?;
    Ok(survivors.bytes)
}

/// Hands each batch's row id and records to `each`, in order, and what `each` writes behind it is not met again.
fn for_each_batch(
    connection: &mut Connection,
    partition: PartitionId,
    mut each: impl FnMut(&mut Connection, i64, &[StoredRecord]) -> Result<(), LogError>,
) -> Result<(), LogError> {
    let query = "SELECT id, base, data FROM batches WHERE id >= ? AND id < ? ORDER BY id LIMIT 1";
    let mut buffer = RecordBuffer::default();
    let mut from = partition.row(0);
    while let Some(row) = connection.row(sqlx::query(query).bind(from).bind(partition.rows_end()))? {
        let id: i64 = connection.get(&row, 0)?;
        let base: i64 = connection.get(&row, 1)?;
        buffer.clear();
        if let Err(Damage(why)) = buffer.decode(connection.get(&row, 2)?, base, base) {
            let at = name(connection, partition)?;
            return Err(damaged(connection, &at, partition.last_offset(id), why));
        }
        each(connection, id, buffer.records())?;
        from = id + 1;
    }
    Ok(())
}

fn name(connection: &mut Connection, partition: PartitionId) -> Result<TopicPartition, LogError> {
    let query = sqlx::query("SELECT topic, number FROM partitions WHERE id = ?").bind(partition.0);
    match connection.row(query)? {
        Some(row) => Ok(TopicPartition::new(connection.get::<String>(&row, 0)?, connection.get(&row, 1)?)),
        None => Ok(TopicPartition::new("unknown", 0)),
    }
}

/// The records that stay, on their way back into the file.
struct Survivors {
    partition: PartitionId,
    writer: BatchWriter,
    base: i64,
    next: i64,
    bytes: i64,
}

impl Survivors {
    fn keep(&mut self, record: &StoredRecord) {
        if self.writer.records() == 0 {
            self.base = record.offset;
            self.next = record.offset;
        }
        let content =
            Content { timestamp_ms: record.timestamp_ms, key: record.key.as_deref(), value: record.value.as_deref() };
        let headers = record.headers.iter().map(|h| (h.name.as_str(), h.value.as_slice()));
        self.writer.push(record.offset - self.next, content, headers);
        self.next = record.offset + 1;
    }

    fn write(&mut self, connection: &mut Connection) -> Result<(), LogError> {
        if self.writer.records() == 0 {
            return Ok(());
        }
        let batch = std::mem::replace(&mut self.writer, BatchWriter::new()).finish();
        self.bytes += size(&batch.bytes);
        let insert = "INSERT INTO batches (id, base, records, newest_timestamp_ms, data) VALUES (?, ?, ?, ?, ?)";
        connection.run(
            sqlx::query(insert)
                .bind(self.partition.row(self.next - 1))
                .bind(self.base)
                .bind(batch.records)
                .bind(batch.newest_timestamp_ms)
                .bind(batch.bytes),
        )
    }
}
