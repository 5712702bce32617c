//! Known bugs, to show that the simulator finds them. They are wrappers around the log and the machine: nothing of
//! them is in production code.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aggregator::Aggregator;
use common::stream::{
    Ends, Event, Header, Log, LogError, Machine, Member, Membership, Outbox, Outgoing, Producer, Reader, Record,
    Records, StoredRecord, Tick, TopicPartition, TopicSpec, WATERMARK_HEADER,
};

use super::{Failure, Play, Stage, Summary};

/// A known bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Offsets are committed first, then what was made of them.
    OffsetsBeforeOutput,
    /// State is written at once, beside the transaction.
    StateOutsideTransaction,
    /// The watermark is what the wall clock says.
    WallClockWatermark,
    /// A successor does not know which events were counted.
    ForgottenHashes,
    /// Epochs and generations are not looked at.
    Unfenced,
    /// A changelog is read to its last stable offset, and nobody waits for what is undecided.
    RestoredToStable,
    /// The same, only where the group's offsets are unstable and the changelog alone says where to read on.
    PlaceOfStable,
}

impl Bug {
    pub const ALL: [Self; 7] = [
        Self::OffsetsBeforeOutput,
        Self::StateOutsideTransaction,
        Self::WallClockWatermark,
        Self::ForgottenHashes,
        Self::Unfenced,
        Self::RestoredToStable,
        Self::PlaceOfStable,
    ];

    /// Plays one history of the aggregator with this bug.
    ///
    /// # Errors
    /// What was wrong: that is what is hoped for.
    pub fn play(self, play: &Play) -> Result<Summary, Failure> {
        let stage = match self {
            Self::OffsetsBeforeOutput => Stage { wrap: |log| Skewed::wrap(log, How::OffsetsFirst), fences: true },
            Self::StateOutsideTransaction => Stage { wrap: |log| Skewed::wrap(log, How::StateAtOnce), fences: true },
            Self::RestoredToStable => Stage { wrap: |log| Skewed::wrap(log, How::StableIsHigh), fences: true },
            Self::PlaceOfStable => {
                Stage { wrap: |log| Skewed::wrap(log, How::StableIsHighWhileUnstable), fences: true }
            }
            Self::Unfenced => Stage { fences: false, ..Stage::default() },
            Self::WallClockWatermark | Self::ForgottenHashes => Stage::default(),
        };
        let play = Play { stage, ..play.clone() };
        let machine = || Aggregator::new(aggregator::Settings::default());
        match self {
            Self::WallClockWatermark => super::play(&play, &|| WallClock(machine())),
            Self::ForgottenHashes => super::play(&play, &|| Hashless(machine())),
            _ => super::play(&play, &machine),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    OffsetsFirst,
    StateAtOnce,
    StableIsHigh,
    StableIsHighWhileUnstable,
}

/// A log whose clients do one thing wrong.
struct Skewed {
    log: Arc<dyn Log>,
    how: How,
    /// Whether the offsets that were asked for last were unstable.
    unstable: AtomicBool,
}

impl Skewed {
    fn wrap(log: Arc<dyn Log>, how: How) -> Arc<dyn Log> {
        Arc::new(Self { log, how, unstable: AtomicBool::new(false) })
    }
}

impl Log for Skewed {
    fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<(), LogError> {
        self.log.ensure_topics(topics)
    }

    fn partitions(&self, topic: &str) -> Result<Option<u32>, LogError> {
        self.log.partitions(topic)
    }

    fn ends(&self, at: &TopicPartition) -> Result<Ends, LogError> {
        let ends = self.log.ends(at)?;
        let is_skewed = match self.how {
            How::StableIsHigh => true,
            How::StableIsHighWhileUnstable => self.unstable.load(Ordering::Relaxed),
            How::OffsetsFirst | How::StateAtOnce => false,
        };
        Ok(if is_skewed { Ends { high: ends.stable, ..ends } } else { ends })
    }

    fn committed(&self, group: &str, at: &[TopicPartition]) -> Result<Vec<Option<i64>>, LogError> {
        let committed = self.log.committed(group, at);
        self.unstable.store(matches!(committed, Err(LogError::Unstable(_))), Ordering::Relaxed);
        committed
    }

    fn read(&self, at: &TopicPartition, from: Option<i64>) -> Result<Box<dyn Reader>, LogError> {
        self.log.read(at, from)
    }

    fn join(&self, membership: &Membership) -> Result<Box<dyn Member>, LogError> {
        let (member, producer) = (self.log.join(membership)?, self.log.producer()?);
        let changelog = format!("{}-state", membership.application_id);
        Ok(Box::new(SkewedMember { member, producer, how: self.how, changelog, kept: Vec::new() }))
    }

    fn producer(&self) -> Result<Box<dyn Producer>, LogError> {
        self.log.producer()
    }
}

struct SkewedMember {
    member: Box<dyn Member>,
    producer: Box<dyn Producer>,
    how: How,
    changelog: String,
    /// Kept back until the offsets are committed.
    kept: Vec<(String, Option<u32>, StoredRecord)>,
}

impl Member for SkewedMember {
    fn poll(&mut self, timeout: Duration) -> Result<Event<'_>, LogError> {
        self.member.poll(timeout)
    }

    fn start(&mut self, at: &[(TopicPartition, Option<i64>)]) -> Result<(), LogError> {
        self.member.start(at)
    }

    fn release(&mut self) -> Result<(), LogError> {
        self.member.release()
    }

    fn pause(&mut self, at: &[TopicPartition]) -> Result<(), LogError> {
        self.member.pause(at)
    }

    fn resume(&mut self, at: &[TopicPartition]) -> Result<(), LogError> {
        self.member.resume(at)
    }

    fn send(&mut self, record: &Outgoing<'_>) -> Result<(), LogError> {
        match self.how {
            How::OffsetsFirst => {
                let headers = record.headers.iter();
                let headers = headers.map(|(name, value)| Header { name: (*name).to_owned(), value: value.to_vec() });
                let kept = StoredRecord {
                    key: record.key.map(<[u8]>::to_vec),
                    value: record.value.map(<[u8]>::to_vec),
                    headers: headers.collect(),
                    ..StoredRecord::default()
                };
                self.kept.push((record.topic.to_owned(), record.partition, kept));
                Ok(())
            }
            How::StateAtOnce if record.topic == self.changelog => self.producer.send(record),
            How::StateAtOnce | How::StableIsHigh | How::StableIsHighWhileUnstable => self.member.send(record),
        }
    }

    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        self.member.commit(offsets)?;
        let kept = std::mem::take(&mut self.kept);
        for (topic, partition, record) in &kept {
            let headers: Vec<_> = record.headers.iter().map(|h| (h.name.as_str(), h.value.as_slice())).collect();
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            self.member.send(&Outgoing { topic, partition: *partition, key, value, headers: &headers })?;
        }
        if kept.is_empty() { Ok(()) } else { self.member.commit(&[]) }
    }

