//! The registry on a store in memory, where everything can be made to go wrong.

mod faults;
mod garbage;
mod goldens;
mod watching;

use std::collections::BTreeMap;
use std::future::Future;

use bytes::Bytes;
use common::store::memory::MemoryStore;
use common::store::{Creation, Store};

use super::*;

const ROOT: &str = "/models/speed";

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(work)
}

fn registry(memory: &MemoryStore) -> Registry {
    Registry::new(Store::Memory(memory.clone()), ROOT)
}

fn order(at_ms: i64) -> Order<'static> {
    Order { by: "ada", reason: "a test", at_ms }
}

fn description(created_by: &str) -> Description {
    let score = |horizon_minutes, mae_kmh| Score {
        horizon_minutes,
        n: 200_000,
        mae_kmh,
        rmse_kmh: mae_kmh + 3.25,
        mape_percent: Some(7.25),
        coverage_80: Some(0.799),
        width_80_kmh: Some(12.2),
        coverage_90: Some(0.9),
        width_90_kmh: Some(17.1),
    };
    let plain = |horizon_minutes, mae_kmh| Score {
        coverage_80: None,
        width_80_kmh: None,
        coverage_90: None,
        width_90_kmh: None,
        ..score(horizon_minutes, mae_kmh)
    };
    Description {
        model_type: GRADIENT_BOOSTING.to_owned(),
        created_at: 1_759_675_000_000,
        created_by: created_by.to_owned(),
        parent_version: None,
        description: "fitted on the last 30 days".to_owned(),
        tags: vec!["scheduled".to_owned()],
        training_data: Data {
            first: 1_757_000_000_000,
            last: 1_759_200_000_000,
            rows: 430_000,
            segments: 207,
            hash: "xxh3:9f3c2a7be1d04586".to_owned(),
        },
        held_out_data: Data {
            first: 1_759_200_000_000,
            last: 1_759_674_900_000,
            rows: 90_000,
            segments: 207,
            hash: "xxh3:04586f3c2a7be1d9".to_owned(),
        },
        horizons_minutes: vec![15, 30, 60],
        step_minutes: 5,
        speed_unit: "km/h".to_owned(),
        features: vec!["speed".to_owned(), "speed_minus_lag_1".to_owned(), "deviation".to_owned()],
        hyperparameters: serde_json::json!({"trees": 300, "leaves": 31, "learning_rate": 0.08, "loss": "l1"})
            .as_object()
            .cloned()
            .expect("an object"),
        metrics: vec![score(15, 4.43), score(30, 5.05), score(60, 5.62)],
        baselines: BTreeMap::from([
            (LAST_VALUE.to_owned(), vec![plain(15, 5.55), plain(30, 6.69), plain(60, 8.69)]),
            (HISTORICAL_AVERAGE.to_owned(), vec![plain(15, 6.21), plain(30, 6.21), plain(60, 6.21)]),
            (LINEAR.to_owned(), vec![plain(15, 4.91), plain(30, 5.58), plain(60, 6.08)]),
        ]),
        fit_seconds: 19.7,
        code_version: "0.1.0".to_owned(),
        model_format: 1,
    }
}

fn v(text: &str) -> Version {
    text.parse().expect("a version")
}

/// Every file's content.
fn files(memory: &MemoryStore) -> BTreeMap<String, Bytes> {
    let store = Store::Memory(memory.clone());
    wait(async {
        let mut files = BTreeMap::new();
        for entry in store.list("/", true).await.expect("lists") {
            let content = store.read(&entry.path).await.expect("reads").expect("is there");
            files.insert(entry.path, content);
        }
        files
    })
}

/// A registry with v1.0.0 and v1.1.0, of which the second is current.
fn two_versions() -> (MemoryStore, Registry) {
    let memory = MemoryStore::new();
    let registry = registry(&memory);
    wait(async {
        for (minor, model) in [b"the first model".as_slice(), b"the second model"].iter().enumerate() {
            let mut about = description("predictor-0");
            about.created_at += i64::try_from(minor).expect("small");
            let version = registry.publish(model, &about, Bump::default()).await.expect("published");
            registry.promote(version, &order(about.created_at)).await.expect("promoted");
        }
    });
    (memory, registry)
}

