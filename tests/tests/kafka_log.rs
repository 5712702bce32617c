//! What only the log on Kafka can get wrong, against a real broker.
//!
//! `TRAFFIC_TEST_KAFKA` is the broker's `host:port`. The tests that freeze a broker need one of their own:
//! `TRAFFIC_TEST_KAFKA_FREEZABLE` is `host:port pid`. With `TRAFFIC_QUICK=1` tests without their service
//! are skipped; otherwise they fail.

#![expect(clippy::disallowed_methods, reason = "these tests wait for real brokers, which the environment names")]

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use common::stream::kafka::{Failpoint, KafkaConfig, KafkaLog};
use common::stream::log::END_CONFIRMATION;
use common::stream::{
    Cleanup, Event, Log, LogError, Member, Membership, Outgoing, StoredRecord, TopicPartition, TopicSpec,
};

/// A test gives up waiting after this; nothing that is measured is bounded by it.
const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// An environment variable, or `None` where its test may be skipped.
fn service(name: &str) -> Option<String> {
    match std::env::var(name) {
        Ok(value) => Some(value),
        Err(_) if std::env::var("TRAFFIC_QUICK").is_ok_and(|quick| quick == "1") => {
            println!("skipped: {name} not set");
            None
        }
        Err(_) => panic!("{name} is not set; start the service, or set TRAFFIC_QUICK=1 to skip its tests"),
    }
}

fn config(servers: &str) -> KafkaConfig {
    KafkaConfig { bootstrap_servers: servers.to_owned(), ..KafkaConfig::default() }
}

fn connect() -> Option<KafkaLog> {
    let servers = service("TRAFFIC_TEST_KAFKA")?;
    Some(KafkaLog::connect(&config(&servers)).expect("the broker answers"))
}

/// A name that no other test and no earlier run has used.
fn unique(name: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    format!("{name}-{}-{}", std::process::id(), now.as_nanos())
}

fn create(log: &KafkaLog, name: &str, partitions: u32) -> String {
    let name = unique(name);
    let cleanup = Cleanup::Delete { retention_ms: None };
    log.ensure_topics(&[TopicSpec { name: name.clone(), partitions, replication: 1, cleanup }])
        .expect("the topic can be created");
    name
}

fn produce(log: &KafkaLog, topic: &str, partition: u32, values: impl IntoIterator<Item = u32>) {
    let mut producer = log.producer().expect("a producer");
    for value in values {
        producer.send(&outgoing(topic, partition, value.to_string().as_bytes())).expect("accepted");
    }
    producer.flush().expect("acknowledged");
}

fn outgoing<'a>(topic: &'a str, partition: u32, value: &'a [u8]) -> Outgoing<'a> {
    Outgoing { topic, partition: Some(partition), key: Some(b"k"), value: Some(value), headers: &[] }
}

fn membership(group: &str, instance: &str, inputs: &[&str]) -> Membership {
    Membership {
        application_id: group.to_owned(),
        instance: instance.to_owned(),
        inputs: inputs.iter().map(|&topic| topic.to_owned()).collect(),
        transactional: true,
    }
}

/// An event that outlives the poll.
#[derive(Debug)]
enum Seen {
    Idle,
    Assigned(Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
    Records(usize, u32, Vec<StoredRecord>),
    End(usize, u32),
}

fn poll(member: &mut dyn Member) -> Result<Seen, LogError> {
    Ok(match member.poll(POLL)? {
        Event::Idle => Seen::Idle,
        Event::Assigned(parts) => Seen::Assigned(parts),
        Event::Revoked(parts) => Seen::Revoked(parts),
        Event::Records(records) => {
            Seen::Records(records.input, records.partition, records.iter().map(|r| r.to_stored()).collect())
        }
        Event::End { input, partition } => Seen::End(input, partition),
    })
}

/// Tries until it works out.
fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(begun.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
    }
}

fn assigned(member: &mut dyn Member) -> Vec<TopicPartition> {
    eventually("an assignment", || match poll(member).expect("the session lives") {
        Seen::Assigned(parts) => Some(parts),
        Seen::Idle => None,
        other => panic!("{other:?} before an assignment"),
    })
}

