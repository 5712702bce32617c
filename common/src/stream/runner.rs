//! Drives a machine: poll → machine → one transaction of outputs, changed state and input offsets.
//!
//! Invariants: nothing of a batch is visible before its commit; offsets, state and outputs of a commit
//! become visible together or not at all; after any error the machine forgets its partitions and is
//! restored from what was committed. The changelog's entry of the place (`place.rs`) always holds the group's offsets.

mod commit;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tracing::{error, info, warn};

use super::held::Held;
use super::log::{Event, Log, LogError, Member, Reader, TopicPartition};
use super::machine::{Machine, Outbox};
use super::restore::{Restore, Start};
use super::topology::{Notice, Observer, Pace, Step, Topology, common_partitions, verify_partitions};
use crate::clock::{Clock, has_passed};

/// How long an urgent commit waits for one record more.
const GATHER: Duration = Duration::from_millis(2);
/// For how long a machine that has read everything and still waits for others is given time.
const PATIENCE_MS: i64 = 15_000;

/// A restoration that waits longer for a transaction waits for one that nobody will decide, or whose end the broker has
/// lost sight of: the log gives up our own after 18 s at most.
const UNDECIDED_MS: i64 = 20_000;

/// Records older than this are a backlog.
const BACKLOG_MS: i64 = 1_000;

const BACKOFF_FIRST_MS: i64 = 200;
const BACKOFF_LAST_MS: i64 = 10_000;

/// A machine, its log and its membership.
pub struct Runner<M> {
    machine: M,
    log: Arc<dyn Log>,
    topology: Topology,
    pace: Pace,
    clock: Arc<dyn Clock>,
    observer: Observer<M>,
    partitions: u32,
    /// Whether [`Step::AtEnd`] is looked for.
    pub input_ended: bool,
    member: Option<Box<dyn Member>>,
    tail: Option<Box<dyn Reader>>,
    /// Partitions whose inputs are paused.
    paused: BTreeSet<u32>,
    /// Since when everything was read, while the machine waits for others.
    waiting_since_ms: Option<i64>,
    /// When the session was lost, and the pause before the next.
    lost_at_ms: i64,
    pause_ms: i64,
    backoff_ms: i64,
    assigned: bool,
    taken_at_ms: i64,
    restoring: Vec<Restore>,
    /// Since when restoring waits for a transaction, or since when that was last complained of.
    undecided_since_ms: Option<i64>,
    starts: Vec<Start>,
    held: BTreeMap<u32, Held>,
    outbox: Outbox,
    /// What the open transaction adds to our own inputs: input, partition.
    grown: Vec<(usize, Option<u32>)>,
    /// Records handled and not yet committed.
    uncommitted: usize,
    /// Whether the open transaction holds records, and how many bytes of them.
    open: bool,
    open_bytes: usize,
    /// Whether somebody waits for the next commit.
    urgent: bool,
    /// Whether the last records were a backlog.
    behind: bool,
    committed_at_ms: i64,
    ticked_at_ms: i64,
}

impl<M: Machine> Runner<M> {
    /// # Errors
    /// `Fatal` if inputs and changelog differ in their number of partitions or do not exist.
    pub fn new(
        machine: M,
        log: Arc<dyn Log>,
        topology: Topology,
        pace: Pace,
        clock: Arc<dyn Clock>,
        observer: Observer<M>,
    ) -> Result<Self, LogError> {
        let partitions = common_partitions(log.as_ref(), &topology)?;
        Ok(Self {
            machine,
            log,
            topology,
            pace,
            clock,
            observer,
            partitions,
            input_ended: false,
            member: None,
            tail: None,
            paused: BTreeSet::new(),
            waiting_since_ms: None,
            lost_at_ms: i64::MIN,
            pause_ms: 0,
            backoff_ms: BACKOFF_FIRST_MS,
            assigned: false,
            taken_at_ms: i64::MIN,
            restoring: Vec::new(),
            undecided_since_ms: None,
            starts: Vec::new(),
            held: BTreeMap::new(),
            outbox: Outbox::default(),
            grown: Vec::new(),
            uncommitted: 0,
            open: false,
            open_bytes: 0,
            urgent: false,
            behind: false,
            committed_at_ms: i64::MIN,
            ticked_at_ms: i64::MIN,
        })
    }

