//! Processes, time, and the order of events.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use common::clock::{Clock, ManualClock};
use common::stream::memory::{CRASH, MemoryLog};
use common::stream::{
    Log, LogError, Machine, Outgoing, Pace, Runner, Step, StoredRecord, TopicPartition, TopicSpec, Topology,
    WATERMARK_HEADER,
};

use super::chance::{Chance, SeededFaults};

const SESSION_TIMEOUT_MS: i64 = 6_000;
const TRANSACTION_TIMEOUT_MS: i64 = 10_000;

/// What a world is made of.
pub struct Scenario<'m, F> {
    /// Of each kind there are as many processes as `instances`.
    pub kinds: Vec<Kind<'m>>,
    pub instances: usize,
    pub topics: Vec<TopicSpec>,
    /// Wall time at the beginning.
    pub start_ms: i64,
    pub feed: F,
}

/// What is written to the topics that the processes read.
pub trait Feed {
    fn done(&self) -> bool;

    /// The next records, at wall time `now_ms`.
    fn next(&mut self, now_ms: i64) -> Vec<Sent>;

    /// What is sent when everything else is over, and the wall time that it takes.
    fn last(&mut self) -> (i64, Vec<Sent>);
}

/// One record on its way to a topic.
#[derive(Debug, Clone)]
pub struct Sent {
    pub topic: String,
    pub partition: u32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub marker_ms: Option<i64>,
}

/// A kind of process: its machine and its place in the flow.
pub struct Kind<'m> {
    application_id: String,
    boot: Box<Boot<'m>>,
}

type Boot<'m> = dyn Fn(Arc<dyn Log>, Arc<ManualClock>, &str) -> Result<Box<dyn Running>, LogError> + 'm;

impl<'m> Kind<'m> {
    /// `topology` is given the instance's name.
    pub fn new<M: Machine + 'static>(machine: &'m dyn Fn() -> M, topology: impl Fn(&str) -> Topology + 'm) -> Self {
        let application_id = topology("").membership.application_id;
        let boot = move |log: Arc<dyn Log>, clock: Arc<ManualClock>, instance: &str| {
            let pace = Pace { commit_interval_ms: 100, commit_records: 60, tick_interval_ms: 100 };
            let runner = Runner::new(machine(), log, topology(instance), pace, clock, Box::new(|_| {}))?;
            Ok(Box::new(runner) as Box<dyn Running>)
        };
        Self { application_id, boot: Box::new(boot) }
    }
}

/// A runner, whatever its machine.
trait Running {
    fn step(&mut self) -> Result<Step, LogError>;
    fn end_input(&mut self);
}

impl<M: Machine> Running for Runner<M> {
    fn step(&mut self) -> Result<Step, LogError> {
        Runner::step(self, Duration::ZERO)
    }

    fn end_input(&mut self) {
        self.input_ended = true;
    }
}

pub struct World<'m, F> {
    pub log: MemoryLog,
    pub feed: F,
    pub sent: usize,
    pub crashes: usize,
    pub rebalances: usize,
    clock: Arc<ManualClock>,
    chance: Chance,
    kinds: Vec<Kind<'m>>,
    processes: Vec<Process>,
    dead: Vec<Dead>,
    instances: usize,
    /// Names that two processes have had at a time.
    shared_names: BTreeSet<Name>,
    actions: VecDeque<String>,
}

/// Whose process it is: a kind and an instance's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    kind: usize,
    instance: String,
}

struct Process {
    name: Name,
    runner: Box<dyn Running>,
    /// Another process has taken its name.
    replaced: bool,
}

struct Dead {
    name: Name,
    since_ms: i64,
    back_at_ms: i64,
    expired: bool,
    timed_out: bool,
}

impl<'m, F: Feed> World<'m, F> {
    pub fn new(seed: u64, chance: Chance, scenario: Scenario<'m, F>) -> Self {
        Self::with_faults(Some(seed), chance, scenario)
    }

    /// A world in which nothing goes wrong, for [`World::play_undisturbed`].
    pub fn undisturbed(scenario: Scenario<'m, F>) -> Self {
        Self::with_faults(None, Chance::new(0), scenario)
    }