#[test]
fn what_is_published_is_loaded() {
    let (_, registry) = two_versions();
    wait(async {
        let (metadata, model) = registry.load(v("v1.1.0")).await.expect("loads");
        assert_eq!(model, b"the second model");
        assert_eq!(metadata.model_size_bytes, 16);
        assert_eq!(metadata.model_hash, hash_of(b"the second model"));
        assert_eq!(metadata.description.metrics, description("").metrics);
        let listing = registry.list().await.expect("lists");
        let sound = |found: &Found| matches!(&found.state, State::Published(m) if m.version == found.version);
        assert!(listing.versions.iter().all(sound) && listing.foreign.is_empty(), "{listing:?}");
        assert_eq!(listing.versions.iter().map(|f| f.version).collect::<Vec<_>>(), [v("v1.0.0"), v("v1.1.0")]);
        let current = registry.current().await.expect("readable").expect("one is current");
        assert_eq!(current, Current { version: v("v1.1.0"), promotion: 2, pinned: false });
    });
}

#[test]
fn numbers_go_on_from_the_highest() {
    let (_, registry) = two_versions();
    wait(async {
        for (bump, expected) in
            [(Bump::Patch, "v1.1.1"), (Bump::Minor, "v1.2.0"), (Bump::Major, "v2.0.0"), (Bump::Minor, "v2.1.0")]
        {
            let about = description(expected);
            assert_eq!(registry.publish(b"model", &about, bump).await, Ok(v(expected)));
            assert_eq!(registry.publish(b"model", &about, bump).await, Ok(v(expected)), "again");
        }
    });
}

#[test]
fn an_unfinished_version_is_none_and_can_be_cleared_away() {
    let (memory, registry) = two_versions();
    let store = Store::Memory(memory);
    wait(async {
        let path = registry.layout.path(File::Model(v("v1.2.0")));
        store.create_if_absent(&path, Bytes::from_static(b"half a publication")).await.expect("written");
        let error = registry.load(v("v1.2.0")).await.expect_err("unfinished");
        assert!(error.to_string().contains("its publisher has not finished"), "{error}");
        assert_eq!(registry.list().await.expect("lists").versions[2].state, State::Unfinished);
        assert!(registry.promote(v("v1.2.0"), &order(0)).await.is_err());
        // Its number is taken.
        assert_eq!(registry.publish(b"model", &description("a"), Bump::Minor).await, Ok(v("v1.3.0")));

        let tidied = registry.tidy(&order(7)).await.expect("tidies");
        assert_eq!((tidied.abandoned, tidied.removed), (vec![v("v1.2.0")], vec![v("v1.2.0")]));
        assert_eq!(store.exists(&path).await, Ok(false));
        assert_eq!(registry.list().await.expect("lists").versions[2].state, State::Abandoned);
        let error = registry.load(v("v1.2.0")).await.expect_err("abandoned");
        assert!(error.to_string().contains("was abandoned"), "{error}");
        assert_eq!(registry.tidy(&order(8)).await, Ok(Tidied::default()), "nothing is left to do");
        assert_eq!(registry.publish(b"model", &description("b"), Bump::Minor).await, Ok(v("v1.4.0")));
    });
}

/// What a publisher publishes while something is done before each time that it creates v1.0.0's `file`.
fn published_while(file: &'static str, done: impl Fn(&MemoryStore) + Send + Sync + 'static) -> (Registry, Version) {
    let memory = MemoryStore::new();
    let other = memory.clone();
    let hook = move |operation: common::store::memory::Operation<'_>| {
        if operation.name == "create_if_absent" && operation.path.ends_with(file) {
            // A thread of its own: this one is inside a call to the store.
            std::thread::scope(|scope| scope.spawn(|| done(&other)).join().expect("no panic"));
        }
        None
    };
    let slow = registry(&memory.with_hook(std::sync::Arc::new(hook)));
    let version = wait(slow.publish(b"model", &description("slow"), Bump::Minor)).expect("published");
    let registry = registry(&memory);
    let (metadata, model) = wait(registry.load(version)).expect("loads");
    assert_eq!((metadata.description.created_by.as_str(), model.as_slice()), ("slow", b"model".as_slice()));
    (registry, version)
}

fn create(memory: &MemoryStore, file: File, content: impl Into<Bytes>) {
    let path = Layout::new(ROOT).path(file);
    wait(Store::Memory(memory.clone()).create_if_absent(&path, content.into())).expect("the store is there");
}

