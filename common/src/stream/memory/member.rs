//! One member's session.

use std::sync::Arc;
use std::time::Duration;

use super::cluster::{Cluster, SESSION, Target};
use super::group::{Duty, Group};
use super::{MemoryLog, Point};
use crate::stream::log::{
    END_CONFIRMATION, Event, LogError, Member, Membership, Outgoing, Records, StoredRecord, TopicPartition,
};

pub(super) struct MemoryMember {
    log: MemoryLog,
    membership: Membership,
    /// Who it is, as faults know it.
    process: String,
    transactional_id: String,
    epoch: u32,
    session: u64,
    positions: Vec<Position>,
    buffer: Vec<Arc<StoredRecord>>,
    turn: usize,
}

struct Position {
    at: TopicPartition,
    input: usize,
    next: i64,
    paused: bool,
    /// The end that was last reported, and when.
    reported: Option<(i64, i64)>,
}

const BATCH: usize = 500;

impl MemoryMember {
    pub fn join(log: MemoryLog, membership: &Membership) -> Result<Self, LogError> {
        let process = format!("{}-{}", membership.application_id, membership.instance);
        let mut transactional_id = process.clone();
        let (epoch, session) = {
            let mut cluster = log.lock();
            let fail_after = cluster.strike(&process, Point::Join)?;
            let topics = cluster.partition_counts();
            let group = cluster.groups.entry(membership.application_id.clone());
            let group = group.or_insert_with(|| Group::new(&membership.inputs));
            let session = group.join(&membership.instance, &topics);
            if !cluster.fences {
                transactional_id = format!("{process}{SESSION}{session}");
            }
            let epoch = if membership.transactional { cluster.init_producer(&transactional_id) } else { 0 };
            if fail_after {
                return Err(LogError::Retry("joined, and heard nothing of it".into()));
            }
            (epoch, session)
        };
        let membership = membership.clone();
        Ok(Self {
            log,
            membership,
            process,
            transactional_id,
            epoch,
            session,
            positions: Vec::new(),
            buffer: Vec::new(),
            turn: 0,
        })
    }

    /// Runs `act` on the cluster after a fault had its chance at `point`.
    fn act<T>(
        &self,
        point: Point,
        act: impl FnOnce(&Self, &mut Cluster) -> Result<T, LogError>,
    ) -> Result<T, LogError> {
        let mut cluster = self.log.lock();
        let fail_after = cluster.strike(&self.process, point)?;
        let done = act(self, &mut cluster)?;
        if fail_after { Err(LogError::Retry(format!("{point:?} failed, having done its work"))) } else { Ok(done) }
    }

    fn group<'c>(&self, cluster: &'c mut Cluster) -> &'c mut Group {
        let group = cluster.groups.get_mut(&self.membership.application_id);
        group.expect("the group exists since this member joined it")
    }

    /// The next batch of any partition, or an end to report.
    fn fetch(&mut self) -> Result<Found, LogError> {
        let mut cluster = self.log.lock();
        let count = self.positions.len();
        let first = if cluster.faults.is_some() { cluster.below(&self.process, count) } else { self.turn };
        self.turn = self.turn.wrapping_add(1);
        for i in 0..count {
            let index = (first + i) % count;
            let position = &mut self.positions[index];
            if position.paused || cluster.delays_fetch(&self.process, &position.at) {
                continue;
            }
            let limit = if cluster.faults.is_some() { 1 + cluster.below(&self.process, 40) } else { BATCH };
            let now_ms = cluster.clock.now_ms();
            let partition = cluster.partition(&position.at)?;
            self.buffer.clear();
            position.next = partition.read_committed(position.next, limit, &mut self.buffer);
            if !self.buffer.is_empty() {
                position.reported = None;
                return Ok(Found::Records(index));
            }
            let end = partition.stable();
            let every = i64::try_from(END_CONFIRMATION.as_millis()).unwrap_or(i64::MAX);
            let known = position.reported.is_some_and(|(at, when)| at == end && now_ms - when < every);
            if position.next >= end && !known {
                position.reported = Some((end, now_ms));
                return Ok(Found::End(index));
            }
        }
        Ok(Found::Nothing)
    }
}

enum Found {
    Nothing,
    Records(usize),
    End(usize),
}

