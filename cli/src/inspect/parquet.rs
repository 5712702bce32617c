//! `traffic inspect FILE|DIR`: schema, size and first rows of Parquet files.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use arrow::array::RecordBatch;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Writes what a file, or each file below a directory, holds.
///
/// # Errors
/// If a file can not be read, naming it.
pub fn inspect(path: &Path, rows: usize, out: &mut dyn Write) -> Result<()> {
    if path.is_file() {
        return file(path, rows, out);
    }
    let mut files = Vec::new();
    walk(path, &mut files).with_context(|| format!("{}", path.display()))?;
    ensure!(!files.is_empty(), "{}: no Parquet file is there", path.display());
    files.sort();
    let (mut all, mut bytes) = (0, 0);
    for path in &files {
        let reader = open(path)?;
        let count = reader.metadata().file_metadata().num_rows();
        let size = path.metadata()?.len();
        (all, bytes) = (all + count, bytes + size);
        writeln!(out, "{count:>10} rows {size:>12} bytes  {}", path.display())?;
    }
    writeln!(out, "{all:>10} rows {bytes:>12} bytes  in {} files; the newest:", files.len())?;
    files.last().map_or(Ok(()), |newest| file(newest, rows, out))
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "parquet") {
            files.push(path);
        }
    }
    Ok(())
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let what = || format!("{}", path.display());
    ParquetRecordBatchReaderBuilder::try_new(File::open(path).with_context(what)?)
        .with_context(|| format!("{}: no Parquet file, or a damaged one", path.display()))
}

fn file(path: &Path, rows: usize, out: &mut dyn Write) -> Result<()> {
    let reader = open(path)?;
    let about = reader.metadata().file_metadata();
    writeln!(out, "{}", path.display())?;
    writeln!(
        out,
        "{} rows in {} row groups, {} bytes",
        about.num_rows(),
        reader.metadata().num_row_groups(),
        path.metadata()?.len()
    )?;
    for field in reader.schema().fields() {
        writeln!(
            out,
            "  {:<24} {}{}",
            field.name(),
            field.data_type(),
            if field.is_nullable() { ", nullable" } else { "" }
        )?;
    }
    for batch in reader.with_limit(rows).build()? {
        preview(&batch?, out)?;
    }
    Ok(())
}

/// A row as `name=value`, missing values left out.
fn preview(batch: &RecordBatch, out: &mut dyn Write) -> Result<()> {
    let options = FormatOptions::default();
    let schema = batch.schema();
    for row in 0..batch.num_rows() {
        let mut separator = "";
        for (field, column) in schema.fields().iter().zip(batch.columns()) {
            if column.is_valid(row) {
                let value = ArrayFormatter::try_new(column, &options)?;
                write!(out, "{separator}{}={}", field.name(), value.value(row))?;
                separator = "  ";
            }
        }
        writeln!(out)?;
    }
    Ok(())
}
