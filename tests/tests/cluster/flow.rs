//! The flow under test: simulated events sent at a steady pace, the workers that carry them, and the oracle.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use common::clock::SystemClock;
use common::stream::kafka::{KafkaConfig, KafkaLog};
use common::stream::sqlite::SqliteLog;
use common::topics::Topics;
use tests::cluster::Cluster;
use tests::flow::Written;
use tests::{Worker, unique, wait_until};

pub const DEADLINE: Duration = Duration::from_secs(300);
/// Partitions of each topic.
pub const PARTITIONS: u32 = 6;

pub const AGGREGATOR: &str = "aggregator";
pub const PREDICTOR: &str = "predictor";
pub const ALERTER: &str = "alerter";
/// In the order of the flow.
pub const ALL: [&str; 3] = [AGGREGATOR, PREDICTOR, ALERTER];

/// What is sent: so many events of so many sensors, each of which reports once in 30 s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load {
    pub events: u32,
    pub segments: u32,
}

/// Four hours of a small town.
pub const TOWN: Load = Load { events: 100_000, segments: 200 };
/// Fifty minutes of a region.
pub const REGION: Load = Load { events: 200_000, segments: 2_000 };

impl Load {
    /// The file of events, made once.
    fn file(self, cluster: &Cluster) -> PathBuf {
        let file = cluster.directory().join(format!("{}-events-of-{}.ndjson", self.events, self.segments));
        if !file.exists() {
            let (events, segments) = (self.events.to_string(), self.segments.to_string());
            let mut arguments = vec!["simulate", "--events", &events, "--segments", &segments, "--seed", "5"];
            arguments.extend(["--start", "2026-01-05T14:00:00Z", "--incidents", "0.5", "--out", text(&file)]);
            run("traffic", &arguments, &[]);
        }
        file
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Runs a command to its end; returns what it said on stdout.
pub fn run(binary: &str, arguments: &[&str], environment: &[(&str, String)]) -> String {
    let mut worker = start(binary, arguments, environment);
    let status = worker.wait(DEADLINE);
    assert!(status.success(), "{binary} {arguments:?}: {status}: {}", worker.log());
    worker.output()
}

fn start(binary: &str, arguments: &[&str], environment: &[(&str, String)]) -> Worker {
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Worker::start(binary, arguments, &environment)
}

/// The settings in which the flow on the cluster and the one on the embedded log agree.
fn settings(cluster: &Cluster, replication: u32) -> PathBuf {
    let file = cluster.directory().join(format!("replication-{replication}.toml"));
    let topics = format!("[topics]\npartitions = {PARTITIONS}\nreplication = {replication}\n");
    std::fs::write(&file, topics + "[archive]\nenabled = false\n").expect("written");
    file
}

fn environment(log: String, prefix: &str) -> Vec<(&'static str, String)> {
    vec![
        ("TRAFFIC_LOG", log),
        ("TRAFFIC_TOPIC_PREFIX", prefix.to_owned()),
        ("TRAFFIC_DATABASE", "none".to_owned()),
        ("TRAFFIC_HTTP_LISTEN", "off".to_owned()),
    ]
}

/// What one process writes on the embedded log, worked out once for each load.
fn expected(cluster: &Cluster, load: Load) -> Arc<Written> {
    static KNOWN: Mutex<BTreeMap<Load, Arc<Written>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(written) = known.get(&load) {
        return written.clone();
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("traffic.db");
    let environment = environment(format!("sqlite:{}", file.display()), "");
    let (config, events) = (settings(cluster, 1), load.file(cluster));
    for arguments in [&["init"][..], &["replay", text(&events)], &["up", "--exit-at-end"]] {
        run("traffic", &[&["--config", text(&config)], arguments].concat(), &environment);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let log = SqliteLog::open(&file, runtime.handle().clone(), Arc::new(SystemClock)).expect("the log opens");
    let written = Arc::new(Written::read(&log, &Topics::default()));
    assert!(!written.predictions.is_empty(), "too little is written to prove much");
    known.insert(load, written.clone());
    written
}

/// The flow on the cluster, in topics of its own.
pub struct Flow {
    pub cluster: Cluster,
    pub prefix: String,
    load: Load,
    config: PathBuf,
    environment: Vec<(&'static str, String)>,
    feed: Option<Worker>,
    running: BTreeMap<(usize, String), Worker>,
    chance: u64,
}

impl Flow {
    /// With empty topics; `None` where tests with services are left out. `seed` decides what is left to chance.
    pub fn new(load: Load, seed: u64) -> Option<Self> {
        let cluster = Cluster::start()?;
        let prefix = format!("{}.", unique("cluster"));
        let environment = environment(format!("kafka://{}", cluster.servers()), &prefix);
        let config = settings(&cluster, 3);
        let (feed, running) = (None, BTreeMap::new());
        println!("seed {seed}, topics {prefix}*");
        let flow = Self { cluster, prefix, load, config, environment, feed, running, chance: seed };
        flow.traffic(&["init"]);
        Some(flow)
    }

    pub fn topics(&self) -> Topics {
        Topics::with_prefix(&self.prefix)
    }

    pub fn log(&self) -> KafkaLog {
        let config = KafkaConfig {
            bootstrap_servers: self.cluster.servers(),
            prefix: self.prefix.clone(),
            ..KafkaConfig::default()
        };
        KafkaLog::connect(&config).expect("the cluster answers")
    }

    /// A number below `n`, by the seed.
    pub fn below(&mut self, n: u64) -> u64 {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % n
    }

    /// Lets so much time pass, and up to as much again, by the seed.
    pub fn pass(&mut self, least: Duration) {
        let more = self.below(u64::try_from(least.as_millis()).expect("short") + 1);
        pass(least + Duration::from_millis(more));
    }

    /// Runs `traffic` to its end.
    pub fn traffic(&self, arguments: &[&str]) -> String {
        run("traffic", &[&["--config", text(&self.config)], arguments].concat(), &self.environment)
    }

    /// Begins to send the events, evenly, so that they last for about this time.
    pub fn feed(&mut self, lasting: Duration) {
        let file = self.load.file(&self.cluster);
        let event_time_s = u64::from(self.load.events / self.load.segments) * 30;
        let speed = (event_time_s / lasting.as_secs()).to_string();
        let arguments = ["--config", text(&self.config), "replay", text(&file), "--speed", &speed];
        self.feed = Some(start("traffic", &arguments, &self.environment));
    }

    /// Whether events are still being sent.
    pub fn is_fed(&mut self) -> bool {
        self.feed.as_mut().is_some_and(Worker::runs)
    }

    /// A worker that is not waited for and not part of the flow.
    pub fn alone(&self, worker: &str, instance: &str, more: &[&str], other: &[(&'static str, String)]) -> Worker {
        let environment = [&self.environment[..], other].concat();
        let own = ["--config", text(&self.config), "--instance", instance];
        start(worker, &[&own, more].concat(), &environment)
    }

    pub fn start(&mut self, worker: &str, instance: &str) {
        self.start_with(worker, instance, &[]);
    }

    /// Starts an instance whose environment differs.
    pub fn start_with(&mut self, worker: &str, instance: &str, other: &[(&'static str, String)]) {
        let process = self.alone(worker, instance, &[], other);
        let before = self.running.insert((index(worker), instance.to_owned()), process);
        assert!(before.is_none(), "{worker} {instance} runs already");
    }

    /// Starts so many instances, `i0`, `i1` …, of each of these workers.
    pub fn start_all(&mut self, workers: &[&str], instances: usize) {
        for worker in workers {
            (0..instances).for_each(|number| self.start(worker, &format!("i{number}")));
        }
    }

    fn take(&mut self, worker: &str, instance: &str) -> Worker {
        let mut process = self.running.remove(&(index(worker), instance.to_owned())).expect("it was started");
        assert!(process.runs(), "{worker} {instance} has ended by itself: {}", process.log());
        process
    }

    /// SIGKILL.
    pub fn kill(&mut self, worker: &str, instance: &str) {
        self.take(worker, instance).kill();
    }

    /// Waits until it dies by itself, as a failpoint makes it.
    pub fn expect_death(&mut self, worker: &str, instance: &str) {
        let mut process = self.running.remove(&(index(worker), instance.to_owned())).expect("it was started");
        let status = process.wait(DEADLINE);
        assert!(!status.success(), "{worker} {instance} has ended in peace: {}", process.log());
    }

    /// SIGTERM; returns once it is gone.
    pub fn stop(&mut self, worker: &str, instance: &str) {
        let mut process = self.take(worker, instance);
        process.terminate();
        let status = process.wait(DEADLINE);
        assert!(status.success(), "{worker} {instance}: {status}: {}", process.log());
    }

    pub fn process(&self, worker: &str, instance: &str) -> &Worker {
        &self.running[&(index(worker), instance.to_owned())]
    }

    /// What the machines have still to read; `None` if the brokers do not tell just now.
    fn lag(&self, workers: &[&str]) -> Option<u64> {
        let mut arguments = vec!["--config", text(&self.config), "lag", "--json"];
        for worker in workers {
            arguments.extend(["--group", worker]);
        }
        if workers.contains(&ALERTER) {
            arguments.extend(["--group", "alerter-incidents"]);
        }
        let mut lag = start("traffic", &arguments, &self.environment);
        if !lag.wait(DEADLINE).success() {
            return None;
        }
        let said: serde_json::Value = serde_json::from_str(&lag.output()).expect("JSON");
        said["lag"].as_u64()
    }

    /// Waits until all events are sent and read; stops all instances; lets one of each bring the rest to its end.
    pub fn drain(&mut self, workers: &[&str]) {
        if let Some(mut feed) = self.feed.take() {
            let status = feed.wait(DEADLINE);
            assert!(status.success(), "sending events: {status}: {}", feed.log());
        }
        wait_until(DEADLINE, "workers that have read everything", || {
            for ((worker, instance), process) in &mut self.running {
                assert!(process.runs(), "{} {instance} has ended by itself: {}", ALL[*worker], process.log());
            }
            pass(Duration::from_millis(500));
            self.lag(workers).filter(|lag| *lag == 0)
        });
        self.running.values().for_each(Worker::terminate);
        for ((worker, instance), mut process) in std::mem::take(&mut self.running) {
            let status = process.wait(DEADLINE);
            assert!(status.success(), "{} {instance}: {status}: {}", ALL[worker], process.log());
        }
        for worker in workers {
            let mut last = self.alone(worker, "i0", &["--exit-at-end"], &[]);
            let status = last.wait(DEADLINE);
            assert!(status.success(), "{worker}: {status}: {}", last.log());
        }
    }

    /// Drains, and compares what was written with what one process writes.
    pub fn check(mut self, workers: &[&str]) {
        self.drain(workers);
        let written = Written::read(&self.log(), &self.topics());
        let mut expected = Written::clone(&expected(&self.cluster, self.load));
        if !workers.contains(&PREDICTOR) {
            expected.predictions.clear();
        }
        if !workers.contains(&ALERTER) {
            expected.alerts.clear();
        }
        assert_eq!(written.difference(&expected), None);
        let (aggregates, predictions) = (written.aggregates.len(), written.predictions.len());
        println!("{aggregates} aggregates, {predictions} forecasts, {} transitions: exact", written.alerts.len());
    }
}

fn index(worker: &str) -> usize {
    ALL.iter().position(|known| *known == worker).expect("a worker of the flow")
}

/// Lets time pass, which is what these faults are about.
pub fn pass(time: Duration) {
    std::thread::sleep(time);
}
