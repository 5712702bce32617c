//! The embedded log on a disk that fills up under a worker: it says what is full and how to mend it, goes on by itself
//! once there is room, and what comes out is what comes out on a disk with room.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use common::clock::SystemClock;
use common::stream::sqlite::SqliteLog;
use common::stream::{Log, TopicPartition};
use common::topics::Topics;
use serde_json::Value;
use tests::flow::Written;
use tests::{Worker, wait_until};

const DEADLINE: Duration = Duration::from_secs(120);

/// A file system of 64 MB of its own.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// `None` for who may not mount one.
    fn mount() -> Option<Self> {
        let disk = Self(tempfile::tempdir().expect("a directory"));
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "tmpfs"]).arg(disk.0.path()).output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(disk);
        }
        println!("skipped: a small disk, since only root may mount one");
        None
    }

    fn ballast(&self) -> PathBuf {
        self.0.path().join("ballast")
    }

    /// Fills it to the last byte.
    fn fill(&self) {
        let mut ballast = std::fs::File::create(self.ballast()).expect("created");
        let kib = [1; 1024];
        while ballast.write_all(&kib).is_ok() {}
    }

    fn make_room(&self, bytes: u64) {
        let ballast = std::fs::File::options().write(true).open(self.ballast()).expect("opened");
        let length = ballast.metadata().expect("about it").len();
        ballast.set_len(length.saturating_sub(bytes)).expect("shortened");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn start(directory: &Path, binary: &str, arguments: &[&str]) -> Worker {
    let log = format!("sqlite:{}", directory.join("traffic.db").display());
    let settings = [
        ("TRAFFIC_LOG", log.as_str()),
        ("TRAFFIC_DATABASE", "none"),
        ("TRAFFIC_HTTP_LISTEN", "off"),
        ("TRAFFIC_ARCHIVE_ENABLED", "false"),
    ];
    Worker::start(binary, arguments, &settings)
}

fn run(directory: &Path, binary: &str, arguments: &[&str]) -> String {
    let mut worker = start(directory, binary, arguments);
    let status = worker.wait(DEADLINE);
    assert!(status.success(), "{binary} {arguments:?}: {status}: {}", worker.log());
    worker.output()
}

fn simulate(directory: &Path) {
    run(directory, "traffic", &["init"]);
    let what = ["simulate", "--events", "60000", "--segments", "500", "--start", "2026-01-05T00:00:00Z"];
    run(directory, "traffic", &what);
}

/// What was written, and how many dead letters.
fn written(directory: &Path) -> (Written, usize) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let path = directory.join("traffic.db");
    let log = SqliteLog::open(&path, runtime.handle().clone(), Arc::new(SystemClock)).expect("the log opens");
    let topics = Topics::default();
    let mut dead = 0;
    for partition in 0..log.partitions(&topics.dead_letters).expect("the log answers").expect("the topic is there") {
        let mut reader = log.read(&TopicPartition::new(&*topics.dead_letters, partition), None).expect("a reader");
        while reader.next(&mut |_| dead += 1).expect("readable") {}
    }
    (Written::read(&log, &topics), dead)
}

#[test]
fn a_worker_whose_disk_is_full_says_so_and_loses_nothing() {
    let Some(small) = SmallDisk::mount() else { return };
    let large = tempfile::tempdir().expect("a directory");
    simulate(large.path());
    run(large.path(), "aggregator", &["--exit-at-end"]);

    simulate(small.0.path());
    small.fill();
    let mut aggregator = start(small.0.path(), "aggregator", &[]);
    let path = small.0.path().join("traffic.db");
    let says = |what: &str| {
        let said = aggregator.wait_for_log(DEADLINE, what);
        for part in [path.to_str().expect("UTF-8"), "disk is full", "free some space", "goes on by itself"] {
            assert!(said.contains(part), "{part:?} is not in {said}");
        }
    };
    says("cannot ");
    // Enough for opening, not for what comes out.
    small.make_room(200_000);
    says("cannot write to the log");
    // Whoever sends hears of it too.
    let mut sender = start(small.0.path(), "traffic", &["simulate", "--events", "20000", "--segments", "500"]);
    assert!(!sender.wait(DEADLINE).success(), "nothing was sent");
    assert!(sender.log().contains("disk is full"), "{}", sender.log());
    wait_until(DEADLINE, "some more tries", || (aggregator.log().matches("disk is full").count() >= 6).then_some(()));
    assert!(aggregator.runs(), "it waits for room");
    small.make_room(u64::MAX);
    wait_until(DEADLINE, "no lag", || {
        let lag = run(small.0.path(), "traffic", &["lag", "--group", "aggregator", "--json"]);
        let lag: Value = serde_json::from_str(&lag).expect("JSON");
        (lag["lag"] == 0).then_some(())
    });
    aggregator.terminate();
    assert!(aggregator.wait(DEADLINE).success(), "{}", aggregator.log());
    run(small.0.path(), "aggregator", &["--exit-at-end"]);

    let (expected, dead) = written(large.path());
    let (found, found_dead) = written(small.0.path());
    assert!(!expected.aggregates.is_empty());
    assert_eq!(found.difference(&expected), None);
    assert_eq!(found_dead, dead);
}