    fn with_faults(seed: Option<u64>, chance: Chance, scenario: Scenario<'m, F>) -> Self {
        let clock = Arc::new(ManualClock::at(scenario.start_ms));
        let log = match seed {
            Some(seed) => MemoryLog::with_faults(clock.clone(), Box::new(SeededFaults::new(seed))),
            None => MemoryLog::new(clock.clone()),
        };
        log.ensure_topics(&scenario.topics).expect("a new log takes new topics");
        Self {
            log,
            feed: scenario.feed,
            sent: 0,
            crashes: 0,
            rebalances: 0,
            clock,
            chance,
            kinds: scenario.kinds,
            processes: Vec::new(),
            dead: Vec::new(),
            instances: scenario.instances,
            shared_names: BTreeSet::new(),
            actions: VecDeque::new(),
        }
    }

    /// Plays the history to its end.
    pub fn play(&mut self) -> Result<(), String> {
        self.boot_all()?;
        let mut quiet_steps = 200 + self.chance.index(400);
        while !self.feed.done() || quiet_steps > 0 {
            if self.feed.done() {
                quiet_steps -= 1;
            }
            self.act()?;
        }
        self.finish()
    }

    /// Everything is sent, and then read by processes that nothing happens to.
    pub fn play_undisturbed(&mut self) -> Result<(), String> {
        while !self.feed.done() {
            self.feed()?;
        }
        self.finish()
    }

    fn act(&mut self) -> Result<(), String> {
        match self.chance.below(100) {
            0..=29 => self.feed()?,
            30..=89 => self.step_any()?,
            90..=95 => {
                self.log.deliver_marker();
            }
            96 => self.kill_any(),
            97 => self.expire_any(),
            98 => self.replace_any()?,
            _ => self.pass(4_000),
        }
        self.pass(60);
        self.revive()
    }

    fn pass(&mut self, up_to_ms: u64) {
        self.clock.advance(i64::try_from(self.chance.below(up_to_ms)).expect("small"));
    }

    fn feed(&mut self) -> Result<(), String> {
        if self.feed.done() {
            return Ok(());
        }
        self.feed.next(self.clock.now_ms()).iter().try_for_each(|sent| self.send(sent))
    }

    fn send(&mut self, sent: &Sent) -> Result<(), String> {
        let marker = sent.marker_ms.map(|ms| ms.to_string());
        let headers: Vec<(&str, &[u8])> = marker.iter().map(|ms| (WATERMARK_HEADER, ms.as_bytes())).collect();
        let record = Outgoing {
            topic: &sent.topic,
            partition: Some(sent.partition),
            key: sent.key.as_deref(),
            value: sent.value.as_deref(),
            headers: &headers,
        };
        let mut producer = self.log.producer().map_err(|e| e.to_string())?;
        producer.send(&record).map_err(|e| e.to_string())?;
        self.sent += 1;
        Ok(())
    }

    fn boot_all(&mut self) -> Result<(), String> {
        for kind in 0..self.kinds.len() {
            for i in 0..self.instances {
                self.boot(Name { kind, instance: format!("i{i}") })?;
            }
        }
        Ok(())
    }

    fn boot(&mut self, name: Name) -> Result<(), String> {
        self.note(format!("start {}", self.shown(&name)));
        let log: Arc<dyn Log> = Arc::new(self.log.clone());
        let boot = &self.kinds[name.kind].boot;
        let runner = boot(log, self.clock.clone(), &name.instance).map_err(|e| e.to_string())?;
        self.processes.push(Process { name, runner, replaced: false });
        Ok(())
    }

    fn shown(&self, name: &Name) -> String {
        format!("{}-{}", self.kinds[name.kind].application_id, name.instance)
    }

    fn step_any(&mut self) -> Result<(), String> {
        if self.processes.is_empty() {
            return Ok(());
        }
        let i = self.chance.index(self.processes.len());
        self.step(i).map(|_| ())
    }

    fn step(&mut self, i: usize) -> Result<Step, String> {
        match self.processes[i].runner.step() {
            Ok(step) => Ok(step),
            Err(LogError::Fatal(why)) => {
                // Two of one name fight until one gives up; the other has the name then.
                let name = self.processes[i].name.clone();
                let mut twins = self.processes.iter_mut().enumerate().filter(|(j, p)| *j != i && p.name == name);
                let twin = twins.next().map(|(_, twin)| twin.replaced = false).is_some();
                self.processes[i].replaced = twin;
                if why != CRASH && !twin && !self.shared_names.contains(&name) {
                    return Err(format!("{} gave up: {why}", self.shown(&name)));
                }
                self.bury(i, &why);
                Ok(Step::Waiting)
            }
            Err(other) => Err(format!("a step must not fail with {other:?}")),
        }
    }