/// Takes partitions from their committed offsets on.
fn start(log: &KafkaLog, group: &str, member: &mut dyn Member, parts: &[TopicPartition]) {
    let committed = log.committed(group, parts).expect("stable offsets");
    let starts: Vec<_> = parts.iter().cloned().zip(committed).collect();
    member.start(&starts).expect("partitions can be taken");
}

/// Joins, and reads from the committed offsets on.
fn join(log: &KafkaLog, membership: &Membership) -> Box<dyn Member> {
    let mut member = log.join(membership).expect("the group can be joined");
    let parts = assigned(member.as_mut());
    start(log, &membership.application_id, member.as_mut(), &parts);
    member
}

/// The values of the next records, until the end of one partition.
fn read_to_end(member: &mut dyn Member) -> (Vec<String>, i64) {
    let (mut values, mut next) = (Vec::new(), 0);
    eventually("the end", || match poll(member).expect("the session lives") {
        Seen::Records(_, _, records) => {
            next = records.last().expect("never empty").offset + 1;
            values.extend(records.into_iter().map(|r| String::from_utf8(r.value.expect("a value")).expect("UTF-8")));
            None
        }
        Seen::End(..) => Some(()),
        _ => None,
    });
    (values, next)
}

/// All committed values of a partition.
fn visible(log: &KafkaLog, topic: &str) -> Vec<String> {
    let mut reader = log.read(&TopicPartition::new(topic, 0), None).expect("a reader");
    let mut values = Vec::new();
    let mut keep = |value: &[u8]| values.push(String::from_utf8_lossy(value).into_owned());
    while reader.next(&mut |record| keep(record.value.expect("a value"))).expect("readable") {}
    values
}

fn at(topic: &str) -> TopicPartition {
    TopicPartition::new(topic, 0)
}

/// What a group has committed, once no transaction is about to change it.
fn stable(log: &KafkaLog, group: &str, input: &str) -> Option<i64> {
    eventually("stable offsets", || match log.committed(group, &[at(input)]) {
        Ok(offsets) => Some(offsets[0]),
        Err(LogError::Unstable(_)) => None,
        Err(error) => panic!("{error}"),
    })
}

#[test]
fn a_transaction_shows_its_records_and_offsets_on_commit_and_none_on_abort() {
    let Some(log) = connect() else { return };
    let (input, output, group) = (create(&log, "in", 1), create(&log, "out", 1), unique("group"));
    produce(&log, &input, 0, 0..10);
    let mut member = join(&log, &membership(&group, "a", &[&input]));
    let (values, next) = read_to_end(member.as_mut());
    assert_eq!((values.len(), next), (10, 10));

    member.send(&outgoing(&output, 0, b"kept")).expect("sent");
    member.commit(&[(at(&input), 7)]).expect("committed");
    assert_eq!(visible(&log, &output), ["kept"]);
    assert_eq!(stable(&log, &group, &input), Some(7));

    member.send(&outgoing(&output, 0, b"dropped")).expect("sent");
    member.abort().expect("aborted");
    // Offsets without outputs are a transaction of their own; nothing at all is none.
    member.commit(&[(at(&input), 9)]).expect("committed");
    member.commit(&[]).expect("nothing to do");
    assert_eq!(visible(&log, &output), ["kept"]);
    assert_eq!(stable(&log, &group, &input), Some(9));

    let ends = log.ends(&at(&output)).expect("ends");
    assert_eq!((ends.first, ends.stable), (0, ends.high), "{ends:?}");
    assert!(ends.high >= 4, "two records and two markers: {ends:?}");
}

#[test]
fn an_open_transaction_holds_the_stable_end_back() {
    let Some(log) = connect() else { return };
    let output = create(&log, "out", 1);
    let mut member = log.join(&membership(&unique("generator"), "a", &[])).expect("a producer needs no inputs");
    member.send(&outgoing(&output, 0, b"open")).expect("sent");
    let ends = eventually("the record", || {
        let ends = log.ends(&at(&output)).expect("ends");
        (ends.high == 1).then_some(ends)
    });
    assert_eq!(ends.stable, 0);
    member.commit(&[]).expect("committed");
    assert_eq!(visible(&log, &output), ["open"]);
}

