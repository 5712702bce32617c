//! Topics, transactions and their markers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::group::Group;
use super::{CRASH, Fault, Faults, Point};
use crate::clock::Clock;
use crate::stream::log::{Header, LogError, Outgoing, StoredRecord, TopicPartition, TopicSpec};
use crate::stream::partitioner::partition_of;

/// A transaction, for ever.
pub(super) type TransactionId = u64;

/// Stands between a `transactional.id` and the session's number, where nothing is fenced.
pub(super) const SESSION: char = '#';

pub(super) struct Cluster {
    pub topics: BTreeMap<String, Topic>,
    pub groups: BTreeMap<String, Group>,
    pub faults: Option<Box<dyn Faults>>,
    pub violations: Vec<String>,
    pub clock: Arc<dyn Clock>,
    producers: BTreeMap<String, ProducerState>,
    /// Decided transactions, and where their marker has yet to arrive.
    undelivered: Vec<Decided>,
    transactions: TransactionId,
    /// Whether epochs and generations are looked at.
    pub fences: bool,
}

pub(super) struct Topic {
    pub spec: TopicSpec,
    pub partitions: Vec<Partition>,
}

/// What a transactional id is up to. Only the newest epoch may act.
#[derive(Default)]
struct ProducerState {
    epoch: u32,
    open: Option<Open>,
}

struct Open {
    id: TransactionId,
    targets: BTreeSet<Target>,
}

/// A place where a transaction's marker arrives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    Records(TopicPartition),
    Offsets(String),
}

struct Decided {
    id: TransactionId,
    transactional_id: String,
    committed: bool,
    /// Whether the group's coordinator will not see it.
    lost: bool,
    targets: BTreeSet<Target>,
}

impl Decided {
    fn new(transactional_id: &str, open: Open, committed: bool) -> Self {
        let transactional_id = transactional_id.to_owned();
        Self { id: open.id, transactional_id, committed, lost: false, targets: open.targets }
    }
}

#[derive(Default)]
pub(super) struct Partition {
    entries: Vec<Entry>,
    /// Transactions without a marker here, with their first offset.
    open: BTreeMap<TransactionId, i64>,
    outcome: HashMap<TransactionId, bool>,
}

enum Entry {
    Record { record: Arc<StoredRecord>, transaction: Option<TransactionId> },
    Marker,
}

impl Partition {
    #[expect(clippy::cast_possible_wrap, reason = "a test's log")]
    pub fn high(&self) -> i64 {
        self.entries.len() as i64
    }

    /// The last stable offset: the first of an undecided transaction.
    pub fn stable(&self) -> i64 {
        self.open.values().min().copied().unwrap_or_else(|| self.high())
    }

    /// Hands out up to `limit` committed records from `from` on; returns the next offset to read.
    pub fn read_committed(&self, from: i64, limit: usize, into: &mut Vec<Arc<StoredRecord>>) -> i64 {
        let (mut next, stable) = (from, self.stable());
        while next < stable && into.len() < limit {
            let entry = &self.entries[usize::try_from(next).unwrap_or(0)];
            if let Entry::Record { record, transaction } = entry
                && transaction.is_none_or(|id| self.outcome.get(&id) == Some(&true))
            {
                into.push(record.clone());
            }
            next += 1;
        }
        next
    }

    fn append(&mut self, mut record: StoredRecord, transaction: Option<TransactionId>) -> i64 {
        let offset = self.high();
        record.offset = offset;
        if let Some(id) = transaction {
            self.open.entry(id).or_insert(offset);
        }
        self.entries.push(Entry::Record { record: Arc::new(record), transaction });
        offset
    }

    fn mark(&mut self, id: TransactionId, committed: bool) {
        self.open.remove(&id);
        self.outcome.insert(id, committed);
        self.entries.push(Entry::Marker);
    }
}

impl Cluster {
    pub fn new(clock: Arc<dyn Clock>, faults: Option<Box<dyn Faults>>) -> Self {
        Self {
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            faults,
            violations: Vec::new(),
            clock,
            producers: BTreeMap::new(),
            undelivered: Vec::new(),
            transactions: 0,
            fences: true,
        }
    }

