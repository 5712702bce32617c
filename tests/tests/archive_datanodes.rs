//! The archive on an HDFS of three datanodes, of which one dies in the middle of a block: what was asked for is written
//! as often as it was asked for, and no row is lost or doubled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use common::archive::Control;
use common::store::StoreOptions;
use tests::archive::Archive;
use tests::datanodes::{Copies, Hdfs};
use tests::{StopOnDrop, Worker, wait_until};

const DEADLINE: Duration = Duration::from_secs(120);

fn options(replication: u32) -> StoreOptions {
    StoreOptions { replication: Some(replication), timeout: Duration::from_secs(20), ..StoreOptions::default() }
}

/// Bytes that do not compress.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Waits until each of these files has as many copies as were wanted, which the namenode sees to.
fn all_copies(hdfs: &Hdfs, below: &str, mine: &dyn Fn(&Copies) -> bool, wanted: u32) -> Vec<Copies> {
    let mut files = Vec::new();
    for _ in 0..30 {
        files = hdfs.copies(below);
        files.retain(mine);
        if !files.is_empty() && files.iter().all(|file| file.live == wanted) {
            break;
        }
    }
    let all = files.iter().all(|file| (file.wanted, file.live) == (wanted, wanted));
    assert!(all && !files.is_empty(), "{files:?}");
    files
}

/// Records that are no events and do not compress, of 1 KiB each.
fn send(archive: &Archive, numbers: std::ops::Range<u64>) {
    archive.send(numbers.map(|number| ("S1", noise(number, 1024))));
}

#[test]
fn a_file_outlives_a_datanode_that_is_killed_in_the_middle_of_a_block() {
    let Some(hdfs) = Hdfs::start() else { return };
    for replication in [3, 2] {
        let archive = Archive::new("datanodes", hdfs.url(), &options(replication), 1);
        // One block, of which the first half is written before the blow.
        let content = Bytes::from(noise(u64::from(replication), 4 << 20));
        for round in 0..3 {
            let path = format!("/test/{}/{round}", archive.topic);
            let mut writer = archive.runtime.block_on(archive.store.create(&path)).expect("begins");
            archive.runtime.block_on(writer.write(content.slice(..2 << 20))).expect("writes");
            let writing = hdfs.writing(1 << 20);
            let victim = writing[round % writing.len()];
            hdfs.kill(victim);
            let rest = async {
                writer.write(content.slice(2 << 20..)).await?;
                writer.close().await
            };
            archive.runtime.block_on(rest).unwrap_or_else(|error| panic!("{victim} of {writing:?} died: {error}"));
            let read = archive.runtime.block_on(archive.store.read(&path)).expect("reads");
            assert!(read.as_ref() == Some(&content), "{victim} of {writing:?} died");
            hdfs.restart(victim);
        }
        let files = all_copies(&hdfs, &format!("/test/{}", archive.topic), &|_| true, replication);
        assert_eq!(files.len(), 3, "{files:?}");
    }
}

#[test]
fn the_archive_goes_on_when_a_datanode_is_killed_and_has_all_its_copies_again_afterwards() {
    let Some(hdfs) = Hdfs::start() else { return };
    let mut archive = Archive::new("datanodes", hdfs.url(), &options(3), 1);
    (archive.config.memory_bytes, archive.config.file_bytes) = (256 << 10, 6 << 20);
    archive.config.flush_interval_s = 5;
    let stop = AtomicBool::new(false);
    let rows = |at_least: u64| {
        let rows = archive.report().partitions.iter().map(|p| p.rows).sum::<u64>();
        (rows >= at_least).then_some(())
    };
    std::thread::scope(|scope| {
        let sink = scope.spawn(|| {
            let shutdown = || stop.load(Ordering::SeqCst);
            archive.run("ingest", &Control { shutdown: &shutdown, ready: &|_| {}, exit_at_end: false })
        });
        let stopping = StopOnDrop(&stop);
        send(&archive, 0..3_000);
        let writing = hdfs.writing(1 << 20);
        hdfs.kill(writing[0]);
        send(&archive, 3_000..20_000);
        wait_until(DEADLINE, "all rows in the archive", || rows(20_000));
        drop(stopping);
        println!("of {writing:?} the first killed: {:?}", sink.join().expect("no panic"));
        hdfs.restart(writing[0]);
    });
    archive.assert_holds(20_000);
    // Manifests and files of rows; both name the topic.
    let mine = |copies: &Copies| copies.path.contains(&archive.topic);
    let files = all_copies(&hdfs, "/traffic-data", &mine, 3);
    assert!(files.iter().any(|file| file.path.ends_with(".parquet")), "{files:?}");
}

#[test]
fn files_have_as_many_copies_as_the_setting_says() {
    let Some(hdfs) = Hdfs::start() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    for (factor, day) in [("1", "2026-01-05"), ("3", "2026-01-06"), ("2", "2026-01-07")] {
        let log = format!("sqlite:{}", directory.path().join(format!("{factor}.db")).display());
        let environment = [
            ("TRAFFIC_LOG", log.as_str()),
            ("TRAFFIC_STORE", hdfs.url()),
            ("TRAFFIC_DATABASE", "none"),
            ("TRAFFIC_HTTP_LISTEN", "off"),
            ("TRAFFIC_TOPIC_PREFIX", &format!("copies{factor}.")),
            ("HDFS_REPLICATION_FACTOR", factor),
        ];
        let start = format!("{day}T00:00:00Z");
        for (binary, arguments) in [
            ("traffic", &["init"][..]),
            ("traffic", &["simulate", "--events", "2000", "--segments", "50", "--start", &start]),
            ("ingest", &["--exit-at-end"]),
        ] {
            let mut worker = Worker::start(binary, arguments, &environment);
            let status = worker.wait(DEADLINE);
            assert!(status.success(), "{binary} {arguments:?}: {status}: {}", worker.log());
        }
        let mine = |copies: &Copies| copies.path.contains(&format!("copies{factor}."));
        all_copies(&hdfs, "/traffic-data", &mine, factor.parse().expect("a number"));
    }
}