    fn abort(&mut self) -> Result<(), LogError> {
        self.member.abort()
    }
}

/// Before any records it hears that its partition is complete up to now.
struct WallClock<M>(M);

/// Restores everything but the hashes of events seen.
struct Hashless<M>(M);

macro_rules! pass_on {
    ($($method:ident($($argument:ident: $kind:ty),*)),*) => {
        $(fn $method(&mut self, $($argument: $kind),*) {
            self.0.$method($($argument),*);
        })*
    };
}

impl<M: Machine> Machine for WallClock<M> {
    pass_on!(
        assign(partition: u32, partitions: u32),
        restore(partition: u32, key: &[u8], value: Option<&[u8]>),
        tick(partition: u32, tick: Tick, out: &mut Outbox),
        flush(partition: u32, now_ms: i64, out: &mut Outbox),
        release(partition: u32),
        tailed(record: &Record<'_>, now_ms: i64, out: &mut Outbox)
    );

    fn records(&mut self, records: &Records<'_>, now_ms: i64, out: &mut Outbox) {
        let header = Header { name: WATERMARK_HEADER.to_owned(), value: now_ms.to_string().into_bytes() };
        let marker = [StoredRecord { headers: vec![header], ..StoredRecord::default() }];
        self.0.records(&Records::stored(aggregator::EVENTS, records.partition, &marker), now_ms, out);
        self.0.records(records, now_ms, out);
    }
}

impl<M: Machine> Machine for Hashless<M> {
    pass_on!(
        assign(partition: u32, partitions: u32),
        records(records: &Records<'_>, now_ms: i64, out: &mut Outbox),
        tick(partition: u32, tick: Tick, out: &mut Outbox),
        flush(partition: u32, now_ms: i64, out: &mut Outbox),
        release(partition: u32),
        tailed(record: &Record<'_>, now_ms: i64, out: &mut Outbox)
    );

    fn restore(&mut self, partition: u32, key: &[u8], value: Option<&[u8]>) {
        // Their keys begin so.
        if key.first() != Some(&b'h') {
            self.0.restore(partition, key, value);
        }
    }
}
