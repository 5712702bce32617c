//! Processes, time, and the order of events.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use common::clock::{Clock, ManualClock};
use common::stream::memory::{CRASH, MemoryLog};
use common::stream::{
    Cleanup, Log, LogError, Machine, Membership, Outgoing, Pace, Runner, Step, TopicSpec, Topology, WATERMARK_HEADER,
};

use super::chance::{Chance, SeededFaults};
use super::input::{Habits, START_MS, Senders, Sent, WINDOW_MS};

pub const APPLICATION: &str = "aggregator";
pub const EVENTS: &str = "traffic-events";
pub const REKEYED: &str = "traffic-events-rekeyed";
pub const AGGREGATES: &str = "processed-traffic-aggregates";
pub const DEAD_LETTERS: &str = "traffic-events-dlq";
pub const STATE: &str = "aggregator-state";

const SESSION_TIMEOUT_MS: i64 = 6_000;
const TRANSACTION_TIMEOUT_MS: i64 = 10_000;

pub struct World<'m, M> {
    pub log: MemoryLog,
    pub sent: Vec<Sent>,
    pub senders: Senders,
    pub crashes: usize,
    pub rebalances: usize,
    clock: Arc<ManualClock>,
    chance: Chance,
    machine: &'m dyn Fn() -> M,
    processes: Vec<Process<M>>,
    dead: Vec<Dead>,
    instances: usize,
    /// Names that two processes have had at a time.
    shared_names: BTreeSet<String>,
    actions: VecDeque<String>,
}

struct Process<M> {
    instance: String,
    runner: Runner<M>,
    /// Another process has taken its name.
    replaced: bool,
}

struct Dead {
    instance: String,
    since_ms: i64,
    back_at_ms: i64,
    expired: bool,
    timed_out: bool,
}

