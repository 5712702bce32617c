//! Both machines under the real runner, on a log on which one call goes wrong: each of them in turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alerter::{APPLICATION, Incidents, Rules, Settings, incidents_topology, rules_topology};
use common::clock::{Clock, ManualClock};
use common::model::{Alert, CommandKind};
use common::stream::memory::{CRASH, Fault, Faults, MemoryLog, Point};
use common::stream::partitioner::partition_of;
use common::stream::{
    Cleanup, Log, LogError, Machine, Outgoing, Pace, Runner, Step, StoredRecord, TopicPartition, TopicSpec, Topology,
};
use common::topics::Topics;

use crate::support::*;

const PARTITIONS: u32 = 2;
const SEGMENTS: [&str; 4] = ["S1", "S2", "S3", "S4"];
/// Frames and windows.
const STEPS: i64 = 14;

/// Strikes once, at the call with this number.
struct Once {
    calls: Arc<AtomicUsize>,
    at: usize,
    fault: Fault,
    turn: usize,
}

impl Faults for Once {
    fn at(&mut self, _process: &str, _point: Point) -> Fault {
        if self.calls.fetch_add(1, Ordering::SeqCst) == self.at { self.fault } else { Fault::None }
    }

    fn below(&mut self, _process: &str, n: usize) -> usize {
        self.turn = self.turn.wrapping_mul(31).wrapping_add(7);
        (self.turn >> 4) % n
    }
}

/// A process with one machine, which is started again when it dies.
struct Process<'a, M> {
    make: &'a dyn Fn() -> M,
    topology: Topology,
    log: MemoryLog,
    clock: Arc<ManualClock>,
    runner: Runner<M>,
    deaths: usize,
}

