//! What the model registry promises on any store, and models to publish.

use std::collections::BTreeMap;

use common::store::Store;
use predictor::registry::{
    Automatic, Bump, Change, Current, Data, Description, GRADIENT_BOOSTING, LAST_VALUE, Order, Refusal, Registry,
    RegistryError, Score, State, Version, Watcher,
};
use tokio::task::JoinSet;

/// What a trainer might say of a model that is `better` than another, in percent.
#[must_use]
pub fn description(created_by: &str, better: f64) -> Description {
    let score = |horizon_minutes, mae_kmh: f64| Score {
        horizon_minutes,
        n: 200_000,
        mae_kmh,
        rmse_kmh: mae_kmh * 2.0,
        mape_percent: Some(8.0),
        coverage_80: Some(0.8),
        width_80_kmh: Some(mae_kmh * 3.0),
        coverage_90: Some(0.9),
        width_90_kmh: Some(mae_kmh * 4.0),
    };
    let scores = |factor: f64| vec![score(15, 4.0 * factor), score(30, 5.0 * factor), score(60, 6.0 * factor)];
    Description {
        model_type: GRADIENT_BOOSTING.to_owned(),
        created_at: 1_759_675_000_000,
        created_by: created_by.to_owned(),
        description: "of a test".to_owned(),
        training_data: Data { first: 1_757_000_000_000, last: 1_759_200_000_000, rows: 430_000, ..Data::default() },
        horizons_minutes: vec![15, 30, 60],
        step_minutes: 5,
        speed_unit: "km/h".to_owned(),
        features: vec!["speed".to_owned()],
        metrics: scores(1.0 - better / 100.0),
        baselines: BTreeMap::from([(LAST_VALUE.to_owned(), scores(1.3))]),
        code_version: "0.1.0".to_owned(),
        model_format: 1,
        ..Description::default()
    }
}

/// The whole contract, in a directory of its own, which is removed at the end.
///
/// # Panics
/// If it is broken.
pub async fn check(store: &Store) {
    let root = format!("/test/{}", crate::unique("models"));
    let registry = Registry::new(store.clone(), &root);
    one_after_the_other(&registry, store, &root).await;
    at_once(&registry).await;
    leftovers(&registry, store, &root).await;
    store.delete_dir(&root).await.expect("removed");
}

fn order(reason: &str) -> Order<'_> {
    Order { by: "ada", reason, at_ms: 1_759_675_000_000 }
}

async fn told(watcher: &mut Watcher, now_ms: i64) -> Vec<Change> {
    let mut told = Vec::new();
    while let Some(change) = watcher.poll(now_ms).await {
        told.push(change);
    }
    told
}

async fn one_after_the_other(registry: &Registry, store: &Store, root: &str) {
    let mut watcher = Watcher::new(registry.clone(), 1);
    assert_eq!(registry.list().await, Ok(predictor::registry::Listing::default()));
    assert_eq!(registry.current().await, Ok(None));
    assert_eq!(told(&mut watcher, 0).await, []);

    // More than one write, and no multiple of anything.
    let bytes: Vec<u8> = (0..3_000_001_u32).map(|i| i.to_le_bytes()[1]).collect();
    let first = registry.publish(&bytes, &description("a", 0.0), Bump::Minor).await.expect("published");
    assert_eq!(first, Version::FIRST);
    let again = registry.publish(&bytes, &description("a", 0.0), Bump::Minor).await;
    assert_eq!(again, Ok(first), "the same publication is the same version");
    let second = registry.publish(b"second", &description("b", 3.0), Bump::Patch).await.expect("published");
    assert_eq!(second.to_string(), "v1.0.1");
    assert!(matches!(registry.load(Version { minor: 7, ..first }).await, Err(RegistryError::NoVersion { .. })));

    let current = |version, promotion, pinned| Current { version, promotion, pinned };
    assert_eq!(registry.promote(first, &order("")).await, Ok(current(first, 1, false)));
    let [Change::Model(loaded)] = &told(&mut watcher, 1).await[..] else { panic!("one model is current") };
    assert_eq!((loaded.current.version, &loaded.model), (first, &bytes));
    let stands_back = registry.promote_automatically(second, Some(second), &order("")).await;
    let moved = Refusal::Moved { expected: Some(second), found: Some(first) };
    assert_eq!(stands_back, Ok(Automatic::Refused(moved)));
    let done = registry.promote_automatically(second, Some(first), &order("")).await;
    assert_eq!(done, Ok(Automatic::Promoted(current(second, 2, false))));
    assert_eq!(told(&mut watcher, 2).await.len(), 1);
    assert_eq!(registry.rollback(None, &order("odd")).await, Ok(current(first, 3, true)));
    let pinned = registry.promote_automatically(second, Some(first), &order("")).await;
    assert_eq!(pinned, Ok(Automatic::Refused(Refusal::Pinned(current(first, 3, true)))));
    assert_eq!(registry.unpin(&order("")).await, Ok(current(first, 4, false)));
    assert_eq!(registry.current().await, Ok(Some(current(first, 4, false))));

    // A worker that goes by the copy and one that has none see the same.
    store.delete(&format!("{root}/CURRENT")).await.expect("deleted");
    assert!(matches!(&told(&mut watcher, 3).await[..], [Change::Model(loaded)] if loaded.current.version == first));
    assert_eq!(store.exists(&format!("{root}/CURRENT")).await, Ok(true), "it is written anew");
}

/// Publishers and promoters that know nothing of each other.
async fn at_once(registry: &Registry) {
    let before = registry.promotions().await.expect("readable").len();
    let mut racers = JoinSet::new();
    for racer in 0..4 {
        let registry = registry.clone();
        racers.spawn(async move {
            let name = format!("racer {racer}");
            let version = registry.publish(name.as_bytes(), &description(&name, 1.0), Bump::Minor).await?;
            registry.promote(version, &Order { by: &name, reason: "", at_ms: racer }).await?;
            Ok::<_, RegistryError>((version, name))
        });
    }
    let mut versions = Vec::new();
    for done in racers.join_all().await {
        let (version, name) = done.expect("published and promoted");
        assert_eq!(registry.load(version).await.expect("loads").1, name.as_bytes());
        versions.push(version);
    }
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 4, "{versions:?}");
    let numbers: Vec<u64> = registry.promotions().await.expect("readable").iter().rev().map(|p| p.number).collect();
    assert_eq!(numbers, (1..=before as u64 + 4).collect::<Vec<u64>>());
}

async fn leftovers(registry: &Registry, store: &Store, root: &str) {
    let next = registry.list().await.expect("lists").versions.last().and_then(|f| f.version.next(Bump::Minor));
    let next = next.expect("there are versions");
    store.create_if_absent(&format!("{root}/{next}/model.bin"), b"half"[..].into()).await.expect("written");
    let tidied = registry.tidy(&order("")).await.expect("tidies");
    assert_eq!((tidied.abandoned, tidied.removed), (vec![next], vec![next]));
    let last = registry.list().await.expect("lists").versions.pop().expect("there are versions");
    assert_eq!((last.version, last.state), (next, State::Abandoned));
    let after = registry.publish(b"after", &description("c", 0.0), Bump::Minor).await;
    assert_eq!(Some(after.expect("published")), next.next(Bump::Minor));
}