#[test]
fn a_slow_publisher_whose_version_is_cleared_away_takes_another_number() {
    let tidy = |memory: &MemoryStore| drop(wait(registry(memory).tidy(&order(0))).expect("tidies"));
    assert_eq!(published_while("v1.0.0/metadata.json", tidy).1, v("v1.1.0"));
}

#[test]
fn of_two_that_publish_other_models_at_once_each_has_its_own_number() {
    let other = |memory: &MemoryStore| create(memory, File::Model(Version::FIRST), b"other".as_slice());
    assert_eq!(published_while("v1.0.0/model.bin", other).1, v("v1.1.0"));
}

#[test]
fn of_two_that_publish_the_same_bytes_at_once_each_has_its_own_number() {
    let other = |memory: &MemoryStore| {
        let metadata = Metadata::new(Version::FIRST, &Fingerprint::of(b"model"), &description("fast"));
        create(memory, File::Metadata(Version::FIRST), document::encode(&metadata.expect("sound")));
    };
    let (registry, version) = published_while("v1.0.0/metadata.json", other);
    assert_eq!(version, v("v1.1.0"));
    let (first, _) = wait(registry.load(Version::FIRST)).expect("loads");
    assert_eq!(first.description.created_by, "fast");
}

#[test]
fn a_damaged_model_is_neither_loaded_nor_promoted_nor_gone_back_to() {
    let (memory, registry) = two_versions();
    let store = Store::Memory(memory);
    let path = registry.layout.path(File::Model(v("v1.0.0")));
    wait(async {
        for (content, said) in
            [("the first mode1", "is damaged: its hash"), ("the", "has 3 bytes, metadata.json says 15")]
        {
            store.replace(&path, Bytes::from_static(content.as_bytes())).await.expect("replaced");
            for error in [
                registry.load(v("v1.0.0")).await.expect_err("damaged"),
                registry.promote(v("v1.0.0"), &order(0)).await.expect_err("damaged"),
                registry.rollback(None, &order(0)).await.expect_err("damaged"),
            ] {
                assert!(error.to_string().contains(said), "{error}");
                assert_eq!(error.version(), Some(v("v1.0.0")));
            }
        }
        store.delete(&path).await.expect("deleted");
        let error = registry.load(v("v1.0.0")).await.expect_err("gone");
        assert!(error.to_string().starts_with("/models/speed/v1.0.0/model.bin: is missing; restore"), "{error}");
        assert!(matches!(&registry.list().await.expect("lists").versions[0].state, State::Damaged(e) if *e == error));
        assert_eq!(registry.current().await.expect("readable").expect("current").promotion, 2);
    });
}

#[test]
fn a_version_that_there_is_not_is_named_with_the_newest() {
    let (_, registry) = two_versions();
    let error = wait(registry.load(v("v3.0.0"))).expect_err("none");
    assert_eq!(error.to_string(), "there is no version v3.0.0 in /models/speed; the newest is v1.1.0");
    let error = wait(Registry::new(Store::Memory(MemoryStore::new()), ROOT).load(v("v1.0.0"))).expect_err("none");
    assert_eq!(error.to_string(), "there is no version v1.0.0 in /models/speed; none was published yet");
}

#[test]
fn a_model_of_a_newer_format_is_refused_before_it_is_read() {
    let (_, registry) = two_versions();
    let old = registry.reading_models_up_to(0);
    let error = wait(old.load(v("v1.0.0"))).expect_err("newer");
    assert!(error.to_string().contains("belongs to a model of format 1, this program reads up to 0"), "{error}");
}

#[test]
fn a_copy_of_another_version_is_no_version() {
    let (memory, registry) = two_versions();
    let (store, there) = (Store::Memory(memory.clone()), files(&memory));
    wait(async {
        for name in ["model.bin", "metadata.json"] {
            let content = there[&format!("{ROOT}/v1.0.0/{name}")].clone();
            let copied = store.create_if_absent(&format!("{ROOT}/v1.5.0/{name}"), content).await;
            assert_eq!(copied, Ok(Creation::Created));
        }
        let error = registry.load(v("v1.5.0")).await.expect_err("a copy");
        assert!(error.to_string().contains("v1.5.0/metadata.json: is a copy of speed v1.0.0's"), "{error}");
    });
}

