//! `traffic inspect FILE|DIR`: what Parquet files hold, on this machine or in the store.

use std::io::Write;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use arrow::array::{ArrayRef, AsArray as _, RecordBatch};
use arrow::datatypes::TimestampMillisecondType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::Bytes;
use common::archive::layout::ROOT;
use common::archive::read::footer;
use common::store::{Store, StoreOptions, open};
use common::worker::Process;
use jiff::Timestamp;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;

/// Where a path leads.
struct Place<'p> {
    process: &'p Process,
    store: Store,
    /// Above the store's paths, as people know them.
    prefix: String,
    path: String,
}

/// Writes what a file, or each file below a directory, holds.
///
/// # Errors
/// If a file can not be read, naming it.
pub fn inspect(path: &Path, rows: usize, process: &Process, out: &mut dyn Write) -> Result<()> {
    let place = Place::find(path, process)?;
    if let Some(size) = place.wait(place.store.size(&place.path))? {
        return place.file(&place.path, size, rows, out);
    }
    let files = place.wait(place.store.list(&place.path, true))?;
    let files: Vec<_> = files.into_iter().filter(|entry| entry.name().ends_with(".parquet")).collect();
    ensure!(!files.is_empty(), "{}: no Parquet file is there", path.display());
    writeln!(out, "{:>10} {:>12}  {:<43} {:<24} file", "rows", "bytes", "times", "offsets")?;
    let (mut all, mut bytes) = (0, 0);
    for entry in &files {
        let facts = Facts::of(&place.wait(footer(&place.store, &entry.path, entry.size_bytes))?);
        (all, bytes) = (all + facts.rows, bytes + entry.size_bytes);
        let shown = entry.path.strip_prefix(&place.path).unwrap_or(&entry.path).trim_start_matches('/');
        writeln!(
            out,
            "{:>10} {:>12}  {:<43} {:<24} {shown}",
            facts.rows,
            entry.size_bytes,
            facts.times(),
            facts.offsets()
        )?;
    }
    writeln!(out, "{all:>10} {bytes:>12}  in {} files; the last:", files.len())?;
    files.last().map_or(Ok(()), |last| place.file(&last.path, last.size_bytes, rows, out))
}

impl<'p> Place<'p> {
    /// A path of this machine; one that begins with `/traffic-data` is the store's, unless it is here.
    fn find(path: &Path, process: &'p Process) -> Result<Self> {
        if path.starts_with(ROOT) && !path.exists() {
            return Ok(Self {
                process,
                store: process.store()?,
                prefix: String::new(),
                path: path.display().to_string(),
            });
        }
        let path = path.canonicalize().with_context(|| format!("{}", path.display()))?;
        // A store of files begins at a directory.
        let root = if path.is_dir() { path.as_path() } else { path.parent().unwrap_or(&path) };
        let within = path.strip_prefix(root).unwrap_or(&path);
        let store = open(&format!("file://{}", root.display()), &StoreOptions::default())?;
        Ok(Self { process, store, prefix: root.display().to_string(), path: format!("/{}", within.display()) })
    }

    fn wait<T, E: Into<anyhow::Error>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T> {
        self.process.runtime().block_on(work).map_err(Into::into)
    }

    fn file(&self, path: &str, size_bytes: u64, rows: usize, out: &mut dyn Write) -> Result<()> {
        let content: Option<Bytes> = self.wait(self.store.read(path))?;
        let shown = format!("{}{path}", self.prefix);
        let content = content.with_context(|| format!("{shown}: vanished while it was read"))?;
        let reader = ParquetRecordBatchReaderBuilder::try_new(content)
            .with_context(|| format!("{shown}: no Parquet file, or a damaged one"))?;
        let facts = Facts::of(reader.metadata());
        writeln!(out, "{shown}")?;
        writeln!(out, "{} rows in {} row groups, {size_bytes} bytes", facts.rows, reader.metadata().num_row_groups())?;
        writeln!(out, "times {}, offsets {}", facts.times(), facts.offsets())?;
        for field in reader.schema().fields() {
            let null = if field.is_nullable() { ", nullable" } else { "" };
            writeln!(out, "  {:<24} {}{null}", field.name(), field.data_type())?;
        }
        for batch in reader.with_limit(rows).build()? {
            preview(&batch?, out)?;
        }
        Ok(())
    }
}

/// What a footer says.
struct Facts {
    rows: i64,
    times: Option<RangeInclusive<i64>>,
    partitions: Option<RangeInclusive<i64>>,
    offsets: Option<RangeInclusive<i64>>,
}

/// The columns that tell a table's time, whichever it has.
const TIMES: [&str; 4] = ["timestamp", "window_start", "prediction_timestamp", "record_timestamp"];

impl Facts {
    fn of(footer: &ParquetMetaData) -> Self {
        let time = TIMES.iter().find_map(|name| range(footer, name));
        Self {
            rows: footer.file_metadata().num_rows(),
            times: time,
            partitions: range(footer, "partition"),
            offsets: range(footer, "offset"),
        }
    }

    fn times(&self) -> String {
        let time = |ms: &i64| {
            Timestamp::from_millisecond(*ms).map_or_else(|_| ms.to_string(), |at| at.strftime("%FT%T%.fZ").to_string())
        };
        self.times.as_ref().map_or_else(|| "-".to_owned(), |r| format!("{} {}", time(r.start()), time(r.end())))
    }

    /// `3:120-480`: partition 3; `0-11:…` where several were merged.
    fn offsets(&self) -> String {
        let shown = |range: &Option<RangeInclusive<i64>>| match range {
            Some(range) if range.start() == range.end() => range.start().to_string(),
            Some(range) => format!("{}-{}", range.start(), range.end()),
            None => "-".to_owned(),
        };
        format!("{}:{}", shown(&self.partitions), shown(&self.offsets))
    }
}

/// The least and the greatest value of a column, by the row groups' statistics.
fn range(footer: &ParquetMetaData, column: &str) -> Option<RangeInclusive<i64>> {
    let bounds = footer.row_groups().iter().map(|group| {
        let chunk = group.columns().iter().find(|chunk| chunk.column_path().string() == column)?;
        match chunk.statistics()? {
            Statistics::Int64(found) => Some((*found.min_opt()?, *found.max_opt()?)),
            Statistics::Int32(found) => Some((i64::from(*found.min_opt()?), i64::from(*found.max_opt()?))),
            _ => None,
        }
    });
    let bounds: Option<Vec<(i64, i64)>> = bounds.collect();
    let bounds = bounds?;
    let (least, greatest) = (bounds.iter().map(|b| b.0).min()?, bounds.iter().map(|b| b.1).max()?);
    Some(least..=greatest)
}

/// UTC as an offset: names of time zones cannot be shown.
fn by_offset(column: &ArrayRef) -> ArrayRef {
    match column.as_primitive_opt::<TimestampMillisecondType>() {
        Some(times) => Arc::new(times.clone().with_timezone("+00:00")),
        None => Arc::clone(column),
    }
}

/// A row as `name=value`, missing values left out.
fn preview(batch: &RecordBatch, out: &mut dyn Write) -> Result<()> {
    let options = FormatOptions::default();
    let schema = batch.schema();
    for row in 0..batch.num_rows() {
        let mut separator = "";
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            if column.is_valid(row) {
                let column = by_offset(column);
                let value = ArrayFormatter::try_new(&column, &options)?;
                write!(out, "{separator}{}={}", field.name(), value.value(row))?;
                separator = "  ";
            }
        }
        writeln!(out)?;
    }
    Ok(())
}