#[test]
fn a_newer_session_of_the_same_instance_fences_the_older() {
    let Some(log) = connect() else { return };
    let (input, output, group) = (create(&log, "in", 1), create(&log, "out", 1), unique("group"));
    let membership = membership(&group, "same", &[&input]);
    let mut older = join(&log, &membership);
    older.send(&outgoing(&output, 0, b"zombie")).expect("sent");

    let mut newer = join(&log, &membership);
    let error = older.commit(&[(at(&input), 1)]).expect_err("the older session must not commit");
    assert!(matches!(error, LogError::Fenced(_)), "{error}");
    newer.send(&outgoing(&output, 0, b"heir")).expect("sent");
    newer.commit(&[]).expect("committed");
    assert_eq!(visible(&log, &output), ["heir"]);

    // A process that only reads on hears it too. Once it may have been its own last session; when it has taken the name
    // back and lost it again, it is told the setting to mend.
    let error = eventually("the older consumer hears of it", || poll(older.as_mut()).err());
    assert!(matches!(error, LogError::Retry(_)), "{error}");
    drop(older);
    let _again = join(&log, &membership);
    let error = eventually("the newer consumer hears of it", || poll(newer.as_mut()).err());
    assert!(matches!(&error, LogError::Fatal(text) if text.contains("`instance`")), "{error}");
}

#[test]
fn a_successor_resumes_at_once_after_a_member_with_an_open_transaction() {
    let Some(log) = connect() else { return };
    let (input, output, group) = (create(&log, "in", 1), create(&log, "out", 1), unique("group"));
    produce(&log, &input, 0, 0..10);
    let membership = membership(&group, "a", &[&input]);
    let mut first = join(&log, &membership);
    assert_eq!(read_to_end(first.as_mut()).1, 10);
    first.send(&outgoing(&output, 0, b"once")).expect("sent");
    first.commit(&[(at(&input), 4)]).expect("committed");
    first.send(&outgoing(&output, 0, b"lost")).expect("sent");
    drop(first);

    let begun = Instant::now();
    let mut second = join(&log, &membership);
    let (values, _) = read_to_end(second.as_mut());
    let took = begun.elapsed();
    println!("static restart to the last record: {took:?}");
    assert_eq!(values, (4..10).map(|v| v.to_string()).collect::<Vec<_>>());
    assert!(took < Duration::from_secs(4), "a static member must not wait for the session timeout: {took:?}");
    second.send(&outgoing(&output, 0, b"twice")).expect("sent");
    second.commit(&[(at(&input), 10)]).expect("committed");
    assert_eq!(visible(&log, &output), ["once", "twice"]);
}

/// The process that [`undecided_offsets_are_never_shown`] starts: it dies between offsets and commit.
#[test]
#[ignore = "started by another test, as a process of its own"]
fn dies_between_offsets_and_commit() {
    let names = std::env::var("TRAFFIC_TEST_DYING").expect("group and topic, from the parent");
    let (group, input) = names.split_once(' ').expect("group and topic");
    let servers = std::env::var("TRAFFIC_TEST_KAFKA").expect("the parent has it");
    let failpoint = Some(Failpoint::ExitBetweenOffsetsAndCommit { after_commits: 1 });
    let log = KafkaLog::connect(&KafkaConfig { failpoint, ..config(&servers) }).expect("the broker answers");
    let mut member = join(&log, &membership(group, "dying", &[input]));
    member.commit(&[(at(input), 1)]).expect("the first commit is spared");
    let end = member.commit(&[(at(input), 2)]);
    panic!("the failpoint did not strike: {end:?}");
}

