//! The archive's hours in a real Hive metastore.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::archive::compaction::{Compacted, Compactor, Wish};
use common::archive::{Control, Dataset, register_hours};
use common::clock::{Clock as _, SystemClock};
use common::hive::{HiveError, HiveTable};
use common::store::StoreOptions;
use tests::archive::Archive;
use tests::metastore::{catalogue, ensure, hours, known, partitions};
use tests::{StopOnDrop, Worker, services, wait_until};

const RAW: &str = "/traffic-data/raw";
const DEADLINE: Duration = Duration::from_secs(60);
const HOUR_MS: i64 = 3_600_000;

/// An archive in a directory, registered in a database of its own.
fn registered(name: &str, metastore: &str) -> (Archive, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("file://{}", dir.path().display());
    let mut archive = Archive::new(name, &url, &StoreOptions::default(), 2);
    archive.hive = Some(catalogue(name, metastore, &url));
    (archive, dir)
}

fn events(store: &str) -> HiveTable {
    HiveTable::of(Dataset::Events, store)
}

#[test]
fn hours_are_registered_as_they_appear_and_once() {
    let Some(metastore) = services::hive() else { return };
    let (mut archive, _dir) = registered("hive_appear", &metastore);
    archive.config.flush_interval_s = 1;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let shutdown = || stop.load(Ordering::SeqCst);
            archive.run("one", &Control { shutdown: &shutdown, ready: &|_| {}, exit_at_end: false })
        });
        let stopping = StopOnDrop(&stop);
        // An hour is six hundred events.
        for end in [900, 2_400, 3_000] {
            archive.produce(end - 900..end);
            wait_until(DEADLINE, "all hours in the metastore", || {
                let there = hours(&archive, RAW);
                let rows = archive.report().partitions.iter().map(|p| p.rows).sum::<u64>();
                (rows >= 900 && there.len() >= 2 && partitions(&archive, Dataset::Events) == there).then_some(())
            });
        }
        drop(stopping);
    });
    let there = hours(&archive, RAW);
    assert!(there.len() >= 5, "{there:?}");
    assert!(!hours(&archive, "/traffic-data/raw/rejected").is_empty(), "there are rejected records, in no table");
    // Another group archives nothing, and registers everything a second time.
    archive.run_to_end("two");
    assert_eq!(partitions(&archive, Dataset::Events), there);
}

#[test]
fn what_was_archived_before_is_found() {
    let Some(metastore) = services::hive() else { return };
    let (mut archive, _dir) = registered("hive_before", &metastore);
    let hive = archive.hive.take();
    archive.produce(0..3_000);
    archive.run_to_end("one");
    archive.hive = hive;
    assert!(partitions(&archive, Dataset::Events).is_empty());
    archive.run_to_end("one");
    assert_eq!(partitions(&archive, Dataset::Events), hours(&archive, RAW));
}

#[test]
fn a_table_gets_the_columns_that_it_lacks_and_another_kind_is_refused() {
    let Some(metastore) = services::hive() else { return };
    let (archive, _dir) = registered("hive_columns", &metastore);
    let store = archive.hive.as_ref().map(|hive| hive.store.clone()).expect("it is registered");
    let mut old = events(&store);
    old.columns.retain(|column| column.name != "flow_per_hour" && column.name != "payload");
    ensure(&archive, &old).expect("a table of an earlier time");
    ensure(&archive, &events(&store)).expect("it gets what it lacks");
    let mut other = events(&store);
    for column in other.columns.iter_mut().filter(|column| column.name == "payload") {
        column.kind = "string".to_owned();
    }
    let refused = ensure(&archive, &other).expect_err("the column is there, and binary");
    assert!(matches!(&refused, HiveError::Refused(why) if why.contains("column payload is binary")), "{refused}");
    // The archive goes on, though its table is not as it should be.
    let (mut archive, _dir) = registered("hive_refused", &metastore);
    let store = archive.hive.as_ref().map(|hive| hive.store.clone()).expect("it is registered");
    let mut other = events(&store);
    other.columns[0].kind = "int".to_owned();
    ensure(&archive, &other).expect("a table that is none of ours");
    archive.config.flush_interval_s = 1;
    archive.produce(0..1_000);
    assert_eq!(archive.run_to_end("one").rows, 1_000);
    assert!(partitions(&archive, Dataset::Events).is_empty());
}

