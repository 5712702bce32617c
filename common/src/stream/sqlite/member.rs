//! The one member of an application id: all partitions are its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::warn;

use super::batch::RecordBuffer;
use super::lock::ApplicationLock;
use super::pending::Pending;
use super::scan::Scan;
use super::schema::PartitionId;
use super::writer::GroupOffsets;
use super::{Shared, now};
use crate::stream::log::{END_CONFIRMATION, Event, LogError, Member, Membership, Outgoing, Records, TopicPartition};

pub(super) struct SqliteMember {
    log: Arc<Shared>,
    membership: Membership,
    _lock: ApplicationLock,
    announced: bool,
    cursors: Vec<Cursor>,
    /// Whose turn it is to be read.
    turn: usize,
    buffer: RecordBuffer,
    pending: Pending,
}

/// One input partition.
struct Cursor {
    input: usize,
    scan: Scan,
    started: bool,
    paused: bool,
    /// When the end was last confirmed, while we stand there.
    confirmed: Option<Instant>,
}

impl Cursor {
    fn reading(&self) -> bool {
        self.started && !self.paused
    }

    /// How long until the end is to be confirmed.
    fn confirmation_due_in(&self) -> Duration {
        self.confirmed.map_or(Duration::ZERO, |at| END_CONFIRMATION.saturating_sub(now().duration_since(at)))
    }
}

/// What a look at the inputs found; an index into the cursors.
enum Found {
    Records(usize),
    End(usize),
}

impl SqliteMember {
    pub fn join(log: Arc<Shared>, membership: &Membership) -> Result<Self, LogError> {
        let lock = ApplicationLock::take(&log.place.path, &membership.application_id)?;
        let mut cursors = Vec::new();
        for (input, name) in membership.inputs.iter().enumerate() {
            let topic = log.existing_topic(name)?;
            for number in 0..topic.partitions {
                let id = topic.partition(number).expect("the number is below the count");
                let scan = Scan::new(TopicPartition::new(name, number), id, 0);
                cursors.push(Cursor { input, scan, started: false, paused: false, confirmed: None });
            }
        }
        Ok(Self {
            log,
            membership: membership.clone(),
            _lock: lock,
            announced: false,
            cursors,
            turn: 0,
            buffer: RecordBuffer::default(),
            pending: Pending::default(),
        })
    }

    fn cursor(&mut self, at: &TopicPartition) -> Result<&mut Cursor, LogError> {
        let id = &self.membership.application_id;
        let cursor = self.cursors.iter_mut().find(|cursor| cursor.scan.at == *at);
        cursor.ok_or_else(|| LogError::Fatal(format!("partition {at} is not among the inputs of {id}")))
    }

    /// The next records in turn, or an end to confirm.
    fn look(&mut self) -> Result<Option<Found>, LogError> {
        for step in 0..self.cursors.len() {
            let index = (self.turn + step) % self.cursors.len();
            let cursor = &mut self.cursors[index];
            if !cursor.reading() {
                continue;
            }
            let id = cursor.scan.id;
            if cursor.scan.position >= self.log.heads.get(id) && cursor.confirmation_due_in().is_zero() {
                self.log.look_at(id)?;
            }
            let head = self.log.heads.get(id);
            if cursor.scan.position < head {
                let (scan, buffer) = (&mut cursor.scan, &mut self.buffer);
                self.log.read(|connection| scan.fill(connection, buffer))?;
                if !self.buffer.is_empty() {
                    cursor.confirmed = None;
                    self.turn = index + 1;
                    return Ok(Some(Found::Records(index)));
                }
                // What was there has been compacted or has expired.
                cursor.scan.position = head;
            }
            if cursor.confirmation_due_in().is_zero() {
                cursor.confirmed = Some(now());
                return Ok(Some(Found::End(index)));
            }
        }
        Ok(None)
    }

