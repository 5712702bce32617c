//! What was written once stays readable for ever, whatever is added.

use super::*;

const METADATA: &str = include_str!("../goldens/v1/metadata.json");
const PROMOTION: &str = include_str!("../goldens/v1/promotion.json");
const CURRENT: &str = include_str!("../goldens/v1/CURRENT");
const ABANDONED: &str = include_str!("../goldens/v1/abandoned.json");

/// The registry that holds the documents.
fn golden() -> (MemoryStore, Registry) {
    let (memory, registry) = two_versions();
    let store = Store::Memory(memory.clone());
    wait(async {
        registry.rollback(None, &order(1_759_675_100_000)).await.expect("done");
        let half = format!("{ROOT}/v1.2.0/model.bin");
        store.create_if_absent(&half, Bytes::from_static(b"half")).await.expect("written");
        registry.tidy(&order(1_759_675_200_000)).await.expect("tidies");
    });
    (memory, registry)
}

#[test]
fn documents_are_written_as_ever() {
    let written = files(&golden().0);
    for (path, golden) in [
        ("v1.1.0/metadata.json", METADATA),
        ("promotions/0000000003.json", PROMOTION),
        ("CURRENT", CURRENT),
        ("v1.2.0/metadata.json", ABANDONED),
    ] {
        let written = std::str::from_utf8(&written[&format!("{ROOT}/{path}")]).expect("text");
        assert_eq!(written, golden, "{path}: a change needs a new folder of goldens beside v1, which stays");
    }
}

#[test]
fn documents_are_read_as_ever() {
    let (memory, registry) = golden();
    let store = Store::Memory(memory);
    wait(async {
        for (path, golden) in [
            ("v1.1.0/metadata.json", METADATA),
            ("promotions/0000000003.json", PROMOTION),
            ("CURRENT", CURRENT),
            ("v1.2.0/metadata.json", ABANDONED),
        ] {
            store.replace(&format!("{ROOT}/{path}"), Bytes::from_static(golden.as_bytes())).await.expect("replaced");
        }
        let (metadata, model) = registry.load(v("v1.1.0")).await.expect("loads");
        assert_eq!(model, b"the second model");
        let mut expected = description("predictor-0");
        expected.created_at += 1;
        assert_eq!(metadata.description, expected);
        assert_eq!(metadata.version, v("v1.1.0"));
        let pinned = Current { version: v("v1.0.0"), promotion: 3, pinned: true };
        assert_eq!(registry.current().await, Ok(Some(pinned)));
        assert_eq!(registry.copy().await, Ok(Some(pinned)));
        let newest = &registry.promotions().await.expect("readable")[0];
        assert_eq!((newest.kind, newest.by.as_str(), newest.reason.as_str()), (Kind::Rollback, "ada", "a test"));
        assert_eq!(registry.list().await.expect("lists").versions[2].state, State::Abandoned);
    });
}

#[test]
fn what_a_later_program_adds_is_passed_over_and_what_it_leaves_out_is_empty() {
    let path = "/m/v1.1.0/metadata.json";
    let read = |text: &str| Entry::decode(path, v("v1.1.0"), text.as_bytes());
    let later = METADATA
        .replacen('{', "{\n  \"later\": {\"field\": [1]},", 1)
        .replace("\"mae_kmh\"", "\"new\": 0, \"mae_kmh\"");
    assert_eq!(read(&later), read(METADATA));
    let least = r#"{"format":1,"name":"speed","version":"v1.1.0","version_id":"x","model_size_bytes":1,"model_hash":"sha256:0"}"#;
    let Ok(Entry::Published(metadata)) = read(least) else { panic!("{:?}", read(least)) };
    assert_eq!(metadata.description, Description::default());
    let kind = PROMOTION.replace("\"rollback\"", "\"canary\"");
    let promotion: Promotion = document::decode("/m", None, kind.as_bytes()).expect("readable");
    assert_eq!(promotion.kind, Kind::Other);
}
