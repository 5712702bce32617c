//! One membership of the sink in its group: takes partitions over, fills a batch, writes it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::projection::{Batch, House, Move, Open, Place};
use super::rows::Refused;
use super::sink::{Control, Health, ProjectionSink};
use super::{DbError, ProjectionError};
use crate::stream::{Event, Member, Records, TopicPartition};

const POLL: Duration = Duration::from_millis(100);

pub(super) struct Session<'s> {
    sink: &'s ProjectionSink,
    control: &'s Control<'s>,
    health: &'s mut Health,
    open: Open<'s>,
    house: House,
    topics: Vec<String>,
    /// Whether the group has given us our partitions, perhaps none.
    joined: bool,
    /// By partition and input: the same partition of all inputs is locked together.
    owned: BTreeMap<(u32, usize), Owned>,
    batch: Batch,
    /// When the first record came that is not written yet, epoch ms.
    opened_ms: Option<i64>,
    refused: u64,
    first_refused: Option<(TopicPartition, i64, Refused)>,
    /// What the group's offsets are to follow to.
    committed: Vec<(TopicPartition, i64)>,
}

struct Owned {
    /// The offset in the database.
    stored: i64,
    next: i64,
    at_end: bool,
}

impl<'s> Session<'s> {
    pub(super) fn new(
        sink: &'s ProjectionSink,
        control: &'s Control<'s>,
        health: &'s mut Health,
        open: Open<'s>,
    ) -> Self {
        Self {
            sink,
            control,
            health,
            open,
            house: House::new(sink.settings.retention.clone()),
            topics: sink.projection.topics(),
            joined: false,
            owned: BTreeMap::new(),
            batch: sink.projection.batch(),
            opened_ms: None,
            refused: 0,
            first_refused: None,
            committed: Vec::new(),
        }
    }

    pub(super) fn run(mut self) -> Result<(), ProjectionError> {
        self.sink.wait(self.control, self.open.look_around(&mut self.house, &self.sink.projection))?;
        let mut member = self.sink.log.join(&self.sink.membership())?;
        self.serve(&mut *member)?;
        drop(member);
        self.sink.runtime.block_on(self.open.connection.close());
        Ok(())
    }

    fn serve(&mut self, member: &mut dyn Member) -> Result<(), ProjectionError> {
        loop {
            let stopping = (self.control.shutdown)();
            match member.poll(self.patience())? {
                Event::Idle => {}
                Event::Assigned(partitions) => self.take_over(&partitions, member)?,
                Event::Revoked(partitions) => {
                    self.flush()?;
                    self.commit_offsets(member)?;
                    member.release()?;
                    let gone = |topic: &str, partition: u32| {
                        partitions.iter().any(|at| at.partition == partition && at.topic == topic)
                    };
                    self.owned.retain(|(partition, input), _| !gone(&self.topics[*input], *partition));
                }
                Event::Records(records) => self.records(&records)?,
                Event::End { input, partition } => {
                    if let Some(owned) = self.owned.get_mut(&(partition, input)) {
                        owned.at_end = true;
                    }
                }
            }
            let at_end = self.joined && self.owned.values().all(|owned| owned.at_end);
            if stopping || (self.control.exit_at_end && at_end) {
                self.flush()?;
                return self.commit_offsets(member);
            }
            if self.patience().is_zero() {
                self.flush()?;
            }
            self.commit_offsets(member)?;
            self.keep_house();
        }
    }

    /// How long to wait for records before what has come must be written.
    fn patience(&self) -> Duration {
        let Some(opened_ms) = self.opened_ms else { return POLL };
        // A clock that was set back does not tell how long: long enough.
        let age = u64::try_from(self.sink.clock.now_ms() - opened_ms).unwrap_or(u64::MAX);
        self.sink.settings.commit_interval.saturating_sub(Duration::from_millis(age)).min(POLL)
    }

    /// Reads on from the offsets in the database: the group's only follow.
    fn take_over(&mut self, partitions: &[TopicPartition], member: &mut dyn Member) -> Result<(), ProjectionError> {
        let mut places = Vec::with_capacity(partitions.len());
        let mut ends = Vec::with_capacity(partitions.len());
        for at in partitions {
            let here = self.sink.log.ends(at)?;
            places.push(Place { topic: at.topic.clone(), partition: at.partition, first: here.first });
            ends.push(here);
        }
        let name = self.sink.projection.name();
        let stored = self.sink.wait(self.control, self.open.take_over(name, &places))?;
        let mut starts = Vec::with_capacity(partitions.len());
        for ((at, stored), ends) in partitions.iter().zip(stored).zip(ends) {
            if stored > ends.high {
                return Err(ProjectionError::Retry(format!(
                    "{at} ends at offset {}, but the database {} has already read it up to {stored}: the topic was \
                     made anew, or this is another log; empty the projection's tables and offsets, and they are made \
                     anew (docs/database.md)",
                    ends.high, self.sink.database
                )));
            }
            if stored < ends.first {
                self.note_gap(at, stored, ends.first);
            }
            let next = stored.max(ends.first);
            tracing::info!(projection = name, topic = at.topic, partition = at.partition, next, "projecting {at}");
            let input = self.topics.iter().position(|topic| *topic == at.topic).unwrap_or(0);
            self.owned.insert((at.partition, input), Owned { stored, next, at_end: false });
            starts.push((at.clone(), Some(next)));
        }
        member.start(&starts)?;
        self.joined = true;
        (self.control.report)(Ok(()));
        Ok(())
    }

