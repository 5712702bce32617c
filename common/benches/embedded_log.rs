//! How fast the log in a SQLite file is, next to what its disk can do.
//!
//! `cargo bench -p common --bench embedded_log [-- DIRECTORY]` (default: the system's temporary directory).
//! Every commit is synced, so small commits cannot be faster than the disk's own sync, measured first.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use common::clock::SystemClock;
use common::stream::sqlite::SqliteLog;
use common::stream::{Cleanup, Event, Log, Member, Membership, Outgoing, TopicPartition, TopicSpec};

const EVENTS: usize = 1_000_000;
const EVENT_BYTES: usize = 289;
const SEGMENTS: usize = 2_000;
const PARTITIONS: u32 = 12;
const COMMIT_EVENTS: usize = 20_000;
const SMALL_COMMITS: usize = 500;
const ENTRIES_BYTES: usize = 200;

fn main() -> anyhow::Result<()> {
    let place = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let directory = match &place {
        Some(place) => tempfile::tempdir_in(place),
        None => tempfile::tempdir(),
    };
    let directory = directory.context("cannot make a directory")?;
    let syncs = disk_syncs(directory.path())?;
    println!("disk: {syncs:.0} appends of 4 KiB with fdatasync a second");

    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let path = directory.path().join("bench.db");
    let log = SqliteLog::open(&path, runtime.handle().clone(), Arc::new(SystemClock))?;
    let topic = |name: &str, cleanup| TopicSpec { name: name.into(), partitions: PARTITIONS, replication: 1, cleanup };
    let keep = Cleanup::Delete { retention_ms: None };
    log.ensure_topics(&[topic("events", keep), topic("out", keep), topic("state", Cleanup::Compact)])?;

    produce(&log)?;
    copy(&log)?;
    small_commits(&log, syncs)?;
    restore(&log)?;
    idle(&log)?;
    let size = |suffix: &str| {
        let file = directory.path().join(format!("bench.db{suffix}"));
        std::fs::metadata(file).map_or(0, |file| file.len() >> 20)
    };
    println!("file: {} MiB, write-ahead log {} MiB", size(""), size("-wal"));
    Ok(())
}

fn disk_syncs(directory: &Path) -> anyhow::Result<f64> {
    let mut file = File::create(directory.join("syncs"))?;
    let (begun, mut syncs) = (Instant::now(), 0.0);
    while begun.elapsed() < Duration::from_secs(2) {
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
        syncs += 1.0;
    }
    Ok(syncs / begun.elapsed().as_secs_f64())
}

fn rate(what: &str, count: usize, unit: &str, begun: Instant) -> f64 {
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    println!("{what}: {rate:.0} {unit} a second ({count} in {:.2} s)", begun.elapsed().as_secs_f64());
    rate
}

fn produce(log: &SqliteLog) -> anyhow::Result<()> {
    let keys: Vec<String> = (0..SEGMENTS).map(|n| format!("segment-{n:05}")).collect();
    let value = vec![b'x'; EVENT_BYTES];
    let begun = Instant::now();
    let mut producer = log.producer()?;
    for n in 0..EVENTS {
        let key = Some(keys[n % SEGMENTS].as_bytes());
        producer.send(&Outgoing { topic: "events", partition: None, key, value: Some(&value), headers: &[] })?;
    }
    producer.flush()?;
    rate("produce", EVENTS, "events", begun);
    Ok(())
}

fn join(log: &SqliteLog, application_id: &str, input: &str) -> anyhow::Result<Box<dyn Member>> {
    let mut member = log.join(&Membership {
        application_id: application_id.into(),
        instance: "bench-0".into(),
        inputs: vec![input.into()],
        transactional: true,
    })?;
    match member.poll(Duration::ZERO)? {
        Event::Assigned(partitions) => {
            let starts: Vec<_> = partitions.into_iter().map(|at| (at, None)).collect();
            member.start(&starts)?;
        }
        _ => anyhow::bail!("no assignment"),
    }
    Ok(member)
}

