//! Faults at every operation of the store, one at a time and many at random.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::store::StoreError;
use crate::store::memory::{Fault, Hook, MemoryStore};

/// What goes wrong at one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    FailBefore,
    FailAfter,
    Late(u64),
    CrashBefore,
    CrashAfter,
    CrashLate(u64),
    /// Another process runs to its end meanwhile, then we go on, outdated.
    Sleep,
}

pub(super) const TROUBLES: [Trouble; 8] = [
    Trouble::FailBefore,
    Trouble::FailAfter,
    Trouble::Late(1),
    Trouble::Late(30),
    Trouble::CrashBefore,
    Trouble::CrashAfter,
    Trouble::CrashLate(25),
    Trouble::Sleep,
];

fn lost() -> StoreError {
    StoreError::Retry("connection reset".to_owned())
}

/// What every later operation of a crashed process meets: it does not exist any more.
fn dead() -> StoreError {
    StoreError::Fatal("crashed".to_owned())
}

/// A setup small enough to run a thousand times, with spilt row groups, full batches, checkpoints.
fn small() -> Setup {
    let mut setup = Setup::new(FakeLog::new(vec![partition(40, 5), partition(10, 1)], 7));
    setup.config.memory_bytes = 3_500;
    setup.config.checkpoint_manifests = 2;
    setup.config.zstd_level = 1;
    setup
}

/// Decides by the number of the operation what goes wrong at it; `other` runs while a process sleeps.
pub(super) fn hook(
    setup: &Arc<Setup>,
    memory: &MemoryStore,
    other: impl Fn(&Setup, &MemoryStore) + Send + Sync + 'static,
    decide: impl Fn(u64) -> Option<Trouble> + Send + Sync + 'static,
) -> Hook {
    let (setup, memory) = (Arc::clone(setup), memory.clone());
    let (operations, crashed) = (AtomicU64::new(0), AtomicBool::new(false));
    Arc::new(move |_| {
        if crashed.load(Ordering::Relaxed) {
            return Some(Fault::Before(dead()));
        }
        let trouble = decide(operations.fetch_add(1, Ordering::Relaxed))?;
        if matches!(trouble, Trouble::CrashBefore | Trouble::CrashAfter | Trouble::CrashLate(_)) {
            crashed.store(true, Ordering::Relaxed);
        }
        match trouble {
            Trouble::FailBefore => Some(Fault::Before(lost())),
            Trouble::FailAfter => Some(Fault::After(lost())),
            Trouble::Late(by) => Some(Fault::Late(by, lost())),
            Trouble::CrashBefore => Some(Fault::Before(dead())),
            Trouble::CrashAfter => Some(Fault::After(dead())),
            Trouble::CrashLate(by) => Some(Fault::Late(by, dead())),
            Trouble::Sleep => {
                // A thread of its own: this one is inside a call to the store.
                std::thread::scope(|scope| {
                    scope.spawn(|| other(&setup, &memory)).join().expect("the other does not panic");
                });
                None
            }
        }
    })
}

/// Runs sinks until one comes to the end, and returns whether any trouble was met.
fn survive(
    setup: &Arc<Setup>,
    memory: &MemoryStore,
    decide: impl Fn(u64) -> Option<Trouble> + Send + Sync + 'static,
) -> bool {
    let met = Arc::new(AtomicBool::new(false));
    let noted = Arc::clone(&met);
    let other = |setup: &Setup, memory: &MemoryStore| {
        setup.run(&Store::Memory(memory.clone())).expect("the other sink comes to the end");
    };
    let hook = hook(setup, memory, other, move |n| {
        let trouble = decide(n);
        noted.fetch_or(trouble.is_some(), Ordering::Relaxed);
        trouble
    });
    match setup.run(&Store::Memory(memory.with_hook(hook))) {
        Ok(_) => {}
        Err(ArchiveError::Fatal(text)) if text.contains("crashed") => {
            setup.run(&Store::Memory(memory.clone())).expect("the next owner comes to the end");
        }
        Err(error) => panic!("{error}"),
    }
    met.load(Ordering::Relaxed)
}

#[test]
fn one_fault_at_any_operation_loses_and_doubles_nothing() {
    let setup = Arc::new(small());
    for trouble in TROUBLES {
        for at in 0.. {
            let memory = MemoryStore::new();
            if !survive(&setup, &memory, move |n| (n == at).then_some(trouble)) {
                assert!(at > 50, "{at} operations only");
                break;
            }
            let store = Store::Memory(memory);
            let report = setup.report(&store);
            assert_eq!(report.problems, Vec::<String>::new(), "{trouble:?} at operation {at}");
            let rows: u64 = report.partitions.iter().map(|p| p.rows).sum();
            assert_eq!(rows, committed_records(&setup.log) as u64, "{trouble:?} at operation {at}");
        }
    }
}

/// A small generator of its own, so that a seed means the same for ever.
pub(super) fn random(seed: u64, n: u64) -> u64 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(n.wrapping_mul(0xbf58_476d_1ce4_e5b9));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[test]
fn many_faults_at_random_lose_and_double_nothing() {
    let setup = Arc::new(small());
    for seed in 0..150 {
        let memory = MemoryStore::new();
        // Several lives, each of which may crash, sleep while another works, or lose answers.
        for life in 0..4 {
            survive(&setup, &memory, move |n| {
                let dice = random(seed * 8 + life, n);
                if !dice.is_multiple_of(25) || n >= 2_000 {
                    return None;
                }
                Some(match (dice >> 8) % 16 {
                    0..=4 => Trouble::FailBefore,
                    5..=8 => Trouble::FailAfter,
                    9..=12 => Trouble::Late((dice >> 16) % 60),
                    13 => Trouble::CrashAfter,
                    14 => Trouble::CrashLate((dice >> 16) % 60),
                    _ => Trouble::Sleep,
                })
            });
        }
        setup.run(&Store::Memory(memory.clone())).expect("the last owner comes to the end");
        let report = setup.report(&Store::Memory(memory));
        assert_eq!(report.problems, Vec::<String>::new(), "seed {seed}");
    }
}
