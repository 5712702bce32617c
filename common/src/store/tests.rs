//! What every store promises, on each that needs no service.

use std::sync::Arc;

use bytes::Bytes;

use super::memory::{Fault, MemoryStore};
use super::*;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Runs a check on a local and on a memory store.
fn on_each(check: impl AsyncFn(Store)) {
    let runtime = runtime();
    let directory = tempfile::tempdir().expect("a directory");
    let url = format!("file://{}", directory.path().display());
    runtime.block_on(check(open(&url, &StoreOptions::default()).expect("opens")));
    runtime.block_on(check(Store::Memory(MemoryStore::new())));
}

async fn put(store: &Store, path: &str, content: &'static str) {
    let created = store.create_if_absent(path, Bytes::from_static(content.as_bytes())).await;
    assert_eq!(created, Ok(Creation::Created), "{path}");
}

#[test]
fn the_first_to_create_wins_and_keeps_its_content() {
    on_each(async |store| {
        put(&store, "/a/b/c.json", "first").await;
        let again = store.create_if_absent("/a/b/c.json", Bytes::from_static(b"second")).await;
        assert_eq!(again, Ok(Creation::Exists));
        assert_eq!(store.read("/a/b/c.json").await, Ok(Some(Bytes::from_static(b"first"))));
    });
}

#[test]
fn of_many_creators_at_once_exactly_one_wins() {
    let runtime = runtime();
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&format!("file://{}", directory.path().display()), &StoreOptions::default()).expect("opens");
    runtime.block_on(async {
        let mut attempts = tokio::task::JoinSet::new();
        for i in 0..32 {
            let store = store.clone();
            attempts.spawn(async move {
                (i, store.create_if_absent("/x/manifest.json", Bytes::from(format!("{i}"))).await)
            });
        }
        let results = attempts.join_all().await;
        let winners: Vec<_> = results.iter().filter(|(_, r)| *r == Ok(Creation::Created)).map(|(i, _)| *i).collect();
        assert_eq!(winners.len(), 1, "{results:?}");
        assert_eq!(store.read("/x/manifest.json").await, Ok(Some(Bytes::from(format!("{}", winners[0])))));
        assert_eq!(store.sweep("/x").await, Ok(0), "losers leave nothing behind");
    });
}

#[test]
fn rename_never_overwrites_and_tells_what_it_met() {
    on_each(async |store| {
        put(&store, "/a/one", "1").await;
        put(&store, "/a/two", "2").await;
        assert_eq!(store.rename("/a/one", "/a/two").await, Ok(Renaming::TargetExists));
        assert_eq!(store.rename("/a/one", "/new/dir/one").await, Ok(Renaming::Renamed));
        assert_eq!(store.rename("/a/one", "/new/dir/one").await, Ok(Renaming::SourceMissing));
        assert_eq!(store.read("/new/dir/one").await, Ok(Some(Bytes::from_static(b"1"))));
        assert_eq!(store.read("/a/two").await, Ok(Some(Bytes::from_static(b"2"))));
    });
}

#[test]
fn a_local_rename_stopped_half_way_is_finished() {
    let runtime = runtime();
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&format!("file://{}", directory.path().display()), &StoreOptions::default()).expect("opens");
    runtime.block_on(async {
        put(&store, "/a/one", "1").await;
        std::fs::hard_link(directory.path().join("a/one"), directory.path().join("a/two")).expect("links");
        assert_eq!(store.rename("/a/one", "/a/two").await, Ok(Renaming::Renamed));
        assert_eq!(store.exists("/a/one").await, Ok(false));
    });
}

#[test]
fn a_file_exists_only_once_it_is_closed() {
    on_each(async |store| {
        let mut writer = store.create("/d/file").await.expect("begins");
        writer.write(Bytes::from_static(b"hello ")).await.expect("writes");
        assert_eq!(store.read("/d/file").await, Ok(None));
        assert_eq!(store.list("/d", false).await, Ok(Vec::new()));
        writer.write(Bytes::from_static(b"world")).await.expect("writes");
        writer.close().await.expect("closes");
        assert_eq!(store.size("/d/file").await, Ok(Some(11)));
        assert_eq!(store.read_range("/d/file", 6..100).await, Ok(Some(Bytes::from_static(b"world"))));
        assert_eq!(store.read_range("/d/file", 0..5).await, Ok(Some(Bytes::from_static(b"hello"))));
    });
}