/// Every event is read, sent on and committed with its offset.
fn copy(log: &SqliteLog) -> anyhow::Result<()> {
    let mut member = join(log, "copy", "events")?;
    let mut batch: Vec<(u32, Vec<u8>, Vec<u8>)> = Vec::new();
    let mut next = vec![0; PARTITIONS as usize];
    let (begun, mut copied, mut open, mut commits) = (Instant::now(), 0, 0, 0);
    while copied < EVENTS {
        batch.clear();
        if let Event::Records(records) = member.poll(Duration::from_millis(100))? {
            next[records.partition as usize] = records.next_offset();
            let parts = records.iter().filter_map(|r| Some((records.partition, r.key?.to_vec(), r.value?.to_vec())));
            batch.extend(parts);
        }
        for (partition, key, value) in &batch {
            let (partition, key, value) = (Some(*partition), Some(key.as_slice()), Some(value.as_slice()));
            member.send(&Outgoing { topic: "out", partition, key, value, headers: &[] })?;
        }
        copied += batch.len();
        open += batch.len();
        if open >= COMMIT_EVENTS || copied == EVENTS {
            let at = (0_u32..).map(|number| TopicPartition::new("events", number));
            member.commit(&at.zip(next.iter().copied()).collect::<Vec<_>>())?;
            (open, commits) = (0, commits + 1);
        }
    }
    rate("read, send, commit", EVENTS, "events", begun);
    println!("  in {commits} commits");
    Ok(())
}

/// What a worker does ten times a second: an output, a state entry and an offset for each partition.
fn small_commits(log: &SqliteLog, syncs: f64) -> anyhow::Result<()> {
    let mut member = join(log, "small", "out")?;
    let entry = [b'e'; ENTRIES_BYTES];
    let at: Vec<TopicPartition> = (0..PARTITIONS).map(|number| TopicPartition::new("out", number)).collect();
    let begun = Instant::now();
    for n in 0..SMALL_COMMITS {
        for partition in 0..PARTITIONS {
            let key = (n % 100).to_string();
            let (partition, key, value) = (Some(partition), Some(key.as_bytes()), Some(entry.as_slice()));
            for topic in ["out", "state"] {
                member.send(&Outgoing { topic, partition, key, value, headers: &[] })?;
            }
        }
        let offsets: Vec<_> = at.iter().map(|at| (at.clone(), n as i64)).collect();
        member.commit(&offsets)?;
    }
    let commits = rate("small commits (24 partitions, 12 offsets)", SMALL_COMMITS, "commits", begun);
    println!("  {:.0} % of the disk's syncs", 100.0 * commits / syncs);
    Ok(())
}

fn restore(log: &SqliteLog) -> anyhow::Result<()> {
    let (begun, mut entries) = (Instant::now(), 0);
    for number in 0..PARTITIONS {
        let mut reader = log.read(&TopicPartition::new("state", number), None)?;
        while reader.next(&mut |_| entries += 1)? {}
    }
    rate("restore", entries, "entries, one to a batch,", begun);
    Ok(())
}

/// The CPU time that a member takes while nothing happens.
fn idle(log: &SqliteLog) -> anyhow::Result<()> {
    const IDLE: Duration = Duration::from_secs(5);
    let mut member = join(log, "idle", "events")?;
    while !matches!(member.poll(Duration::from_millis(100))?, Event::Idle) {}
    let (begun, before) = (Instant::now(), cpu_ticks()?);
    while begun.elapsed() < IDLE {
        member.poll(Duration::from_millis(20))?;
    }
    let seconds = (cpu_ticks()? - before) as f64 / 100.0;
    println!("idle: {:.1} % of a CPU, polling every 20 ms", 100.0 * seconds / begun.elapsed().as_secs_f64());
    Ok(())
}

/// This process's CPU time, in hundredths of a second (Linux).
fn cpu_ticks() -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    Ok(fields.map(str::parse::<u64>).sum::<Result<u64, _>>()?)
}
