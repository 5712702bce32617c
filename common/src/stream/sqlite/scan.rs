//! Reading one partition forward, a few batches at a time, each time in its own short read transaction.

use std::sync::Arc;

use super::Shared;
use super::batch::{Damage, RecordBuffer};
use super::connection::Connection;
use super::schema::PartitionId;
use crate::stream::log::{LogError, Reader, Record, TopicPartition};

/// Small batches are read several at once, up to about this size.
const READ_BYTES: i64 = 256 << 10;
const READ_ROWS: i64 = 64;

/// Where a partition is being read.
#[derive(Debug)]
pub(super) struct Scan {
    pub at: TopicPartition,
    pub id: PartitionId,
    /// The next offset to read.
    pub position: i64,
    /// How many batches to read at once, from the size of the last ones.
    rows: i64,
}

impl Scan {
    pub fn new(at: TopicPartition, id: PartitionId, position: i64) -> Self {
        Self { at, id, position, rows: 1 }
    }

    /// Fills the buffer with the next records; leaves it empty at the end.
    pub fn fill(&mut self, connection: &mut Connection, buffer: &mut RecordBuffer) -> Result<(), LogError> {
        buffer.clear();
        let query = sqlx::query("SELECT id, base, data FROM batches WHERE id >= ? AND id < ? ORDER BY id LIMIT ?")
            .bind(self.id.row(self.position))
            .bind(self.id.rows_end())
            .bind(self.rows);
        let rows = connection.rows(query)?;
        let mut bytes = 0;
        for row in &rows {
            let last = self.id.last_offset(connection.get(row, 0)?);
            let data: &[u8] = connection.get(row, 2)?;
            let base = connection.get(row, 1)?;
            match buffer.decode(data, base, self.position) {
                Ok(next) if next == last + 1 => self.position = next,
                Ok(_) => return Err(damaged(connection, &self.at, last, "its offsets do not add up")),
                Err(Damage(why)) => return Err(damaged(connection, &self.at, last, why)),
            }
            bytes += i64::try_from(data.len()).unwrap_or(i64::MAX);
        }
        if let Some(mean) = bytes.checked_div(i64::try_from(rows.len()).unwrap_or(i64::MAX)) {
            self.rows = (READ_BYTES / mean.max(1)).clamp(1, READ_ROWS);
        }
        Ok(())
    }
}

/// A batch that cannot be read: nothing after it may be handed out as if it were not there.
pub(super) fn damaged(connection: &Connection, at: &TopicPartition, last: i64, why: &str) -> LogError {
    LogError::Fatal(format!(
        "the batch of {at} that ends with offset {last} in {} is damaged: {why}; restore the file from a backup, or delete that row of table `batches` to give its records up",
        connection.path().display()
    ))
}

/// Reads a partition without a group.
pub(super) struct SqliteReader {
    pub log: Arc<Shared>,
    pub scan: Scan,
    pub buffer: RecordBuffer,
}

impl Reader for SqliteReader {
    fn next(&mut self, each: &mut dyn FnMut(Record<'_>)) -> Result<bool, LogError> {
        let (scan, buffer) = (&mut self.scan, &mut self.buffer);
        self.log.read(|connection| scan.fill(connection, buffer))?;
        buffer.records().iter().for_each(|record| each(record.as_record()));
        Ok(!buffer.is_empty())
    }
}
