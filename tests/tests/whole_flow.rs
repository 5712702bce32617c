//! Real sensors through all four workers as processes of their own, on real Kafka, HDFS and PostgreSQL: with one and
//! with three instances of each, and with all of them killed and the database taken away. What comes out must equal,
//! byte by byte, what one process writes on the embedded log, and the database's rows must be the topics.
//!
//! A day of them, or the week with `TRAFFIC_TEST_LONG=1`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::clock::{Clock, SystemClock};
use common::model::{Aggregate, Prediction};
use common::stream::Log;
use common::stream::kafka::{KafkaConfig, KafkaLog};
use common::stream::sqlite::SqliteLog;
use common::topics::Topics;
use tests::database::{Kind, TestDatabase};
use tests::flow::Written;
use tests::services::{Blow, Outage, Victim};
use tests::{Worker, services, unique, wait_until};

const WORKERS: [&str; 4] = ["ingest", "aggregator", "predictor", "alerter"];
const DEADLINE: Duration = Duration::from_secs(1_800);
/// Windows of a day.
const DAY: usize = 288;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// What one process writes on the embedded log.
static EXPECTED: Mutex<Option<Arc<Written>>> = Mutex::new(None);

fn long() -> bool {
    services::setting("TRAFFIC_TEST_LONG").as_deref() == Some("1")
}

/// The speeds that are replayed, in a file of their own.
fn speeds(data: &Path, into: &Path) -> PathBuf {
    let text = std::fs::read_to_string(data.join("los_speed.csv")).expect("the week");
    let windows = if long() { usize::MAX } else { DAY + 1 };
    let lines: Vec<&str> = text.lines().take(windows).collect();
    let file = into.join("speeds.csv");
    std::fs::write(&file, lines.join("\n") + "\n").expect("written");
    file
}