    #[must_use]
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// Runs until `stop` says so (then drains and commits) or, once the input has `ended`, until everything was read.
    ///
    /// # Errors
    /// Only `Fatal` ones; everything else is retried for ever.
    pub fn run(&mut self, stop: &dyn Fn() -> bool, ended: &dyn Fn() -> bool) -> Result<(), LogError> {
        const POLL: Duration = Duration::from_millis(20);
        while !stop() {
            if !self.input_ended && ended() {
                // Ends that were confirmed before may be the ends no more: see them anew.
                self.close()?;
                self.input_ended = true;
            }
            match self.step(POLL)? {
                Step::AtEnd => break,
                Step::Waiting => std::thread::sleep(POLL),
                Step::Worked | Step::Idle => {}
            }
        }
        self.close()
    }

    /// Commits what is open and leaves.
    ///
    /// # Errors
    /// Only `Fatal` ones; a commit that fails is left to the successor, which reads the records again.
    pub fn close(&mut self) -> Result<(), LogError> {
        if let Err(error) = self.commit() {
            self.lose(error)?;
        }
        self.forget();
        Ok(())
    }

    /// Does the next thing, waiting at most `timeout` for it.
    ///
    /// # Errors
    /// Only `Fatal` ones: others are noticed, and the next steps join again.
    pub fn step(&mut self, timeout: Duration) -> Result<Step, LogError> {
        match self.advance(timeout) {
            Ok(step) => Ok(step),
            Err(error) => {
                self.lose(error)?;
                Ok(Step::Waiting)
            }
        }
    }

    fn advance(&mut self, timeout: Duration) -> Result<Step, LogError> {
        let now_ms = self.clock.now_ms();
        if self.member.is_none() {
            if !has_passed(self.pause_ms, self.lost_at_ms, now_ms) {
                return Ok(Step::Waiting);
            }
            verify_partitions(self.log.as_ref(), &self.topology, self.partitions)?;
            self.member = Some(self.log.join(&self.topology.membership)?);
            self.committed_at_ms = now_ms;
        }
        if !self.restoring.is_empty() {
            return self.restore();
        }
        if self.due(now_ms) {
            self.commit()?;
        }
        if has_passed(self.pace.tick_interval_ms, self.ticked_at_ms, now_ms) {
            self.tick(now_ms)?;
        }
        if !self.machine.is_settled() {
            self.read_tail(now_ms)?;
        }
        self.hold_back()?;
        // Somebody waits for the next commit: only what is there already may come before it.
        let step = self.poll(if self.urgent { timeout.min(GATHER) } else { timeout }, now_ms)?;
        if self.urgent && step != Step::Worked {
            self.commit()?;
        }
        if step == Step::Worked {
            self.waiting_since_ms = None;
        } else if self.input_ended && self.everything_read(now_ms) {
            return self.settle(now_ms);
        }
        Ok(step)
    }

    /// Brings the machine up to the tail's present end.
    fn read_tail(&mut self, now_ms: i64) -> Result<(), LogError> {
        let Some(topic) = &self.topology.tail else { return Ok(()) };
        let mut tail = match self.tail.take() {
            Some(tail) => tail,
            None => self.log.tail(&TopicPartition::new(topic, 0))?,
        };
        let mut done = Ok(());
        while tail.next(&mut |record| {
            if done.is_ok() {
                self.machine.tailed(&record, now_ms, &mut self.outbox);
                done = self.answered();
            }
        })? {}
        done?;
        self.tail = Some(tail);
        self.send()
    }