#[test]
fn undecided_offsets_are_never_shown() {
    let Some(log) = connect() else { return };
    let (input, group) = (create(&log, "in", 1), unique("group"));
    produce(&log, &input, 0, 0..3);
    let child = Command::new(std::env::current_exe().expect("this test's own program"))
        .args(["--exact", "dies_between_offsets_and_commit", "--ignored"])
        .env("TRAFFIC_TEST_DYING", format!("{group} {input}"))
        .output()
        .expect("the child runs");
    assert!(!child.status.success(), "the child must die");
    let died = std::os::unix::process::ExitStatusExt::signal(&child.status);
    assert!(died.is_some(), "by abort, not by: {}", String::from_utf8_lossy(&child.stdout));

    // Neither the old offset nor the undecided one.
    let error = log.committed(&group, &[at(&input)]).expect_err("the transaction is undecided");
    assert!(matches!(&error, LogError::Unstable(text) if text.contains("not decided")), "{error}");
    // The successor of the same name decides it.
    let successor = join(&log, &membership(&group, "dying", &[&input]));
    assert_eq!(stable(&log, &group, &input), Some(1));
    drop(successor);
}

/// Polls two members until both hold the same numbers of both topics; answers rebalances.
fn share(log: &KafkaLog, group: &str, members: &mut [Box<dyn Member>], partitions: usize) -> Vec<BTreeSet<u32>> {
    let mut held: Vec<Vec<TopicPartition>> = vec![Vec::new(); members.len()];
    eventually("all members hold partitions", || {
        for (member, held) in members.iter_mut().zip(&mut held) {
            match poll(member.as_mut()).expect("the session lives") {
                Seen::Assigned(parts) => {
                    start(log, group, member.as_mut(), &parts);
                    *held = parts;
                }
                Seen::Revoked(parts) => {
                    assert_eq!(parts.len(), held.len(), "eager: all of them");
                    member.release().expect("released");
                    held.clear();
                }
                _ => {}
            }
        }
        let all: usize = held.iter().map(Vec::len).sum();
        (all == 2 * partitions && held.iter().all(|parts| !parts.is_empty())).then_some(())
    });
    for parts in &held {
        let topics: BTreeSet<&str> = parts.iter().map(|at| at.topic.as_str()).collect();
        for topic in &topics {
            let of = |topic: &str| -> BTreeSet<u32> {
                parts.iter().filter(|at| at.topic == topic).map(|at| at.partition).collect()
            };
            assert_eq!((topics.len(), of(topic).len() * 2), (2, parts.len()), "{parts:?}");
        }
    }
    held.iter().map(|parts| parts.iter().map(|at| at.partition).collect()).collect()
}

#[test]
fn topics_read_together_are_shared_out_by_number_and_a_silent_member_is_replaced() {
    let Some(log) = connect() else { return };
    let (left, right, group) = (create(&log, "left", 4), create(&log, "right", 4), unique("group"));
    let inputs = [left.as_str(), right.as_str()];
    let first = join(&log, &membership(&group, "a", &inputs));
    let second = log.join(&membership(&group, "b", &inputs)).expect("joined");
    let mut members = vec![first, second];
    // The first was assigned everything; it gives back, and both start anew.
    let mut held = Vec::new();
    eventually("the first gives back", || match poll(members[0].as_mut()).expect("the session lives") {
        Seen::Revoked(parts) => {
            held = parts;
            Some(())
        }
        _ => None,
    });
    assert_eq!(held.len(), 8);
    members[0].release().expect("released");
    let shared = share(&log, &group, &mut members, 4);
    assert_eq!(shared[0].len() + shared[1].len(), 4, "{shared:?}");
    assert!(shared[0].is_disjoint(&shared[1]), "{shared:?}");

    // Static members do not leave: the rest hears of it one session timeout later.
    let begun = Instant::now();
    drop(members.pop());
    let revoked =
        eventually("the rest is asked to share anew", || match poll(members[0].as_mut()).expect("the session lives") {
            Seen::Revoked(parts) => Some(parts),
            _ => None,
        });
    let waited = begun.elapsed();
    println!("scale-in noticed after {waited:?}");
    assert!(waited > Duration::from_secs(3) && waited < Duration::from_secs(15), "{waited:?}");
    assert_eq!(revoked.len(), shared[0].len() * 2);
    members[0].release().expect("released");
    assert_eq!(assigned(members[0].as_mut()).len(), 8);
}