/// Runs a command to its end.
fn run(binary: &str, arguments: &[&str], environment: &[(&'static str, String)]) -> String {
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut worker = Worker::start(binary, arguments, &environment);
    let status = worker.wait(DEADLINE);
    assert!(status.success(), "{binary} {arguments:?}: {status}: {}", worker.log());
    worker.output()
}

fn replay(data: &Path, environment: &[(&'static str, String)]) {
    let directory = tempfile::tempdir().expect("a directory");
    let (speeds, places) = (speeds(data, directory.path()), data.join("graph_sensor_locations.csv"));
    let path = |file: &Path| file.to_str().expect("UTF-8").to_owned();
    run("traffic", &["init"], environment);
    let (speeds, places) = (path(&speeds), path(&places));
    let mut arguments = vec!["replay", &speeds, "--unit", "mph", "--locations", &places];
    arguments.extend(["--start", "2012-03-01T00:00:00", "--time-zone", "America/Los_Angeles"]);
    run("traffic", &arguments, environment);
}

/// Of one process on the embedded log, worked out once.
fn expected(data: &Path) -> Arc<Written> {
    let mut known = EXPECTED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(written) = &*known {
        return written.clone();
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("traffic.db");
    let environment = [
        ("TRAFFIC_LOG", format!("sqlite:{}", file.display())),
        ("TRAFFIC_STORE", format!("file:{}", directory.path().join("store").display())),
        ("TRAFFIC_DATABASE", "none".to_owned()),
        ("TRAFFIC_ARCHIVE_ENABLED", "false".to_owned()),
        ("TRAFFIC_HTTP_LISTEN", "off".to_owned()),
    ];
    replay(data, &environment);
    run("traffic", &["up", "--exit-at-end"], &environment);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let log = SqliteLog::open(&file, runtime.handle().clone(), Arc::new(SystemClock)).expect("the log opens");
    let written = Arc::new(Written::read(&log, &Topics::default()));
    assert!(!written.alerts.is_empty(), "a day without an alert proves little");
    *known = Some(written.clone());
    written
}

/// The flow on real services, in topics, directories and a database of its own.
struct Deployment {
    environment: Vec<(&'static str, String)>,
    prefix: String,
    kafka: String,
    rows: TestDatabase,
    data: PathBuf,
    running: BTreeMap<(usize, usize), Worker>,
    _turn: MutexGuard<'static, ()>,
}

impl Deployment {
    /// `None` where the services or the data are left out.
    fn new() -> Option<Self> {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let (kafka, hdfs, data) = (services::kafka()?, services::hdfs()?, services::data()?);
        let rows = TestDatabase::new(Kind::Postgres)?;
        let prefix = format!("{}.", unique("flow"));
        let environment = vec![
            ("TRAFFIC_LOG", format!("kafka://{kafka}")),
            ("TRAFFIC_STORE", hdfs),
            ("TRAFFIC_DATABASE", rows.location.clone()),
            ("TRAFFIC_TOPIC_PREFIX", prefix.clone()),
            ("HDFS_REPLICATION_FACTOR", "1".to_owned()),
            ("TRAFFIC_HTTP_LISTEN", "off".to_owned()),
        ];
        replay(&data, &environment);
        run("traffic", &["migrate", "up"], &environment);
        Some(Self { environment, prefix, kafka, rows, data, running: BTreeMap::new(), _turn: turn })
    }

    fn start(&mut self, worker: usize, instance: usize) {
        let environment: Vec<(&str, &str)> = self.environment.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let name = format!("i{instance}");
        let process = Worker::start(WORKERS[worker], &["--instance", &name], &environment);
        self.running.insert((worker, instance), process);
    }

    fn kill(&mut self, worker: usize, instance: usize) {
        let mut process = self.running.remove(&(worker, instance)).expect("it was started");
        assert!(process.runs(), "{} has ended by itself: {}", WORKERS[worker], process.log());
        process.kill();
    }

    /// Records that machines have still to read; `None` if a busy broker did not tell in time.
    fn lag(&self) -> Option<u64> {
        let mut arguments = vec!["lag", "--json"];
        for group in ["aggregator", "predictor", "alerter", "alerter-incidents"] {
            arguments.extend(["--group", group]);
        }
        let environment: Vec<(&str, &str)> = self.environment.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let mut lag = Worker::start("traffic", &arguments, &environment);
        if !lag.wait(DEADLINE).success() {
            return None;
        }
        let said: serde_json::Value = serde_json::from_str(&lag.output()).expect("JSON");
        Some(said["lag"].as_u64().expect("a number"))
    }

    /// Lets everything be read, stops all, and lets one instance of each bring the rest to its end.
    fn drain(&mut self) {
        wait_until(DEADLINE, "workers that have read everything", || {
            for ((worker, _), process) in &mut self.running {
                assert!(process.runs(), "{} has ended by itself: {}", WORKERS[*worker], process.log());
            }
            std::thread::sleep(Duration::from_millis(500));
            self.lag().filter(|lag| *lag == 0)
        });
        self.running.values().for_each(Worker::terminate);
        for ((worker, _), mut process) in std::mem::take(&mut self.running) {
            let status = process.wait(DEADLINE);
            assert!(status.success(), "{}: {status}: {}", WORKERS[worker], process.log());
        }
        for worker in WORKERS {
            run(worker, &["--instance", "i0", "--exit-at-end"], &self.environment);
        }
    }

    fn check(&self) {
        let topics = Topics::with_prefix(&self.prefix);
        let config = KafkaConfig { bootstrap_servers: self.kafka.clone(), ..KafkaConfig::default() };
        let log: Box<dyn Log> = Box::new(KafkaLog::connect(&config).expect("Kafka"));
        let written = Written::read(log.as_ref(), &topics);
        assert_eq!(written.difference(&expected(&self.data)), None);
        self.check_rows(&written);
        run("traffic", &["verify", "archive"], &self.environment);
        println!(
            "{} aggregates, {} forecasts, {} transitions of alerts: equal in the topics, the rows and one process",
            written.aggregates.len(),
            written.predictions.len(),
            written.alerts.len()
        );
    }

    /// The rows are the topics, each forecast with its truth.
    fn check_rows(&self, written: &Written) {
        let mut truth = BTreeMap::new();
        let mut aggregates: Vec<String> = Vec::new();
        for value in written.aggregates.values() {
            let a: Aggregate<'_> = serde_json::from_slice(value).expect("an aggregate");
            let speed = a.avg_speed.expect("every window has a speed");
            aggregates.push(format!("{} {} {speed} {}", a.segment_id, a.window_start, a.event_count));
            truth.insert((a.segment_id.into_owned(), a.window_end), speed);
        }
        let mut predictions: Vec<String> = Vec::new();
        for value in written.predictions.values() {
            let p: Prediction<'_> = serde_json::from_slice(value).expect("a prediction");
            let actual = truth.get(&(p.segment_id.to_string(), p.target_timestamp));
            let actual = actual.map_or("-".to_owned(), f64::to_string);
            let at = p.prediction_timestamp;
            predictions.push(format!("{} {at} {} {} {actual}", p.segment_id, p.prediction_horizon, p.predicted_speed));
        }
        let transitions: Vec<String> = written.alerts.keys().map(|(id, sequence)| format!("{id} {sequence}")).collect();
        let same = |what: &str, mut expected: Vec<String>, query: &str| {
            let mut found = self.rows.rows(query);
            found.sort_unstable();
            expected.sort_unstable();
            let differs = found.iter().zip(&expected).find(|(found, expected)| found != expected);
            assert_eq!((found.len(), differs), (expected.len(), None), "{what}");
        };
        same(
            "aggregates",
            aggregates,
            "select segment_id || ' ' || MS(window_start) || ' ' || avg_speed || ' ' || event_count from T.aggregates",
        );
        same(
            "predictions",
            predictions,
            "select segment_id || ' ' || MS(prediction_timestamp) || ' ' || horizon_minutes || ' ' || predicted_speed \
             || ' ' || coalesce(actual_speed::text, '-') from T.predictions",
        );
        same("alert_history", transitions, "select alert_id || ' ' || sequence from T.alert_history");
    }
}

fn undisturbed(instances: usize) {
    let Some(mut flow) = Deployment::new() else { return };
    for worker in 0..WORKERS.len() {
        (0..instances).for_each(|instance| flow.start(worker, instance));
    }
    flow.drain();
    flow.check();
}

#[test]
fn one_instance_of_each_worker() {
    undisturbed(1);
}

#[test]
fn three_instances_of_each_worker() {
    undisturbed(3);
}

#[test]
fn killed_again_and_again_with_the_database_away() {
    let Some(mut flow) = Deployment::new() else { return };
    let instances = 3;
    for worker in 0..WORKERS.len() {
        (0..instances).for_each(|instance| flow.start(worker, instance));
    }
    let away = Outage::begin(Victim::Postgres, Blow::Kill);
    let began_ms = SystemClock.now_ms();
    let away_ms = if long() { 600_000 } else { 20_000 };
    // Every worker three times, each time another instance, wherever it happens to be.
    let mut chance: u64 = 7;
    for round in 0..3 {
        for worker in 0..WORKERS.len() {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let pause = Duration::from_millis(200 + (chance >> 33) % 1_200);
            std::thread::sleep(pause);
            let instance = (round + worker) % instances;
            flow.kill(worker, instance);
            flow.start(worker, instance);
        }
    }
    wait_until(DEADLINE, "the end of the outage", || (SystemClock.now_ms() - began_ms >= away_ms).then_some(()));
    away.end();
    flow.drain();
    flow.check();
}
