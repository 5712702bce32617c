use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::*;
use crate::clock::ManualClock;
use crate::stream::log::{Cleanup, Event, Outgoing, StoredRecord};

const HOUR_MS: i64 = 3_600_000;
const PATIENCE: Duration = Duration::from_secs(30);

/// A directory with a log, which can be opened several times as if by several processes.
struct Fixture {
    directory: TempDir,
    runtime: Runtime,
    clock: Arc<ManualClock>,
}

impl Fixture {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let directory = tempfile::tempdir().expect("a directory");
        Self { directory, runtime, clock: Arc::new(ManualClock::at(1_700_000_000_000)) }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("traffic.db")
    }

    fn try_open(&self) -> Result<SqliteLog, LogError> {
        SqliteLog::open(&self.path(), self.runtime.handle().clone(), Arc::clone(&self.clock) as Arc<dyn Clock>)
    }

    fn open(&self) -> SqliteLog {
        self.try_open().expect("the log opens")
    }

    fn with_topics() -> (Self, SqliteLog) {
        let fixture = Self::new();
        let log = fixture.open();
        let topics = [
            topic("in", Cleanup::Delete { retention_ms: Some(HOUR_MS) }),
            topic("out", Cleanup::Delete { retention_ms: None }),
            topic("state", Cleanup::Compact),
        ];
        log.ensure_topics(&topics).expect("topics");
        (fixture, log)
    }

    /// Changes the file behind the log's back.
    fn sql(&self, sql: &'static str) {
        let place = Place { path: self.path().into(), runtime: self.runtime.handle().clone() };
        Connection::writer(&place).expect("a connection").run(sqlx::query(sql)).expect("the statement runs");
    }
}

fn topic(name: &str, cleanup: Cleanup) -> TopicSpec {
    TopicSpec { name: name.to_owned(), partitions: 2, replication: 1, cleanup }
}

fn membership(application_id: &str) -> Membership {
    Membership {
        application_id: application_id.to_owned(),
        instance: "test-0".to_owned(),
        inputs: vec!["in".to_owned()],
        transactional: true,
    }
}

fn record<'a>(topic: &'a str, key: &'a [u8], value: Option<&'a [u8]>) -> Outgoing<'a> {
    Outgoing { topic, partition: Some(0), key: Some(key), value, headers: &[] }
}

fn write(log: &SqliteLog, topic: &str, key: &[u8], value: Option<&[u8]>) {
    let mut producer = log.producer().expect("a producer");
    producer.send(&record(topic, key, value)).expect("sent");
    producer.flush().expect("stored");
}

fn read_all(log: &SqliteLog, topic: &str) -> Result<Vec<StoredRecord>, LogError> {
    let mut reader = log.read(&TopicPartition::new(topic, 0), None)?;
    let mut records = Vec::new();
    while reader.next(&mut |record| records.push(record.to_stored()))? {}
    Ok(records)
}

fn fold<'a>(records: impl IntoIterator<Item = &'a StoredRecord>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut state = BTreeMap::new();
    for record in records {
        let key = record.key.clone().expect("a changelog's records have keys");
        match &record.value {
            Some(value) => state.insert(key, value.clone()),
            None => state.remove(&key),
        };
    }
    state
}

#[test]
fn a_full_disk_rolls_everything_back_and_can_be_tried_again() {
    let (_fixture, log) = Fixture::with_topics();
    let at = TopicPartition::new("in", 0);
    let mut member = log.join(&membership("worker")).expect("joined");
    let limit = |connection: &mut Connection, _: &[writer::PartitionState]| {
        let pages = connection.number(sqlx::query("PRAGMA page_count"))?;
        let limit = format!("PRAGMA max_page_count = {}", pages + 20);
        connection.run(sqlx::query(sqlx::AssertSqlSafe(limit)))
    };
    log.shared.writer.blocking_lock().transaction(limit).expect("the file may grow no more");
    let large = vec![7; 1_000_000];
    let send = |member: &mut Box<dyn Member>| {
        member.send(&record("out", b"small", Some(b"1"))).expect("sent");
        member.send(&record("state", b"large", Some(&large))).expect("sent");
        member.commit(&[(at.clone(), 0)])
    };
    let error = send(&mut member).expect_err("there is no room");
    assert!(
        matches!(&error, LogError::Retry(text) if text.contains("disk is full") && text.contains("traffic.db")),
        "{error}"
    );
    assert_eq!(read_all(&log, "out").expect("readable"), []);
    assert_eq!(log.ends(&TopicPartition::new("state", 0)).expect("ends").high, 0);
    assert_eq!(log.committed("worker", std::slice::from_ref(&at)).expect("offsets"), [None]);

    drop(member);
    let mut member = log.join(&membership("worker")).expect("joined again");
    send(&mut member).expect("the new connection has no limit");
    assert_eq!(read_all(&log, "out").expect("readable")[0].offset, 0);
    assert_eq!(log.committed("worker", &[at]).expect("offsets"), [Some(0)]);
}

