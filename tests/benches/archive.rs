//! The archive's files beside those that PyArrow and DuckDB write from the same rows, in one run: size, rows written
//! per CPU second, CPU time of scans, and what a query for one segment reads of an hour.
//!
//! ```sh
//! cargo build --release --workspace
//! TRAFFIC_TEST_PYTHON=… cargo bench -p tests --bench archive -- --events 3600000
//! ```
//!
//! The rows are half an hour of a city, 2,000 segments with an event each second, through `ingest` and `traffic compact`.
//! Judges nothing.

#![expect(clippy::disallowed_methods, reason = "a benchmark takes real time")]

#[path = "pipeline/usage.rs"]
mod usage;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use bytes::Bytes;
use common::archive::layout::Table;
use common::archive::{Dataset, encode};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection,
};
use parquet::file::metadata::PageIndexPolicy;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::reader::{ChunkReader, Length};
use serde_json::Value;
use tests::Worker;

const DEADLINE: Duration = Duration::from_secs(1200);
const TABLE: Table = Table::Accepted(Dataset::Events);
const ROUNDS: usize = 3;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let option =
        |name: &str| arguments.iter().position(|argument| argument == name).map(|at| arguments[at + 1].clone());
    if arguments.iter().any(|argument| argument == "--help") {
        println!("archive [--events N]  [default: 3600000]");
        return;
    }
    let events = option("--events").unwrap_or_else(|| "3600000".to_owned());
    let directory = tempfile::tempdir().expect("a directory");
    let file = merged(directory.path(), &events);
    let content = Bytes::from(std::fs::read(&file).expect("reads"));
    let reader =
        ParquetRecordBatchReaderBuilder::try_new(content.clone()).expect("Parquet").with_batch_size(128 * 1024);
    let batches: Vec<RecordBatch> = reader.build().expect("reads").collect::<Result<_, _>>().expect("rows");
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();

    let python = tests::services::python().expect("TRAFFIC_TEST_PYTHON names a Python with PyArrow and DuckDB");
    let segment = segment(&batches);
    let said = Command::new(python).args(["readers/archive_bench.py"]).arg(&file).arg(&segment).output().expect("runs");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let said: Value = serde_json::from_slice(&said.stdout).expect("JSON");

    println!("{rows} rows of one hour\n");
    println!("{:<24} {:>12} {:>10} {:>16}", "writer", "bytes", "bytes/row", "rows per CPU s");
    for level in [1, 3] {
        let (bytes, seconds) = write(&batches, level);
        line(&format!("this archive, zstd {level}"), bytes, rows, Some(seconds));
    }
    for file in said["files"].as_array().expect("a list").iter().skip(1) {
        line(
            file["writer"].as_str().expect("a name"),
            file["bytes"].as_u64().expect("a number"),
            rows,
            file["write_cpu_s"].as_f64(),
        );
    }
    println!("\n{:<24} {:>18} {:>18} {:>18}", "read, CPU s", "DuckDB, average", "PyArrow, whole", "DuckDB, a segment");
    for file in said["files"].as_array().expect("a list") {
        let seconds = |name: &str| file[name].as_f64().expect("a number");
        println!(
            "{:<24} {:>18.3} {:>18.3} {:>18.4}",
            file["writer"].as_str().expect("a name"),
            seconds("duckdb_scan_cpu_s"),
            seconds("pyarrow_read_cpu_s"),
            seconds("duckdb_point_cpu_s")
        );
    }
    println!("\nsegment {segment}, all columns: bytes read of the hour's file, footer and indexes included");
    for file in said["files"].as_array().expect("a list") {
        let bytes = file["point_bytes"].as_u64().expect("a number");
        let of = file["bytes"].as_u64().expect("a number");
        println!(
            "{:<24} {bytes:>12}  {:>6.2} %  by PyArrow",
            file["writer"].as_str().expect("a name"),
            share(bytes, of)
        );
    }
    let (found, bytes) = point(content.clone(), &segment);
    println!(
        "{:<24} {bytes:>12}  {:>6.2} %  by page index, {found} rows",
        "this archive",
        share(bytes, content.len() as u64)
    );
}

fn share(part: u64, of: u64) -> f64 {
    part as f64 * 100.0 / of as f64
}

fn line(writer: &str, bytes: u64, rows: usize, cpu_s: Option<f64>) {
    let speed = cpu_s.map_or(String::new(), |seconds| format!("{:.0}", rows as f64 / seconds));
    println!("{writer:<24} {bytes:>12} {:>10.2} {speed:>16}", bytes as f64 / rows as f64);
}

