//! Faults at every operation of the store, one at a time and many at random.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::store::StoreError;
use common::store::memory::{Fault, Hook};

use super::*;

/// What goes wrong at one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    FailBefore,
    FailAfter,
    Late(u64),
    CrashBefore,
    CrashAfter,
    CrashLate(u64),
    /// Another process does all that it does meanwhile, then we go on, outdated.
    Sleep,
}

const TROUBLES: [Trouble; 9] = [
    Trouble::FailBefore,
    Trouble::FailAfter,
    Trouble::Late(1),
    Trouble::Late(4),
    Trouble::Late(40),
    Trouble::CrashBefore,
    Trouble::CrashAfter,
    Trouble::CrashLate(25),
    Trouble::Sleep,
];

fn lost() -> StoreError {
    StoreError::Retry("connection reset".to_owned())
}

/// What every later operation of a crashed process meets.
fn dead() -> StoreError {
    StoreError::Fatal("crashed".to_owned())
}

/// Asks again while the answer is lost.
async fn insist<T>(mut ask: impl AsyncFnMut() -> Result<T, RegistryError>) -> Result<T, RegistryError> {
    let mut answer = ask().await;
    for _ in 0..8 {
        if !matches!(answer, Err(RegistryError::Retry(_))) {
            break;
        }
        answer = ask().await;
    }
    answer
}

/// All that one process does; what it was promised is checked at once.
async fn live(registry: &Registry, name: &str) -> Result<(), RegistryError> {
    let publish = async |created_at| {
        let about = Description { created_at, ..description(name) };
        let version = insist(async || registry.publish(name.as_bytes(), &about, Bump::Minor).await).await?;
        let (metadata, model) = insist(async || registry.load(version).await).await?;
        assert_eq!((metadata.description, model.as_slice()), (about, name.as_bytes()), "{version} is another's");
        Ok::<_, RegistryError>(version)
    };
    let order = Order { by: name, reason: "", at_ms: 1 };
    let first = publish(1).await?;
    insist(async || registry.promote(first, &order).await).await?;
    let second = publish(2).await?;
    insist(async || registry.promote_automatically(second, Some(first), &order).await).await?;
    match insist(async || registry.rollback(None, &order).await).await {
        // When the other has gone back already.
        Ok(_) | Err(RegistryError::Refused(_)) => {}
        Err(error) => return Err(error),
    }
    insist(async || registry.unpin(&order).await).await?;
    insist(async || registry.promote(second, &order).await).await?;
    insist(async || registry.tidy(&order).await).await?;
    Ok(())
}

fn hook(
    memory: &MemoryStore,
    met: Arc<AtomicBool>,
    decide: impl Fn(u64) -> Option<Trouble> + Send + Sync + 'static,
) -> Hook {
    let memory = memory.clone();
    let (operations, crashed) = (AtomicU64::new(0), AtomicBool::new(false));
    let others = AtomicU64::new(0);
    Arc::new(move |_| {
        if crashed.load(Ordering::Relaxed) {
            return Some(Fault::Before(dead()));
        }
        let trouble = decide(operations.fetch_add(1, Ordering::Relaxed))?;
        met.store(true, Ordering::Relaxed);
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
                let name = format!("other {}", others.fetch_add(1, Ordering::Relaxed));
                let other = registry(&memory);
                // A thread of its own: this one is inside a call to the store.
                std::thread::scope(|scope| {
                    let work = scope.spawn(|| wait(live(&other, &name)));
                    work.join().expect("the other does not panic").expect("the other comes to its end");
                });
                None
            }
        }
    })
}

/// One life under troubles; whether it met any.
fn survive(memory: &MemoryStore, name: &str, decide: impl Fn(u64) -> Option<Trouble> + Send + Sync + 'static) -> bool {
    let met = Arc::new(AtomicBool::new(false));
    let troubled = registry(&memory.with_hook(hook(memory, Arc::clone(&met), decide)));
    match wait(live(&troubled, name)) {
        Ok(()) | Err(RegistryError::Retry(_)) => {}
        Err(RegistryError::Fatal(text)) if text.contains("crashed") => {}
        // An answer that was lost, after which somebody went back from what was asked for.
        Err(RegistryError::Refused(_)) => {}
        Err(error) => panic!("{name}: {error}"),
    }
    met.load(Ordering::Relaxed)
}

