//! Merges many files, each a sequence of sorted row groups, into one that is sorted as a whole.
//!
//! The compressed inputs are held in memory; decoded are only the rows of some segments at a time. The segments' places
//! in each row group come from a first pass over that column alone; the page index then leads to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray as _, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{Int32Type, SchemaRef};
use arrow::row::{RowConverter, SortField};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector,
};
use parquet::file::metadata::{KeyValue, PageIndexPolicy};

use super::plan::Input;
use crate::archive::column::conform;
use crate::archive::concurrent::try_all;
use crate::archive::layout::Table;
use crate::archive::parquet::ParquetFile;
use crate::archive::read::footer;
use crate::archive::schema::form;
use crate::archive::{ArchiveConfig, ArchiveError};
use crate::store::Store;

/// Rows decoded and sorted at once, at least.
const CHUNK_ROWS: usize = 256 * 1024;
const READ_ROWS: usize = 8 * 1024;

/// Footer key of a merged file: rows by partition, a JSON object.
const ROWS: &str = "traffic.rows";

/// Writes the inputs' rows to `path`; returns their number and the file's size.
pub(super) async fn merge(
    store: &Store,
    config: &ArchiveConfig,
    table: Table,
    inputs: &[Input],
    path: &str,
) -> Result<(u64, u64), ArchiveError> {
    let runs = try_all(inputs.iter().map(|input| open(store, input)).collect()).await?;
    let runs: Vec<Run> = runs.into_iter().flatten().collect();
    let names = inputs.iter().map(|input| input.path.rsplit('/').next().unwrap_or_default());
    let about = vec![KeyValue::new("traffic.inputs".to_owned(), names.collect::<Vec<_>>().join(" "))];
    let mut file = ParquetFile::begin(store, path, table, config.zstd_level, about).await?;
    let mut partitions = BTreeMap::new();
    for chunk in chunks(&runs, table)? {
        let rows = sorted(&read(&runs, &chunk, table)?, table)?;
        count(&rows, &mut partitions)?;
        let mut from = 0;
        while from < rows.num_rows() {
            let length = config.row_group_rows.min(rows.num_rows() - from);
            file.append(rows.slice(from, length)).await?;
            from += length;
        }
    }
    file.say(KeyValue::new(ROWS.to_owned(), serde_json::to_string(&partitions).expect("numbers are JSON")));
    file.close().await
}

/// How many rows of each partition a file has, by its footer.
pub(super) async fn rows(store: &Store, input: &Input) -> Result<Vec<(u32, u64)>, ArchiveError> {
    let about = footer(store, &input.path, input.size_bytes).await?;
    let about = about.file_metadata();
    if let Some(partition) = input.partition {
        return Ok(vec![(partition, u64::try_from(about.num_rows()).unwrap_or(0))]);
    }
    let facts = about.key_value_metadata().into_iter().flatten();
    let rows = facts.filter(|fact| fact.key == ROWS).find_map(|fact| fact.value.as_deref());
    let rows: Option<BTreeMap<u32, u64>> = rows.and_then(|rows| serde_json::from_str(rows).ok());
    let rows = rows.ok_or_else(|| ArchiveError::Fatal(format!("{}: its footer has no {ROWS}", input.path)))?;
    Ok(rows.into_iter().collect())
}

/// One sorted row group.
struct Run {
    path: Arc<str>,
    content: Bytes,
    metadata: ArrowReaderMetadata,
    row_group: usize,
    rows: usize,
}

/// Rows `from..to` of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    run: usize,
    from: usize,
    to: usize,
}

async fn open(store: &Store, input: &Input) -> Result<Vec<Run>, ArchiveError> {
    let path: Arc<str> = input.path.as_str().into();
    let Some(content) = store.read(&path).await? else {
        return Err(ArchiveError::Retry(format!("{path}: another process has just merged it")));
    };
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
    let metadata = ArrowReaderMetadata::load(&content, options)
        .map_err(|error| ArchiveError::Fatal(format!("{path}: {error}; restore it from a backup")))?;
    let groups = metadata.metadata().row_groups().iter().enumerate();
    let runs = groups.map(|(row_group, group)| Run {
        path: Arc::clone(&path),
        content: content.clone(),
        metadata: metadata.clone(),
        row_group,
        rows: usize::try_from(group.num_rows()).unwrap_or(0),
    });
    Ok(runs.collect())
}

impl Run {
    fn reader(&self) -> ParquetRecordBatchReaderBuilder<Bytes> {
        ParquetRecordBatchReaderBuilder::new_with_metadata(self.content.clone(), self.metadata.clone())
            .with_row_groups(vec![self.row_group])
            .with_batch_size(READ_ROWS)
    }

    fn broken(&self, what: &str) -> ArchiveError {
        ArchiveError::Fatal(format!("{}: {what}; restore it from a backup", self.path))
    }

