//! A log of fixed content: enough of the port for a sink.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::stream::{
    Ends, Event, Log, LogError, Member, Membership, Outgoing, Producer, Reader, Record, Records, StoredRecord,
    TopicPartition, TopicSpec,
};

#[derive(Debug, Default, Clone)]
pub(super) struct Partition {
    pub(super) first: i64,
    pub(super) high: i64,
    pub(super) records: Vec<StoredRecord>,
}

impl Partition {
    /// Retention removes what lies below `first`.
    pub(super) fn forget_below(&mut self, first: i64) {
        self.first = first;
        self.records.retain(|record| record.offset >= first);
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct FakeLog {
    partitions: Arc<Mutex<Vec<Partition>>>,
    pub(super) committed: Arc<Mutex<BTreeMap<u32, i64>>>,
    /// Events that members hand out before anything else.
    pub(super) script: Arc<Mutex<VecDeque<Scripted>>>,
    /// Records per poll.
    chunk: usize,
}

#[derive(Debug, Clone)]
pub(super) enum Scripted {
    Revoke(u32),
    Forget(u32, i64),
}

impl FakeLog {
    pub(super) fn new(partitions: Vec<Partition>, chunk: usize) -> Self {
        Self { partitions: Arc::new(Mutex::new(partitions)), chunk, ..Self::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Vec<Partition>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_scripted(&self) -> Option<Scripted> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

fn unused() -> LogError {
    LogError::Fatal("a sink has no use for this".to_owned())
}

impl Log for FakeLog {
    fn ensure_topics(&self, _: &[TopicSpec]) -> Result<(), LogError> {
        Err(unused())
    }

    fn partitions(&self, _: &str) -> Result<Option<u32>, LogError> {
        Ok(u32::try_from(self.lock().len()).ok())
    }

    fn ends(&self, at: &TopicPartition) -> Result<Ends, LogError> {
        let partition = &self.lock()[at.partition as usize];
        Ok(Ends { first: partition.first, high: partition.high, stable: partition.high })
    }

    fn committed(&self, _: &str, _: &[TopicPartition]) -> Result<Vec<Option<i64>>, LogError> {
        Err(unused())
    }

    fn read(&self, at: &TopicPartition, from: Option<i64>) -> Result<Box<dyn Reader>, LogError> {
        let records = self.lock()[at.partition as usize].records.clone();
        Ok(Box::new(FakeReader(records.into_iter().filter(|r| r.offset >= from.unwrap_or(0)).collect())))
    }

    fn join(&self, _: &Membership) -> Result<Box<dyn Member>, LogError> {
        Ok(Box::new(FakeMember {
            log: self.clone(),
            assigned: false,
            next: BTreeMap::new(),
            turn: 0,
            buffer: Vec::new(),
        }))
    }

    fn producer(&self) -> Result<Box<dyn Producer>, LogError> {
        Err(unused())
    }
}

struct FakeReader(VecDeque<StoredRecord>);

impl Reader for FakeReader {
    fn next(&mut self, each: &mut dyn FnMut(Record<'_>)) -> Result<bool, LogError> {
        let record = self.0.pop_front();
        if let Some(record) = &record {
            each(record.as_record());
        }
        Ok(record.is_some())
    }
}

struct FakeMember {
    log: FakeLog,
    assigned: bool,
    next: BTreeMap<u32, i64>,
    turn: usize,
    buffer: Vec<StoredRecord>,
}

impl Member for FakeMember {
    fn poll(&mut self, _: Duration) -> Result<Event<'_>, LogError> {
        let topic = "traffic-events";
        if !self.assigned {
            self.assigned = true;
            let partitions = self.log.lock().len();
            let all = (0..partitions).filter_map(|p| u32::try_from(p).ok());
            return Ok(Event::Assigned(all.map(|p| TopicPartition::new(topic, p)).collect()));
        }
        if self.next.is_empty() {
            return Ok(Event::Idle);
        }
        self.turn += 1;
        let (partition, next) = self.next.iter().nth(self.turn % self.next.len()).map(|(p, n)| (*p, *n)).expect("some");
        self.buffer = {
            let partitions = self.log.lock();
            let records = partitions[partition as usize].records.iter().filter(|r| r.offset >= next);
            records.take(self.log.chunk).cloned().collect()
        };
        match (self.buffer.last(), self.log.next_scripted()) {
            (_, Some(Scripted::Revoke(partition))) => {
                self.next.remove(&partition);
                Ok(Event::Revoked(vec![TopicPartition::new(topic, partition)]))
            }
            (_, Some(Scripted::Forget(partition, first))) => {
                self.log.lock()[partition as usize].forget_below(first);
                Ok(Event::Idle)
            }
            (None, None) => Ok(Event::End { input: 0, partition }),
            (Some(last), None) => {
                self.next.insert(partition, last.offset + 1);
                Ok(Event::Records(Records::stored(0, partition, &self.buffer)))
            }
        }
    }

    fn start(&mut self, at: &[(TopicPartition, Option<i64>)]) -> Result<(), LogError> {
        self.next.extend(at.iter().map(|(at, offset)| (at.partition, offset.unwrap_or(0))));
        Ok(())
    }

    fn release(&mut self) -> Result<(), LogError> {
        Ok(())
    }

    fn pause(&mut self, _: &[TopicPartition]) -> Result<(), LogError> {
        Err(unused())
    }

    fn resume(&mut self, _: &[TopicPartition]) -> Result<(), LogError> {
        Err(unused())
    }

    fn send(&mut self, _: &Outgoing<'_>) -> Result<(), LogError> {
        Err(unused())
    }

    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        let mut committed = self.log.committed.lock().unwrap_or_else(PoisonError::into_inner);
        committed.extend(offsets.iter().map(|(at, next)| (at.partition, *next)));
        Ok(())
    }

    fn abort(&mut self) -> Result<(), LogError> {
        Err(unused())
    }
}