/// What was written once is never changed; all but `CURRENT`, and models of abandoned versions, which go.
fn assert_nothing_was_overwritten(before: &BTreeMap<String, Bytes>, after: &BTreeMap<String, Bytes>, context: &str) {
    for (path, content) in before.iter().filter(|(path, _)| !path.ends_with("/CURRENT")) {
        match after.get(path) {
            Some(found) => assert_eq!(found, content, "{context}: {path} was overwritten"),
            None => {
                let metadata = path.replace("model.bin", "metadata.json");
                let abandoned =
                    after.get(&metadata).is_some_and(|content| content.windows(11).any(|w| w == b"\"abandoned\""));
                assert!(abandoned && path.ends_with("model.bin"), "{context}: {path} is gone");
            }
        }
    }
}

/// A registry is sound after whatever happened: readable as it stands, and all in order once somebody has tidied.
fn assert_sound(memory: &MemoryStore, context: &str) {
    let registry = registry(memory);
    wait(async {
        for found in registry.list().await.expect(context).versions {
            assert!(!matches!(found.state, State::Damaged(_)), "{context}: {found:?}");
            if matches!(found.state, State::Published(_)) {
                registry.load(found.version).await.expect(context);
            }
        }
        let promotions = registry.promotions().await.expect(context);
        let numbers: Vec<u64> = promotions.iter().rev().map(|promotion| promotion.number).collect();
        assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<u64>>(), "{context}");
        for pair in promotions.windows(2) {
            assert_eq!(pair[0].previous, Some(pair[1].version), "{context}: {pair:?}");
        }
        // A worker has it right, whatever CURRENT says; and puts it right.
        let current = registry.current().await.expect(context);
        assert_eq!(current, promotions.first().map(Promotion::current), "{context}");
        let mut watcher = Watcher::new(registry.clone(), 1);
        match (watcher.poll(0).await, current) {
            (Some(Change::Model(loaded)), Some(current)) => assert_eq!(loaded.current, current, "{context}"),
            (None, None) => {}
            (change, current) => panic!("{context}: {change:?} while {current:?} is current"),
        }
        assert_eq!(registry.copy().await.expect(context), current, "{context}");
        registry.tidy(&order(0)).await.expect(context);
        for found in registry.list().await.expect(context).versions {
            assert!(matches!(found.state, State::Published(_) | State::Abandoned), "{context}: {found:?}");
        }
    });
}

/// What one process did in its life is there once, though it asked again after a lost answer.
fn assert_done_once(memory: &MemoryStore, name: &str, context: &str) {
    let registry = registry(memory);
    let (listing, promotions) = wait(async { (registry.list().await, registry.promotions().await) });
    let own = |found: &&Found| matches!(&found.state, State::Published(m) if m.description.created_by == name);
    assert_eq!(listing.expect(context).versions.iter().filter(own).count(), 2, "{context}");
    let promotions = promotions.expect(context);
    let kinds: Vec<Kind> = promotions.iter().rev().filter(|p| p.by == name).map(|p| p.kind).collect();
    let expected = [Kind::Manual, Kind::Automatic, Kind::Rollback, Kind::Unpin, Kind::Manual];
    assert_eq!(kinds, expected, "{context}");
}

#[test]
fn one_fault_at_any_operation_leaves_the_registry_sound() {
    for trouble in TROUBLES {
        for at in 0.. {
            let memory = MemoryStore::new();
            wait(live(&registry(&memory), "before")).expect("nothing goes wrong");
            let before = files(&memory);
            let context = format!("{trouble:?} at operation {at}");
            if !survive(&memory, "troubled", move |n| (n == at).then_some(trouble)) {
                assert!(at > 60, "{at} operations only");
                break;
            }
            let after = files(&memory);
            assert_nothing_was_overwritten(&before, &after, &context);
            assert_sound(&memory, &context);
            if matches!(trouble, Trouble::FailBefore | Trouble::FailAfter) {
                assert_done_once(&memory, "troubled", &context);
            }
            wait(live(&registry(&memory), "after")).expect(&context);
            assert_nothing_was_overwritten(&after, &files(&memory), &context);
            assert_sound(&memory, &context);
        }
    }
}

/// A small generator of its own, so that a seed means the same for ever.
fn random(seed: u64, n: u64) -> u64 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(n.wrapping_mul(0xbf58_476d_1ce4_e5b9));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[test]
fn many_faults_at_random_leave_the_registry_sound() {
    for seed in 0..200 {
        let memory = MemoryStore::new();
        let mut before = files(&memory);
        for life in 0..4 {
            let context = format!("seed {seed}, life {life}");
            survive(&memory, &context, move |n| {
                let dice = random(seed * 8 + life, n);
                if !dice.is_multiple_of(12) || n >= 2_000 {
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
            let after = files(&memory);
            assert_nothing_was_overwritten(&before, &after, &context);
            before = after;
        }
        assert_sound(&memory, &format!("seed {seed}"));
    }
}
