//! The sink over a log of fixed content: exactly once under every fault at every operation of the store.

mod compaction;
mod fake_log;
mod faults;
mod goldens;
mod processed;
mod traps;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use arrow::array::AsArray as _;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType};
use bytes::Bytes;

use super::verify::{Report, verify};
use super::*;
use crate::clock::Clock;
use crate::model::Normaliser;
use crate::store::memory::MemoryStore;
use crate::store::{Store, StoreOptions};
use crate::stream::{Header, StoredRecord, WATERMARK_HEADER};
use crate::topics::Topics;
use fake_log::{FakeLog, Partition, Scripted};

const HOUR_MS: i64 = 3_600_000;
/// 2026-09-21T13:00Z.
const START_MS: i64 = 1_790_000_000_000 - 1_790_000_000_000 % HOUR_MS;

/// Moves on by 10 ms whenever it is read.
#[derive(Debug, Default)]
struct Ticking(AtomicI64);

impl Clock for Ticking {
    fn now_ms(&self) -> i64 {
        START_MS + self.0.fetch_add(10, Ordering::Relaxed)
    }
}

fn event(offset: i64, segment: u64, timestamp_ms: i64) -> StoredRecord {
    let value = format!(
        r#"{{"event_id":"E{offset}","segment_id":"S{segment}","timestamp":{timestamp_ms},"speed":{},"source":"SENSOR","quality_score":1.0}}"#,
        offset % 90
    );
    StoredRecord {
        offset,
        timestamp_ms: START_MS + 10 * HOUR_MS,
        key: Some(format!("S{segment}").into_bytes()),
        value: Some(value.into_bytes()),
        headers: Vec::new(),
    }
}

fn marker(offset: i64) -> StoredRecord {
    let headers = vec![Header { name: WATERMARK_HEADER.to_owned(), value: b"1".to_vec() }];
    StoredRecord { offset, timestamp_ms: START_MS, headers, ..StoredRecord::default() }
}

/// Events of a few hours, with rejected records, watermark markers and offsets taken by transactions between.
fn partition(records: i64, hours: i64) -> Partition {
    let mut found = Vec::new();
    let mut offset = 0;
    for i in 0..records {
        found.push(match i % 10 {
            3 => StoredRecord { offset, timestamp_ms: START_MS, value: Some(b"{".to_vec()), ..StoredRecord::default() },
            7 => marker(offset),
            _ => event(offset, i.unsigned_abs() % 4, START_MS + i * hours * HOUR_MS / records),
        });
        offset += if i % 6 == 5 { 2 } else { 1 };
    }
    Partition { first: 0, high: offset, records: found }
}

fn committed_records(log: &FakeLog) -> usize {
    log.lock().iter().flat_map(|p| &p.records).filter(|r| r.as_record().watermark_ms().is_none()).count()
}

struct Setup {
    log: FakeLog,
    config: ArchiveConfig,
    dataset: Dataset,
    runtime: tokio::runtime::Runtime,
    ids: Arc<AtomicU64>,
}