    fn bury(&mut self, i: usize, why: &str) {
        let Process { name, replaced, .. } = self.processes.remove(i);
        self.crashes += 1;
        self.note(format!("{} is dead: {why}", self.shown(&name)));
        if replaced {
            return;
        }
        let since_ms = self.clock.now_ms();
        let back_at_ms = since_ms + i64::try_from(self.chance.below(15_000)).expect("small");
        self.dead.push(Dead { name, since_ms, back_at_ms, expired: false, timed_out: false });
    }

    fn kill_any(&mut self) {
        if !self.processes.is_empty() {
            let i = self.chance.index(self.processes.len());
            self.bury(i, "killed");
        }
    }

    /// A session expires though its process lives: it goes on as a zombie until it learns of it.
    fn expire_any(&mut self) {
        if !self.processes.is_empty() {
            let i = self.chance.index(self.processes.len());
            let name = self.processes[i].name.clone();
            self.note(format!("the session of {} expires", self.shown(&name)));
            self.rebalances += 1;
            self.log.expire(&self.kinds[name.kind].application_id, &name.instance);
        }
    }

    /// A second process takes a living one's name.
    fn replace_any(&mut self) -> Result<(), String> {
        let living: Vec<usize> = (0..self.processes.len()).filter(|i| !self.processes[*i].replaced).collect();
        if living.is_empty() || self.chance.below(3) > 0 {
            return Ok(());
        }
        let i = living[self.chance.index(living.len())];
        self.processes[i].replaced = true;
        let name = self.processes[i].name.clone();
        self.shared_names.insert(name.clone());
        self.boot(name)
    }

    /// What time does to the dead: their sessions expire, their transactions time out, they come back.
    fn revive(&mut self) -> Result<(), String> {
        let now_ms = self.clock.now_ms();
        let mut back = Vec::new();
        for dead in &mut self.dead {
            let application_id = &self.kinds[dead.name.kind].application_id;
            if !dead.expired && now_ms - dead.since_ms > SESSION_TIMEOUT_MS {
                dead.expired = true;
                self.rebalances += 1;
                self.log.expire(application_id, &dead.name.instance);
            }
            if !dead.timed_out && now_ms - dead.since_ms > TRANSACTION_TIMEOUT_MS {
                dead.timed_out = true;
                self.log.time_out_transaction(application_id, &dead.name.instance);
            }
            if now_ms >= dead.back_at_ms {
                back.push(dead.name.clone());
            }
        }
        self.dead.retain(|dead| !back.contains(&dead.name));
        back.into_iter().try_for_each(|name| self.boot(name))
    }

    /// No more faults; the last records are sent; everything is read to the end.
    fn finish(&mut self) -> Result<(), String> {
        self.note("no more faults".to_owned());
        self.log.end_faults();
        // One process to a name from here on.
        self.processes.clear();
        self.dead.clear();
        self.boot_all()?;
        let (at_ms, last) = self.feed.last();
        self.clock.set(self.clock.now_ms().max(at_ms) + 1_000);
        last.iter().try_for_each(|sent| self.send(sent))?;
        self.processes.iter_mut().for_each(|p| p.runner.end_input());
        let mut at_end = 0;
        for _ in 0..20_000 {
            for i in 0..self.processes.len() {
                let step = self.step(i)?;
                at_end = if step == Step::AtEnd { at_end + 1 } else { 0 };
            }
            self.clock.advance(50);
            // Twice around: what one wrote for another was read by it.
            if at_end > 3 * self.processes.len() {
                return Ok(());
            }
        }
        Err("does not come to an end".to_owned())
    }

    fn note(&mut self, action: String) {
        if self.actions.len() == 40 {
            self.actions.pop_front();
        }
        self.actions.push_back(format!("{} {action}", self.clock.now_ms()));
    }

    pub fn last_actions(&self) -> String {
        self.actions.iter().cloned().collect::<Vec<_>>().join("\n  ")
    }
}

/// The committed records of a partition.
pub fn read(log: &dyn Log, topic: &str, partition: u32) -> Result<Vec<StoredRecord>, String> {
    let mut records = Vec::new();
    let mut reader = log.read(&TopicPartition::new(topic, partition), None).map_err(|e| e.to_string())?;
    while reader.next(&mut |record| records.push(record.to_stored())).map_err(|e| e.to_string())? {}
    Ok(records)
}
