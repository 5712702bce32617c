//! The archive while HDFS is away: rows wait in the log, and none is lost or doubled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::archive::Control;
use common::store::StoreOptions;
use tests::archive::Archive;
use tests::services::{self, Blow, Outage, Victim};
use tests::{StopOnDrop, wait_until};

/// Another test's outage would be met by this one's looks at the archive.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

const DEADLINE: Duration = Duration::from_secs(90);

/// Archives before, during and after an outage that lasts until the sink has noticed it.
fn survives(name: &str, strike: impl Fn() -> Outage) {
    let Some(url) = services::hdfs() else { return };
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let options = StoreOptions { replication: Some(1), timeout: Duration::from_secs(2), ..StoreOptions::default() };
    let mut archive = Archive::new(name, &url, &options, 2);
    archive.config.flush_interval_s = 1;
    let (stop, ready) = (AtomicBool::new(false), AtomicBool::new(false));
    let rows = |at_least: u64| {
        let rows = archive.report().partitions.iter().map(|p| p.rows).sum::<u64>();
        (rows >= at_least).then_some(())
    };
    std::thread::scope(|scope| {
        let sink = scope.spawn(|| {
            let note = |now: bool| ready.store(now, Ordering::SeqCst);
            archive
                .run("ingest", &Control { shutdown: &|| stop.load(Ordering::SeqCst), ready: &note, exit_at_end: false })
        });
        // A panic here must end the sink too, or the scope waits for it for ever.
        let stopping = StopOnDrop(&stop);
        archive.produce(0..2_000);
        wait_until(DEADLINE, "the first rows in the archive", || rows(2_000));
        let outage = strike();
        archive.produce(2_000..4_000);
        wait_until(DEADLINE, "the sink says it is not ready", || (!ready.load(Ordering::SeqCst)).then_some(()));
        archive.produce(4_000..5_000);
        outage.end();
        wait_until(DEADLINE, "the sink is ready again", || ready.load(Ordering::SeqCst).then_some(()));
        wait_until(DEADLINE, "all rows in the archive", || rows(5_000));
        drop(stopping);
        let summary = sink.join().expect("the sink does not panic");
        assert!(summary.retries > 0, "{summary:?}");
    });
    archive.assert_holds(5_000);
}

#[test]
fn a_killed_namenode() {
    survives("namenode-killed", || Outage::begin(Victim::Namenode, Blow::Kill));
}

#[test]
fn a_frozen_namenode() {
    survives("namenode-frozen", || Outage::begin(Victim::Namenode, Blow::Freeze));
}

#[test]
fn a_killed_datanode() {
    survives("datanode-killed", || Outage::begin(Victim::Datanode, Blow::Kill));
}

#[test]
fn a_frozen_datanode() {
    survives("datanode-frozen", || Outage::begin(Victim::Datanode, Blow::Freeze));
}

#[test]
fn safe_mode() {
    survives("safe-mode", || Outage::administer(&["-safemode", "enter"], &["-safemode", "leave"]));
}

/// A full disk looks the same: no block is given.
#[test]
fn a_quota_that_is_used_up() {
    survives("quota", || {
        Outage::administer(&["-setSpaceQuota", "1", "/traffic-data"], &["-clrSpaceQuota", "/traffic-data"])
    });
}
