//! Compaction and retention: the same rows, in fewer files, under every fault, beside sinks and other compactors.

use std::sync::Mutex;

use arrow::row::{RowConverter, SortField};

use super::faults::{TROUBLES, Trouble, hook, random};
use super::*;
use crate::archive::compaction::{Compacted, Compactor, Wish};
use crate::archive::layout::{Origin, data_name};
use crate::store::memory::Hook;

fn everything() -> Wish {
    Wish { closed_by_ms: i64::MAX, min_files: 2, ..Wish::default() }
}

impl Setup {
    fn compact(&self, store: &Store, wish: &Wish) -> Result<Compacted, ArchiveError> {
        let topics = Topics::default();
        let id = || format!("{:032x}", self.ids.fetch_add(1, Ordering::Relaxed));
        let compactor = Compactor {
            store,
            config: &self.config,
            dataset: self.dataset,
            topic: self.dataset.topic(&topics),
            now_ms: &|| START_MS,
            id: &id,
        };
        let mut done = Compacted::default();
        self.runtime.block_on(compactor.run(wish, &mut done, &mut |_| {})).map(|()| done)
    }

    /// Compacts everything; a manifest that arrives late may take the first try's place.
    fn compact_all(&self, store: &Store) {
        for _ in 0..3 {
            match self.compact(store, &everything()) {
                Ok(_) => return,
                Err(ArchiveError::Retry(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        panic!("overtaken again and again");
    }

    /// Rows that readers see, by partition and offset; panics if one is seen twice.
    fn visible(&self, store: &Store) -> BTreeMap<(i32, i64), Vec<u8>> {
        let mut rows = BTreeMap::new();
        for path in self.files(store, "/traffic-data/raw") {
            // A file may go between the listing and the reading.
            let Some(content) = self.runtime.block_on(store.read(&path)).expect("reads") else { continue };
            for batch in ParquetRecordBatchReaderBuilder::try_new(content).expect("Parquet").build().expect("reads") {
                let batch = batch.expect("rows");
                let offsets = batch.column_by_name("offset").expect("a column").as_primitive::<Int64Type>().clone();
                let partitions = batch.column_by_name("partition").expect("a column");
                let partitions = partitions.as_primitive::<arrow::datatypes::Int32Type>().clone();
                let fields = batch.columns().iter().map(|column| SortField::new(column.data_type().clone()));
                let converter = RowConverter::new(fields.collect()).expect("types that compare");
                let values = converter.convert_columns(batch.columns()).expect("rows");
                for row in 0..batch.num_rows() {
                    let place = (partitions.value(row), offsets.value(row));
                    let old = rows.insert(place, values.row(row).as_ref().to_vec());
                    assert_eq!(old, None, "{place:?} is seen twice, in {path} too");
                }
            }
        }
        rows
    }
}

/// Two partitions, several flushes in every hour, some of them behind a checkpoint.
fn small() -> Setup {
    let mut setup = Setup::new(FakeLog::new(vec![partition(60, 2), partition(30, 2)], 7));
    setup.config.memory_bytes = 3_500;
    setup.config.checkpoint_manifests = 2;
    setup.config.open_hours = 2;
    setup.config.zstd_level = 1;
    setup
}

#[test]
fn merged_files_hold_the_same_rows_and_are_sorted_as_a_whole() {
    let setup = small();
    let store = memory();
    setup.run(&store).expect("archives");
    let (before, files) = (setup.visible(&store), setup.files(&store, "/traffic-data/raw"));
    let done = setup.compact(&store, &everything()).expect("compacts");
    assert_eq!(setup.visible(&store), before);
    setup.assert_complete(&store);
    let merged = setup.files(&store, "/traffic-data/raw");
    assert_eq!((done.merged_files, done.written_files), (files.len() as u64, merged.len() as u64));
    // Two hours of events, one of rejected records.
    assert_eq!((merged.len(), done.hours, done.rows), (3, 3, before.len() as u64), "{merged:?}");
    for path in &merged {
        let reader = ParquetRecordBatchReaderBuilder::try_new(setup.read(&store, path)).expect("Parquet");
        assert_eq!(reader.metadata().num_row_groups(), 1, "{path}");
        if path.contains("rejected") {
            continue;
        }
        let batch = reader.build().expect("reads").next().expect("one batch").expect("rows");
        let segments = batch.column_by_name("segment_id").expect("a column").as_string::<i32>().clone();
        let times = batch.column_by_name("timestamp").expect("a column");
        let times = times.as_primitive::<TimestampMillisecondType>().values().to_vec();
        assert!(segments.iter().zip(times).is_sorted(), "{path}");
    }
    assert_eq!(setup.files(&store, "/traffic-data/_tmp"), Vec::<String>::new());
    let again = setup.compact(&store, &everything()).expect("has nothing to do");
    assert_eq!(again, Compacted::default());
}

#[test]
fn open_hours_other_days_and_few_files_stay() {
    let setup = small();
    let store = memory();
    setup.run(&store).expect("archives");
    let idle = |wish: &Wish| assert_eq!(setup.compact(&store, wish).expect("plans"), Compacted::default(), "{wish:?}");
    idle(&Wish { closed_by_ms: START_MS, ..everything() });
    idle(&Wish { min_files: 100, ..everything() });
    let date = |text: &str| text.parse().expect("a date");
    idle(&Wish { dates: Some(date("2026-09-22")..=date("2026-09-30")), ..everything() });
    let day = Wish { dates: Some(date("2026-09-21")..=date("2026-09-21")), ..everything() };
    assert!(setup.compact(&store, &day).expect("compacts").merged_files > 4);
    setup.assert_complete(&store);
}

#[test]
fn late_events_are_merged_with_what_was_merged() {
    let setup = small();
    let store = memory();
    setup.run(&store).expect("archives");
    setup.compact(&store, &everything()).expect("compacts");
    for i in 0..20 {
        let mut log = setup.log.lock();
        let offset = log[1].high;
        log[1].records.push(event(offset, 2, START_MS + i));
        log[1].high = offset + 1;
    }
    setup.run(&store).expect("archives");
    let before = setup.visible(&store);
    let done = setup.compact(&store, &everything()).expect("compacts");
    assert_eq!((done.merged_files, done.written_files), (2, 1));
    assert_eq!(setup.visible(&store), before);
    setup.assert_complete(&store);
}

#[test]
fn what_is_too_old_goes_and_verification_knows() {
    let mut setup = small();
    setup.log = FakeLog::new(vec![partition(60, 8), partition(30, 8)], 7);
    let store = memory();
    setup.run(&store).expect("archives");
    // Merged or not makes no difference.
    setup.compact(&store, &Wish { closed_by_ms: START_MS + 4 * HOUR_MS, ..everything() }).expect("compacts");
    let before = setup.visible(&store).len() as u64;
    for hours in [3, 6] {
        let from_ms = Some(START_MS + hours * HOUR_MS);
        let wish = Wish { closed_by_ms: 0, retain_from_ms: from_ms, ..everything() };
        let done = setup.compact(&store, &wish).expect("removes");
        assert!(done.removed_rows > 10, "{done:?}");
        let report = setup.report(&store);
        assert_eq!(report.problems, Vec::<String>::new());
        let removed: u64 = report.retired.rows.values().sum();
        assert_eq!(removed, before - setup.visible(&store).len() as u64);
        assert_eq!(setup.compact(&store, &wish).expect("has nothing to do"), Compacted::default());
    }
    assert!(setup.files(&store, "/traffic-data/raw/date=2026-09-21/hour=19").is_empty());
    assert!(!setup.files(&store, "/traffic-data/raw/date=2026-09-21/hour=20").is_empty());
}

#[test]
fn files_that_are_not_its_own_are_left_alone() {
    let setup = small();
    let store = memory();
    setup.run(&store).expect("archives");
    let dir = "/traffic-data/raw/date=2026-09-21/hour=13";
    let foreign = [format!("{dir}/part-0.parquet"), format!("{dir}/other-topic-0-{:020}-ab.parquet", 0)];
    for path in &foreign {
        setup.runtime.block_on(store.replace(path, Bytes::from_static(b"not Parquet"))).expect("writes");
    }
    let wish = Wish { retain_from_ms: Some(i64::MAX), ..everything() };
    setup.compact(&store, &wish).expect("removes");
    assert_eq!(setup.files(&store, "/traffic-data/raw"), {
        let mut foreign = foreign.to_vec();
        foreign.sort();
        foreign
    });
}

#[test]
fn a_damaged_file_is_named_and_nothing_is_lost() {
    let setup = small();
    let store = memory();
    setup.run(&store).expect("archives");
    let path = setup.files(&store, "/traffic-data/raw/date=2026-09-21").remove(0);
    let content = setup.read(&store, &path);
    setup.runtime.block_on(store.replace(&path, content.slice(..content.len() / 2))).expect("writes");
    let error = setup.compact(&store, &everything()).expect_err("cannot be read").to_string();
    assert!(error.contains(&path) && error.contains("restore it from a backup"), "{error}");
    setup.runtime.block_on(store.replace(&path, content)).expect("writes");
    setup.compact(&store, &everything()).expect("compacts");
    setup.assert_complete(&store);
}

/// What a process of these tests does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Archive,
    Compact,
}

/// One process with faults, the other kind running whole while it sleeps; returns whether it met one.
fn survive(
    setup: &Arc<Setup>,
    memory: &MemoryStore,
    work: Work,
    decide: impl Fn(u64) -> Option<Trouble> + Send + Sync + 'static,
) -> bool {
    let met = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&met);
    let other = |setup: &Setup, memory: &MemoryStore| {
        let store = Store::Memory(memory.clone());
        setup.run(&store).expect("the other sink comes to the end");
        setup.compact_all(&store);
    };
    let hook: Hook = hook(setup, memory, other, move |n| {
        let trouble = decide(n);
        noted.fetch_or(trouble.is_some(), Ordering::Relaxed);
        trouble
    });
    let store = Store::Memory(memory.with_hook(hook));
    let outcome = match work {
        Work::Archive => setup.run(&store).map(|_| ()),
        Work::Compact => setup.compact(&store, &everything()).map(|_| ()),
    };
    match outcome {
        Ok(()) | Err(ArchiveError::Retry(_)) => {}
        Err(ArchiveError::Fatal(text)) if text.contains("crashed") => {}
        Err(error) => panic!("{error}"),
    }
    met.load(Ordering::Relaxed)
}

/// Afterwards everything is there once, and merged.
fn check(setup: &Setup, memory: &MemoryStore, about: &str) {
    let store = Store::Memory(memory.clone());
    setup.run(&store).expect("the last sink comes to the end");
    setup.compact_all(&store);
    let report = setup.report(&store);
    assert_eq!(report.problems, Vec::<String>::new(), "{about}");
    assert_eq!(setup.visible(&store).len(), committed_records(&setup.log), "{about}");
    let files = setup.files(&store, "/traffic-data/raw");
    let merged = files.iter().filter(|path| {
        let name = data_name(path.rsplit('/').next().unwrap_or_default());
        name.is_some_and(|name| matches!(name.origin, Origin::Compaction { .. }))
    });
    assert_eq!(merged.count(), files.len(), "{about}: {files:?}");
    assert_eq!(setup.files(&store, "/traffic-data/_tmp"), Vec::<String>::new(), "{about}");
}

#[test]
fn one_fault_at_any_operation_of_a_compaction_loses_and_doubles_nothing() {
    let setup = Arc::new(small());
    for trouble in TROUBLES {
        for at in 0.. {
            let memory = MemoryStore::new();
            setup.run(&Store::Memory(memory.clone())).expect("archives");
            if !survive(&setup, &memory, Work::Compact, move |n| (n == at).then_some(trouble)) {
                assert!(at > 50, "{at} operations only");
                break;
            }
            check(&setup, &memory, &format!("{trouble:?} at operation {at}"));
        }
    }
}

#[test]
fn many_faults_beside_sinks_and_compactors_lose_and_double_nothing() {
    let setup = Arc::new(small());
    for seed in 0..120 {
        let memory = MemoryStore::new();
        for life in 0..6 {
            let work = if random(seed, 1000 + life).is_multiple_of(2) { Work::Archive } else { Work::Compact };
            survive(&setup, &memory, work, move |n| {
                let dice = random(seed * 8 + life, n);
                if !dice.is_multiple_of(20) || n >= 2_000 {
                    return None;
                }
                Some(match (dice >> 8) % 16 {
                    0..=3 => Trouble::FailBefore,
                    4..=6 => Trouble::FailAfter,
                    7..=10 => Trouble::Late((dice >> 16) % 60),
                    11 => Trouble::CrashAfter,
                    12 => Trouble::CrashLate((dice >> 16) % 60),
                    _ => Trouble::Sleep,
                })
            });
        }
        check(&setup, &memory, &format!("seed {seed}"));
    }
}

#[test]
fn a_reader_never_sees_a_row_twice_and_misses_only_what_is_being_swapped() {
    let setup = Arc::new(small());
    let memory = MemoryStore::new();
    setup.run(&Store::Memory(memory.clone())).expect("archives");
    let all = setup.visible(&Store::Memory(memory.clone()));
    let largest = setup.files(&Store::Memory(memory.clone()), "/traffic-data/raw").len();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook: Hook = {
        let (setup, memory, seen) = (Arc::clone(&setup), memory.clone(), Arc::clone(&seen));
        Arc::new(move |_| {
            std::thread::scope(|scope| {
                let look = scope.spawn(|| setup.visible(&Store::Memory(memory.clone())).len());
                seen.lock().expect("no test panicked").push(look.join().expect("no row twice"));
            });
            None
        })
    };
    setup.compact(&Store::Memory(memory.with_hook(hook)), &everything()).expect("compacts");
    let seen = seen.lock().expect("no test panicked");
    assert!(seen.len() > largest && seen.iter().any(|rows| *rows < all.len()), "{seen:?}");
    assert_eq!(seen.last(), Some(&all.len()));
}
