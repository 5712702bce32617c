//! The log in memory, for the simulator: what a Kafka cluster may do, one step at a time.
//!
//! It keeps Kafka's semantics where they decide correctness: a transaction is decided at one moment but
//! its markers reach each partition and the offsets at different ones, and a group's coordinator may lose sight of
//! one; a producer's epoch and a group's generation fence zombies; a dead producer's transaction stays open until it is
//! aborted. Without [`Faults`] everything happens at once.
//!
//! | file | owns |
//! |---|---|
//! | `mod.rs` | the port, and what only the simulator may do |
//! | `cluster.rs` | topics, transactions, markers |
//! | `group.rs` | members, generations, assignment |
//! | `member.rs` | one member's session |

mod cluster;
mod group;
mod member;

use std::sync::{Arc, Mutex, MutexGuard};

use self::cluster::Cluster;
use self::group::Group;
use self::member::MemoryMember;
use super::log::{
    Ends, Log, LogError, Member, Membership, Outgoing, Producer, Reader, Record, StoredRecord, TopicPartition,
    TopicSpec,
};
use crate::clock::Clock;

/// Where a fault may strike: the steps of a process's life on the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Point {
    Join,
    Committed,
    ChangelogEnds,
    /// Reading a changelog or a tail begins …
    ChangelogRead,
    /// … and goes on, some records at a time.
    ReadOn,
    Start,
    Poll,
    /// Partitions are given back.
    Release,
    Send,
    SendOffsets,
    EndTransaction,
    AfterCommit,
}

impl Point {
    pub const ALL: [Self; 12] = [
        Self::Join,
        Self::Committed,
        Self::ChangelogEnds,
        Self::ChangelogRead,
        Self::ReadOn,
        Self::Start,
        Self::Poll,
        Self::Release,
        Self::Send,
        Self::SendOffsets,
        Self::EndTransaction,
        Self::AfterCommit,
    ];

    /// Whether the call does something that may outlast its failure.
    #[must_use]
    pub fn has_effect(self) -> bool {
        matches!(self, Self::Join | Self::Release | Self::Send | Self::SendOffsets | Self::EndTransaction)
    }
}

/// What happens at a [`Point`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    None,
    /// The process dies here: nothing of it acts again.
    Crash,
    /// The call fails, having done nothing.
    Fail,
    /// The call fails, having done its work.
    FailAfter,
}

/// Decides what goes wrong, from a seed. A process is named by its `transactional.id`.
pub trait Faults: Send {
    /// What happens to `process` at this point.
    fn at(&mut self, process: &str, point: Point) -> Fault;

    /// Whether the markers of the transaction that `process` has just decided are written later, one by one, and not at
    /// once.
    fn delays_markers(&mut self, _process: &str) -> bool {
        true
    }

    /// Whether the group's coordinator loses sight of the transaction that `process` has just committed: its offsets stay
    /// unstable until the same process commits again, or [`MemoryLog::restart_coordinator`].
    fn loses_sight(&mut self, _process: &str) -> bool {
        false
    }

    /// Whether this fetch brings nothing of a partition, neither records nor its end.
    fn delays_fetch(&mut self, _process: &str, _at: &TopicPartition) -> bool {
        false
    }

    /// A number below `n`, `n > 0`, for `process`: batch sizes, which partition next. The cluster's own choices, which
    /// marker next, have no name.
    fn below(&mut self, process: &str, n: usize) -> usize;
}

/// The log in memory; clones share it.
#[derive(Clone)]
pub struct MemoryLog {
    cluster: Arc<Mutex<Cluster>>,
    /// Who reads through this handle; nothing goes wrong for nobody.
    process: Option<Arc<str>>,
}

/// The message of the error that stands for a process's death.
pub const CRASH: &str = "the process died here";