#[test]
fn members_without_partitions_wait_and_can_be_dropped_at_any_moment() {
    let Some(log) = connect() else { return };
    let (input, group) = (create(&log, "in", 1), unique("group"));
    let mut first = join(&log, &membership(&group, "a", &[&input]));
    let mut second = log.join(&membership(&group, "b", &[&input])).expect("joined");
    // The first is asked to give back and dies without an answer.
    eventually("a revocation", || match poll(first.as_mut()).expect("the session lives") {
        Seen::Revoked(parts) => {
            assert_eq!(parts, [at(&input)]);
            Some(())
        }
        _ => None,
    });
    let begun = Instant::now();
    drop(first);
    // The second is assigned and dies without an answer; so does a third that was never polled. If the first had
    // still answered when it closed, it keeps its place until its session runs out.
    eventually("the partition", || match poll(second.as_mut()).expect("the session lives") {
        Seen::Assigned(parts) if parts.is_empty() => {
            second.start(&[]).expect("nothing to take");
            None
        }
        Seen::Assigned(parts) => {
            assert_eq!(parts, [at(&input)]);
            Some(())
        }
        Seen::Revoked(_) => {
            second.release().expect("nothing to release");
            None
        }
        _ => None,
    });
    drop(second);
    drop(log.join(&membership(&group, "c", &[&input])).expect("joined"));
    assert!(begun.elapsed() < LIMIT, "closing took {:?}", begun.elapsed());
}

#[test]
fn an_end_names_its_topic_and_comes_again_while_it_stands() {
    let Some(log) = connect() else { return };
    let (left, right, group) = (create(&log, "left", 1), create(&log, "right", 1), unique("group"));
    produce(&log, &left, 0, 0..3);
    let mut member = join(&log, &membership(&group, "a", &[&left, &right]));
    let mut ends = [Vec::new(), Vec::new()];
    let mut records = 0;
    eventually("three ends of each", || {
        match poll(member.as_mut()).expect("the session lives") {
            Seen::Records(input, 0, read) => {
                assert_eq!(input, 0, "only the first topic has records");
                assert!(ends[0].is_empty(), "no end before the records");
                records += read.len();
            }
            Seen::End(input, 0) => ends[input].push(Instant::now()),
            _ => {}
        }
        ends.iter().all(|ends| ends.len() >= 3).then_some(())
    });
    assert_eq!(records, 3);
    for ends in &ends {
        for (earlier, later) in ends.iter().zip(&ends[1..]) {
            assert!(*later - *earlier <= END_CONFIRMATION, "{:?} between two ends", *later - *earlier);
        }
    }
    // A new record is a new end; a transaction's marker, which takes an offset, does not stand in the way.
    produce(&log, &right, 0, 7..8);
    let (values, _) = read_to_end(member.as_mut());
    assert_eq!(values, ["7"]);
    let mut generator = log.join(&membership(&unique("generator"), "a", &[])).expect("joined");
    generator.send(&outgoing(&right, 0, b"8")).expect("sent");
    generator.commit(&[]).expect("committed");
    let (values, _) = read_to_end(member.as_mut());
    assert_eq!(values, ["8"]);
}

#[test]
fn a_paused_partition_is_silent_and_goes_on_where_it_stood() {
    let Some(log) = connect() else { return };
    let (input, group) = (create(&log, "in", 2), unique("group"));
    let parts = [TopicPartition::new(&input, 0), TopicPartition::new(&input, 1)];
    for partition in 0..2 {
        produce(&log, &input, partition, 0..5_000);
    }
    let mut member = join(&log, &membership(&group, "a", &[&input]));
    let (mut next, mut ended) = ([0; 2], [false; 2]);
    // The first batch of partition 0, then a pause.
    eventually("a batch of partition 0", || match poll(member.as_mut()).expect("the session lives") {
        Seen::Records(_, partition, records) => {
            next[partition as usize] += records.len();
            (partition == 0).then_some(())
        }
        _ => None,
    });
    assert!(next[0] < 5_000, "a batch is bounded");
    member.pause(&parts[..1]).expect("paused");
    let before = next[0];
    eventually("the end of partition 1", || match poll(member.as_mut()).expect("the session lives") {
        Seen::Records(_, partition, records) => {
            assert_eq!(partition, 1);
            next[1] += records.len();
            None
        }
        Seen::End(_, partition) => {
            assert_eq!(partition, 1);
            Some(())
        }
        _ => None,
    });
    assert_eq!(next, [before, 5_000]);
    member.resume(&parts[..1]).expect("resumed");
    let mut seen = Vec::new();
    eventually("the end of partition 0", || {
        match poll(member.as_mut()).expect("the session lives") {
            Seen::Records(_, 0, records) => seen.extend(records.into_iter().map(|r| r.offset)),
            Seen::End(_, partition) => ended[partition as usize] = true,
            _ => {}
        }
        ended[0].then_some(())
    });
    let first = i64::try_from(before).expect("small");
    assert_eq!(seen, (first..5_000).collect::<Vec<_>>());
    // Pausing and resuming at the end: the end is told anew.
    member.pause(&parts).expect("paused");
    member.resume(&parts).expect("resumed");
    both_ends(member.as_mut());
    // A pause does not outlive the assignment.
    member.pause(&parts).expect("paused");
    member.release().expect("released");
    start(&log, &group, member.as_mut(), &parts);
    both_ends(member.as_mut());
}