#[test]
fn a_damaged_batch_is_named_and_nothing_behind_it_is_handed_out() {
    for damage in ["UPDATE batches SET data = x'0102030405060708090a'", "UPDATE batches SET base = base + 1"] {
        let (fixture, log) = Fixture::with_topics();
        write(&log, "in", b"a", Some(b"1"));
        fixture.sql(damage);
        write(&log, "in", b"b", Some(b"2"));
        let named = |error: &LogError| {
            let text = error.to_string();
            assert!(matches!(error, LogError::Fatal(_)), "{error:?}");
            assert!(text.contains("in-0") && text.contains("offset 0") && text.contains("damaged"), "{text}");
        };
        named(&read_all(&log, "in").expect_err("a reader stops"));
        let mut member = log.join(&membership("worker")).expect("joined");
        assert!(matches!(member.poll(PATIENCE), Ok(Event::Assigned(_))));
        member.start(&[(TopicPartition::new("in", 0), None)]).expect("started");
        named(&member.poll(PATIENCE).err().expect("a member stops"));
    }
}

/// Writes `keys` × `rounds` values of 1,000 bytes to the changelog, newest last.
fn grow(log: &SqliteLog, keys: usize, rounds: usize) {
    let mut producer = log.producer().expect("a producer");
    for round in 0..rounds {
        for key in 0..keys {
            let mut value = vec![0; 1000];
            value[..8].copy_from_slice(&(round as u64).to_le_bytes());
            producer.send(&record("state", format!("key-{key}").as_bytes(), Some(&value))).expect("sent");
        }
        producer.flush().expect("stored");
    }
}

fn state_bytes(log: &SqliteLog) -> i64 {
    let sum = "SELECT sum(length(data)) FROM batches WHERE id >> 44 = (SELECT id FROM partitions WHERE topic = 'state' AND number = 0)";
    log.shared.read(|connection| connection.number(sqlx::query(sum))).expect("a sum")
}

#[test]
fn compaction_keeps_the_newest_of_each_key_and_their_offsets() {
    let (fixture, log) = Fixture::with_topics();
    grow(&log, 100, 30);
    let before = read_all(&log, "state").expect("readable");
    assert_eq!(before.len(), 3000, "not large enough to be compacted");
    write(&log, "state", b"key-0", None);
    fixture.clock.advance(HOUR_MS);
    write(&log, "state", b"key-1", None);
    grow(&log, 50, 60);

    let ends = log.ends(&TopicPartition::new("state", 0)).expect("ends");
    assert_eq!((ends.first, ends.high, ends.stable), (0, 6002, 6002));
    let after = read_all(&log, "state").expect("readable");
    assert!(after.len() < 4500, "{} records are left", after.len());
    assert!(state_bytes(&log) < 5 << 20, "{} bytes are left", state_bytes(&log));
    assert!(after.is_sorted_by(|a, b| a.offset < b.offset));
    let state = fold(&after);
    assert_eq!(state.len(), 100);
    for (key, value) in &state {
        let number: usize = String::from_utf8_lossy(&key[4..]).parse().expect("a number");
        let round = if number < 50 { 59 } else { 29 };
        assert_eq!(value[..8], u64::to_le_bytes(round), "key {number}");
    }
    // A member can go on writing and reading from any offset.
    write(&log, "state", b"key-99", Some(b"new"));
    let mut reader = log.read(&TopicPartition::new("state", 0), Some(6001)).expect("a reader");
    let mut offsets = Vec::new();
    while reader.next(&mut |record| offsets.push(record.offset)).expect("readable") {}
    assert_eq!(offsets, [6001, 6002]);
}

#[test]
fn compaction_drops_old_tombstones_and_keeps_young_ones() {
    let (fixture, log) = Fixture::with_topics();
    for key in ["old", "young"] {
        write(&log, "state", key.as_bytes(), Some(b"x"));
    }
    write(&log, "state", b"old", None);
    fixture.clock.advance(HOUR_MS);
    write(&log, "state", b"young", None);
    grow(&log, 10, 450);
    let left = read_all(&log, "state").expect("readable");
    let tombstones: Vec<_> = left.iter().filter(|r| r.value.is_none()).filter_map(|r| r.key.as_deref()).collect();
    assert_eq!(tombstones, [b"young"]);
    assert!(left.iter().all(|r| r.key.as_deref() != Some(b"old")), "a deleted key came back");
}