impl Member for MemoryMember {
    fn poll(&mut self, _timeout: Duration) -> Result<Event<'_>, LogError> {
        let duty = self.act(Point::Poll, |me, cluster| {
            if me.membership.inputs.is_empty() {
                return Ok(Duty::None);
            }
            let (instance, session) = (&me.membership.instance, me.session);
            let duty = me.group(cluster).duty(instance, session);
            // One that was expired or replaced may go on for a while before it learns of it.
            match duty {
                Err(_) if cluster.below(&me.process, 4) > 0 => Ok(Duty::None),
                other => other,
            }
        })?;
        match duty {
            Duty::GiveBack(parts) => return Ok(Event::Revoked(parts)),
            Duty::Take(parts) => {
                self.positions.clear();
                return Ok(Event::Assigned(parts));
            }
            Duty::None if self.positions.is_empty() => return Ok(Event::Idle),
            Duty::None => {}
        }
        Ok(match self.fetch()? {
            Found::Nothing => Event::Idle,
            Found::Records(i) => {
                let position = &self.positions[i];
                Event::Records(Records::shared(position.input, position.at.partition, &self.buffer))
            }
            Found::End(i) => {
                let position = &self.positions[i];
                Event::End { input: position.input, partition: position.at.partition }
            }
        })
    }

    fn start(&mut self, at: &[(TopicPartition, Option<i64>)]) -> Result<(), LogError> {
        self.act(Point::Start, |_, _| Ok(()))?;
        self.positions = at
            .iter()
            .map(|(at, next)| Position {
                at: at.clone(),
                input: self.membership.inputs.iter().position(|topic| *topic == at.topic).unwrap_or(0),
                next: next.unwrap_or(0),
                paused: false,
                reported: None,
            })
            .collect();
        Ok(())
    }

    fn release(&mut self) -> Result<(), LogError> {
        self.positions.clear();
        let (instance, session) = (self.membership.instance.clone(), self.session);
        self.act(Point::Release, |me, cluster| {
            let topics = cluster.partition_counts();
            me.group(cluster).gave_back(&instance, session, &topics)
        })
    }

    fn pause(&mut self, at: &[TopicPartition]) -> Result<(), LogError> {
        self.positions.iter_mut().filter(|p| at.contains(&p.at)).for_each(|p| p.paused = true);
        Ok(())
    }

    fn resume(&mut self, at: &[TopicPartition]) -> Result<(), LogError> {
        for position in self.positions.iter_mut().filter(|p| at.contains(&p.at)) {
            position.paused = false;
            position.reported = None;
        }
        Ok(())
    }

    fn send(&mut self, record: &Outgoing<'_>) -> Result<(), LogError> {
        if !self.membership.transactional {
            return Err(LogError::Fatal("this member has no transactions".into()));
        }
        self.act(Point::Send, |me, cluster| {
            let id = cluster.transaction(&me.transactional_id, me.epoch)?;
            let at = cluster.append(record, Some(id))?;
            cluster.add_target(&me.transactional_id, me.epoch, Target::Records(at))
        })
    }

    fn commit(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<(), LogError> {
        if !self.membership.transactional {
            return self.act(Point::SendOffsets, |me, cluster| {
                let (instance, session) = (&me.membership.instance, me.session);
                me.group(cluster).may_commit(instance, session)?;
                let violations = me.group(cluster).commit(offsets);
                cluster.violations.extend(violations);
                Ok(())
            });
        }
        if !offsets.is_empty() {
            self.act(Point::SendOffsets, |me, cluster| {
                let (instance, session) = (&me.membership.instance, me.session);
                let id = cluster.transaction(&me.transactional_id, me.epoch)?;
                if cluster.fences {
                    me.group(cluster).may_commit(instance, session)?;
                }
                me.group(cluster).add_pending(id, offsets);
                let target = Target::Offsets(me.membership.application_id.clone());
                cluster.add_target(&me.transactional_id, me.epoch, target)
            })?;
        }
        self.act(Point::EndTransaction, |me, cluster| cluster.end_transaction(&me.transactional_id, me.epoch, true))?;
        self.act(Point::AfterCommit, |_, _| Ok(()))
    }

    fn abort(&mut self) -> Result<(), LogError> {
        self.act(Point::EndTransaction, |me, cluster| {
            if cluster.is_open(&me.transactional_id) {
                cluster.end_transaction(&me.transactional_id, me.epoch, false)?;
            }
            Ok(())
        })
    }
}