fn both_ends(member: &mut dyn Member) {
    let mut ended = [false; 2];
    eventually("both ends", || {
        if let Seen::End(_, partition) = poll(member).expect("the session lives") {
            ended[partition as usize] = true;
        }
        (ended == [true; 2]).then_some(())
    });
}

#[test]
fn a_member_without_transactions_commits_offsets_and_cannot_write() {
    let Some(log) = connect() else { return };
    let (input, group) = (create(&log, "in", 1), unique("group"));
    produce(&log, &input, 0, 0..5);
    let membership = Membership { transactional: false, ..membership(&group, "a", &[&input]) };
    let mut member = join(&log, &membership);
    assert_eq!(read_to_end(member.as_mut()).1, 5);
    member.commit(&[(at(&input), 3)]).expect("committed");
    assert_eq!(stable(&log, &group, &input), Some(3));
    assert!(matches!(member.send(&outgoing(&input, 0, b"x")), Err(LogError::Fatal(_))));
}

#[test]
fn a_reader_goes_on_from_the_end() {
    let Some(log) = connect() else { return };
    let topic = create(&log, "tail", 1);
    produce(&log, &topic, 0, 0..3);
    let mut reader = log.read(&at(&topic), Some(1)).expect("a reader");
    let mut offsets = Vec::new();
    while reader.next(&mut |record| offsets.push(record.offset)).expect("readable") {}
    assert_eq!(offsets, [1, 2]);
    for round in 3..6 {
        produce(&log, &topic, 0, round..=round);
        while reader.next(&mut |record| offsets.push(record.offset)).expect("readable") {}
        assert_eq!(offsets.last(), Some(&i64::from(round)));
    }
    assert!(!reader.next(&mut |record| panic!("unexpected offset {}", record.offset)).expect("readable"));
}

#[test]
fn existing_topics_that_differ_are_refused() {
    let Some(log) = connect() else { return };
    let name = unique("spec");
    let spec = TopicSpec { name: name.clone(), partitions: 2, replication: 1, cleanup: Cleanup::Compact };
    log.ensure_topics(std::slice::from_ref(&spec)).expect("created");
    log.ensure_topics(std::slice::from_ref(&spec)).expect("there and right");
    assert_eq!(log.partitions(&name).expect("known"), Some(2));
    assert_eq!(log.partitions(&unique("missing")).expect("known to be missing"), None);
    let wrong = [
        (TopicSpec { partitions: 3, ..spec.clone() }, ["2", "3"]),
        (TopicSpec { cleanup: Cleanup::Delete { retention_ms: None }, ..spec.clone() }, ["compact", "delete"]),
    ];
    for (wrong, both) in wrong {
        let error = log.ensure_topics(&[wrong]).expect_err("differs");
        assert!(matches!(error, LogError::Fatal(_)), "{error}");
        assert!(both.iter().all(|part| error.to_string().contains(part)), "{error}");
    }
    let unequal = create(&log, "unequal", 1);
    let error = log.join(&membership(&unique("group"), "a", &[&name, &unequal])).err().expect("unequal counts");
    assert!(matches!(error, LogError::Fatal(_)), "{error}");
}

