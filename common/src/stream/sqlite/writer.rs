//! The one connection of this process that writes.
//!
//! Invariants: a partition's next offset grows only in the transaction that stores the records; what is
//! cached of the file is used only while SQLite's change counter says that nobody else has written; after
//! any error the connection is closed, which rolls back whatever it had open, and the cache is dropped.

use std::sync::Arc;

use sqlx::{QueryBuilder, Sqlite};

use super::connection::{Connection, Place};
use super::heads::Heads;
use super::housekeeping::Housekeeping;
use super::lock::Turnstile;
use super::pending::PendingBatch;
use super::schema::{OFFSET_LIMIT, PartitionId, prepare};
use crate::stream::log::LogError;

/// Rows to a statement: few statements, and few different ones to prepare.
const ROWS: usize = 32;
/// The write-ahead log is begun anew after so many bytes, even if readers never pause by themselves.
const CHECKPOINT_BYTES: i64 = 64 << 20;

pub(super) struct Writer {
    place: Place,
    turn: Turnstile,
    heads: Arc<Heads>,
    connection: Option<Connection>,
    /// SQLite's counter of other connections' changes when `partitions` was right.
    version: Option<i64>,
    /// By partition id.
    partitions: Vec<PartitionState>,
    bytes_since_checkpoint: i64,
    pub housekeeping: Housekeeping,
}

/// What a partition's row says.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PartitionState {
    pub next: i64,
    pub bytes: i64,
    pub compacted_bytes: i64,
}

/// Offsets of a consumer group, to be stored with the records.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupOffsets<'a> {
    pub group: &'a str,
    pub offsets: &'a [(PartitionId, i64)],
}

impl Writer {
    /// Opens the file, creating it and its tables.
    pub fn open(place: Place, heads: Arc<Heads>) -> Result<Self, LogError> {
        let turn = Turnstile::open(&place.path)?;
        let connection = turn.pass(|| {
            let mut connection = Connection::writer(&place)?;
            prepare(&mut connection)?;
            Ok(connection)
        })?;
        Ok(Self {
            place,
            turn,
            heads,
            connection: Some(connection),
            version: None,
            partitions: Vec::new(),
            bytes_since_checkpoint: 0,
            housekeeping: Housekeeping::default(),
        })
    }

    fn connection(&mut self) -> Result<Connection, LogError> {
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => {
                self.version = None;
                Connection::writer(&self.place)
            }
        }
    }

    /// Runs `work` as one transaction: all of it or, on any error, nothing.
    pub fn transaction<T>(
        &mut self,
        work: impl FnOnce(&mut Connection, &[PartitionState]) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        // Taken out, so that an error or a panic on the way closes it.
        let mut connection = self.connection()?;
        let begin = sqlx::query("BEGIN IMMEDIATE; PRAGMA data_version");
        let version = self.turn.pass(|| connection.number(begin))?;
        self.refresh(&mut connection, version)?;
        let done = work(&mut connection, &self.partitions);
        let done = done.and_then(|done| connection.run(sqlx::query("COMMIT")).map(|()| done));
        match done {
            Ok(done) => {
                self.connection = Some(connection);
                Ok(done)
            }
            Err(error) => {
                self.version = None;
                // SQLite may have rolled back already; closing does it for certain.
                let _ = connection.run(sqlx::query("ROLLBACK"));
                Err(error)
            }
        }
    }

    /// Notices what other processes have written.
    pub fn look(&mut self) -> Result<(), LogError> {
        let mut connection = self.connection()?;
        let version = connection.number(sqlx::query("PRAGMA data_version"))?;
        self.refresh(&mut connection, version)?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Forgets what is cached, after a change that [`append`](Self::append) did not make.
    pub fn forget(&mut self) {
        self.version = None;
    }

    fn refresh(&mut self, connection: &mut Connection, version: i64) -> Result<(), LogError> {
        if self.version == Some(version) {
            return Ok(());
        }
        self.version = None;
        self.partitions.clear();
        for row in
            connection.rows(sqlx::query("SELECT id, next, bytes, compacted_bytes FROM partitions ORDER BY id"))?
        {
            let index = PartitionId(connection.get(&row, 0)?).index();
            self.partitions.resize(index + 1, PartitionState::default());
            self.partitions[index] = PartitionState {
                next: connection.get(&row, 1)?,
                bytes: connection.get(&row, 2)?,
                compacted_bytes: connection.get(&row, 3)?,
            };
        }
        self.version = Some(version);
        let ids = (0_i64..).map(PartitionId);
        self.heads.publish(ids.zip(self.partitions.iter().map(|state| state.next)));
        Ok(())
    }

    /// Stores batches and a group's offsets, all or nothing.
    pub fn append(&mut self, batches: &[PendingBatch], group: Option<GroupOffsets<'_>>) -> Result<(), LogError> {
        let mut changed: Vec<(PartitionId, PartitionState)> = Vec::new();
        self.transaction(|connection, partitions| {
            let bases = give_offsets(batches, partitions, &mut changed)?;
            for (batches, bases) in batches.chunks(ROWS).zip(bases.chunks(ROWS)) {
                insert_batches(connection, batches, bases)?;
            }
            for changed in changed.chunks(ROWS) {
                update_partitions(connection, changed)?;
            }
            let GroupOffsets { group, offsets } = group.unwrap_or(GroupOffsets { group: "", offsets: &[] });
            for offsets in offsets.chunks(ROWS) {
                upsert_offsets(connection, group, offsets)?;
            }
            Ok(())
        })?;
        for (partition, state) in &changed {
            self.partitions[partition.index()] = *state;
        }
        self.heads.publish(changed.iter().map(|(partition, state)| (*partition, state.next)));
        self.bytes_since_checkpoint += batches.iter().map(|b| size(&b.batch.bytes)).sum::<i64>();
        Ok(())
    }

    /// Moves the write-ahead log into the file and begins it anew, once much was written.
    pub fn checkpoint(&mut self) -> Result<(), LogError> {
        if self.bytes_since_checkpoint < CHECKPOINT_BYTES {
            return Ok(());
        }
        self.bytes_since_checkpoint = 0;
        let mut connection = self.connection()?;
        connection.run(sqlx::query("PRAGMA wal_checkpoint(RESTART)"))?;
        self.connection = Some(connection);
        Ok(())
    }

    /// Notes what compaction has made of a partition.
    pub fn compacted(&mut self, partition: PartitionId, bytes: i64) {
        if let Some(state) = self.partitions.get_mut(partition.index()) {
            (state.bytes, state.compacted_bytes) = (bytes, bytes);
        }
    }

    /// A partition's row as last seen.
    pub fn partition(&self, partition: PartitionId) -> PartitionState {
        self.partitions.get(partition.index()).copied().unwrap_or_default()
    }
}