impl MemoryLog {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::of(Cluster::new(clock, None))
    }

    /// A log on which `faults` decides what goes wrong and in what order things become visible.
    #[must_use]
    pub fn with_faults(clock: Arc<dyn Clock>, faults: Box<dyn Faults>) -> Self {
        Self::of(Cluster::new(clock, Some(faults)))
    }

    /// A log without fencing, on which zombies commit like anybody else: to see whether this is noticed.
    #[must_use]
    pub fn unfenced(clock: Arc<dyn Clock>, faults: Box<dyn Faults>) -> Self {
        let mut cluster = Cluster::new(clock, Some(faults));
        cluster.fences = false;
        Self::of(cluster)
    }

    fn of(cluster: Cluster) -> Self {
        Self { cluster: Arc::new(Mutex::new(cluster)), process: None }
    }

    /// This log as a process sees it: what it reads may fail, and it may die of it.
    #[must_use]
    pub fn seen_by(&self, process: &str) -> Self {
        Self { cluster: self.cluster.clone(), process: Some(process.into()) }
    }

    /// The cluster, after a fault had its chance at `point`.
    fn strike(&self, point: Point) -> Result<MutexGuard<'_, Cluster>, LogError> {
        let mut cluster = self.lock();
        if let Some(process) = &self.process {
            cluster.strike(process, point)?;
        }
        Ok(cluster)
    }

    fn lock(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().expect("no panic happens while the cluster is locked")
    }

    /// From here on nothing goes wrong and everything decided becomes visible, but for what coordinators have lost sight of.
    pub fn end_faults(&self) {
        let mut cluster = self.lock();
        cluster.faults = None;
        cluster.deliver_all();
    }

    /// Makes one decided transaction visible in one more place; `false` if there was none.
    pub fn deliver_marker(&self) -> bool {
        self.lock().deliver_one()
    }

    /// The groups' coordinator reads anew from the log what was decided.
    pub fn restart_coordinator(&self) {
        self.lock().groups.values_mut().for_each(Group::reload);
    }

    /// The group gives `instance` up: its session has expired. It learns so only when it next acts on the group.
    pub fn expire(&self, group: &str, instance: &str) {
        self.lock().expire(group, instance);
    }

    /// The coordinator aborts the transaction that `transactional_id` has left open, if any.
    pub fn time_out_transaction(&self, application_id: &str, instance: &str) {
        self.lock().time_out(&format!("{application_id}-{instance}"));
    }

    /// Invariants that were broken, in words: offsets that moved backwards.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.lock().violations.clone()
    }
}

impl Log for MemoryLog {
    fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        topics.iter().try_for_each(|spec| self.lock().ensure_topic(spec))
    }

    fn partitions(&self, topic: &str) -> Result<Option<u32>, LogError> {
        Ok(self.lock().topics.get(topic).map(|t| t.spec.partitions))
    }

    fn ends(&self, at: &TopicPartition) -> Result<Ends, LogError> {
        let mut cluster = self.strike(Point::ChangelogEnds)?;
        let partition = cluster.partition(at)?;
        Ok(Ends { first: 0, high: partition.high(), stable: partition.stable() })
    }

    fn committed(&self, group: &str, at: &[TopicPartition]) -> Result<Vec<Option<i64>>, LogError> {
        self.strike(Point::Committed)?.stable_offsets(group, at)
    }

    fn read(&self, at: &TopicPartition, from: Option<i64>) -> Result<Box<dyn Reader>, LogError> {
        self.strike(Point::ChangelogRead)?.partition(at)?;
        Ok(Box::new(MemoryReader { log: self.clone(), at: at.clone(), next: from.unwrap_or(0) }))
    }

    fn join(&self, membership: &Membership) -> Result<Box<dyn Member>, LogError> {
        Ok(Box::new(MemoryMember::join(self.clone(), membership)?))
    }

    fn producer(&self) -> Result<Box<dyn Producer>, LogError> {
        Ok(Box::new(MemoryProducer { log: self.clone() }))
    }
}

struct MemoryReader {
    log: MemoryLog,
    at: TopicPartition,
    next: i64,
}

impl Reader for MemoryReader {
    fn next(&mut self, each: &mut dyn FnMut(Record<'_>)) -> Result<bool, LogError> {
        const BATCH: usize = 40;
        let mut batch: Vec<Arc<StoredRecord>> = Vec::new();
        let at_end = {
            let mut cluster = self.log.strike(Point::ReadOn)?;
            let partition = cluster.partition(&self.at)?;
            self.next = partition.read_committed(self.next, BATCH, &mut batch);
            self.next >= partition.stable()
        };
        batch.iter().for_each(|record| each(record.as_record()));
        Ok(!at_end || !batch.is_empty())
    }
}

struct MemoryProducer {
    log: MemoryLog,
}

impl Producer for MemoryProducer {
    fn send(&mut self, record: &Outgoing<'_>) -> Result<(), LogError> {
        self.log.lock().append(record, None).map(|_| ())
    }

    fn flush(&mut self) -> Result<(), LogError> {
        Ok(())
    }
}