impl<'m, M: Machine + 'static> World<'m, M> {
    pub fn new(seed: u64, machine: &'m dyn Fn() -> M) -> Self {
        let mut chance = Chance::new(seed);
        let habits = Habits::pick(&mut chance);
        let ten_days_ms = 864_000_000;
        let clock = Arc::new(ManualClock::at(if habits.live { START_MS } else { START_MS + ten_days_ms }));
        let log = MemoryLog::with_faults(clock.clone(), Box::new(SeededFaults::new(seed)));
        let topics = [EVENTS, REKEYED, AGGREGATES, DEAD_LETTERS, STATE].map(|name| TopicSpec {
            name: name.to_owned(),
            partitions: habits.partitions,
            replication: 1,
            cleanup: if name == STATE { Cleanup::Compact } else { Cleanup::Delete { retention_ms: None } },
        });
        log.ensure_topics(&topics).expect("a new log takes new topics");
        let instances = 1 + chance.index(3);
        Self {
            log,
            sent: Vec::new(),
            senders: Senders::new(habits, seed),
            crashes: 0,
            rebalances: 0,
            clock,
            chance,
            machine,
            processes: Vec::new(),
            dead: Vec::new(),
            instances,
            shared_names: BTreeSet::new(),
            actions: VecDeque::new(),
        }
    }

    /// Plays the history to its end.
    pub fn play(&mut self) -> Result<(), String> {
        for i in 0..self.instances {
            self.boot(&format!("i{i}"))?;
        }
        let mut quiet_steps = 200 + self.chance.index(400);
        while !self.senders.done() || quiet_steps > 0 {
            if self.senders.done() {
                quiet_steps -= 1;
            }
            self.act()?;
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
        if self.senders.done() {
            return Ok(());
        }
        for sent in self.senders.next(self.clock.now_ms()) {
            self.send(sent)?;
        }
        Ok(())
    }

    fn send(&mut self, sent: Sent) -> Result<(), String> {
        let marker = sent.marker_ms.map(|ms| ms.to_string());
        let headers: Vec<(&str, &[u8])> = marker.iter().map(|ms| (WATERMARK_HEADER, ms.as_bytes())).collect();
        let record = Outgoing {
            topic: EVENTS,
            partition: Some(sent.partition),
            key: sent.key.as_deref(),
            value: sent.value.as_deref(),
            headers: &headers,
        };
        let mut producer = self.log.producer().map_err(|e| e.to_string())?;
        producer.send(&record).map_err(|e| e.to_string())?;
        self.sent.push(sent);
        Ok(())
    }

    fn boot(&mut self, instance: &str) -> Result<(), String> {
        self.note(format!("start {instance}"));
        let topology = Topology {
            membership: Membership {
                application_id: APPLICATION.into(),
                instance: instance.into(),
                inputs: vec![EVENTS.into(), REKEYED.into()],
                transactional: true,
            },
            outputs: vec![AGGREGATES.into(), REKEYED.into(), DEAD_LETTERS.into()],
            changelog: Some(STATE.into()),
            tail: None,
        };
        let log: Arc<dyn Log> = Arc::new(self.log.clone());
        let pace = Pace { commit_interval_ms: 100, commit_records: 60, tick_interval_ms: 100 };
        let runner = Runner::new((self.machine)(), log, topology, pace, self.clock.clone(), Box::new(|_| {}))
            .map_err(|e| e.to_string())?;
        self.processes.push(Process { instance: instance.into(), runner, replaced: false });
        Ok(())
    }

    fn step_any(&mut self) -> Result<(), String> {
        if self.processes.is_empty() {
            return Ok(());
        }
        let i = self.chance.index(self.processes.len());
        self.step(i).map(|_| ())
    }

    fn step(&mut self, i: usize) -> Result<Step, String> {
        match self.processes[i].runner.step(Duration::ZERO) {
            Ok(step) => Ok(step),
            Err(LogError::Fatal(why)) => {
                // Two of one name fight until one gives up; the other has the name then.
                let instance = self.processes[i].instance.clone();
                let mut twins =
                    self.processes.iter_mut().enumerate().filter(|(j, p)| *j != i && p.instance == instance);
                let twin = twins.next().map(|(_, twin)| twin.replaced = false).is_some();
                self.processes[i].replaced = twin;
                if why != CRASH && !twin && !self.shared_names.contains(&instance) {
                    return Err(format!("{} gave up: {why}", self.processes[i].instance));
                }
                self.bury(i, &why);
                Ok(Step::Waiting)
            }
            Err(other) => Err(format!("a step must not fail with {other:?}")),
        }
    }

    fn bury(&mut self, i: usize, why: &str) {
        let Process { instance, replaced, .. } = self.processes.remove(i);
        self.crashes += 1;
        self.note(format!("{instance} is dead: {why}"));
        if replaced {
            return;
        }
        let since_ms = self.clock.now_ms();
        let back_at_ms = since_ms + i64::try_from(self.chance.below(15_000)).expect("small");
        self.dead.push(Dead { instance, since_ms, back_at_ms, expired: false, timed_out: false });
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
            let instance = self.processes[i].instance.clone();
            self.note(format!("the session of {instance} expires"));
            self.rebalances += 1;
            self.log.expire(APPLICATION, &instance);
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
        let instance = self.processes[i].instance.clone();
        self.shared_names.insert(instance.clone());
        self.boot(&instance)
    }

    /// What time does to the dead: their sessions expire, their transactions time out, they come back.
    fn revive(&mut self) -> Result<(), String> {
        let now_ms = self.clock.now_ms();
        let mut back = Vec::new();
        for dead in &mut self.dead {
            if !dead.expired && now_ms - dead.since_ms > SESSION_TIMEOUT_MS {
                dead.expired = true;
                self.rebalances += 1;
                self.log.expire(APPLICATION, &dead.instance);
            }
            if !dead.timed_out && now_ms - dead.since_ms > TRANSACTION_TIMEOUT_MS {
                dead.timed_out = true;
                self.log.time_out_transaction(APPLICATION, &dead.instance);
            }
            if now_ms >= dead.back_at_ms {
                back.push(dead.instance.clone());
            }
        }
        self.dead.retain(|dead| !back.contains(&dead.instance));
        back.iter().try_for_each(|instance| self.boot(instance))
    }

    /// No more faults; a last marker closes every window; everything is read to the end.
    fn finish(&mut self) -> Result<(), String> {
        self.note("no more faults".to_owned());
        self.log.end_faults();
        // One process to a name from here on.
        self.processes.clear();
        self.dead.clear();
        for i in 0..self.instances {
            self.boot(&format!("i{i}"))?;
        }
        let close_ms = (self.senders.newest_ms / WINDOW_MS + 1) * WINDOW_MS;
        self.clock.set(self.clock.now_ms().max(close_ms) + 1_000);
        for marker in self.senders.markers(close_ms) {
            self.send(marker)?;
        }
        self.processes.iter_mut().for_each(|p| p.runner.input_ended = true);
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
