//! Whatever a file holds: nothing panics, nothing wrong is believed, and nothing else is harmed.

use proptest::prelude::*;

use super::*;

/// Everything that there is to do, whatever comes of it.
async fn use_all(registry: &Registry) {
    let (first, second) = (v("v1.0.0"), v("v1.1.0"));
    drop(registry.list().await.expect("a listing takes everything"));
    drop(registry.promotions().await.expect("a history takes everything"));
    for version in [first, second, v("v9.9.9")] {
        if let Ok((metadata, model)) = registry.load(version).await {
            assert_eq!(hash_of(&model), metadata.model_hash);
            assert_eq!(metadata.version, version);
        }
    }
    let mut watcher = Watcher::new(registry.clone(), 1);
    for now_ms in 0..3 {
        while let Some(change) = watcher.poll(now_ms).await {
            if let Change::Model(loaded) = change {
                assert_eq!(hash_of(&loaded.model), loaded.metadata.model_hash);
            }
        }
    }
    let _ = registry.current().await;
    let published = registry.publish(b"a third", &description("after"), Bump::Minor).await.expect("always possible");
    assert_eq!(registry.load(published).await.expect("sound").1, b"a third");
    let _ = registry.promote_automatically(first, Some(second), &order(1)).await;
    let _ = registry.rollback(None, &order(2)).await;
    let _ = registry.unpin(&order(3)).await;
    let _ = registry.rollback(Some(first), &order(4)).await;
    let _ = registry.promote(second, &order(5)).await;
    registry.tidy(&order(6)).await.map_or_else(|error| assert!(matches!(error, RegistryError::Flawed { .. })), drop);
}

fn garbage() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        "\\PC{0,80}".prop_map(String::into_bytes),
        r#"\{"format":[0-9]{1,12}(,"[a-z_]{1,12}":(null|[0-9]{1,22}|"v?[0-9.]{0,9}"|\[\]|\{\}))*\}?"#
            .prop_map(String::into_bytes),
    ]
}

/// What happens to a file.
#[derive(Debug, Clone)]
enum Damage {
    Replaced(Vec<u8>),
    Truncated(prop::sample::Index),
    Flipped(prop::sample::Index, u8),
    Removed,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        4 => garbage().prop_map(Damage::Replaced),
        2 => any::<prop::sample::Index>().prop_map(Damage::Truncated),
        3 => (any::<prop::sample::Index>(), 1u8..).prop_map(|(at, with)| Damage::Flipped(at, with)),
        1 => Just(Damage::Removed),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_refused_and_nothing_panics(
        struck in proptest::collection::vec((any::<prop::sample::Index>(), damage()), 1..3)
    ) {
        let (memory, registry) = two_versions();
        let store = Store::Memory(memory.clone());
        let sound = files(&memory);
        let paths: Vec<&String> = sound.keys().collect();
        wait(async {
            for (which, damage) in &struck {
                let path = which.get(&paths);
                let content = sound[*path].to_vec();
                let damaged = match damage {
                    Damage::Replaced(garbage) => Some(garbage.clone()),
                    Damage::Truncated(at) => Some(content[..at.index(content.len())].to_vec()),
                    Damage::Flipped(at, with) => {
                        let mut content = content;
                        let at = at.index(content.len());
                        content[at] ^= with;
                        Some(content)
                    }
                    Damage::Removed => None,
                };
                match damaged {
                    Some(content) => store.replace(path, Bytes::from(content)).await.expect("replaced"),
                    None => drop(store.delete(path).await.expect("deleted")),
                }
            }
            use_all(&registry).await;
        });
    }
}