    /// Waits until an input grows or an end must be confirmed anew.
    fn wait(&self, timeout: Duration) {
        let reading = || self.cursors.iter().filter(|cursor| cursor.reading());
        let positions: Vec<(PartitionId, i64)> = reading().map(|c| (c.scan.id, c.scan.position)).collect();
        let confirmation = reading().map(Cursor::confirmation_due_in).min().unwrap_or(timeout);
        self.log.heads.wait(&positions, timeout.min(confirmation));
    }

    fn transactional(&self) -> Result<(), LogError> {
        if self.membership.transactional {
            return Ok(());
        }
        Err(LogError::Fatal(format!("member {} has joined without transactions", self.membership.application_id)))
    }
}

impl Member for SqliteMember {
    fn poll(&mut self, timeout: Duration) -> Result<Event<'_>, LogError> {
        if !self.announced {
            self.announced = true;
            if !self.cursors.is_empty() {
                return Ok(Event::Assigned(self.cursors.iter().map(|cursor| cursor.scan.at.clone()).collect()));
            }
        }
        let deadline = now() + timeout;
        let found = loop {
            if let Some(found) = self.look()? {
                break found;
            }
            let left = deadline.saturating_duration_since(now());
            if left.is_zero() {
                return Ok(Event::Idle);
            }
            self.wait(left);
        };
        let cursor = |index: usize| (self.cursors[index].input, self.cursors[index].scan.at.partition);
        Ok(match found {
            Found::Records(index) => {
                let (input, partition) = cursor(index);
                Event::Records(Records::stored(input, partition, self.buffer.records()))
            }
            Found::End(index) => {
                let (input, partition) = cursor(index);
                Event::End { input, partition }
            }
        })
    }

    fn start(&mut self, at: &[(TopicPartition, Option<i64>)]) -> Result<(), LogError> {
        let log = Arc::clone(&self.log);
        for (at, offset) in at {
            let cursor = self.cursor(at)?;
            let ends = log.partition_ends(cursor.scan.id)?;
            if let Some(offset) = offset.filter(|offset| *offset > ends.high || *offset < 0) {
                return Err(LogError::Fatal(format!(
                    "offset {offset} of {at} is beyond its end {} in {}: was the file replaced by an older one? Then the group's offsets and state must be of the same age",
                    ends.high,
                    log.place.path.display()
                )));
            }
            if let Some(lost) = offset.map(|offset| ends.first - offset).filter(|lost| *lost > 0) {
                warn!(partition = %at, records = lost, "retention has removed records that were not yet read");
            }
            cursor.scan.position = offset.unwrap_or(0).max(ends.first);
            cursor.started = true;
            cursor.paused = false;
            cursor.confirmed = None;
        }
        Ok(())
    }

    fn release(&mut self) -> Result<(), LogError> {
        self.cursors.iter_mut().for_each(|cursor| cursor.started = false);
        Ok(())
    }

    fn pause(&mut self, at: &[TopicPartition]) -> Result<(), LogError> {
        at.iter().try_for_each(|at| self.cursor(at).map(|cursor| cursor.paused = true))
    }

    fn resume(&mut self, at: &[TopicPartition]) -> Result<(), LogError> {
        at.iter().try_for_each(|at| {
            self.cursor(at).map(|cursor| {
                cursor.paused = false;
                cursor.confirmed = None;
            })
        })
    }

    fn send(&mut self, record: &Outgoing<'_>) -> Result<(), LogError> {
        self.transactional()?;
        self.pending.push(&self.log, record)
    }

    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        if self.pending.is_empty() && offsets.is_empty() {
            return Ok(());
        }
        let mut next = Vec::with_capacity(offsets.len());
        for (at, offset) in offsets {
            next.push((self.log.existing_partition(at)?, *offset));
        }
        let group = GroupOffsets { group: &self.membership.application_id, offsets: &next };
        self.log.append(&mut self.pending, Some(group))
    }

    fn abort(&mut self) -> Result<(), LogError> {
        self.pending.clear();
        Ok(())
    }
}