#[test]
fn closing_onto_a_taken_path_fails_and_leaves_it() {
    on_each(async |store| {
        let mut writer = store.create("/d/file").await.expect("begins");
        writer.write(Bytes::from_static(b"late")).await.expect("writes");
        put(&store, "/d/file", "early").await;
        assert!(matches!(writer.close().await, Err(StoreError::Fatal(_))));
        assert_eq!(store.read("/d/file").await, Ok(Some(Bytes::from_static(b"early"))));
    });
}

#[test]
fn a_dead_writers_leavings_are_hidden_and_swept() {
    let runtime = runtime();
    let directory = tempfile::tempdir().expect("a directory");
    let store = open(&format!("file://{}", directory.path().display()), &StoreOptions::default()).expect("opens");
    runtime.block_on(async {
        let mut writer = store.create("/d/file").await.expect("begins");
        writer.write(Bytes::from_static(b"half")).await.expect("writes");
        drop(writer);
        assert_eq!(store.list("/d", true).await, Ok(Vec::new()));
        assert_eq!(store.sweep("/d").await, Ok(1));
        assert_eq!(std::fs::read_dir(directory.path().join("d")).expect("a directory").count(), 0);
    });
}

#[test]
fn a_listing_is_sorted_and_as_deep_as_asked() {
    on_each(async |store| {
        for path in ["/t/b/2", "/t/a", "/t/b/1", "/t/b/c/3", "/tt/other"] {
            put(&store, path, "x").await;
        }
        let names = |entries: Vec<Entry>| entries.iter().map(|e| e.path.clone()).collect::<Vec<_>>();
        assert_eq!(names(store.list("/t", false).await.expect("lists")), ["/t/a", "/t/b"]);
        assert_eq!(names(store.list("/t", true).await.expect("lists")), ["/t/a", "/t/b/1", "/t/b/2", "/t/b/c/3"]);
        assert_eq!(store.list("/nowhere", true).await, Ok(Vec::new()));
        store.delete_dir("/t/b").await.expect("deletes");
        assert_eq!(names(store.list("/t", true).await.expect("lists")), ["/t/a"]);
        assert_eq!(store.delete("/t/a").await, Ok(true));
        assert_eq!(store.delete("/t/a").await, Ok(false));
    });
}

#[test]
fn replacing_is_the_one_way_to_overwrite() {
    on_each(async |store| {
        store.replace("/models/CURRENT", Bytes::from_static(b"v1")).await.expect("replaces");
        store.replace("/models/CURRENT", Bytes::from_static(b"v2")).await.expect("replaces");
        assert_eq!(store.read("/models/CURRENT").await, Ok(Some(Bytes::from_static(b"v2"))));
    });
}

#[test]
fn a_late_operation_happens_after_its_error() {
    runtime().block_on(async {
        let memory = MemoryStore::new();
        let error = StoreError::Retry("no answer".to_owned());
        let fault = Fault::Late(2, error.clone());
        let stuck =
            Store::Memory(memory.with_hook(Arc::new(move |op| (op.name == "create_if_absent").then(|| fault.clone()))));
        let store = Store::Memory(memory);
        assert_eq!(stuck.create_if_absent("/a", Bytes::new()).await, Err(error));
        assert_eq!(store.exists("/a").await, Ok(false));
        assert_eq!(store.exists("/a").await, Ok(true));
    });
}

#[test]
fn unsound_paths_and_urls_are_refused() {
    on_each(async |store| {
        for path in ["relative", "/a/../b", "/a//b", "/a/.hidden", "/a/"] {
            assert!(matches!(store.read(path).await, Err(StoreError::Fatal(_))), "{path}");
        }
    });
    for url in ["traffic", "file://relative", "s3://bucket"] {
        assert!(matches!(open(url, &StoreOptions::default()), Err(StoreError::Fatal(_))), "{url}");
    }
}