    /// Lets a fault strike `process`: `Ok(true)` means "do the work, then fail".
    pub fn strike(&mut self, process: &str, point: Point) -> Result<bool, LogError> {
        let Some(faults) = self.faults.as_mut() else { return Ok(false) };
        match faults.at(process, point) {
            Fault::None => Ok(false),
            Fault::Crash => Err(LogError::Fatal(CRASH.to_owned())),
            Fault::Fail => Err(LogError::Retry(format!("{point:?} failed"))),
            Fault::FailAfter => Ok(true),
        }
    }

    /// A number below `n`; 0 where nothing is left to chance.
    pub fn below(&mut self, process: &str, n: usize) -> usize {
        match self.faults.as_mut() {
            Some(faults) if n > 1 => faults.below(process, n),
            _ => 0,
        }
    }

    /// Whether a fetch of `process` brings nothing of this partition.
    pub fn delays_fetch(&mut self, process: &str, at: &TopicPartition) -> bool {
        self.faults.as_mut().is_some_and(|faults| faults.delays_fetch(process, at))
    }

    pub fn ensure_topic(&mut self, spec: &TopicSpec) -> Result<(), LogError> {
        if let Some(topic) = self.topics.get(&spec.name) {
            let there = &topic.spec;
            if there.partitions != spec.partitions || there.cleanup != spec.cleanup {
                return Err(LogError::Fatal(format!("topic {} is {there:?}, wanted {spec:?}", spec.name)));
            }
            return Ok(());
        }
        let partitions = (0..spec.partitions).map(|_| Partition::default()).collect();
        self.topics.insert(spec.name.clone(), Topic { spec: spec.clone(), partitions });
        Ok(())
    }

    pub fn partition(&mut self, at: &TopicPartition) -> Result<&mut Partition, LogError> {
        self.topics
            .get_mut(&at.topic)
            .and_then(|t| t.partitions.get_mut(at.partition as usize))
            .ok_or_else(|| LogError::Fatal(format!("there is no partition {at}")))
    }

    pub fn append(
        &mut self,
        record: &Outgoing<'_>,
        transaction: Option<TransactionId>,
    ) -> Result<TopicPartition, LogError> {
        let count = self.topics.get(record.topic).map(|t| t.spec.partitions);
        let count = count.ok_or_else(|| LogError::Fatal(format!("there is no topic {}", record.topic)))?;
        let partition = record.partition.unwrap_or_else(|| record.key.map_or(0, |key| partition_of(key, count)));
        let at = TopicPartition::new(record.topic, partition);
        let stored = StoredRecord {
            offset: 0,
            timestamp_ms: self.clock.now_ms(),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .iter()
                .map(|(name, value)| Header { name: (*name).to_owned(), value: value.to_vec() })
                .collect(),
        };
        self.partition(&at)?.append(stored, transaction);
        Ok(at)
    }

    /// A new epoch for this id: its open transaction is aborted, its decided ones become visible.
    pub fn init_producer(&mut self, transactional_id: &str) -> u32 {
        self.abort_open(transactional_id);
        self.deliver_all();
        let state = self.producers.entry(transactional_id.to_owned()).or_default();
        state.epoch += 1;
        state.epoch
    }

    fn producer(&mut self, transactional_id: &str, epoch: u32) -> Result<&mut ProducerState, LogError> {
        match self.producers.get_mut(transactional_id) {
            Some(state) if !self.fences || state.epoch == epoch => Ok(state),
            _ => Err(LogError::Fenced(format!("a newer producer uses {transactional_id}"))),
        }
    }

    /// The open transaction of this producer, begun if there is none.
    pub fn transaction(&mut self, transactional_id: &str, epoch: u32) -> Result<TransactionId, LogError> {
        if let Some(open) = &self.producer(transactional_id, epoch)?.open {
            return Ok(open.id);
        }
        // The coordinator lets nobody begin before the last transaction's markers are written.
        self.deliver_all();
        self.transactions += 1;
        let id = self.transactions;
        self.producer(transactional_id, epoch)?.open = Some(Open { id, targets: BTreeSet::new() });
        Ok(id)
    }

