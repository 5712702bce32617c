//! Processes, time, and the order of events.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use common::clock::{Clock, ManualClock};
use common::stream::memory::{CRASH, MemoryLog};
use common::stream::{
    Log, LogError, Machine, Notice, Outgoing, Pace, Record, Runner, Step, StoredRecord, TopicPartition, TopicSpec,
    Topology, WATERMARK_HEADER,
};

use super::chance::Chance;
use super::faults::SeededFaults;
use super::schedule::{Schedule, Strike};
use super::{Play, Stage};

/// Number of the stream of what the world does.
const WORLD: u64 = 0x3041d;
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
    /// How far a process's clock may be ahead of the log's.
    pub ahead_ms: i64,
    pub feed: F,
}

/// What is written to the topics that the processes read.
pub trait Feed {
    /// How much it has in all.
    fn length(&self) -> usize;

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
    pub topology: Topology,
    pub machine: Box<dyn Fn() -> Box<dyn Machine> + 'm>,
    boot: Box<Boot<'m>>,
}

type Boot<'m> = dyn Fn(Arc<dyn Log>, Arc<dyn Clock>, &str, Schedule) -> Result<Box<dyn Running>, LogError> + 'm;

impl<'m> Kind<'m> {
    /// `topology` is given the instance's name.
    pub fn new<M: Machine + 'static>(machine: &'m dyn Fn() -> M, topology: impl Fn(&str) -> Topology + 'm) -> Self {
        let any = topology("");
        let boot = move |log: Arc<dyn Log>, clock: Arc<dyn Clock>, instance: &str, schedule: Schedule| {
            let pace = Pace { commit_records: 60, commit_bytes: 20_000, ..Pace::default() };
            let topology = topology(instance);
            let name = process_name(&topology);
            let tell = move |notice: Notice<'_, M>| schedule.tell(|| format!("{name}: {}", shown(&notice)));
            let runner = Runner::new(machine(), log, topology, pace, clock, Box::new(tell))?;
            Ok(Box::new(runner) as Box<dyn Running>)
        };
        Self { topology: any, machine: Box::new(move || Box::new(machine())), boot: Box::new(boot) }
    }

    fn application_id(&self) -> &str {
        &self.topology.membership.application_id
    }
}

fn process_name(topology: &Topology) -> String {
    format!("{}-{}", topology.membership.application_id, topology.membership.instance)
}

fn shown<M>(notice: &Notice<'_, M>) -> String {
    match notice {
        Notice::Ready { .. } => "restored, reads on".to_owned(),
        Notice::Lost(error) => format!("gives its session up: {error}"),
        Notice::Committed { records, .. } => format!("has committed {records} records"),
    }
}

/// A process's own clock: the world's, but for what somebody has set it to.
struct SkewedClock {
    world: Arc<ManualClock>,
    skew_ms: AtomicI64,
}

impl Clock for SkewedClock {
    fn now_ms(&self) -> i64 {
        self.world.now_ms() + self.skew_ms.load(Ordering::Relaxed)
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
    pub kinds: Vec<Kind<'m>>,
    pub topics: Vec<TopicSpec>,
    pub schedule: Schedule,
    pub sent: usize,
    pub crashes: usize,
    pub rebalances: usize,
    clock: Arc<ManualClock>,
    seed: u64,
    /// How often something was done.
    acts: u64,
    /// What chance says about the present act.
    chance: Chance,
    stage: Stage,
    pace: Tempo,
    processes: Vec<Process>,
    dead: Vec<Dead>,
    instances: usize,
    ahead_ms: i64,
    /// Names that two processes have had at a time.
    shared_names: BTreeSet<Name>,
}

/// How fast a history goes.
struct Tempo {
    /// Time between two acts is less than this.
    act_ms: i64,
    /// Acts after the last record was sent.
    quiet: usize,
    /// One in so many of the world's faults strikes.
    rarity: u64,
}

impl Tempo {
    fn pick(chance: &mut Chance) -> Self {
        Self {
            act_ms: [60, 60, 1_000][chance.index(3)],
            quiet: 200 + chance.index(400),
            rarity: [1, 1, 5][chance.index(3)],
        }
    }
}

/// Whose process it is: a kind and an instance's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    kind: usize,
    instance: String,
}