/// The largest file of an hour, after `ingest` and `traffic compact`, whose speed it prints.
fn merged(directory: &Path, events: &str) -> PathBuf {
    let path = |name: &str| directory.join(name).display().to_string();
    let environment = [
        ("TRAFFIC_LOG", format!("sqlite:{}", path("traffic.db"))),
        ("TRAFFIC_STORE", format!("file://{}", path("store"))),
        ("TRAFFIC_DATABASE", "none".to_owned()),
        ("TRAFFIC_HTTP_LISTEN", "off".to_owned()),
        ("TRAFFIC_LOG_LEVEL", "warn".to_owned()),
    ];
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let run = |binary: &str, arguments: &[&str]| {
        let mut worker = Worker::start(binary, arguments, &environment);
        let usage = usage::watch(&mut worker, DEADLINE);
        (worker.output(), usage)
    };
    run("traffic", &["init"]);
    let what = ["simulate", "--segments", "2000", "--interval", "1s", "--start", "2026-01-05T15:00:00Z"];
    run("traffic", &[&what[..], &["--events", events, "--late", "0"]].concat());
    run("ingest", &["--exit-at-end"]);
    let (said, usage) = run("traffic", &["compact", "--dataset", "events", "--json"]);
    let said: Value = serde_json::from_str(&said).expect("JSON");
    println!(
        "traffic compact: {} files, {} bytes into {} files, {} bytes; {:.2} s, {:.2} CPU s, {:.0} rows per CPU s, peak {} MiB; \
         longest exchange {} ms",
        said["merged_files"],
        said["merged_bytes"],
        said["written_files"],
        said["written_bytes"],
        usage.wall_s,
        usage.cpu_s,
        said["rows"].as_f64().expect("a number") / usage.cpu_s,
        usage.peak_mib,
        said["longest_swap_ms"]
    );
    let mut files = Vec::new();
    walk(&directory.join("store/traffic-data/raw/date=2026-01-05"), &mut files);
    files.sort_by_key(|file| std::fs::metadata(file).map_or(0, |about| about.len()));
    files.pop().expect("a file")
}

fn walk(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("lists") {
        let path = entry.expect("lists").path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

/// A segment from the middle.
fn segment(batches: &[RecordBatch]) -> String {
    use arrow::array::AsArray as _;
    let batch = &batches[batches.len() / 2];
    let names = batch.column_by_name("segment_id").expect("a column").as_string::<i32>();
    names.value(batch.num_rows() / 2).to_owned()
}

/// Size, and the least CPU seconds of some rounds.
fn write(batches: &[RecordBatch], level: i32) -> (u64, f64) {
    let rounds = (0..ROUNDS).map(|_| {
        let began = own_cpu_s();
        let bytes = encode(TABLE, batches, level).expect("encodes").len() as u64;
        (bytes, own_cpu_s() - began)
    });
    rounds.min_by(|a, b| a.1.total_cmp(&b.1)).expect("some rounds")
}

fn own_cpu_s() -> f64 {
    usage::cpu_s(std::process::id()).expect("it runs")
}

/// Counts what is read of a file.
#[derive(Clone)]
struct Counting {
    content: Bytes,
    read: Arc<AtomicU64>,
}

impl Length for Counting {
    fn len(&self) -> u64 {
        self.content.len() as u64
    }
}

impl ChunkReader for Counting {
    type T = <Bytes as ChunkReader>::T;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        // Page headers, one by one; the index makes that unnecessary.
        self.content.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.read.fetch_add(length as u64, Ordering::Relaxed);
        self.content.get_bytes(start, length)
    }
}

/// Reads all columns of one segment as a reader does that knows the page index; returns rows and bytes read.
fn point(content: Bytes, segment: &str) -> (usize, u64) {
    let file = Counting { content, read: Arc::default() };
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    let metadata = ArrowReaderMetadata::load(&file, options).expect("a footer");
    let about = metadata.metadata();
    let leaf = about.file_metadata().schema_descr().columns().iter().position(|c| c.name() == "segment_id");
    let leaf = leaf.expect("a column");
    let mut found = 0;
    for (group, rows) in about.row_groups().iter().enumerate() {
        let pages = pages(about, group, leaf, usize::try_from(rows.num_rows()).expect("fits"), segment);
        if pages.is_empty() {
            continue;
        }
        let all = usize::try_from(rows.num_rows()).expect("fits");
        let selection = RowSelection::from_consecutive_ranges(pages.into_iter(), all);
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file.clone(), metadata.clone());
        let reader = reader.with_row_groups(vec![group]).with_row_selection(selection).build().expect("reads");
        for batch in reader {
            found += matching(&batch.expect("rows"), segment);
        }
    }
    (found, file.read.load(Ordering::Relaxed))
}

fn matching(batch: &RecordBatch, segment: &str) -> usize {
    use arrow::array::AsArray as _;
    let names = batch.column_by_name("segment_id").expect("a column").as_string::<i32>();
    names.iter().filter(|name| *name == Some(segment)).count()
}

/// The rows of the pages that may hold the segment.
fn pages(
    about: &parquet::file::metadata::ParquetMetaData,
    group: usize,
    leaf: usize,
    rows: usize,
    segment: &str,
) -> Vec<Range<usize>> {
    let index = about.page_index_for_row_group(group);
    let locations = index.offset_index(leaf).expect("an index").page_locations();
    let Some(ColumnIndexMetaData::BYTE_ARRAY(index)) = index.column_index(leaf) else {
        return std::iter::once(0..rows).collect();
    };
    let first =
        |page: usize| locations.get(page).map_or(rows, |page| usize::try_from(page.first_row_index).expect("fits"));
    let segment = segment.as_bytes();
    let within = |page: &usize| {
        index.min_value(*page).is_none_or(|min| min <= segment)
            && index.max_value(*page).is_none_or(|max| max >= segment)
    };
    (0..locations.len()).filter(within).map(|page| first(page)..first(page + 1)).collect()
}
