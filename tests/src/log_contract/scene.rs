//! A case's own corner of a log, and what the cases do there.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::clock::{Clock as _, SystemClock};
use common::stream::{
    Cleanup, Event, Log, LogError, Member, Membership, Outgoing, Reader, StoredRecord, TopicPartition, TopicSpec,
};

/// How long anything may take that must happen; a broker takes its time with a first join.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);

/// A log under contract.
pub struct Subject {
    pub log: Arc<dyn Log>,
    pub second_session: SecondSession,
    /// Whether records of an open transaction are counted in a partition's `high` end.
    pub open_transactions_show: bool,
    /// What must outlive the log: its directory, its runtime.
    pub keep: Box<dyn Any + Send + Sync>,
}

/// What becomes of a second session under a name in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondSession {
    /// It takes over; the first can commit nothing more.
    Fences,
    /// It is refused.
    Refused,
}

/// A log, and names that no other case uses.
pub struct Scene {
    subject: Subject,
    name: String,
}

impl Scene {
    #[must_use]
    pub fn new(subject: Subject, case: &str) -> Self {
        static SCENES: AtomicU32 = AtomicU32::new(0);
        let number = SCENES.fetch_add(1, Ordering::Relaxed);
        let name = format!("{case}-{}-{}-{number}", SystemClock.now_ms(), std::process::id());
        Self { subject, name }
    }

    #[must_use]
    pub fn log(&self) -> &dyn Log {
        self.subject.log.as_ref()
    }

    #[must_use]
    pub fn second_session(&self) -> SecondSession {
        self.subject.second_session
    }

    #[must_use]
    pub fn open_transactions_show(&self) -> bool {
        self.subject.open_transactions_show
    }

    /// The name of a topic or group in this scene.
    #[must_use]
    pub fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.name)
    }

    #[must_use]
    pub fn spec(&self, what: &str, partitions: u32, cleanup: Cleanup) -> TopicSpec {
        TopicSpec { name: self.name(what), partitions, replication: 1, cleanup }
    }

    /// Creates a topic that keeps its records.
    #[must_use]
    pub fn topic(&self, what: &str, partitions: u32) -> String {
        let spec = self.spec(what, partitions, Cleanup::Delete { retention_ms: None });
        self.log().ensure_topics(std::slice::from_ref(&spec)).expect("the topic is created");
        spec.name
    }

    /// Creates a topic that is compacted by key.
    #[must_use]
    pub fn changelog(&self, what: &str, partitions: u32) -> String {
        let spec = self.spec(what, partitions, Cleanup::Compact);
        self.log().ensure_topics(std::slice::from_ref(&spec)).expect("the topic is created");
        spec.name
    }

    /// Writes these values to a partition, and waits until they are acknowledged.
    pub fn produce<V: AsRef<[u8]>>(&self, topic: &str, partition: u32, values: impl IntoIterator<Item = V>) {
        let mut producer = self.log().producer().expect("a producer");
        for value in values {
            producer.send(&to(topic, partition, b"key", value.as_ref())).expect("the record is taken");
        }
        producer.flush().expect("the records are acknowledged");
    }

    /// The partition's committed records now.
    #[must_use]
    pub fn read(&self, topic: &str, partition: u32) -> Vec<StoredRecord> {
        let at = TopicPartition::new(topic, partition);
        read_to_end(self.log().read(&at, None).expect("a reader").as_mut())
    }

    /// The partition's committed values, once there are `count`.
    #[must_use]
    pub fn values(&self, topic: &str, partition: u32, count: usize) -> Vec<String> {
        let values = eventually(&format!("{count} records of {topic}"), || {
            let records = self.read(topic, partition);
            (records.len() >= count).then(|| records.iter().map(text).collect::<Vec<_>>())
        });
        assert_eq!(values.len(), count, "{topic}-{partition} holds {values:?}");
        values
    }

    /// A group's stable committed offset, once `wanted` of it.
    pub fn committed(&self, group: &str, at: &TopicPartition) -> Option<i64> {
        retrying("stable offsets", || self.log().committed(group, std::slice::from_ref(at)))[0]
    }

    /// Joins as the one instance of this group.
    #[must_use]
    pub fn join(&self, group: &str, inputs: &[&str]) -> Consumer<'_> {
        self.join_as(&membership(group, inputs))
    }

    #[must_use]
    pub fn join_as(&self, membership: &Membership) -> Consumer<'_> {
        let member = retrying("a place in the group", || self.log().join(membership));
        Consumer { scene: self, membership: membership.clone(), member, partitions: BTreeSet::new() }
    }
}

#[must_use]
pub fn membership(group: &str, inputs: &[&str]) -> Membership {
    Membership {
        application_id: group.to_owned(),
        instance: "contract-0".to_owned(),
        inputs: inputs.iter().map(|&topic| topic.to_owned()).collect(),
        transactional: true,
    }
}

/// A record for a partition.
#[must_use]
pub fn to<'a>(topic: &'a str, partition: u32, key: &'a [u8], value: &'a [u8]) -> Outgoing<'a> {
    Outgoing { topic, partition: Some(partition), key: Some(key), value: Some(value), headers: &[] }
}

/// A record's value as text.
#[must_use]
pub fn text(record: &StoredRecord) -> String {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or(b"null")).into_owned()
}