    pub fn add_target(&mut self, transactional_id: &str, epoch: u32, target: Target) -> Result<(), LogError> {
        if let Some(open) = self.producer(transactional_id, epoch)?.open.as_mut() {
            open.targets.insert(target);
        }
        Ok(())
    }

    pub fn is_open(&self, transactional_id: &str) -> bool {
        self.producers.get(transactional_id).is_some_and(|p| p.open.is_some())
    }

    /// Decides the open transaction; its markers arrive later.
    pub fn end_transaction(&mut self, transactional_id: &str, epoch: u32, committed: bool) -> Result<(), LogError> {
        let Some(open) = self.producer(transactional_id, epoch)?.open.take() else { return Ok(()) };
        let offsets = open.targets.iter().any(|target| matches!(target, Target::Offsets(_)));
        let mut decided = Decided::new(transactional_id, open, committed);
        if let Some(faults) = self.faults.as_mut() {
            decided.lost = committed && offsets && faults.loses_sight(transactional_id);
            if faults.delays_markers(transactional_id) {
                self.undelivered.push(decided);
                return Ok(());
            }
        }
        decided.targets.iter().for_each(|target| self.deliver(&decided, target));
        Ok(())
    }

    /// The coordinator gives an open transaction up and fences its producer.
    pub fn time_out(&mut self, transactional_id: &str) {
        if self.is_open(transactional_id) {
            self.abort_open(transactional_id);
            self.producers.entry(transactional_id.to_owned()).or_default().epoch += 1;
        }
        if !self.fences {
            // There each session has an id of its own.
            let sessions = format!("{transactional_id}{SESSION}");
            let ids: Vec<String> = self.producers.keys().filter(|id| id.starts_with(&sessions)).cloned().collect();
            ids.iter().for_each(|id| self.abort_open(id));
        }
    }

    fn abort_open(&mut self, transactional_id: &str) {
        if let Some(open) = self.producers.get_mut(transactional_id).and_then(|p| p.open.take()) {
            self.undelivered.push(Decided::new(transactional_id, open, false));
        }
    }

    pub fn deliver_all(&mut self) {
        while self.deliver_one() {}
    }

    /// Writes one marker, to a place that chance picks.
    pub fn deliver_one(&mut self) -> bool {
        let waiting = self.undelivered.iter().enumerate();
        let mut places: Vec<(usize, Target)> =
            waiting.flat_map(|(i, decided)| decided.targets.iter().map(move |target| (i, target.clone()))).collect();
        if places.is_empty() {
            self.undelivered.clear();
            return false;
        }
        let pick = self.below("", places.len());
        let (i, target) = places.swap_remove(pick);
        let mut decided = self.undelivered.remove(i);
        self.deliver(&decided, &target);
        decided.targets.remove(&target);
        if !decided.targets.is_empty() {
            self.undelivered.insert(i, decided);
        }
        true
    }

    fn deliver(&mut self, decided: &Decided, target: &Target) {
        match target {
            Target::Records(at) => {
                if let Ok(partition) = self.partition(at) {
                    partition.mark(decided.id, decided.committed);
                }
            }
            Target::Offsets(name) => {
                let Some(group) = self.groups.get_mut(name) else { return };
                let Decided { id, transactional_id, committed, lost, .. } = decided;
                if *lost {
                    group.lose_sight(*id, transactional_id);
                } else {
                    self.violations.extend(group.mark(*id, transactional_id, *committed));
                }
            }
        }
    }

    pub fn stable_offsets(&mut self, group: &str, at: &[TopicPartition]) -> Result<Vec<Option<i64>>, LogError> {
        match self.groups.get(group) {
            Some(group) => group.stable_offsets(at),
            None => Ok(vec![None; at.len()]),
        }
    }

    pub fn expire(&mut self, group: &str, instance: &str) {
        let topics = self.partition_counts();
        if let Some(group) = self.groups.get_mut(group) {
            group.leave(instance, &topics);
        }
    }

    pub fn partition_counts(&self) -> BTreeMap<String, u32> {
        self.topics.iter().map(|(name, topic)| (name.clone(), topic.spec.partitions)).collect()
    }
}
