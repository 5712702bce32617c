//! The commit protocol's five traps, each by its name. `faults.rs` and `compaction.rs` meet them at random too.

use std::sync::Mutex;

use super::compaction::everything;
use super::*;
use crate::store::StoreError;
use crate::store::memory::{Fault, Hook, MemoryStore, Operation};

/// Two partitions with a checkpoint after every second manifest.
fn setup() -> Arc<Setup> {
    Arc::new(small())
}

fn small() -> Setup {
    let mut setup = Setup::new(FakeLog::new(vec![partition(60, 5), partition(30, 2)], 7));
    setup.config.checkpoint_manifests = 2;
    setup
}

fn lost() -> StoreError {
    StoreError::Retry("connection reset".to_owned())
}

fn is_manifest(operation: Operation<'_>) -> bool {
    let name = operation.path.rsplit('/').next().unwrap_or_default();
    operation.name == "create_if_absent" && operation.path.contains("/_commits/") && !name.starts_with("checkpoint-")
}

/// Does something once, at the first operation that `which` picks.
fn once(
    which: impl Fn(Operation<'_>) -> bool + Send + Sync + 'static,
    act: impl Fn(&str) -> Option<Fault> + Send + Sync + 'static,
) -> (Hook, Arc<Mutex<Option<String>>>) {
    let met: Arc<Mutex<Option<String>>> = Arc::default();
    let noted = Arc::clone(&met);
    let hook: Hook = Arc::new(move |operation| {
        {
            let mut noted = noted.lock().expect("no test panicked");
            if noted.is_some() || !which(operation) {
                return None;
            }
            *noted = Some(operation.path.to_owned());
        }
        act(operation.path)
    });
    (hook, met)
}

/// Another process, on a thread of its own: this one is inside a call to the store.
fn meanwhile(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| scope.spawn(work).join().expect("the other does not panic"));
}

fn assert_whole(setup: &Setup, memory: &MemoryStore) {
    let store = Store::Memory(memory.clone());
    setup.assert_complete(&store);
    assert_eq!(setup.visible(&store).len(), committed_records(&setup.log));
}

/// It is about to create its manifest, and sleeps; others commit the range, sum it up, and remove its manifest, so that
/// the name is free again when it wakes.
#[test]
fn a_sleeper_of_two_days() {
    let (setup, memory) = (setup(), MemoryStore::new());
    let (others, shared) = (Arc::clone(&setup), memory.clone());
    let (hook, met) = once(is_manifest, move |path| {
        meanwhile(|| {
            let store = Store::Memory(shared.clone());
            others.run(&store).expect("the others archive everything");
            assert!(!others.runtime.block_on(store.exists(path)).expect("answers"), "{path} is free again");
        });
        None
    });
    setup.run(&Store::Memory(memory.with_hook(hook))).expect("finds itself overtaken, and goes on");
    let path = met.lock().expect("no test panicked").clone().expect("met");
    let store = Store::Memory(memory.clone());
    assert!(!setup.runtime.block_on(store.exists(&path)).expect("answers"), "the void manifest is gone");
    assert_whole(&setup, &memory);
}

/// A takeover finds the files of a batch that no manifest names: its writer is slow, not dead, and commits it yet.
#[test]
fn a_slow_writers_temporary_files() {
    let (setup, memory) = (setup(), MemoryStore::new());
    let (others, shared) = (Arc::clone(&setup), memory.clone());
    let (hook, met) = once(is_manifest, move |_| {
        meanwhile(|| {
            let place = layout::Place { topic: others.topic(), partition: 0 };
            let store = Store::Memory(shared.clone());
            let files = |dir: &str| others.files(&store, dir).len();
            let before = files("/traffic-data/_tmp");
            others.runtime.block_on(ledger::Ledger::take_over(&store, &place)).expect("takes over");
            assert!(before > 0 && files("/traffic-data/_tmp") == before, "they may be committed yet");
        });
        None
    });
    let summary = setup.run(&Store::Memory(memory.with_hook(hook))).expect("archives");
    assert!(met.lock().expect("no test panicked").is_some());
    assert_eq!(summary.retries, 0, "nothing was taken from it");
    assert_whole(&setup, &memory);
}

/// The answer to creating a manifest is lost, and the manifest is there: its own.
#[test]
fn an_ambiguous_create_that_was_ones_own() {
    let (setup, memory) = (setup(), MemoryStore::new());
    let (hook, met) = once(is_manifest, |_| Some(Fault::After(lost())));
    let summary = setup.run(&Store::Memory(memory.with_hook(hook))).expect("archives");
    assert!(met.lock().expect("no test panicked").is_some());
    assert_eq!(summary.retries, 0, "it was its own, and the batch is committed");
    assert_whole(&setup, &memory);
}

/// A manifest is committed and its files renamed; then its owner dies, and they are compacted before anybody takes over.
#[test]
fn recovery_after_compaction() {
    // All in one hour, so that every file has one to be merged with.
    let setup = Setup { log: FakeLog::new(vec![partition(60, 1), partition(30, 1)], 7), ..small() };
    let memory = MemoryStore::new();
    let store = Store::Memory(memory.clone());
    setup.run(&store).expect("archives");
    setup.compact(&store, &everything()).expect("compacts");
    let files = setup.files(&store, "/traffic-data/raw");
    assert!(files.iter().all(|path| path.contains("-compacted-")), "{files:?}");
    // A new owner finishes the newest manifest of each partition first, and finds none of its files.
    let next = setup.log.lock()[0].high;
    setup.log.lock()[0].records.push(event(next, 1, START_MS));
    setup.log.lock()[0].high = next + 1;
    setup.run(&store).expect("takes over");
    assert_whole(&setup, &memory);
}

/// The same, but the owner lives: it has created its manifest and sleeps before it renames a file.
#[test]
fn an_owner_that_sleeps_while_its_commit_is_finished_and_compacted() {
    let (setup, memory) = (setup(), MemoryStore::new());
    let (others, shared) = (Arc::clone(&setup), memory.clone());
    let is_rename = |operation: Operation<'_>| operation.name == "rename" && operation.path.contains("/_tmp/");
    let (hook, met) = once(is_rename, move |_| {
        meanwhile(|| others.compact_all(&Store::Memory(shared.clone())));
        None
    });
    setup.run(&Store::Memory(memory.with_hook(hook))).expect("goes on");
    assert!(met.lock().expect("no test panicked").is_some());
    assert_whole(&setup, &memory);
}

/// Two owners write the same range; the second to create the manifest loses, drops its batch and goes on behind it.
#[test]
fn two_writers_of_one_range() {
    let mut setup = Setup::new(FakeLog::new(vec![partition(60, 5), partition(30, 2)], 7));
    setup.config.checkpoint_manifests = 1_000;
    let (setup, memory) = (Arc::new(setup), MemoryStore::new());
    let (others, shared) = (Arc::clone(&setup), memory.clone());
    let (hook, met) = once(is_manifest, move |_| {
        meanwhile(|| {
            others.run(&Store::Memory(shared.clone())).expect("the other archives everything");
        });
        None
    });
    let summary = setup.run(&Store::Memory(memory.with_hook(hook))).expect("goes on behind the other");
    assert!(met.lock().expect("no test panicked").is_some());
    assert!(summary.retries > 0 && summary.rows == 0, "{summary:?}");
    assert_whole(&setup, &memory);
    assert_eq!(setup.files(&Store::Memory(memory), "/traffic-data/_tmp"), Vec::<String>::new());
}
