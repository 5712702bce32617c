//! What a worker is told, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::store::StoreError;
use common::store::memory::{Fault, Operation};

use super::*;

/// All that a watcher has to tell at a time.
fn told(watcher: &mut Watcher, now_ms: i64) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(change) = wait(watcher.poll(now_ms)) {
        told.push(match change {
            Change::Model(loaded) => format!("{} {}", loaded.current.version, String::from_utf8_lossy(&loaded.model)),
            Change::Refused(error) => format!("refused: {error}"),
            Change::Unreachable(why) => format!("away: {why}"),
            Change::Reachable => "back".to_owned(),
        });
    }
    told
}

#[test]
fn a_worker_hears_of_each_change_once() {
    let (_, registry) = two_versions();
    let mut watcher = Watcher::new(registry.clone(), 10_000);
    assert_eq!(told(&mut watcher, 0), ["v1.1.0 the second model"]);
    wait(registry.rollback(None, &order(0))).expect("done");
    assert_eq!(told(&mut watcher, 9_999), [""; 0], "it is not time yet");
    assert_eq!(told(&mut watcher, 10_000), ["v1.0.0 the first model"]);
    assert_eq!(watcher.current().map(|c| (c.promotion, c.pinned)), Some((3, true)));
    wait(registry.unpin(&order(0))).expect("done");
    assert_eq!(told(&mut watcher, 20_000), [""; 0], "the same model");
    assert_eq!(watcher.current().map(|c| (c.promotion, c.pinned)), Some((4, false)));
    wait(registry.promote(v("v1.1.0"), &order(0))).expect("done");
    // A clock that was set back stalls nothing.
    assert_eq!(told(&mut watcher, 5_000), ["v1.1.0 the second model"]);
}

#[test]
fn before_the_first_promotion_there_is_nothing_to_tell() {
    let memory = MemoryStore::new();
    let mut watcher = Watcher::new(registry(&memory), 1);
    assert_eq!(told(&mut watcher, 0), [""; 0]);
    let version = wait(registry(&memory).publish(b"first", &description("a"), Bump::Minor)).expect("published");
    assert_eq!(told(&mut watcher, 1), [""; 0]);
    wait(registry(&memory).promote(version, &order(0))).expect("promoted");
    assert_eq!(told(&mut watcher, 2), ["v1.0.0 first"]);
}

#[test]
fn a_bad_version_is_refused_once_and_taken_when_it_is_mended() {
    let (memory, registry) = two_versions();
    let mut watcher = Watcher::new(registry.clone(), 1);
    told(&mut watcher, 0);
    let version = wait(registry.publish(b"a third", &description("a"), Bump::Minor)).expect("published");
    wait(registry.promote(version, &order(0))).expect("promoted");
    let store = Store::Memory(memory.clone());
    let path = format!("{ROOT}/{version}/model.bin");
    wait(store.replace(&path, Bytes::from_static(b"a thorn"))).expect("replaced");
    let refused = told(&mut watcher, 1);
    assert!(refused.len() == 1 && refused[0].contains("v1.2.0/model.bin: is damaged"), "{refused:?}");
    assert_eq!(told(&mut watcher, 2), [""; 0]);
    assert_eq!(watcher.current().map(|c| c.version), Some(v("v1.1.0")), "the last one stays");
    wait(store.replace(&path, Bytes::from_static(b"a third"))).expect("replaced");
    assert_eq!(told(&mut watcher, 3), ["v1.2.0 a third"]);
}

#[test]
fn a_rollback_from_a_bad_version_is_no_change_to_who_never_took_it() {
    let (memory, registry) = two_versions();
    let mut watcher = Watcher::new(registry.clone(), 1);
    told(&mut watcher, 0);
    let version = wait(registry.publish(b"a third", &description("a"), Bump::Minor)).expect("published");
    wait(registry.promote(version, &order(0))).expect("promoted");
    let store = Store::Memory(memory.clone());
    wait(store.delete(&format!("{ROOT}/{version}/metadata.json"))).expect("deleted");
    assert!(told(&mut watcher, 1)[0].contains("v1.2.0/metadata.json: is not there: its publisher has not finished"));
    wait(registry.rollback(None, &order(0))).expect("done");
    assert_eq!(told(&mut watcher, 2), [""; 0]);
    assert_eq!(watcher.current().map(|c| c.promotion), Some(4));
}

#[test]
fn an_outage_is_told_once_and_its_end_too() {
    let (memory, registry) = two_versions();
    let away = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&away);
    let hook = move |_: Operation<'_>| {
        noted.load(Ordering::Relaxed).then(|| Fault::Before(StoreError::Retry("no answer".to_owned())))
    };
    let mut watcher = Watcher::new(Registry::new(Store::Memory(memory.with_hook(Arc::new(hook))), ROOT), 1);
    told(&mut watcher, 0);
    away.store(true, Ordering::Relaxed);
    assert_eq!(told(&mut watcher, 1), ["away: no answer"]);
    assert_eq!(told(&mut watcher, 2), [""; 0]);
    wait(registry.rollback(None, &order(0))).expect("done");
    away.store(false, Ordering::Relaxed);
    assert_eq!(told(&mut watcher, 3), ["back", "v1.0.0 the first model"]);
}

#[test]
fn a_stale_copy_deceives_nobody_and_is_put_right() {
    let (memory, registry) = two_versions();
    let store = Store::Memory(memory.clone());
    let path = format!("{ROOT}/CURRENT");
    let old = files(&memory)[&path].clone();
    let mut watcher = Watcher::new(registry.clone(), 1);
    told(&mut watcher, 0);
    wait(registry.rollback(None, &order(0))).expect("done");
    let new = files(&memory)[&path].clone();
    // As when the one that rolled back died before it wrote the copy.
    wait(store.replace(&path, old)).expect("replaced");
    assert_eq!(told(&mut watcher, 1), ["v1.0.0 the first model"]);
    assert_eq!(files(&memory)[&path], new);
    // Edited by hand.
    let edited = std::str::from_utf8(&new).expect("text").replace("v1.0.0", "v1.1.0");
    wait(store.replace(&path, Bytes::from(edited))).expect("replaced");
    assert_eq!(told(&mut watcher, 2), [""; 0]);
    assert_eq!(files(&memory)[&path], new);
    wait(store.delete(&path)).expect("deleted");
    assert_eq!(told(&mut watcher, 3), [""; 0]);
    assert_eq!(files(&memory)[&path], new);
}

#[test]
fn promotions_that_are_gone_leave_the_worker_what_it_has() {
    let (memory, registry) = two_versions();
    let mut watcher = Watcher::new(registry, 1);
    told(&mut watcher, 0);
    wait(Store::Memory(memory.clone()).delete_dir(ROOT)).expect("deleted");
    let refused = told(&mut watcher, 1);
    assert!(refused.len() == 1 && refused[0].contains("promotions/0000000002.json: is missing"), "{refused:?}");
    assert_eq!(told(&mut watcher, 2), [""; 0]);
}

#[test]
fn a_look_that_finds_no_change_is_two_small_requests() {
    let (memory, _) = two_versions();
    let count = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&count);
    let hook = move |_: Operation<'_>| {
        counter.fetch_add(1, Ordering::Relaxed);
        None
    };
    let mut watcher = Watcher::new(Registry::new(Store::Memory(memory.with_hook(Arc::new(hook))), ROOT), 1);
    told(&mut watcher, 0);
    count.store(0, Ordering::Relaxed);
    told(&mut watcher, 1);
    assert_eq!(count.load(Ordering::Relaxed), 2);
}