#[test]
fn a_reader_that_compaction_overtakes_still_folds_to_the_truth() {
    let (_fixture, log) = Fixture::with_topics();
    for _ in 0..3 {
        grow(&log, 400, 1);
        write(&log, "state", b"gone", Some(b"x"));
    }
    let mut reader = log.read(&TopicPartition::new("state", 0), None).expect("a reader");
    let mut seen = Vec::new();
    while seen.len() < 401 {
        assert!(reader.next(&mut |record| seen.push(record.to_stored())).expect("readable"));
    }
    assert!(seen.len() < 1000, "the reader is in the middle");
    write(&log, "state", b"gone", None);
    let before = state_bytes(&log);
    grow(&log, 400, 11);
    assert!(state_bytes(&log) < before + 11 * 400_000, "no compaction came in between");
    while reader.next(&mut |record| seen.push(record.to_stored())).expect("readable") {}
    assert!(seen.is_sorted_by(|a, b| a.offset < b.offset));
    let truth = fold(&read_all(&log, "state").expect("readable"));
    assert_eq!(truth.len(), 400);
    assert_eq!(fold(&seen), truth);
}

#[test]
fn retention_removes_whole_batches_from_the_front() {
    let (fixture, log) = Fixture::with_topics();
    write(&log, "in", b"1", Some(b"old"));
    write(&log, "out", b"1", Some(b"kept for ever"));
    fixture.clock.advance(HOUR_MS);
    write(&log, "in", b"2", Some(b"just young enough"));
    assert_eq!(read_all(&log, "in").expect("readable").len(), 2);
    fixture.clock.advance(HOUR_MS);
    write(&log, "in", b"3", Some(b"new"));

    let ends = log.ends(&TopicPartition::new("in", 0)).expect("ends");
    assert_eq!((ends.first, ends.high), (1, 3));
    let offsets: Vec<i64> = read_all(&log, "in").expect("readable").iter().map(|r| r.offset).collect();
    assert_eq!(offsets, [1, 2]);
    assert_eq!(read_all(&log, "out").expect("readable").len(), 1);

    // A member that slept for so long goes on at the first kept; everything may be gone.
    let mut member = log.join(&membership("worker")).expect("joined");
    assert!(matches!(member.poll(PATIENCE), Ok(Event::Assigned(_))));
    member.start(&[(TopicPartition::new("in", 0), Some(0))]).expect("started");
    let Ok(Event::Records(records)) = member.poll(PATIENCE) else { panic!("no records") };
    assert_eq!(records.get(0).offset, 1);
    fixture.clock.advance(2 * HOUR_MS);
    write(&log, "out", b"1", Some(b"a write of any topic tidies all"));
    let ends = log.ends(&TopicPartition::new("in", 0)).expect("ends");
    assert_eq!((ends.first, ends.high), (3, 3));
}

#[test]
fn an_application_id_has_one_member() {
    let (fixture, log) = Fixture::with_topics();
    let other = fixture.open();
    let member = log.join(&membership("worker")).expect("joined");
    for log in [&log, &other] {
        let error = log.join(&membership("worker")).err().expect("refused");
        let text = error.to_string();
        assert!(matches!(error, LogError::Fatal(_)), "{text}");
        let process = format!("process {} ", std::process::id());
        assert!(text.contains("--application-id") && text.contains(&process) && text.contains("traffic.db"), "{text}");
    }
    let _second = other.join(&membership("another")).expect("another id is free");
    drop(member);
    let member = other.join(&membership("worker")).expect("the place is free again");
    drop(member);
    log.join(&membership("worker")).expect("and again");
    let error = log.join(&membership("../worker")).err().expect("no file name");
    assert!(error.to_string().contains("--application-id"), "{error}");
}