#[test]
fn an_unreachable_broker_is_reported_in_time_with_what_to_check() {
    // Port 9 is discard: nothing of ours listens there.
    let begun = Instant::now();
    let error = KafkaLog::connect(&config("127.0.0.1:9")).err().expect("nobody listens");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(matches!(error, LogError::Retry(_)), "{error}");
    for part in ["127.0.0.1:9", "password", "CA"] {
        assert!(error.to_string().contains(part), "{part} is missing in: {error}");
    }
}

#[test]
fn settings_that_cannot_be_right_are_refused() {
    let Some(servers) = service("TRAFFIC_TEST_KAFKA") else { return };
    for (key, value) in [("isolation.level", "read_uncommitted"), ("no.such.setting", "1"), ("linger.ms", "never")] {
        let overrides = [(key.to_owned(), value.to_owned())].into();
        let error = KafkaLog::connect(&KafkaConfig { overrides, ..config(&servers) }).err().expect(key);
        assert!(matches!(&error, LogError::Fatal(text) if text.contains(key)), "{key}: {error}");
    }
}

/// Thaws the broker however the test ends.
struct Frozen<'a>(&'a str);

impl<'a> Frozen<'a> {
    fn freeze(pid: &'a str) -> Self {
        signal("-STOP", pid);
        Self(pid)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        signal("-CONT", self.0);
    }
}

fn signal(name: &str, pid: &str) {
    let status = Command::new("kill").args([name, pid]).status().expect("kill is there");
    assert!(status.success(), "kill {name} {pid}");
}

#[test]
fn a_broker_that_does_not_answer_confirms_no_end_and_costs_the_session() {
    let Some(broker) = service("TRAFFIC_TEST_KAFKA_FREEZABLE") else { return };
    let (servers, pid) = broker.split_once(' ').expect("host:port pid");
    no_end_is_confirmed(servers, pid);
    the_session_is_lost(servers, pid);
}

/// A session that outlives the silence: ends stop, and come again with the broker.
fn no_end_is_confirmed(servers: &str, pid: &str) {
    let overrides = [("session.timeout.ms".to_owned(), "60000".to_owned())].into();
    let log = KafkaLog::connect(&KafkaConfig { overrides, ..config(servers) }).expect("the broker answers");
    let input = create(&log, "in", 1);
    let mut member = join(&log, &membership(&unique("group"), "a", &[&input]));
    read_to_end(member.as_mut());

    let frozen = Frozen::freeze(pid);
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    while begun.elapsed() < END_CONFIRMATION + Duration::from_secs(2) {
        let polled = Instant::now();
        let seen = poll(member.as_mut()).expect("the session lives");
        slowest = slowest.max(polled.elapsed());
        assert!(!matches!(seen, Seen::End(..)), "an end after {:?} of silence", begun.elapsed());
    }
    assert!(slowest < Duration::from_millis(500), "polling must not wait for the broker: {slowest:?}");
    drop(frozen);
    read_to_end(member.as_mut());
}

/// A usual session is lost; leaving and joining without a broker end in time.
fn the_session_is_lost(servers: &str, pid: &str) {
    let log = KafkaLog::connect(&config(servers)).expect("the broker answers");
    let (input, group) = (create(&log, "in", 1), unique("group"));
    let membership = membership(&group, "a", &[&input]);
    let mut member = join(&log, &membership);
    read_to_end(member.as_mut());

    let frozen = Frozen::freeze(pid);
    let begun = Instant::now();
    let lost = eventually("the session is lost", || poll(member.as_mut()).err());
    println!("session lost after {:?}", begun.elapsed());
    assert!(matches!(lost, LogError::Retry(_)), "{lost}");
    let begun = Instant::now();
    drop(member);
    println!("closing without a broker took {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let begun = Instant::now();
    let error = log.join(&membership).err().expect("nobody answers");
    println!("joining without a broker failed after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(matches!(error, LogError::Retry(_)), "{error}");

    drop(frozen);
    let mut member = eventually("the broker is back", || log.join(&membership).ok());
    let parts = assigned(member.as_mut());
    start(&log, &group, member.as_mut(), &parts);
    read_to_end(member.as_mut());
}
