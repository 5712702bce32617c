//! A group whose offsets stay unstable, as after a broker has lost sight of a transaction's end: a worker that takes over
//! goes on from its changelog, and loses and doubles nothing.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use common::clock::SystemClock;
use common::stream::Log;
use common::stream::kafka::{KafkaConfig, KafkaLog};
use common::stream::sqlite::SqliteLog;
use common::topics::Topics;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tests::flow::Written;
use tests::{Worker, services, unique, wait_until};

const DEADLINE: Duration = Duration::from_secs(90);
/// The time of a transaction, and what restoring, commits and a busy machine add to it.
const TAKEOVER: Duration = Duration::from_secs(30);

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// The flow in topics of its own.
struct Scene {
    directory: tempfile::TempDir,
    log: String,
    prefix: String,
}

impl Scene {
    fn new(log: String, prefix: String) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = "[topics]\npartitions = 2\nreplication = 1\n[archive]\nenabled = false\n";
        std::fs::write(directory.path().join("traffic.toml"), settings).expect("written");
        let scene = Self { directory, log, prefix };
        scene.run("traffic", &["init"]);
        scene
    }

    fn start(&self, binary: &str, arguments: &[&str]) -> Worker {
        let config = self.directory.path().join("traffic.toml");
        let environment = [
            ("TRAFFIC_LOG", self.log.as_str()),
            ("TRAFFIC_TOPIC_PREFIX", &self.prefix),
            ("TRAFFIC_DATABASE", "none"),
            ("TRAFFIC_HTTP_LISTEN", "off"),
        ];
        Worker::start(binary, &[&["--config", text(&config)], arguments].concat(), &environment)
    }

    fn run(&self, binary: &str, arguments: &[&str]) -> String {
        let mut worker = self.start(binary, arguments);
        let status = worker.wait(DEADLINE);
        assert!(status.success(), "{binary} {arguments:?}: {status}: {}", worker.log());
        worker.output()
    }

    fn wait_until_read(&self) {
        wait_until(DEADLINE, "no lag", || {
            let said = self.run("traffic", &["lag", "--group", "aggregator", "--json"]);
            let lag: serde_json::Value = serde_json::from_str(&said).expect("JSON");
            (lag["lag"] == 0).then_some(())
        });
    }

    fn written(&self, log: &dyn Log) -> Written {
        Written::read(log, &Topics::with_prefix(&self.prefix))
    }
}

/// Two files of events, the second an hour after the first.
fn events(directory: &Path) -> [String; 2] {
    [("1", "2026-01-05T00:00:00Z"), ("2", "2026-01-05T01:00:00Z")].map(|(seed, start)| {
        let file = directory.join(format!("{seed}.ndjson"));
        let events = ["simulate", "--events", "3000", "--segments", "25", "--seed", seed, "--start", start, "--out"];
        let mut simulation = Worker::start("traffic", &[&events[..], &[text(&file)]].concat(), &[]);
        assert!(simulation.wait(DEADLINE).success(), "{}", simulation.log());
        text(&file).to_owned()
    })
}

/// A transaction of a stranger that hands offsets to the group and stays open, for ten minutes if nobody ends it: what
/// the coordinator answers is what it answers after it has lost sight of one of ours.
fn hold_unstable(servers: &str, group: &str, topic: &str) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("group.id", group);
    let consumer: BaseConsumer = config.create().expect("a consumer");
    config.set("transactional.id", unique("stranger")).set("transaction.timeout.ms", "600000").remove("group.id");
    let producer: BaseProducer = config.create().expect("a producer");
    producer.init_transactions(DEADLINE).expect("a session");
    producer.begin_transaction().expect("begun");
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(topic, 0, Offset::Offset(1)).expect("an offset");
    let group = consumer.group_metadata().expect("of its group");
    producer.send_offsets_to_transaction(&offsets, &group, DEADLINE).expect("the group takes them");
    producer
}

#[test]
fn a_worker_goes_on_from_its_changelog_where_the_group_does_not_tell() {
    let Some(kafka) = services::kafka() else { return };
    let scene = Scene::new(format!("kafka://{kafka}"), format!("{}.", unique("unstable")));
    let files = events(scene.directory.path());
    let aggregator = || scene.start("aggregator", &["--instance", "one"]);
    let mut worker = aggregator();
    worker.wait_for_log(DEADLINE, "partitions taken over");
    scene.run("traffic", &["replay", &files[0]]);
    scene.wait_until_read();
    worker.kill();

    let (group, topic) = (format!("{}aggregator", scene.prefix), Topics::with_prefix(&scene.prefix).events);
    let stranger = hold_unstable(&kafka, &group, &topic);
    let mut worker = aggregator();
    scene.run("traffic", &["replay", &files[1]]);
    let mut lag = scene.start("traffic", &["lag", "--group", "aggregator"]);
    assert!(!lag.wait(DEADLINE).success(), "nobody knows how far the group is: {}", lag.output());
    assert!(lag.log().contains("restart that broker"), "{}", lag.log());
    let said = worker.wait_for_log(TAKEOVER, "reading on from the place");
    assert!(said.contains(&group) && said.contains("restart that broker"), "{said}");
    worker.wait_for_log(DEADLINE, "partitions taken over");
    assert!(!worker.log().contains("session lost"), "it waits as a member: {}", worker.log());

    // The group tells again, and what it tells is what the worker has committed since.
    stranger.abort_transaction(DEADLINE).expect("aborted");
    scene.wait_until_read();
    worker.terminate();
    let status = worker.wait(DEADLINE);
    assert!(status.success(), "{status}: {}", worker.log());
    scene.run("aggregator", &["--instance", "one", "--exit-at-end"]);

    let embedded = Scene::new(format!("sqlite:{}", scene.directory.path().join("traffic.db").display()), String::new());
    files.iter().for_each(|file| drop(embedded.run("traffic", &["replay", file])));
    embedded.run("aggregator", &["--exit-at-end"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let file = scene.directory.path().join("traffic.db");
    let expected = SqliteLog::open(&file, runtime.handle().clone(), Arc::new(SystemClock)).expect("the log opens");
    let expected = embedded.written(&expected);
    assert!(expected.aggregates.len() > 100, "too little is written to prove much");
    let config = KafkaConfig { bootstrap_servers: kafka, prefix: scene.prefix.clone(), ..KafkaConfig::default() };
    let written = scene.written(&KafkaLog::connect(&config).expect("the broker answers"));
    assert_eq!(written.difference(&expected), None);
}