    fn note_gap(&mut self, at: &TopicPartition, stored: i64, first: i64) {
        self.health.summary.gaps += 1;
        metrics::counter!("traffic_projection_gaps_total", "topic" => at.topic.clone()).increment(1);
        tracing::error!(
            topic = at.topic,
            partition = at.partition,
            stored,
            first,
            "{at}: offsets {stored} to {first} were deleted by retention before they became rows"
        );
    }

    fn records(&mut self, records: &Records<'_>) -> Result<(), ProjectionError> {
        let place = (records.partition, records.input);
        for record in records.iter() {
            let Some(owned) = self.owned.get_mut(&place) else { return Ok(()) };
            owned.at_end = false;
            if record.offset < owned.next {
                continue;
            }
            owned.next = record.offset + 1;
            if self.opened_ms.is_none() {
                self.opened_ms = Some(self.sink.clock.now_ms());
            }
            // Markers and tombstones become no rows.
            let Some(value) = record.value else { continue };
            if let Err(refused) = self.batch.add(records.input, &record, value) {
                self.refused += 1;
                let at = || TopicPartition::new(self.topics[records.input].clone(), records.partition);
                self.first_refused.get_or_insert_with(|| (at(), record.offset, refused));
            }
            if self.batch.rows() >= self.sink.settings.batch_rows as usize {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes what is in memory and moves the offsets on, in one transaction.
    fn flush(&mut self) -> Result<(), ProjectionError> {
        let moved: Vec<u32> = self.owned.iter().filter(|(_, o)| o.next != o.stored).map(|((p, _), _)| *p).collect();
        self.opened_ms = None;
        if moved.is_empty() {
            return Ok(());
        }
        let expired = self.house.expire(&mut self.batch, self.sink.clock.now_ms());
        // All inputs of a partition, moved or not: what reads them together owns them together.
        let moves: Vec<Move<'_>> = self
            .owned
            .iter()
            .filter(|((partition, _), _)| moved.contains(partition))
            .map(|((partition, input), owned)| Move {
                topic: &self.topics[*input],
                partition: *partition,
                expected: owned.stored,
                next: owned.next,
            })
            .collect();
        let name = self.sink.projection.name();
        let writing = self.open.commit(&mut self.house, name, &self.batch, &moves);
        self.sink.wait(self.control, writing)?;
        self.note_written(expired);
        Ok(())
    }

    fn note_written(&mut self, expired: usize) {
        let name = self.sink.projection.name();
        let batch = std::mem::replace(&mut self.batch, self.sink.projection.batch());
        let rows = batch.rows() as u64;
        for ((partition, input), owned) in self.owned.iter_mut().filter(|(_, owned)| owned.next != owned.stored) {
            owned.stored = owned.next;
            self.committed.push((TopicPartition::new(self.topics[*input].clone(), *partition), owned.next));
        }
        let summary = &mut self.health.summary;
        summary.rows += rows;
        summary.transactions += 1;
        summary.expired += expired as u64;
        summary.refused += self.refused;
        metrics::counter!("traffic_projection_rows_total", "projection" => name).increment(rows);
        metrics::counter!("traffic_projection_expired_total", "projection" => name).increment(expired as u64);
        metrics::counter!("traffic_projection_refused_total", "projection" => name).increment(self.refused);
        if let Some((at, offset, why)) = self.first_refused.take() {
            tracing::error!(
                topic = at.topic,
                partition = at.partition,
                offset,
                refused = self.refused,
                "{} records are no valid messages and become no rows; the first is {at} at offset {offset}: {why}",
                self.refused
            );
        }
        self.refused = 0;
        self.health.recovered();
        (self.control.report)(Ok(()));
    }

    /// Lets the group's offsets follow, for whoever looks at lag.
    fn commit_offsets(&mut self, member: &mut dyn Member) -> Result<(), ProjectionError> {
        if self.committed.is_empty() {
            return Ok(());
        }
        // The last one of a partition, if it was written more than once.
        let newest: BTreeMap<TopicPartition, i64> = self.committed.drain(..).collect();
        Ok(member.commit(&newest.into_iter().collect::<Vec<_>>())?)
    }

    /// Lets rows go that are too old. That it failed is no reason to stop writing.
    fn keep_house(&mut self) {
        let now_ms = self.sink.clock.now_ms();
        if !self.joined || !self.house.is_due(now_ms) {
            return;
        }
        let cleaning = self.open.keep_house(&mut self.house, &self.sink.projection, now_ms);
        if let Err(error) = self.sink.wait(self.control, cleaning) {
            let error: DbError = error;
            tracing::warn!(projection = self.sink.projection.name(), %error, "{error}; trying again later");
        }
    }
}