/// All that a reader has until it meets the end.
#[must_use]
pub fn read_to_end(reader: &mut dyn Reader) -> Vec<StoredRecord> {
    let mut records = Vec::new();
    while reader.next(&mut |record| records.push(record.to_stored())).expect("the partition is readable") {}
    records
}

/// The newest value of each key.
#[must_use]
pub fn fold(records: &[StoredRecord]) -> BTreeMap<String, String> {
    let mut state = BTreeMap::new();
    for record in records {
        let key = String::from_utf8_lossy(record.key.as_deref().expect("state has keys")).into_owned();
        match record.value {
            Some(_) => state.insert(key, text(record)),
            None => state.remove(&key),
        };
    }
    state
}

/// The offsets to go on from after these records.
#[must_use]
pub fn next_offsets(seen: &[Seen]) -> Vec<(TopicPartition, i64)> {
    let next: BTreeMap<_, _> = seen.iter().map(|seen| (seen.at.clone(), seen.record.offset + 1)).collect();
    next.into_iter().collect()
}

/// A moment after which patience ends.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    #[must_use]
    pub fn new() -> Self {
        Self(now() + PATIENCE)
    }

    /// # Panics
    /// Once it has passed.
    pub fn hold(&self, what: &str) {
        assert!(now() < self.0, "waited {PATIENCE:?} in vain for {what}");
    }
}

impl Default for Deadline {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::disallowed_methods, reason = "the deadlines of tests that wait for real services")]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// Looks again and again until there is an answer.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Deadline::new();
    loop {
        if let Some(found) = look() {
            return found;
        }
        deadline.hold(what);
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Does what a log may ask to be tried again.
pub fn retrying<T>(what: &str, mut act: impl FnMut() -> Result<T, LogError>) -> T {
    eventually(what, || match act() {
        Ok(done) => Some(done),
        Err(LogError::Retry(_) | LogError::Unstable(_)) => None,
        Err(error) => panic!("{what}: {error}"),
    })
}

/// A record that a member read.
#[derive(Debug, Clone)]
pub struct Seen {
    pub at: TopicPartition,
    pub record: StoredRecord,
}

/// A member and what it was assigned.
pub struct Consumer<'s> {
    scene: &'s Scene,
    membership: Membership,
    pub member: Box<dyn Member>,
    partitions: BTreeSet<TopicPartition>,
}

impl Consumer<'_> {
    /// Waits for an assignment.
    pub fn assigned(&mut self) -> Vec<TopicPartition> {
        let deadline = Deadline::new();
        loop {
            match self.member.poll(POLL).expect("polled") {
                Event::Assigned(partitions) if !partitions.is_empty() => return partitions,
                Event::Records(_) => panic!("records before the start"),
                Event::Assigned(_) | Event::Idle | Event::Revoked(_) | Event::End { .. } => {}
            }
            deadline.hold("an assignment");
        }
    }

    /// Waits for an assignment and begins at the committed offsets.
    #[must_use]
    pub fn started(mut self) -> Self {
        let partitions = self.assigned();
        let group = self.membership.application_id.clone();
        let offsets = retrying("stable offsets", || self.scene.log().committed(&group, &partitions));
        let starts: Vec<_> = partitions.into_iter().zip(offsets).collect();
        self.start(&starts);
        self
    }

    pub fn start(&mut self, at: &[(TopicPartition, Option<i64>)]) {
        self.member.start(at).expect("started");
        self.partitions = at.iter().map(|(at, _)| at.clone()).collect();
    }

    /// Polls once: what was read, and the partition whose end was met.
    pub fn poll(&mut self) -> (Vec<Seen>, Option<TopicPartition>) {
        let inputs = &self.membership.inputs;
        match self.member.poll(POLL).expect("polled") {
            Event::Records(records) => {
                assert!(!records.is_empty(), "a batch without records");
                let at = TopicPartition::new(&inputs[records.input], records.partition);
                let seen: Vec<_> =
                    records.iter().map(|record| Seen { at: at.clone(), record: record.to_stored() }).collect();
                let last = seen.last().expect("not empty").record.offset;
                assert_eq!(records.next_offset(), last + 1);
                (seen, None)
            }
            Event::End { input, partition } => (Vec::new(), Some(TopicPartition::new(&inputs[input], partition))),
            Event::Idle => (Vec::new(), None),
            Event::Assigned(_) | Event::Revoked(_) => panic!("partitions moved, with one member in the group"),
        }
    }

    /// Reads until the end of every partition is confirmed with no record after.
    pub fn read_to_end(&mut self) -> Vec<Seen> {
        let deadline = Deadline::new();
        let (mut all, mut ended) = (Vec::new(), BTreeSet::new());
        while ended != self.partitions {
            let (seen, end) = self.poll();
            if let Some(first) = seen.first() {
                ended.remove(&first.at);
            }
            all.extend(seen);
            ended.extend(end);
            deadline.hold("the end of all inputs");
        }
        all
    }

    /// Reads at least so many records.
    pub fn read(&mut self, count: usize) -> Vec<Seen> {
        let deadline = Deadline::new();
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.poll().0);
            deadline.hold("records");
        }
        all
    }

    /// Sends a record in the open transaction.
    pub fn send(&mut self, topic: &str, partition: u32, key: &str, value: &str) {
        self.member.send(&to(topic, partition, key.as_bytes(), value.as_bytes())).expect("sent");
    }

    pub fn commit(&mut self, offsets: &[(TopicPartition, i64)]) {
        self.member.commit(offsets).expect("committed");
    }
}
