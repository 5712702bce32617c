//! The archive while the Hive metastore is away, or was never there: it goes on, and nothing is missed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::archive::{Control, Dataset};
use common::store::StoreOptions;
use tests::archive::Archive;
use tests::metastore::{catalogue, hours, partitions};
use tests::services::{self, Blow, Outage, Victim};
use tests::{StopOnDrop, Worker, wait_until};

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const RAW: &str = "/traffic-data/raw";
const DEADLINE: Duration = Duration::from_secs(90);

fn rows(archive: &Archive, at_least: u64) -> Option<()> {
    (archive.report().partitions.iter().map(|p| p.rows).sum::<u64>() >= at_least).then_some(())
}

fn survives(name: &str, blow: Blow) {
    let Some(metastore) = services::hive() else { return };
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("file://{}", dir.path().display());
    let mut archive = Archive::new(name, &url, &StoreOptions::default(), 2);
    archive.config.flush_interval_s = 1;
    archive.hive = Some(catalogue(name, &metastore, &url));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sink = scope.spawn(|| {
            let shutdown = || stop.load(Ordering::SeqCst);
            archive.run("ingest", &Control { shutdown: &shutdown, ready: &|_| {}, exit_at_end: false })
        });
        // A panic here must end the sink too, or the scope waits for it for ever.
        let stopping = StopOnDrop(&stop);
        archive.produce(0..2_000);
        wait_until(DEADLINE, "the first hours in the metastore", || {
            rows(&archive, 2_000)?;
            (partitions(&archive, Dataset::Events) == hours(&archive, RAW)).then_some(())
        });
        let outage = Outage::begin(Victim::Hive, blow);
        let before = hours(&archive, RAW);
        archive.produce(2_000..5_000);
        wait_until(DEADLINE, "the archive goes on", || rows(&archive, 5_000));
        assert!(hours(&archive, RAW).len() > before.len());
        outage.end();
        wait_until(DEADLINE, "the hours of the outage in the metastore", || {
            (partitions(&archive, Dataset::Events) == hours(&archive, RAW)).then_some(())
        });
        drop(stopping);
        let summary = sink.join().expect("the sink does not panic");
        assert_eq!(summary.retries, 0, "the sink noticed nothing: {summary:?}");
    });
    archive.assert_holds(5_000);
}

#[test]
fn a_killed_metastore() {
    survives("hive_killed", Blow::Kill);
}

#[test]
fn a_frozen_metastore() {
    survives("hive_frozen", Blow::Freeze);
}

#[test]
fn a_wrong_address_costs_the_archive_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("file://{}", dir.path().display());
    let mut archive = Archive::new("hive_nowhere", &url, &StoreOptions::default(), 2);
    archive.hive = Some(catalogue("hive_nowhere", "thrift://127.0.0.1:1", &url));
    archive.produce(0..2_000);
    let summary = archive.run_to_end("ingest");
    assert_eq!((summary.rows, summary.retries), (2_000, 0));
    archive.assert_holds(2_000);
}

#[test]
fn a_wrong_address_is_said_with_its_remedy() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = [("TRAFFIC_HIVE_METASTORE", "thrift://127.0.0.1:1"), ("TRAFFIC_HTTP_LISTEN", "off")];
    let mut init = Worker::start_in(dir.path(), "traffic", &["init"], &[]);
    assert!(init.wait(DEADLINE).success());
    let mut ingest = Worker::start_in(dir.path(), "ingest", &[], &settings);
    let said = ingest.wait_for_log(DEADLINE, "Hive metastore, traffic.raw_events");
    for part in [r#""warn""#, "127.0.0.1:1", "hive.metastore", "The archive goes on"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(ingest.runs());
    ingest.terminate();
    let status = ingest.wait(DEADLINE);
    assert!(status.success(), "{status}: {}", ingest.log());
}