/// Each batch's first offset; `changed` becomes the state of the partitions written to.
fn give_offsets(
    batches: &[PendingBatch],
    partitions: &[PartitionState],
    changed: &mut Vec<(PartitionId, PartitionState)>,
) -> Result<Vec<i64>, LogError> {
    let mut bases = Vec::with_capacity(batches.len());
    for PendingBatch { partition, batch, .. } in batches {
        let at = changed.iter().position(|(changed, _)| changed == partition).unwrap_or_else(|| {
            changed.push((*partition, partitions.get(partition.index()).copied().unwrap_or_default()));
            changed.len() - 1
        });
        let state = &mut changed[at].1;
        bases.push(state.next);
        state.next += batch.span;
        state.bytes += size(&batch.bytes);
        if state.next > OFFSET_LIMIT {
            return Err(LogError::Fatal("a partition has used up its 2^44 offsets: begin a new file".to_owned()));
        }
    }
    Ok(bases)
}

fn insert_batches(connection: &mut Connection, batches: &[PendingBatch], bases: &[i64]) -> Result<(), LogError> {
    let mut insert: QueryBuilder<Sqlite> =
        QueryBuilder::new("INSERT INTO batches (id, base, records, newest_timestamp_ms, data) ");
    insert.push_values(batches.iter().zip(bases), |mut row, (PendingBatch { partition, batch, .. }, base)| {
        row.push_bind(partition.row(base + batch.span - 1));
        row.push_bind(*base);
        row.push_bind(batch.records);
        row.push_bind(batch.newest_timestamp_ms);
        row.push_bind(batch.bytes.as_slice());
    });
    connection.run(insert.build())
}

fn update_partitions(connection: &mut Connection, changed: &[(PartitionId, PartitionState)]) -> Result<(), LogError> {
    let mut update: QueryBuilder<Sqlite> = QueryBuilder::new("WITH new (id, next, bytes) AS (");
    update.push_values(changed, |mut row, (partition, state)| {
        row.push_bind(partition.0);
        row.push_bind(state.next);
        row.push_bind(state.bytes);
    });
    update.push(") UPDATE partitions SET next = new.next, bytes = new.bytes FROM new WHERE partitions.id = new.id");
    connection.run(update.build())
}

fn upsert_offsets(connection: &mut Connection, group: &str, offsets: &[(PartitionId, i64)]) -> Result<(), LogError> {
    let mut upsert: QueryBuilder<Sqlite> = QueryBuilder::new("INSERT INTO offsets (consumer_group, partition, next) ");
    upsert.push_values(offsets, |mut row, (partition, next)| {
        row.push_bind(group);
        row.push_bind(partition.0);
        row.push_bind(*next);
    });
    upsert.push(" ON CONFLICT (consumer_group, partition) DO UPDATE SET next = excluded.next");
    connection.run(upsert.build())
}

pub(super) fn size(bytes: &[u8]) -> i64 {
    i64::try_from(bytes.len()).unwrap_or(i64::MAX)
}
