//! The archive while HDFS is away, for seconds and for as long as an hour's events take: rows wait in the log, none is
//! lost or doubled, and memory does not grow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::archive::Control;
use common::store::StoreOptions;
use serde_json::Value;
use tests::archive::Archive;
use tests::services::{self, Blow, Outage, Victim};
use tests::{StopOnDrop, Worker, unique, wait_until};

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

/// The memory that a process has resident: now, or the most it ever had (`VmRSS`, `VmHWM`), bytes.
fn resident_bytes(worker: &Worker, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(what)).expect("the kernel says");
    let kb: u64 = line.trim_matches(|c: char| !c.is_ascii_digit()).parse().expect("a number");
    kb * 1024
}

/// Two thousand segments with an event every 3.6 s bring two million events in an hour. They come while HDFS is away:
/// 450 MB in the topic, of which no more may be held in memory than `archive.memory_bytes` and what the client
/// prefetches; afterwards also what files are encoded and sent in, for each of twelve partitions.
#[test]
fn an_hour_of_events_without_hdfs() {
    const MEMORY_BYTES: u64 = 32_000_000;
    const PREFETCHED_BYTES: u64 = 64_000_000;
    const WRITTEN_BYTES: u64 = 160_000_000;
    let (Some(kafka), Some(hdfs)) = (services::kafka(), services::hdfs()) else { return };
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("traffic.toml");
    let settings = format!("[archive]\nmemory_bytes = {MEMORY_BYTES}\nflush_age = \"2s\"\n[hdfs]\ntimeout = \"5s\"\n");
    std::fs::write(&config, settings).expect("written");
    let environment = [
        ("TRAFFIC_LOG", format!("kafka://{kafka}")),
        ("TRAFFIC_STORE", hdfs),
        ("TRAFFIC_DATABASE", "none".to_owned()),
        ("TRAFFIC_TOPIC_PREFIX", format!("{}.", unique("hour"))),
        ("TRAFFIC_HTTP_LISTEN", "off".to_owned()),
        ("HDFS_REPLICATION_FACTOR", "1".to_owned()),
    ];
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let run = |binary: &str, arguments: &[&str]| {
        let mut worker = Worker::start(binary, arguments, &environment);
        let status = worker.wait(2 * DEADLINE);
        assert!(status.success(), "{binary} {arguments:?}: {status}: {}", worker.log());
        worker.output()
    };
    let simulate = |events: &str, start: &str| {
        let what = ["simulate", "--segments", "2000", "--interval", "3600ms", "--late", "0", "--start", start];
        run("traffic", &[&what[..], &["--events", events]].concat());
    };
    let lag = || {
        let lag: Value = serde_json::from_str(&run("traffic", &["lag", "--group", "ingest", "--json"])).expect("JSON");
        lag["lag"].as_u64().expect("a number")
    };
    run("traffic", &["init"]);
    let mut ingest = Worker::start("ingest", &["--config", config.to_str().expect("UTF-8")], &environment);
    simulate("100000", "2026-01-05T00:00:00Z");
    wait_until(DEADLINE, "the first events in the archive", || (lag() == 0).then_some(()));
    let before = resident_bytes(&ingest, "VmHWM:");

    let outage = Outage::begin(Victim::Namenode, Blow::Kill);
    simulate("2000000", "2026-01-05T01:00:00Z");
    ingest.wait_for_log(DEADLINE, "trying again");
    let waiting = lag();
    assert!(waiting >= 1_900_000, "{waiting} wait in the log");
    let during = resident_bytes(&ingest, "VmHWM:");
    outage.end();
    wait_until(3 * DEADLINE, "all events in the archive", || (lag() == 0).then_some(()));
    let after = resident_bytes(&ingest, "VmHWM:");
    println!(
        "peak before, while HDFS was away, after catching up: {before}, {during}, {after} bytes; {waiting} waited"
    );
    let most = before + MEMORY_BYTES + PREFETCHED_BYTES;
    assert!(during < most && after < most + WRITTEN_BYTES, "{before}, {during}, {after}");

    ingest.terminate();
    let status = ingest.wait(DEADLINE);
    assert!(status.success(), "{status}: {}", ingest.log());
    let report = run("traffic", &["verify", "archive", "--dataset", "events", "--json"]);
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let rows: u64 =
        report["partitions"].as_array().expect("partitions").iter().filter_map(|p| p["rows"].as_u64()).sum();
    assert_eq!((rows, &report["problems"]), (2_100_000, &serde_json::json!([])), "{report}");
}
