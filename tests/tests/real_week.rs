//! The real week of 207 sensors through ingest and aggregator on real Kafka and HDFS, against an SQL oracle:
//! in one go, and with both killed again and again.

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use common::store::{Store, StoreOptions};
use tests::{Worker, services, unique};

const DEADLINE: Duration = Duration::from_secs(420);
/// Two weeks at a time would only be slower.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

struct Week {
    environment: Vec<(&'static str, String)>,
    prefix: String,
    hdfs: String,
}

impl Week {
    /// On topics of its own, filled with the week. `None` where the services or the data are left out.
    fn new() -> Option<Self> {
        let (kafka, hdfs, data) = (services::kafka()?, services::hdfs()?, services::data()?);
        let prefix = format!("{}.", unique("week"));
        let environment = vec![
            ("TRAFFIC_LOG", format!("kafka://{kafka}")),
            ("TRAFFIC_STORE", hdfs.clone()),
            ("TRAFFIC_TOPIC_PREFIX", prefix.clone()),
            ("HDFS_REPLICATION_FACTOR", "1".to_owned()),
            ("TRAFFIC_HTTP_LISTEN", "off".to_owned()),
        ];
        let week = Self { environment, prefix, hdfs };
        let file = |name: &str| data.join(name).to_str().expect("UTF-8").to_owned();
        week.run("traffic", &["init"]);
        let (speeds, places) = (file("los_speed.csv"), file("graph_sensor_locations.csv"));
        let start = ["--start", "2012-03-01T00:00:00", "--time-zone", "America/Los_Angeles"];
        let mut arguments = vec!["replay", &speeds, "--unit", "mph", "--locations", &places];
        arguments.extend(start);
        week.run("traffic", &arguments);
        Some(week)
    }

    fn start(&self, binary: &str, arguments: &[&str], more: &[(&str, &str)]) -> Worker {
        let own = self.environment.iter().map(|(name, value)| (*name, value.as_str()));
        Worker::start(binary, arguments, &own.chain(more.iter().copied()).collect::<Vec<_>>())
    }

    fn worker(&self, binary: &str, more: &[(&str, &str)]) -> Worker {
        self.start(binary, &["--exit-at-end", "--instance", "one"], more)
    }

    fn run(&self, binary: &str, arguments: &[&str]) -> String {
        let mut worker = self.start(binary, arguments, &[]);
        let status = worker.wait(DEADLINE);
        assert!(status.success(), "{binary} {arguments:?}: {status}: {}", worker.log());
        worker.output()
    }

    /// Aggregates and raw files, against the SQL oracle over the input.
    fn check(&self) {
        let data = services::data().expect("the week was filled from it");
        let dir = tempfile::tempdir().expect("a directory");
        let aggregates = dir.path().join("aggregates.ndjson");
        let topic = format!("{}processed-traffic-aggregates", self.prefix);
        std::fs::write(&aggregates, self.run("traffic", &["inspect", "topic", &topic])).expect("written");
        self.fetch_raw(&dir.path().join("raw"));
        let Some(python) = services::python() else { return };
        let oracle = Path::new(env!("CARGO_MANIFEST_DIR")).join("readers/week_oracle.py");
        let output = Command::new(python)
            .arg(oracle)
            .arg(data.join("los_speed.csv"))
            .arg(&aggregates)
            .arg(dir.path().join("raw"))
            .output()
            .expect("Python runs");
        let said = String::from_utf8_lossy(&output.stdout);
        println!("{said}");
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        self.run("traffic", &["verify", "archive"]);
    }

    /// Copies this week's raw files out of HDFS.
    fn fetch_raw(&self, into: &Path) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        std::fs::create_dir_all(into).expect("a directory");
        runtime.block_on(async {
            let store: Store = common::store::open(&self.hdfs, &StoreOptions::default()).expect("HDFS");
            for entry in store.list("/traffic-data/raw", true).await.expect("a listing") {
                if entry.name().starts_with(&self.prefix) {
                    let bytes = store.read(&entry.path).await.expect("readable").expect("there");
                    let name = entry.path.replace('/', "_");
                    std::fs::write(into.join(name), bytes).expect("written");
                }
            }
        });
    }
}

#[test]
fn the_week_equals_the_oracle() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(week) = Week::new() else { return };
    let mut workers = ["aggregator", "ingest"].map(|binary| week.worker(binary, &[]));
    for worker in &mut workers {
        let status = worker.wait(DEADLINE);
        assert!(status.success(), "{status}: {}", worker.log());
    }
    week.check();
}

#[test]
fn the_week_equals_the_oracle_though_both_are_killed_again_and_again() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(week) = Week::new() else { return };
    // Between handing the offsets to the transaction and committing it, early and later.
    for after_commits in ["0", "7", "19"] {
        let mut aggregator = week.worker("aggregator", &[("TRAFFIC_FAILPOINT", after_commits)]);
        let status = aggregator.wait(DEADLINE);
        assert!(!status.success(), "the failpoint was not reached: {}", aggregator.log());
    }
    // And wherever they happen to be.
    let mut killed = 0;
    for after_ms in [700, 2_300, 4_100, 6_700] {
        let mut workers = ["aggregator", "ingest"].map(|binary| week.worker(binary, &[]));
        let clock = common::clock::SystemClock;
        let deadline_ms = common::clock::Clock::now_ms(&clock) + after_ms;
        tests::wait_until(DEADLINE, "the moment to kill", || {
            (common::clock::Clock::now_ms(&clock) >= deadline_ms).then_some(())
        });
        for worker in &mut workers {
            killed += u32::from(worker.runs());
            worker.kill();
        }
    }
    assert!(killed >= 6, "only {killed} were still running when they were to be killed");
    let mut workers = ["aggregator", "ingest"].map(|binary| week.worker(binary, &[]));
    for worker in &mut workers {
        let status = worker.wait(DEADLINE);
        assert!(status.success(), "{status}: {}", worker.log());
    }
    week.check();
}