#[test]
fn what_another_process_writes_wakes_a_waiting_member() {
    let (fixture, log) = Fixture::with_topics();
    let other = fixture.open();
    let mut member = log.join(&membership("worker")).expect("joined");
    assert!(matches!(member.poll(PATIENCE), Ok(Event::Assigned(_))));
    member.start(&[(TopicPartition::new("in", 0), None)]).expect("started");
    assert!(matches!(member.poll(PATIENCE), Ok(Event::End { .. })));
    for round in 0..5_i64 {
        // In the last round the file has been still for long.
        let still = now() + if round == 4 { Duration::from_millis(1500) } else { Duration::ZERO };
        while let Some(left) = still.checked_duration_since(now()).filter(|left| !left.is_zero()) {
            assert!(!matches!(member.poll(left), Ok(Event::Records(_))));
        }
        // Before the end is confirmed again, which would find the record too.
        let deadline = now() + Duration::from_secs(5);
        thread::scope(|scope| {
            scope.spawn(|| write(&other, "in", b"k", Some(b"v")));
            loop {
                match member.poll(PATIENCE).expect("polled") {
                    Event::Records(records) => break assert_eq!(records.get(0).offset, round),
                    Event::End { .. } | Event::Idle => {}
                    Event::Assigned(_) | Event::Revoked(_) => panic!("there is one member"),
                }
            }
        });
        assert!(now() < deadline, "the record was not noticed by itself");
    }
}

#[test]
fn two_processes_write_to_one_partition_without_gaps() {
    let (fixture, log) = Fixture::with_topics();
    let other = fixture.open();
    thread::scope(|scope| {
        for (name, log) in [("a", &log), ("b", &other)] {
            scope.spawn(move || {
                for number in 0..100_u8 {
                    write(log, "in", name.as_bytes(), Some(&[number]));
                }
            });
        }
    });
    let records = read_all(&log, "in").expect("readable");
    assert!((0..200).eq(records.iter().map(|r| r.offset)));
    for name in ["a", "b"] {
        let own = records.iter().filter(|r| r.key.as_deref() == Some(name.as_bytes()));
        assert!((0..100).eq(own.filter_map(|r| r.value.as_ref()).map(|value| value[0])), "{name} is out of order");
    }
}

#[test]
fn a_process_that_writes_without_a_break_starves_nobody() {
    let (fixture, log) = Fixture::with_topics();
    let other = fixture.open();
    let (done, busy_writes) = (AtomicBool::new(false), AtomicUsize::new(0));
    let overtaken = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                write(&other, "out", b"busy", Some(&[1; 300_000]));
                busy_writes.fetch_add(1, Ordering::SeqCst);
            }
        });
        let mut overtaken = 0;
        for round in 1..=20 {
            // The other is in full swing again.
            let deadline = now() + PATIENCE;
            while busy_writes.load(Ordering::SeqCst) < overtaken + 3 * round && now() < deadline {
                thread::yield_now();
            }
            let before = busy_writes.load(Ordering::SeqCst);
            write(&log, "in", b"k", Some(b"v"));
            overtaken += busy_writes.load(Ordering::SeqCst) - before;
        }
        done.store(true, Ordering::SeqCst);
        overtaken
    });
    assert!(overtaken <= 5 * 20, "20 writes were overtaken by {overtaken} of the other process");
}

#[test]
fn an_offset_beyond_the_end_is_refused() {
    let (_fixture, log) = Fixture::with_topics();
    let mut member = log.join(&membership("worker")).expect("joined");
    let error = member.start(&[(TopicPartition::new("in", 0), Some(5))]).expect_err("the file is older");
    assert!(matches!(&error, LogError::Fatal(text) if text.contains("in-0") && text.contains("beyond")), "{error}");
}

#[test]
fn a_file_that_is_no_log_is_refused_and_left_alone() {
    let refused = |fixture: &Fixture, expected: &str| {
        let error = fixture.try_open().err().expect("refused");
        assert!(matches!(&error, LogError::Fatal(text) if text.contains(expected)), "{error}");
    };
    let bytes = |fixture: &Fixture| std::fs::read(fixture.path()).expect("the file");
    let fixture = Fixture::new();
    std::fs::write(fixture.path(), "segment,speed\n".repeat(100)).expect("written");
    let before = bytes(&fixture);
    refused(&fixture, "no SQLite database");
    assert!(bytes(&fixture) == before, "the file was changed");

    let fixture = Fixture::new();
    fixture.sql("CREATE TABLE users (name TEXT)");
    let before = bytes(&fixture);
    refused(&fixture, "another program's database");
    assert!(bytes(&fixture) == before, "the file was changed");

    let (fixture, log) = Fixture::with_topics();
    drop(log);
    fixture.sql("PRAGMA user_version = 99");
    refused(&fixture, "format 99");

    let fixture = Fixture::new();
    let missing = fixture.directory.path().join("missing/traffic.db");
    let error =
        SqliteLog::open(&missing, fixture.runtime.handle().clone(), Arc::clone(&fixture.clock) as Arc<dyn Clock>);
    let error = error.err().expect("no directory");
    assert!(matches!(&error, LogError::Retry(text) if text.contains("directory")), "{error}");
}