struct Process {
    name: Name,
    clock: Arc<SkewedClock>,
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
    /// A world in which whatever the seed decides may go wrong.
    pub fn new(play: &Play, scenario: Scenario<'m, F>) -> Self {
        let clock = Arc::new(ManualClock::at(scenario.start_ms));
        let schedule = Schedule::new(play.allowed.clone(), clock.clone());
        let partitions = scenario.topics.iter().map(|topic| topic.partitions).max().unwrap_or(1);
        let faults = Box::new(SeededFaults::new(play.seed, partitions, schedule.clone()));
        let log = if play.stage.fences {
            MemoryLog::with_faults(clock.clone(), faults)
        } else {
            MemoryLog::unfenced(clock.clone(), faults)
        };
        Self::on(log, clock, schedule, play.seed, play.stage, scenario)
    }

    /// A world in which nothing goes wrong.
    pub fn undisturbed(scenario: Scenario<'m, F>) -> Self {
        let clock = Arc::new(ManualClock::at(scenario.start_ms));
        let schedule = Schedule::new(super::Allowed::default(), clock.clone());
        Self::on(MemoryLog::new(clock.clone()), clock, schedule, 0, Stage::default(), scenario)
    }

    fn on(
        log: MemoryLog,
        clock: Arc<ManualClock>,
        schedule: Schedule,
        seed: u64,
        stage: Stage,
        scenario: Scenario<'m, F>,
    ) -> Self {
        log.ensure_topics(&scenario.topics).expect("a new log takes new topics");
        let mut chance = Chance::new(seed ^ 0x3071d);
        Self {
            log,
            feed: scenario.feed,
            kinds: scenario.kinds,
            topics: scenario.topics,
            schedule,
            sent: 0,
            crashes: 0,
            rebalances: 0,
            clock,
            seed,
            acts: 0,
            stage,
            pace: Tempo::pick(&mut chance),
            chance,
            processes: Vec::new(),
            dead: Vec::new(),
            instances: scenario.instances,
            ahead_ms: scenario.ahead_ms,
            shared_names: BTreeSet::new(),
        }
    }