impl<'a, M: Machine + 'static> Process<'a, M> {
    fn start(make: &'a dyn Fn() -> M, topology: Topology, log: &MemoryLog, clock: &Arc<ManualClock>) -> Self {
        let runner = runner(make(), &topology, log, clock);
        Self { make, topology, log: log.clone(), clock: clock.clone(), runner, deaths: 0 }
    }

    /// Goes on until everything there is was read and committed.
    fn run_to_end(&mut self) {
        self.survive(Runner::close);
        self.runner.input_ended = true;
        for _ in 0..5_000 {
            self.clock.advance(40);
            if self.survive(|runner| runner.step(Duration::ZERO)) == Some(Step::AtEnd) {
                return;
            }
        }
        panic!("does not come to an end");
    }

    fn survive<T>(&mut self, act: impl FnOnce(&mut Runner<M>) -> Result<T, LogError>) -> Option<T> {
        match act(&mut self.runner) {
            Ok(done) => Some(done),
            Err(LogError::Fatal(why)) if why == CRASH => {
                self.deaths += 1;
                self.runner = runner((self.make)(), &self.topology, &self.log, &self.clock);
                self.runner.input_ended = true;
                None
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn runner<M: Machine + 'static>(
    machine: M,
    topology: &Topology,
    log: &MemoryLog,
    clock: &Arc<ManualClock>,
) -> Runner<M> {
    let log: Arc<dyn Log> = Arc::new(log.seen_by(&topology.membership.application_id));
    let pace = Pace { commit_records: 20, ..Pace::default() };
    Runner::new(machine, log, topology.clone(), pace, clock.clone(), Box::new(|_| {})).expect("the topics are there")
}

fn topics(log: &MemoryLog, topics: &Topics) {
    let changelogs = [topics.changelog(APPLICATION), topics.changelog(&alerter::incidents_id(APPLICATION))];
    let inputs = [&topics.predictions, &topics.aggregates, &topics.alerter_commands, &topics.alerts, &changelogs[0]];
    let of = |name: &String, partitions| TopicSpec {
        name: name.clone(),
        partitions,
        replication: 1,
        cleanup: if changelogs.contains(name) { Cleanup::Compact } else { Cleanup::Delete { retention_ms: None } },
    };
    let mut specs: Vec<_> = inputs.into_iter().map(|name| of(name, PARTITIONS)).collect();
    specs.extend([&topics.alert_transitions, &changelogs[1]].map(|name| of(name, 1)));
    log.ensure_topics(&specs).expect("a new log takes new topics");
}

fn send(log: &MemoryLog, topic: &str, partition: Option<u32>, record: &StoredRecord) {
    let headers: Vec<_> = record.headers.iter().map(|h| (h.name.as_str(), h.value.as_slice())).collect();
    let (key, value) = (record.key.as_deref(), record.value.as_deref());
    log.producer()
        .and_then(|mut p| p.send(&Outgoing { topic, partition, key, value, headers: &headers }))
        .expect("sent");
}

/// S1 jams for a while, S2 until the end, S3 falls silent, S4 is well.
fn history(log: &MemoryLog, topics: &Topics) {
    for step in 0..STEPS {
        for segment in SEGMENTS {
            let median = match segment {
                "S1" if (2..6).contains(&step) => 20.0 - step as f64,
                "S2" if step > 8 => 25.0,
                _ => 80.0,
            };
            send(log, &topics.predictions, None, &forecast(segment, step, 30, median));
            if segment != "S3" || step < 3 {
                send(log, &topics.aggregates, None, &window(segment, step, 10));
            }
        }
        for partition in 0..PARTITIONS {
            send(log, &topics.aggregates, Some(partition), &marker(step));
        }
    }
}

fn acknowledge(log: &MemoryLog, topics: &Topics) {
    let id = Alert::id_of("S2", "predicted-congestion", at(10));
    let json = serde_json::to_vec(&on_alert(CommandKind::Acknowledge, "S2", &id)).expect("JSON");
    // Twice, as a sender without transactions may.
    for _ in 0..2 {
        send(log, &topics.alerter_commands, None, &record("S2", json.clone(), at(STEPS)));
    }
}

/// Every committed record of `traffic-alerts`, checked to lie where its key belongs.
fn written(log: &MemoryLog, topics: &Topics) -> Vec<String> {
    let mut found = Vec::new();
    for partition in 0..PARTITIONS {
        let mut reader = log.read(&TopicPartition::new(&topics.alerts, partition), None).expect("readable");
        let mut each = |record: common::stream::Record<'_>| {
            assert_eq!(partition_of(record.key.expect("a key"), PARTITIONS), partition);
            found.push(String::from_utf8(record.value.expect("a value").to_vec()).expect("UTF-8"));
        };
        while reader.next(&mut each).expect("readable") {}
    }
    found.sort();
    found
}

/// Plays the history with one fault; returns what was written, how often a process died, and how many calls there were.
fn play(at_call: usize, fault: Fault) -> (Vec<String>, usize, usize) {
    let (names, clock) = (Topics::default(), Arc::new(ManualClock::at(at(STEPS))));
    let calls = Arc::new(AtomicUsize::new(0));
    let faults = Once { calls: calls.clone(), at: at_call, fault, turn: 1 };
    let shared: Arc<dyn Clock> = clock.clone();
    let log = MemoryLog::with_faults(shared, Box::new(faults));
    topics(&log, &names);
    history(&log, &names);
    let (make_rules, make_incidents) = (|| Rules::new(Settings::default()), Incidents::new);
    let mut rules = Process::start(&make_rules, rules_topology(&names, APPLICATION, "i0"), &log, &clock);
    let mut incidents = Process::start(&make_incidents, incidents_topology(&names, APPLICATION, "i0"), &log, &clock);
    for phase in 0..2 {
        if phase == 1 {
            acknowledge(&log, &names);
        }
        rules.run_to_end();
        // What was decided becomes visible everywhere.
        while log.deliver_marker() {}
        incidents.run_to_end();
        while log.deliver_marker() {}
    }
    assert_eq!(log.violations(), [""; 0]);
    assert_eq!(incidents.runner.machine().totals().2, 0, "none astray");
    let (deaths, calls) = (rules.deaths + incidents.deaths, calls.load(Ordering::SeqCst));
    log.end_faults();
    (written(&log, &names), deaths, calls)
}

#[test]
fn whichever_call_goes_wrong_each_transition_is_written_once() {
    let (expected, deaths, calls) = play(usize::MAX, Fault::None);
    assert_eq!(deaths, 0);
    let lives: Vec<String> =
        expected.iter().map(|json| short(&serde_json::from_str::<Alert<'_>>(json).expect("an alert"))).collect();
    assert_eq!(
        lives,
        [
            "3 S1 Active/Critical 1",
            "8 S1 Resolved/Critical 2",
            "10 S2 Active/High 1",
            "13 S2 Investigating/High 2",
            "6 S3 Active/Medium 1",
        ]
    );
    let mut died = 0;
    for call in 0..calls {
        for fault in [Fault::Crash, Fault::Fail, Fault::FailAfter] {
            let (found, deaths, _) = play(call, fault);
            assert_eq!(found, expected, "{fault:?} at call {call}");
            died += deaths;
        }
    }
    println!("{calls} calls, each of which failed in three ways; {died} deaths");
    assert_eq!(died, calls, "each call was a death once");
}