impl Setup {
    fn new(log: FakeLog) -> Self {
        let config = ArchiveConfig {
            flush_interval_s: 86_400,
            checkpoint_manifests: 3,
            open_hours: 3,
            retry_min_ms: 1,
            compact_interval_s: 0,
            ..ArchiveConfig::default()
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self { log, config, dataset: Dataset::Events, runtime: runtime.expect("a runtime"), ids: Arc::default() }
    }

    fn topic(&self) -> String {
        self.dataset.topic(&Topics::default()).to_owned()
    }

    fn sink(&self, store: Store) -> Sink {
        let ids = Arc::clone(&self.ids);
        Sink {
            hive: None,
            log: Arc::new(self.log.clone()),
            store,
            config: self.config.clone(),
            dataset: self.dataset,
            normaliser: Normaliser::default(),
            clock: Arc::new(Ticking::default()),
            runtime: self.runtime.handle().clone(),
            batch_id: Box::new(move || format!("{:032x}", ids.fetch_add(1, Ordering::Relaxed))),
            topic: self.topic(),
            application_id: "ingest".to_owned(),
            instance: "test-0".to_owned(),
        }
    }

    fn run(&self, store: &Store) -> Result<Summary, ArchiveError> {
        self.sink(store.clone()).run(&Control { shutdown: &|| false, ready: &|_| {}, exit_at_end: true })
    }

    /// The archive compared with itself and with the log.
    fn report(&self, store: &Store) -> Report {
        let mut verification = self
            .runtime
            .block_on(verify(store, self.dataset, self.dataset.topic(&Topics::default())))
            .expect("the store can be read");
        verification.compare_with(&self.log, &Normaliser::default()).expect("the log can be read");
        verification.report().clone()
    }

    fn assert_complete(&self, store: &Store) {
        let report = self.report(store);
        assert_eq!(report.problems, Vec::<String>::new());
        let rows: u64 = report.partitions.iter().map(|p| p.rows).sum();
        assert_eq!(rows, committed_records(&self.log) as u64);
    }

    fn files(&self, store: &Store, dir: &str) -> Vec<String> {
        let entries = self.runtime.block_on(store.list(dir, true)).expect("lists");
        entries.into_iter().map(|entry| entry.path).collect()
    }

    fn read(&self, store: &Store, path: &str) -> Bytes {
        self.runtime.block_on(store.read(path)).expect("reads").expect("is there")
    }
}

fn memory() -> Store {
    Store::Memory(MemoryStore::new())
}

#[test]
fn a_local_archive_holds_every_committed_record_once_and_goes_on_where_it_stopped() {
    let setup = Setup::new(FakeLog::new(vec![partition(200, 5), partition(120, 2)], 7));
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("file://{}", directory.path().display());
    let store = crate::store::open(&url, &StoreOptions::default()).expect("opens");
    let summary = setup.run(&store).expect("archives");
    assert_eq!(summary.rows, committed_records(&setup.log) as u64);
    setup.assert_complete(&store);

    let before = setup.log.lock()[0].high;
    setup.log.lock()[0].records.push(event(before, 1, START_MS));
    setup.log.lock()[0].high = before + 1;
    assert_eq!(setup.run(&store).expect("archives").rows, 1);
    setup.assert_complete(&store);
    assert_eq!(setup.files(&store, "/traffic-data/_tmp"), Vec::<String>::new());
    let committed = setup.log.committed.lock().expect("no test panicked").clone();
    assert_eq!(committed.get(&0), Some(&(before + 1)));
}

#[test]
fn rows_are_typed_sorted_and_complete() {
    let mut odd = event(2, 1, START_MS + 5);
    odd.value = Some(
        br#"{"event_id":"E2","segment_id":"S1","timestamp":1789999200001,"volume":12,"source":"PROBE","quality_score":0.5,"metadata":{"lanes":"4"}}"#.to_vec(),
    );
    odd.headers = vec![Header { name: "traceparent".to_owned(), value: b"00-1".to_vec() }];
    let records = vec![event(0, 2, START_MS + 9), event(1, 1, START_MS + 7), odd];
    let setup = Setup::new(FakeLog::new(vec![Partition { first: 0, high: 3, records: records.clone() }], 10));
    let store = memory();
    setup.run(&store).expect("archives");
    let files = setup.files(&store, "/traffic-data/raw");
    assert_eq!(files.len(), 1, "{files:?}");
    assert!(files[0].starts_with("/traffic-data/raw/date=2026-09-21/hour=14/traffic-events-0-"), "{files:?}");
    let reader = ParquetRecordBatchReaderBuilder::try_new(setup.read(&store, &files[0])).expect("Parquet");
    let batch = reader.build().expect("reads").next().expect("one batch").expect("rows");
    let text = |name: &str| batch.column_by_name(name).expect("a column").as_string::<i32>().clone();
    let bytes = |name: &str| batch.column_by_name(name).expect("a column").as_binary::<i32>().clone();
    assert_eq!(text("segment_id").iter().collect::<Vec<_>>(), [Some("S1"), Some("S1"), Some("S2")]);
    let offsets = batch.column_by_name("offset").expect("a column").as_primitive::<Int64Type>().clone();
    assert_eq!(offsets.values().to_vec(), [2, 1, 0]);
    let times = batch.column_by_name("timestamp").expect("a column").as_primitive::<TimestampMillisecondType>().clone();
    assert_eq!(times.values().to_vec(), [1_789_999_200_001, START_MS + 7, START_MS + 9]);
    let speeds = batch.column_by_name("speed_kmh").expect("a column").as_primitive::<Float64Type>().clone();
    assert_eq!(speeds.iter().collect::<Vec<_>>(), [None, Some(1.0), Some(0.0)]);
    let volumes = batch.column_by_name("volume_count").expect("a column").as_primitive::<Int64Type>().clone();
    assert_eq!(volumes.iter().collect::<Vec<_>>(), [Some(12), None, None]);
    let payload = bytes("payload");
    assert_eq!(payload.iter().collect::<Vec<_>>(), [records[2].value.as_deref(), None, None]);
    assert_eq!(bytes("key").iter().next(), Some(Some(b"S1".as_slice())));
    let headers = text("headers");
    assert_eq!(headers.iter().next(), Some(Some(r#"[{"name":"traceparent","value":"00-1"}]"#)));
}

#[test]
fn what_the_log_forgot_is_recorded_as_a_gap() {
    let log = FakeLog::new(vec![partition(100, 1)], 10);
    let setup = Setup::new(log.clone());
    let store = memory();
    log.lock()[0].forget_below(40);
    assert_eq!(setup.run(&store).expect("archives").gaps, 1);
    setup.assert_complete(&store);
    assert_eq!(setup.report(&store).partitions[0].gaps, [(0, 40)]);
}

#[test]
fn what_the_log_forgets_while_it_is_read_is_a_gap_too() {
    let log = FakeLog::new(vec![partition(100, 1)], 10);
    let setup = Setup::new(log.clone());
    let store = memory();
    log.script.lock().expect("no test panicked").push_back(Scripted::Forget(0, 60));
    // The first poll after the start forgets; nothing was read yet.
    assert_eq!(setup.run(&store).expect("archives").gaps, 1);
    let report = setup.report(&store);
    assert_eq!((report.problems.len(), report.partitions[0].gaps.clone()), (0, vec![(0, 60)]));
}

#[test]
fn another_log_under_the_same_name_is_refused() {
    let setup = Setup::new(FakeLog::new(vec![partition(100, 1)], 10));
    let store = memory();
    setup.run(&store).expect("archives");
    let anew = Setup::new(FakeLog::new(vec![partition(10, 1)], 10));
    let error = anew.run(&store).expect_err("offsets mean other records now").to_string();
    assert!(error.contains("traffic-events-0 ends at offset 11") && error.contains("made anew"), "{error}");
}

#[test]
fn a_revoked_partition_is_flushed_first() {
    let log = FakeLog::new(vec![partition(50, 1), partition(50, 1)], 100);
    let setup = Setup::new(log.clone());
    let store = memory();
    let polls = AtomicU64::new(0);
    let shutdown = || {
        // Everything has been read by the sixth poll, and nothing flushed.
        if polls.fetch_add(1, Ordering::Relaxed) == 6 {
            log.script.lock().expect("no test panicked").push_back(Scripted::Revoke(0));
        }
        polls.load(Ordering::Relaxed) > 7
    };
    let committed = Arc::clone(&log.committed);
    setup.sink(store.clone()).run(&Control { shutdown: &shutdown, ready: &|_| {}, exit_at_end: false }).expect("stops");
    let committed = committed.lock().expect("no test panicked").clone();
    let ends: BTreeMap<u32, i64> = setup.report(&store).partitions.iter().map(|p| (p.partition, p.end)).collect();
    assert_eq!(committed, ends, "flushed at revocation and at shutdown, and the group's offsets follow");
    setup.assert_complete(&store);
}

#[test]
fn memory_is_bounded_by_writing_row_groups_early() {
    let mut setup = Setup::new(FakeLog::new(vec![partition(3_000, 2)], 100));
    setup.config.memory_bytes = 64 << 10;
    let store = memory();
    setup.run(&store).expect("archives");
    setup.assert_complete(&store);
    let files = setup.files(&store, "/traffic-data/raw/date=2026-09-21");
    for path in files {
        let reader = ParquetRecordBatchReaderBuilder::try_new(setup.read(&store, &path)).expect("Parquet");
        assert!(reader.metadata().num_row_groups() > 2, "{path}: {}", reader.metadata().num_row_groups());
    }
}

#[test]
fn the_sink_is_ready_while_the_store_answers_and_loses_nothing_while_it_does_not() {
    use crate::store::StoreError;
    use crate::store::memory::Fault;
    let setup = Setup::new(FakeLog::new(vec![partition(100, 2)], 10));
    let memory = MemoryStore::new();
    let (down, operations) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let hook = {
        let (down, operations) = (Arc::clone(&down), Arc::clone(&operations));
        // Gone from the twelfth operation to the hundredth.
        Arc::new(move |_: crate::store::memory::Operation<'_>| {
            let n = operations.fetch_add(1, Ordering::Relaxed);
            down.store((12..100).contains(&n), Ordering::Relaxed);
            (12..100).contains(&n).then(|| Fault::Before(StoreError::Retry("connection refused".to_owned())))
        })
    };
    let seen = std::sync::Mutex::new(Vec::new());
    let ready = |ready: bool| seen.lock().expect("no test panicked").push((ready, down.load(Ordering::Relaxed)));
    let store = Store::Memory(memory.with_hook(hook));
    setup.sink(store).run(&Control { shutdown: &|| false, ready: &ready, exit_at_end: true }).expect("archives");
    let seen = seen.into_inner().expect("no test panicked");
    assert!(seen.contains(&(false, true)) && !seen.contains(&(true, true)), "{seen:?}");
    assert_eq!(seen.last(), Some(&(true, false)));
    setup.assert_complete(&Store::Memory(memory));
}

#[test]
fn verification_finds_what_is_missing_doubled_or_strange() {
    let setup = Setup::new(FakeLog::new(vec![partition(100, 1)], 10));
    let store = memory();
    setup.run(&store).expect("archives");
    let path = setup.files(&store, "/traffic-data/raw/date=2026-09-21").remove(0);
    let content = setup.read(&store, &path);
    let problems = |text: &str| {
        let problems = setup.report(&store).problems;
        assert!(problems.iter().any(|p| p.contains(text)), "{text}: {problems:?}");
    };
    let copy = path.replace("-00000000000000000000-", "-00000000000000000999-");
    setup.runtime.block_on(store.replace(&copy, content.clone())).expect("writes");
    problems("no manifest names it");
    problems("is in another row too");
    setup.runtime.block_on(store.replace(&copy, Bytes::from_static(b"PAR1"))).expect("writes");
    problems("cannot be read");
    setup.runtime.block_on(store.delete(&copy)).expect("deletes");
    setup.assert_complete(&store);
    setup.runtime.block_on(store.delete(&path)).expect("deletes");
    problems("a manifest names it, but it is not there");
    problems("is committed in the log, but in no file");
    setup.runtime.block_on(store.replace(&path, content)).expect("writes");
    let manifest = setup.files(&store, "/traffic-data/_commits").remove(0);
    setup.runtime.block_on(store.replace(&manifest, Bytes::from_static(b"{}"))).expect("writes");
    problems("restore the file from a backup");
}