#[test]
fn foreign_files_are_named_and_left_alone() {
    let (memory, registry) = two_versions();
    let store = Store::Memory(memory.clone());
    let foreign =
        ["/models/speed/README", "/models/speed/promotions/notes.txt", "/models/speed/v1.0.0/importance.json"];
    wait(async {
        for path in foreign {
            store.create_if_absent(path, Bytes::from_static(b"?")).await.expect("written");
        }
        assert_eq!(registry.list().await.expect("lists").foreign, foreign);
        registry.tidy(&order(0)).await.expect("tidies");
        assert_eq!(registry.list().await.expect("lists").foreign, foreign);
    });
}

#[test]
fn current_is_written_anew_whatever_became_of_it() {
    let (memory, registry) = two_versions();
    let store = Store::Memory(memory.clone());
    let path = format!("{ROOT}/CURRENT");
    let sound = files(&memory)[&path].clone();
    wait(async {
        let stale = std::str::from_utf8(&sound).expect("text").replace("v1.1.0", "v1.0.0");
        for content in ["", "v1.0.0", &sound.len().to_string(), &stale, "{\"format\":9}"] {
            store.replace(&path, Bytes::from(content.to_owned())).await.expect("replaced");
            assert_eq!(registry.current().await.expect("readable").expect("current").version, v("v1.1.0"));
            assert!(registry.tidy(&order(0)).await.expect("tidies").current_written);
            assert_eq!(store.read(&path).await, Ok(Some(sound.clone())));
        }
        store.delete(&path).await.expect("deleted");
        // Asking for what is so already mends it too.
        registry.promote(v("v1.1.0"), &order(0)).await.expect("is current");
        assert_eq!(store.read(&path).await, Ok(Some(sound.clone())));
        assert_eq!(registry.promotions().await.expect("readable").len(), 2);
    });
}

#[test]
fn a_torn_promotion_stops_changes_and_is_mended_by_removing_it() {
    let (memory, registry) = two_versions();
    let store = Store::Memory(memory.clone());
    let path = registry.layout.path(File::Promotion(2));
    wait(async {
        store.replace(&path, Bytes::from_static(b"{\"format\":1,")).await.expect("replaced");
        for error in [
            registry.current().await.expect_err("torn"),
            registry.promote(v("v1.0.0"), &order(0)).await.expect_err("torn"),
            registry.rollback(Some(v("v1.0.0")), &order(0)).await.expect_err("torn"),
        ] {
            assert!(error.to_string().contains("0000000002.json: cannot be read"), "{error}");
            assert!(error.to_string().contains("or remove it: the promotion before it counts then"), "{error}");
        }
        store.delete(&path).await.expect("deleted");
        assert_eq!(registry.current().await.expect("readable").expect("current").version, v("v1.0.0"));
        assert_eq!(registry.promote(v("v1.1.0"), &order(0)).await.expect("promoted").promotion, 2);
    });
}

#[test]
fn a_rollback_by_name_needs_no_history() {
    let (memory, registry) = two_versions();
    let store = Store::Memory(memory.clone());
    wait(async {
        store.delete(&registry.layout.path(File::Promotion(1))).await.expect("deleted");
        let error = registry.rollback(None, &order(0)).await.expect_err("unknown");
        assert!(error.to_string().contains("0000000001.json: is missing"), "{error}");
        let current = registry.rollback(Some(v("v1.0.0")), &order(0)).await.expect("done");
        assert_eq!(current, Current { version: v("v1.0.0"), promotion: 3, pinned: true });
    });
}

#[test]
fn threads_that_publish_and_promote_at_once_get_in_no_ones_way() {
    let memory = MemoryStore::new();
    std::thread::scope(|scope| {
        for name in ["a", "b", "c", "d"] {
            let registry = registry(&memory);
            scope.spawn(move || {
                wait(async {
                    for i in 0..8 {
                        let about = Description { created_at: i, ..description(name) };
                        let version = registry.publish(b"the same", &about, Bump::Minor).await.expect("published");
                        assert_eq!(registry.metadata(version).await.expect("there").description, about);
                        registry.promote(version, &Order { by: name, reason: "", at_ms: i }).await.expect("promoted");
                    }
                });
            });
        }
    });
    let registry = registry(&memory);
    wait(async {
        assert_eq!(registry.list().await.expect("lists").versions.len(), 32);
        let numbers: Vec<u64> = registry.promotions().await.expect("readable").iter().map(|p| p.number).rev().collect();
        assert_eq!(numbers, (1..=32).collect::<Vec<u64>>());
        let current = registry.current().await.expect("readable");
        assert_eq!(registry.copy().await, Ok(current));
    });
}