    /// A record of the tail may be answered with a whole frame: in a backlog many would come together.
    fn answered(&mut self) -> Result<(), LogError> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        self.waiting_since_ms = None;
        if self.open_bytes + self.outbox.bytes() >= self.pace.commit_bytes { self.commit() } else { Ok(()) }
    }

    /// Pauses the inputs of partitions whose machine takes no more, resumes those of others.
    fn hold_back(&mut self) -> Result<(), LogError> {
        let Some(member) = self.member.as_mut() else { return Ok(()) };
        for &partition in self.held.keys() {
            let (takes_more, paused) = (self.machine.takes_more(partition), self.paused.contains(&partition));
            if takes_more != paused {
                continue;
            }
            let inputs = self.topology.membership.inputs.iter();
            let inputs: Vec<_> = inputs.map(|topic| TopicPartition::new(topic, partition)).collect();
            if takes_more {
                member.resume(&inputs)?;
                self.paused.remove(&partition);
            } else {
                member.pause(&inputs)?;
                self.paused.insert(partition);
            }
        }
        Ok(())
    }

    fn poll(&mut self, timeout: Duration, now_ms: i64) -> Result<Step, LogError> {
        let Some(member) = self.member.as_mut() else { return Ok(Step::Waiting) };
        match member.poll(timeout)? {
            Event::Idle => return Ok(Step::Idle),
            Event::Assigned(parts) => self.take(&parts)?,
            Event::Revoked(_) => self.give_back()?,
            Event::End { input, partition } => {
                if let Some(held) = self.held.get_mut(&partition) {
                    held.confirm_end(input, now_ms);
                }
                return Ok(Step::Idle);
            }
            Event::Records(records) => {
                if let Some(held) = self.held.get_mut(&records.partition) {
                    held.ends[records.input] = None;
                    held.moved[records.input] = true;
                    held.positions[records.input] = Some(records.next_offset());
                    self.uncommitted += records.len();
                    self.behind = now_ms.saturating_sub(records.get(records.len() - 1).timestamp_ms) > BACKLOG_MS;
                    self.machine.records(&records, now_ms, &mut self.outbox);
                }
            }
        }
        self.send()?;
        Ok(Step::Worked)
    }

    /// Partitions are ours: forget what we hold, restore, then read on.
    fn take(&mut self, parts: &[TopicPartition]) -> Result<(), LogError> {
        let mut numbers: BTreeMap<u32, usize> = BTreeMap::new();
        for part in parts {
            *numbers.entry(part.partition).or_default() += 1;
        }
        let inputs = self.topology.membership.inputs.clone();
        let whole = |number: u32, topics: usize| number < self.partitions && topics == inputs.len();
        if let Some((number, _)) = numbers.iter().find(|(number, topics)| !whole(**number, **topics)) {
            verify_partitions(self.log.as_ref(), &self.topology, self.partitions)?;
            return Err(LogError::Fatal(format!(
                "partition {number} of {inputs:?} was not assigned as a whole: all members of group {} must read the same topics with a range assignor",
                self.topology.membership.application_id
            )));
        }
        self.release_all();
        self.starts.clear();
        for &number in numbers.keys() {
            self.machine.assign(number, self.partitions);
            self.restoring.push(Restore::new(number, &inputs, self.topology.changelog.as_deref()));
        }
        self.assigned = true;
        self.taken_at_ms = self.clock.now_ms();
        if self.restoring.is_empty() { self.begin() } else { Ok(()) }
    }

    fn restore(&mut self) -> Result<Step, LogError> {
        while let Some(next) = self.restoring.last_mut() {
            let (group, now_ms) = (&self.topology.membership.application_id, self.clock.now_ms());
            let overdue = has_passed(UNDECIDED_MS, self.taken_at_ms, now_ms);
            let Some(starts) = next.advance(self.log.as_ref(), group, &mut self.machine, overdue)? else {
                // The last owner's transaction is undecided; go on answering the group meanwhile.
                let since_ms = *self.undecided_since_ms.get_or_insert(now_ms);
                if has_passed(UNDECIDED_MS, since_ms, now_ms) {
                    self.undecided_since_ms = Some(now_ms);
                    if let Some(why) = next.why_so_long() {
                        error!("{why}");
                    }
                }
                let member = self.member.as_mut().expect("restoring only as a member");
                match member.poll(Duration::from_millis(5))? {
                    Event::Revoked(_) => self.give_back()?,
                    Event::Assigned(parts) => self.take(&parts)?,
                    Event::Idle | Event::Records(_) | Event::End { .. } => {}
                }
                return Ok(Step::Waiting);
            };
            self.starts.extend(starts);
            self.undecided_since_ms = None;
            self.restoring.pop();
        }
        self.begin()?;
        Ok(Step::Worked)
    }

    /// Everything is restored: read on from the committed offsets.
    fn begin(&mut self) -> Result<(), LogError> {
        let member = self.member.as_mut().expect("begins only as a member");
        let starts: Vec<_> = self.starts.iter().map(|start| (start.at.clone(), start.from)).collect();
        member.start(&starts)?;
        let inputs = &self.topology.membership.inputs;
        self.held = starts.iter().map(|(at, _)| (at.partition, Held::new(inputs.len()))).collect();
        for start in self.starts.drain(..) {
            let input = inputs.iter().position(|topic| *topic == start.at.topic);
            if let (Some(input), Some(held)) = (input, self.held.get_mut(&start.at.partition)) {
                held.positions[input] = start.from;
                held.moved[input] = !start.is_committed;
            }
        }
        info!(partitions = ?self.held.keys().collect::<Vec<_>>(), "partitions taken over");
        self.backoff_ms = BACKOFF_FIRST_MS;
        (self.observer)(Notice::Ready { machine: &self.machine });
        // Where we do not stand on the group's own offsets they are committed at once: if its coordinator has lost sight of
        // a commit under our name, this one mends that.
        if self.held.values().any(|held| held.moved.contains(&true)) { self.commit() } else { Ok(()) }
    }

    /// Partitions are taken from us: commit what we did, then let go.
    fn give_back(&mut self) -> Result<(), LogError> {
        self.commit()?;
        self.release_all();
        self.assigned = false;
        match self.member.as_mut() {
            Some(member) => member.release(),
            None => Ok(()),
        }
    }

    fn tick(&mut self, now_ms: i64) -> Result<(), LogError> {
        self.ticked_at_ms = now_ms;
        for (&partition, held) in &self.held {
            self.machine.tick(partition, held.tick(now_ms), &mut self.outbox);
        }
        self.send()
    }

    fn everything_read(&self, now_ms: i64) -> bool {
        self.assigned && self.restoring.is_empty() && self.held.values().all(|held| held.at_end(now_ms))
    }

    /// All is read: tell the machine, commit; at the end only if that wrote nothing to our own inputs.
    fn settle(&mut self, now_ms: i64) -> Result<Step, LogError> {
        self.tick(now_ms)?;
        self.commit()?;
        if !self.everything_read(now_ms) {
            return Ok(Step::Worked);
        }
        if !self.machine.is_settled() {
            // A clock that was set back begins the wait anew.
            let since_ms = self.waiting_since_ms.map_or(now_ms, |since_ms| since_ms.min(now_ms));
            self.waiting_since_ms = Some(since_ms);
            if now_ms - since_ms < PATIENCE_MS {
                return Ok(Step::Waiting);
            }
        }
        Ok(Step::AtEnd)
    }

    fn release_all(&mut self) {
        for &partition in self.held.keys() {
            self.machine.release(partition);
        }
        for restore in self.restoring.drain(..) {
            self.machine.release(restore.partition);
        }
        for start in self.starts.drain(..) {
            self.machine.release(start.at.partition);
        }
        self.undecided_since_ms = None;
        self.held.clear();
        self.outbox.clear();
        self.grown.clear();
        self.paused.clear();
        self.waiting_since_ms = None;
        self.uncommitted = 0;
        self.open = false;
        self.open_bytes = 0;
        self.urgent = false;
    }

    fn forget(&mut self) {
        self.release_all();
        self.assigned = false;
        self.member = None;
        self.tail = None;
    }

    /// The session is lost: forget everything that was not committed and come again.
    fn lose(&mut self, error: LogError) -> Result<(), LogError> {
        (self.observer)(Notice::Lost(&error));
        self.forget();
        match error {
            LogError::Fatal(_) => return Err(error),
            LogError::Fenced(_) => {
                self.pause_ms = 0;
                warn!(%error, "fenced; joining again");
            }
            LogError::Retry(_) | LogError::Unstable(_) => {
                (self.lost_at_ms, self.pause_ms) = (self.clock.now_ms(), self.backoff_ms);
                warn!(%error, retry_in_ms = self.backoff_ms, "session lost; joining again after a pause");
                self.backoff_ms = (self.backoff_ms * 2).min(BACKOFF_LAST_MS);
            }
        }
        Ok(())
    }
}