#[test]
fn hours_that_retention_has_emptied_are_dropped() {
    let Some(metastore) = services::hive() else { return };
    let (mut archive, _dir) = registered("hive_retention", &metastore);
    // Only what a checkpoint sums up may be removed.
    archive.config.checkpoint_manifests = 2;
    for end in [2_000, 4_000, 6_000] {
        archive.produce(end - 2_000..end);
        archive.run_to_end("one");
    }
    let before = hours(&archive, RAW);
    assert_eq!(partitions(&archive, Dataset::Events), before);
    let retire = |before_hours: i64| {
        let compactor = Compactor {
            store: &archive.store,
            config: &archive.config,
            dataset: Dataset::Events,
            topic: &archive.topic,
            now_ms: &|| SystemClock.now_ms(),
            id: &|| uuid::Uuid::new_v4().simple().to_string(),
        };
        let retain_from_ms = Some(SystemClock.now_ms() - before_hours * HOUR_MS);
        let wish = Wish { retain_from_ms, min_files: 100, ..Wish::default() };
        let mut done = Compacted::default();
        archive.runtime.block_on(compactor.run(&wish, &mut done, &mut |_| {})).expect("retention");
        assert!(done.removed_files > 0, "{done:?}");
        hours(&archive, RAW)
    };
    // By whoever removes them, as `traffic compact` does, or by the next who looks.
    let left = retire(14);
    assert!(left.len() < before.len(), "{left:?} of {before:?}");
    let hive = archive.hive.as_ref().expect("it is registered");
    let dropped = register_hours(hive, &archive.store, Dataset::Events, &archive.topic);
    archive.runtime.block_on(dropped).expect("the metastore answers");
    assert_eq!(partitions(&archive, Dataset::Events), left);
    let left_then = retire(13);
    assert!(!left_then.is_empty() && left_then.len() < left.len(), "{left_then:?} of {left:?}");
    archive.run_to_end("one");
    assert_eq!(partitions(&archive, Dataset::Events), left_then);
    // And the last hour: a table without any.
    assert_eq!(retire(0), BTreeSet::new());
    let dropped = register_hours(hive, &archive.store, Dataset::Events, &archive.topic);
    archive.runtime.block_on(dropped).expect("the metastore answers");
    assert_eq!(known(&archive, Dataset::Events), BTreeSet::new());
    archive.produce(6_000..6_600);
    archive.run_to_end("one");
    assert_eq!(partitions(&archive, Dataset::Events), hours(&archive, RAW));
    assert!(!hours(&archive, RAW).is_empty());
}

/// Whole processes: `traffic compact --retain-days`, then `ingest` on its schedule; each finds all hours too old.
#[test]
fn a_table_that_retention_empties_loses_its_last_partition() {
    let Some(metastore) = services::hive() else { return };
    let (mut archive, dir) = registered("hive_emptied", &metastore);
    let hive = archive.hive.clone().expect("it is registered");
    archive.topic = format!("{}.traffic-events", archive.topic);
    let prefix = archive.topic.trim_end_matches("traffic-events").to_owned();
    let log = format!("sqlite:{}", dir.path().join("log.db").display());
    let environment = [
        ("TRAFFIC_LOG", log.as_str()),
        ("TRAFFIC_STORE", hive.store.as_str()),
        ("TRAFFIC_HIVE_METASTORE", metastore.as_str()),
        ("TRAFFIC_HIVE_DATABASE", hive.database.as_str()),
        ("TRAFFIC_TOPIC_PREFIX", prefix.as_str()),
        ("TRAFFIC_DATABASE", "none"),
        ("TRAFFIC_HTTP_LISTEN", "off"),
    ];
    let run = |binary: &str, arguments: &[&str]| {
        let mut worker = Worker::start(binary, arguments, &environment);
        let status = worker.wait(DEADLINE);
        assert!(status.success(), "{binary} {arguments:?}: {status}: {}", worker.log());
    };
    let send = |day: &str| {
        let start = format!("{day}T08:00:00Z");
        run("traffic", &["simulate", "--events", "3000", "--segments", "20", "--start", &start]);
        run("ingest", &["--exit-at-end"]);
        let there = hours(&archive, RAW);
        assert!(there.len() >= 2 && there == known(&archive, Dataset::Events), "{there:?}");
    };
    let is_empty = || hours(&archive, RAW).is_empty() && known(&archive, Dataset::Events).is_empty();
    run("traffic", &["init"]);
    send("2026-01-05");
    run("traffic", &["compact", "--dataset", "events", "--retain-days", "1"]);
    assert!(is_empty(), "{:?} of {:?}", known(&archive, Dataset::Events), hours(&archive, RAW));
    send("2026-01-06");
    let settings = dir.path().join("traffic.toml");
    std::fs::write(&settings, "[archive]\nretain_days = 1\ncompact_interval = \"1s\"\n").expect("written");
    let settings = settings.display().to_string();
    let ingest = Worker::start("ingest", &["--config", &settings], &environment);
    wait_until(DEADLINE, "an empty table", || is_empty().then_some(()));
    ingest.terminate();
}

#[test]
fn hours_on_hdfs_are_registered_where_they_are() {
    let (Some(metastore), Some(hdfs)) = (services::hive(), services::hdfs()) else { return };
    let options = StoreOptions { replication: Some(1), ..StoreOptions::default() };
    let mut archive = Archive::new("hive_hdfs", &hdfs, &options, 2);
    archive.hive = Some(catalogue("hive_hdfs", &metastore, &hdfs));
    archive.produce(0..1_500);
    archive.run_to_end("one");
    // Other tests archive beside this one.
    let known = partitions(&archive, Dataset::Events);
    assert!(known.len() >= 2 && known.is_subset(&hours(&archive, RAW)), "{known:?}");
}