    /// Consecutive rows of one segment: its name and their number.
    fn segments(&self) -> Result<Vec<(String, usize)>, ArchiveError> {
        let reader = self.reader();
        let mask = ProjectionMask::columns(reader.parquet_schema(), ["segment_id"]);
        let mut segments: Vec<(String, usize)> = Vec::new();
        for batch in reader.with_projection(mask).build()? {
            let batch = batch?;
            let names = batch.columns().first().and_then(|column| column.as_string_opt::<i32>());
            let names = names.ok_or_else(|| self.broken("has no segment_id"))?;
            for name in names.iter().map(Option::unwrap_or_default) {
                match segments.last_mut() {
                    Some((last, rows)) if last == name => *rows += 1,
                    _ => segments.push((name.to_owned(), 1)),
                }
            }
        }
        if !segments.is_sorted() {
            return Err(self.broken("its rows are not sorted by segment_id"));
        }
        Ok(segments)
    }

    /// Rows of a piece, with the columns that the table has today.
    fn read(&self, piece: Piece, schema: &SchemaRef, into: &mut Vec<RecordBatch>) -> Result<(), ArchiveError> {
        let selection = RowSelection::from(vec![
            RowSelector::skip(piece.from),
            RowSelector::select(piece.to - piece.from),
            RowSelector::skip(self.rows - piece.to),
        ]);
        for batch in self.reader().with_row_selection(selection).build()? {
            into.push(conform(&batch?, schema).map_err(|what| self.broken(&what))?);
        }
        Ok(())
    }
}

/// Cuts the rows into pieces that belong together: all rows of some segments, in order.
fn chunks(runs: &[Run], table: Table) -> Result<Vec<Vec<Piece>>, ArchiveError> {
    if !form(table).sorted_by.contains(&"segment_id") {
        return Ok(whole_runs(runs));
    }
    let segments = runs.iter().map(Run::segments).collect::<Result<Vec<_>, _>>()?;
    let mut totals: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, rows) in segments.iter().flatten() {
        *totals.entry(name).or_default() += rows;
    }
    let mut at: Vec<(usize, usize)> = vec![(0, 0); runs.len()];
    let (mut chunks, mut rows) = (Vec::new(), 0);
    let mut names = totals.iter().peekable();
    while let Some((name, total)) = names.next() {
        rows += total;
        if rows < CHUNK_ROWS && names.peek().is_some() {
            continue;
        }
        rows = 0;
        let mut chunk = Vec::new();
        for (run, segments) in segments.iter().enumerate() {
            let (next, from) = &mut at[run];
            let upto = segments.partition_point(|(segment, _)| segment.as_str() <= *name);
            let to = *from + segments[*next..upto].iter().map(|(_, rows)| rows).sum::<usize>();
            if to > *from {
                chunk.push(Piece { run, from: *from, to });
            }
            (*next, *from) = (upto, to);
        }
        chunks.push(chunk);
    }
    Ok(chunks)
}

/// Runs one after the other, as many at a time as make a chunk.
fn whole_runs(runs: &[Run]) -> Vec<Vec<Piece>> {
    let (mut chunks, mut rows) = (vec![Vec::new()], 0);
    for (run, of) in runs.iter().enumerate() {
        if rows >= CHUNK_ROWS {
            chunks.push(Vec::new());
            rows = 0;
        }
        rows += of.rows;
        chunks.last_mut().expect("never empty").push(Piece { run, from: 0, to: of.rows });
    }
    chunks
}

fn read(runs: &[Run], chunk: &[Piece], table: Table) -> Result<RecordBatch, ArchiveError> {
    let schema = &form(table).schema;
    let mut batches = Vec::new();
    for piece in chunk {
        runs[piece.run].read(*piece, schema, &mut batches)?;
    }
    Ok(concat_batches(schema, &batches)?)
}

/// Sorts rows as their table is, those of different partitions by the partition.
fn sorted(rows: &RecordBatch, table: Table) -> Result<RecordBatch, ArchiveError> {
    let names = form(table).sorted_by.iter().copied().chain(["partition"]);
    let keys: Vec<ArrayRef> = names.filter_map(|name| rows.column_by_name(name)).map(Arc::clone).collect();
    let fields = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
    let keys = RowConverter::new(fields)?.convert_columns(&keys)?;
    let mut order: Vec<u32> = (0..u32::try_from(rows.num_rows()).expect("a chunk is far smaller")).collect();
    // The pieces are sorted already: a sort that looks for runs merges them.
    order.sort_by(|a, b| keys.row(*a as usize).cmp(&keys.row(*b as usize)));
    Ok(take_record_batch(rows, &UInt32Array::from(order))?)
}

fn count(rows: &RecordBatch, partitions: &mut BTreeMap<i32, u64>) -> Result<(), ArchiveError> {
    let column = rows.column_by_name("partition").and_then(|column| column.as_primitive_opt::<Int32Type>().cloned());
    let column = column.ok_or_else(|| ArchiveError::Fatal("partition is no number".to_owned()))?;
    for partition in column.values() {
        *partitions.entry(*partition).or_default() += 1;
    }
    Ok(())
}