    /// Plays the history to its end.
    pub fn play(&mut self) -> Result<(), String> {
        self.boot_all()?;
        while !self.feed.done() || self.pace.quiet > 0 {
            if self.feed.done() {
                self.pace.quiet -= 1;
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

    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    fn act(&mut self) -> Result<(), String> {
        self.acts += 1;
        self.chance = Chance::of(self.seed, WORLD, self.acts);
        match self.chance.below(1_000) {
            0..=299 => self.feed()?,
            300..=894 => self.step_any()?,
            895..=949 => {
                self.log.deliver_marker();
            }
            _ if !self.chance.one_in(self.pace.rarity) => {}
            950..=959 => self.kill_any(),
            960..=969 => self.expire_any(),
            970..=979 => self.replace_any()?,
            980..=989 => self.set_any_clock(),
            _ => self.pause(),
        }
        let between_ms = self.chance.ms(self.pace.act_ms);
        self.clock.advance(between_ms);
        self.revive()
    }

    /// Whether the fault that this act has decided strikes.
    fn strikes(&self, strike: Strike, shown: impl FnOnce() -> String) -> bool {
        self.schedule.strikes("world".to_owned(), self.acts, strike, shown)
    }

    fn any(&mut self) -> Option<usize> {
        (!self.processes.is_empty()).then(|| self.chance.index(self.processes.len()))
    }

    /// All stand still.
    fn pause(&mut self) {
        let pause_ms = self.chance.ms(20_000);
        if self.strikes(Strike::Pause, || format!("nobody does anything for {pause_ms} ms")) {
            self.clock.advance(pause_ms);
        }
    }

    /// A process's clock jumps: by up to an hour, or back to the right time.
    fn set_any_clock(&mut self) {
        const BEHIND_MS: i64 = 3_600_000;
        let Some(i) = self.any() else { return };
        let skew_ms = match self.chance.below(3) {
            0 => 0,
            1 => self.chance.ms(self.ahead_ms),
            _ => -self.chance.ms(BEHIND_MS),
        };
        let name = self.shown(&self.processes[i].name);
        if self.strikes(Strike::ClockSet, || format!("{name}: its clock is set to {skew_ms:+} ms")) {
            self.processes[i].clock.skew_ms.store(skew_ms, Ordering::Relaxed);
        }
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
        let shown = self.shown(&name);
        self.schedule.tell(|| format!("{shown}: starts"));
        let log = (self.stage.wrap)(Arc::new(self.log.seen_by(&shown)));
        let clock = Arc::new(SkewedClock { world: self.clock.clone(), skew_ms: AtomicI64::new(0) });
        let boot = &self.kinds[name.kind].boot;
        let runner = boot(log, clock.clone(), &name.instance, self.schedule.clone()).map_err(|e| e.to_string())?;
        self.processes.push(Process { name, clock, runner, replaced: false });
        Ok(())
    }

    fn shown(&self, name: &Name) -> String {
        format!("{}-{}", self.kinds[name.kind].application_id(), name.instance)
    }

    fn step_any(&mut self) -> Result<(), String> {
        match self.any() {
            Some(i) => self.step(i).map(drop),
            None => Ok(()),
        }
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
        self.schedule.tell(|| format!("{}: dead ({why})", self.shown(&name)));
        if replaced {
            return;
        }
        let since_ms = self.clock.now_ms();
        let back_at_ms = since_ms + self.chance.ms(15_000);
        self.dead.push(Dead { name, since_ms, back_at_ms, expired: false, timed_out: false });
    }

    fn kill_any(&mut self) {
        let Some(i) = self.any() else { return };
        let name = self.shown(&self.processes[i].name);
        if self.strikes(Strike::Kill, || format!("{name}: is killed")) {
            self.bury(i, "killed");
        }
    }

    fn expire_any(&mut self) {
        let Some(i) = self.any() else { return };
        let name = self.processes[i].name.clone();
        if self.strikes(Strike::Expiry, || format!("{}: its session expires, and it lives on", self.shown(&name))) {
            self.rebalances += 1;
            self.log.expire(self.kinds[name.kind].application_id(), &name.instance);
        }
    }

    fn replace_any(&mut self) -> Result<(), String> {
        let living: Vec<usize> = (0..self.processes.len()).filter(|i| !self.processes[*i].replaced).collect();
        if living.is_empty() || self.chance.below(3) > 0 {
            return Ok(());
        }
        let i = living[self.chance.index(living.len())];
        let name = self.processes[i].name.clone();
        if !self.strikes(Strike::Twin, || format!("{}: a second process takes its name", self.shown(&name))) {
            return Ok(());
        }
        self.processes[i].replaced = true;
        self.shared_names.insert(name.clone());
        self.boot(name)
    }

    /// What time does to the dead: their sessions expire, their transactions time out, they come back.
    fn revive(&mut self) -> Result<(), String> {
        let now_ms = self.clock.now_ms();
        let mut back = Vec::new();
        for dead in &mut self.dead {
            let application_id = self.kinds[dead.name.kind].application_id();
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
        self.schedule.tell(|| "no more faults: everything is read to its end".to_owned());
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
                // For whoever looks at the offsets now.
                self.log.restart_coordinator();
                return Ok(());
            }
        }
        Err("does not come to an end".to_owned())
    }
}

/// The committed records of a partition.
pub fn read(log: &dyn Log, topic: &str, partition: u32) -> Result<Vec<StoredRecord>, String> {
    let mut records = Vec::new();
    each(log, topic, partition, &mut |record| records.push(record.to_stored()))?;
    Ok(records)
}

/// Hands the committed records of a partition to `take`, one after the other.
pub fn each(log: &dyn Log, topic: &str, partition: u32, take: &mut dyn FnMut(Record<'_>)) -> Result<(), String> {
    let mut reader = log.read(&TopicPartition::new(topic, partition), None).map_err(|e| e.to_string())?;
    while reader.next(take).map_err(|e| e.to_string())? {}
    Ok(())
}
