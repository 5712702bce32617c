//! What is open of a partition between two commits: per hour, rows in memory and perhaps a file that earlier
//! rows went to.

use std::collections::BTreeMap;

use parquet::file::metadata::KeyValue;

use super::classify::Placed;
use super::concurrent::all;
use super::layout::{Hour, Place, Table};
use super::manifest::{DataFile, Kind, Manifest, VERSION};
use super::parquet::ParquetFile;
use super::rows::Rows;
use super::{ArchiveConfig, ArchiveError};
use crate::clock::has_passed;
use crate::store::Store;
use crate::stream::Record;

/// An uncommitted range of a partition: `first..next`.
#[derive(Debug)]
pub(super) struct Batch {
    place: Place,
    id: String,
    first: i64,
    next: i64,
    /// When its first record came, epoch ms.
    opened_ms: Option<i64>,
    open: BTreeMap<(Table, Hour), Open>,
    /// Whether a file may have been begun.
    wrote: bool,
}

#[derive(Debug)]
struct Open {
    rows: Rows,
    file: Option<ParquetFile>,
}

impl Batch {
    pub(super) fn new(place: &Place, first: i64, id: String) -> Self {
        Self { place: place.clone(), id, first, next: first, opened_ms: None, open: BTreeMap::new(), wrote: false }
    }

    /// The offset to go on from.
    pub(super) fn next(&self) -> i64 {
        self.next
    }

    pub(super) fn is_empty(&self) -> bool {
        self.next == self.first
    }

    /// Whether its first record came `patience_ms` ago.
    pub(super) fn is_overdue(&self, patience_ms: i64, now_ms: i64) -> bool {
        self.opened_ms.is_some_and(|opened_ms| has_passed(patience_ms, opened_ms, now_ms))
    }

    /// Whether one more hour would have to be opened for a record of `home`.
    pub(super) fn opens(&self, home: (Table, Hour)) -> bool {
        !self.open.contains_key(&home)
    }

    pub(super) fn hours(&self) -> usize {
        self.open.len()
    }

    /// Moves on over offsets that hold nothing to archive, up to `next`.
    pub(super) fn skip_to(&mut self, next: i64, now_ms: i64) {
        self.opened_ms.get_or_insert(now_ms);
        self.next = next;
    }

    /// Adds a record; returns by how many bytes the rows in memory grew.
    pub(super) fn push(&mut self, record: &Record<'_>, placed: &Placed<'_>, now_ms: i64) -> usize {
        let open = self.open.entry(placed.home).or_insert_with(|| Open { rows: Rows::new(placed.home.0), file: None });
        let before = open.rows.bytes();
        open.rows.push(record, placed);
        let grown = open.rows.bytes() - before;
        self.skip_to(record.offset + 1, now_ms);
        grown
    }

    pub(super) fn rows(&self, home: (Table, Hour)) -> usize {
        self.open.get(&home).map_or(0, |open| open.rows.len())
    }

    /// The rows in memory.
    pub(super) fn bytes(&self) -> usize {
        self.open.values().map(|open| open.rows.bytes()).sum()
    }

    /// The hour with the most bytes in memory.
    pub(super) fn largest(&self) -> Option<((Table, Hour), usize)> {
        self.open.iter().map(|(home, open)| (*home, open.rows.bytes())).max_by_key(|(_, bytes)| *bytes)
    }

    /// The largest file so far.
    pub(super) fn file_bytes(&self) -> u64 {
        self.open.values().filter_map(|open| open.file.as_ref()).map(|file| file.size_bytes).max().unwrap_or(0)
    }

    /// Writes an hour's rows to its file as one row group; returns the bytes that this freed.
    pub(super) async fn spill(
        &mut self,
        store: &Store,
        config: &ArchiveConfig,
        home: (Table, Hour),
    ) -> Result<usize, ArchiveError> {
        let about = self.about();
        let temporary = self.place.temporary(self.first, &self.id, home.0, home.1);
        let Some(open) = self.open.get_mut(&home) else { return Ok(0) };
        self.wrote = true;
        let bytes = open.rows.bytes();
        write_group(store, config, &self.place, home.0, temporary, about, open).await?;
        Ok(bytes)
    }

    /// Writes all that is open and closes the files; the batch is then what the manifest says.
    pub(super) async fn finish(
        &mut self,
        store: &Store,
        config: &ArchiveConfig,
        now_ms: i64,
    ) -> Result<Manifest, ArchiveError> {
        let open = std::mem::take(&mut self.open);
        self.wrote |= !open.is_empty();
        let about = self.about();
        let work = open.into_iter().map(|((table, hour), mut open)| {
            let (place, about) = (&self.place, about.clone());
            let temporary = place.temporary(self.first, &self.id, table, hour);
            let path = place.data(self.first, &self.id, table, hour);
            async move {
                write_group(store, config, place, table, temporary.clone(), about, &mut open).await?;
                let file = open.file.expect("an open hour has rows or a file");
                let (rows, size_bytes) = file.close().await?;
                Ok(DataFile { temporary, path, size_bytes, rows })
            }
        });
        // All of them, even when one fails: a file half closed is harder to remove.
        let files = all(work.collect()).await.into_iter().collect::<Result<Vec<_>, ArchiveError>>()?;
        Ok(Manifest {
            version: VERSION,
            kind: Kind::Batch,
            topic: self.place.topic.clone(),
            partition: self.place.partition,
            first: self.first,
            end: self.next,
            batch: self.id.clone(),
            created_ms: now_ms,
            files,
        })
    }

    /// Removes what the batch wrote, as far as the store can be reached, before any manifest for it was tried.
    pub(super) async fn discard(&self, store: &Store) {
        if self.wrote {
            // What stays is removed at a later takeover.
            let _ = store.delete_dir(&self.place.batch(self.first, &self.id)).await;
        }
    }

    fn about(&self) -> Vec<KeyValue> {
        let fact = |name: &str, value: String| KeyValue::new(format!("traffic.{name}"), value);
        vec![
            fact("topic", self.place.topic.clone()),
            fact("partition", self.place.partition.to_string()),
            fact("first", self.first.to_string()),
            fact("batch", self.id.clone()),
        ]
    }
}

async fn write_group(
    store: &Store,
    config: &ArchiveConfig,
    place: &Place,
    table: Table,
    temporary: String,
    about: Vec<KeyValue>,
    open: &mut Open,
) -> Result<(), ArchiveError> {
    if open.rows.len() == 0 {
        return Ok(());
    }
    if open.file.is_none() {
        open.file = Some(ParquetFile::begin(store, &temporary, table, config.zstd_level, about).await?);
    }
    let file = open.file.as_mut().expect("begun above");
    // Only now: of many files that are written at once, one is sorted and encoded at a time.
    let rows = open.rows.take(place)?;
    file.append(rows).await
}
