//! Topics that are not what a worker needs, or are not any more what they were: other cleanup, other partitions,
//! deleted and made again. A worker that went on would lose or double records without a word; it refuses, says why, and
//! names the way out.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tests::{Worker, services, unique, wait_until};

const DEADLINE: Duration = Duration::from_secs(60);
const AGGREGATES: &str = "processed-traffic-aggregates";
const EVENTS: &str = "traffic-events";
const STATE: &str = "aggregator-state";
/// Of each topic, but for those with one.
const PARTITIONS: i32 = 12;

/// Topics of one test.
struct Scene {
    kafka: String,
    prefix: String,
    environment: Vec<(&'static str, String)>,
    runtime: tokio::runtime::Runtime,
}

impl Scene {
    /// With topics as `traffic init` makes them; `None` where tests with services are left out.
    fn new() -> Option<Self> {
        let kafka = services::kafka()?;
        let prefix = format!("{}.", unique("changed"));
        let environment = vec![
            ("TRAFFIC_LOG", format!("kafka://{kafka}")),
            ("TRAFFIC_TOPIC_PREFIX", prefix.clone()),
            ("TRAFFIC_ARCHIVE_ENABLED", "false".to_owned()),
            ("TRAFFIC_HTTP_LISTEN", "off".to_owned()),
        ];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let scene = Self { kafka, prefix, environment, runtime };
        scene.run("traffic", &["init"]);
        Some(scene)
    }

    fn topic(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn start(&self, binary: &str, arguments: &[&str]) -> Worker {
        let environment: Vec<(&str, &str)> = self.environment.iter().map(|(n, v)| (*n, v.as_str())).collect();
        Worker::start(binary, arguments, &environment)
    }

    fn run(&self, binary: &str, arguments: &[&str]) -> String {
        let mut worker = self.start(binary, arguments);
        let status = worker.wait(DEADLINE);
        assert!(status.success(), "{binary} {arguments:?}: {status}: {}", worker.log());
        worker.output()
    }

    /// Some minutes of events, from this time of the day on.
    fn events(&self, time: &str) {
        let start = format!("2026-01-05T{time}:00Z");
        self.run("traffic", &["simulate", "--events", "1500", "--segments", "50", "--start", &start]);
    }

    fn aggregate(&self, application_id: &str) {
        self.run("aggregator", &["--exit-at-end", "--instance", "one", "--application-id", application_id]);
    }

    fn aggregates(&self) -> Vec<String> {
        let topic = self.topic(AGGREGATES);
        self.run("traffic", &["inspect", "topic", &topic]).lines().map(str::to_owned).collect()
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", &self.kafka).create().expect("a client")
    }

    fn set_policy(&self, topic: &str, policy: &str) {
        let topic = self.topic(topic);
        let change = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("cleanup.policy", policy);
        let done = self.runtime.block_on(self.admin().alter_configs([&change], &AdminOptions::new()));
        done.expect("an answer").into_iter().for_each(|one| drop(one.expect("changed")));
    }

    fn grow(&self, topic: &str, partitions: usize) {
        let topic = self.topic(topic);
        let more = NewPartitions::new(&topic, partitions);
        let done = self.runtime.block_on(self.admin().create_partitions([&more], &AdminOptions::new()));
        done.expect("an answer").into_iter().for_each(|one| drop(one.expect("grown")));
    }

    fn delete(&self, topic: &str) {
        let topic = self.topic(topic);
        let done = self.runtime.block_on(self.admin().delete_topics(&[&topic], &AdminOptions::new()));
        done.expect("an answer").into_iter().for_each(|one| drop(one.expect("deleted")));
    }

    /// Deletes a topic and makes it again.
    fn make_again(&self, topic: &str, policy: &str) {
        self.delete(topic);
        let name = self.topic(topic);
        let new = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1)).set("cleanup.policy", policy);
        wait_until(DEADLINE, "the topic made again", || {
            let done = self.runtime.block_on(self.admin().create_topics([&new], &AdminOptions::new()));
            done.expect("an answer").remove(0).ok()
        });
    }

    /// The worker exits with a failure; what it says contains all of `words`, and nothing was written meanwhile.
    fn is_refused(&self, worker: Worker, words: &[&str]) {
        let said = refusal(worker);
        let missing: Vec<_> = words.iter().filter(|word| !said.contains(**word)).collect();
        assert!(missing.is_empty(), "{missing:?} are missing in: {said}");
    }

    fn aggregator_is_refused(&self, words: &[&str]) {
        let before = self.aggregates();
        self.is_refused(self.start("aggregator", &["--exit-at-end", "--instance", "one"]), words);
        assert_eq!(self.aggregates(), before);
    }
}

fn refusal(mut worker: Worker) -> String {
    let status = worker.wait(DEADLINE);
    assert!(!status.success(), "it did not refuse: {}", worker.log());
    let log = worker.log();
    let said = log.lines().filter(|line| line.starts_with("error: ")).collect::<Vec<_>>().join("\n");
    println!("{said}");
    said
}

#[test]
fn with_a_cleanup_policy_that_loses_records() {
    let Some(scene) = Scene::new() else { return };
    let change = "kafka-configs";
    for (topic, wrong, right) in
        [(EVENTS, "compact", "delete"), (STATE, "delete", "compact"), (STATE, "compact,delete", "compact")]
    {
        scene.set_policy(topic, wrong);
        let (name, found) = (scene.topic(topic), format!("cleanup.policy={wrong}"));
        scene.aggregator_is_refused(&[&name, &found, &format!("cleanup.policy={right}"), change]);
        scene.set_policy(topic, right);
    }
    scene.set_policy(AGGREGATES, "compact");
    scene.is_refused(
        scene.start("predictor", &["--exit-at-end", "--instance", "one"]),
        &[AGGREGATES, "compact", change],
    );
    scene.set_policy(AGGREGATES, "delete");
    scene.aggregate("aggregator");
}

#[test]
fn with_more_partitions_than_before() {
    let Some(scene) = Scene::new() else { return };
    scene.events("08:00");
    scene.aggregate("aggregator");
    scene.grow(EVENTS, 14);
    scene.aggregator_is_refused(&[EVENTS, "14", "12 partitions", "traffic-events-rekeyed", "application id"]);
    // The way out, step by step.
    scene.grow("traffic-events-rekeyed", 14);
    scene.aggregator_is_refused(&[STATE, "14", "12 partitions", "application id"]);
    let anew = scene.start("aggregator", &["--exit-at-end", "--instance", "one", "--application-id", "aggregator-2"]);
    scene.is_refused(anew, &[AGGREGATES, "14", "12 partitions"]);
    scene.grow(AGGREGATES, 14);
    scene.grow("traffic-events-dlq", 14);
    // Everything anew, and from there on as ever.
    let before: BTreeSet<String> = scene.aggregates().into_iter().collect();
    scene.aggregate("aggregator-2");
    scene.events("09:00");
    scene.aggregate("aggregator-2");
    let after: BTreeSet<String> = scene.aggregates().into_iter().collect();
    assert!(after.is_superset(&before) && after.len() > before.len(), "{} {}", before.len(), after.len());
}

#[test]
fn with_more_partitions_while_they_run() {
    let Some(scene) = Scene::new() else { return };
    scene.events("08:00");
    let worker = scene.start("aggregator", &["--instance", "one"]);
    worker.wait_for_log(DEADLINE, "partitions taken over");
    scene.grow(EVENTS, 14);
    scene.is_refused(worker, &[EVENTS, "14", "12 partitions", "application id"]);
}

#[test]
fn whose_events_were_deleted_and_made_again() {
    let Some(scene) = Scene::new() else { return };
    scene.events("08:00");
    scene.aggregate("aggregator");
    scene.make_again(EVENTS, "delete");
    let words = [EVENTS, "deleted and made again", "application id"];
    scene.aggregator_is_refused(&words);
    // Not even if it has grown beyond where the group stood.
    scene.events("09:00");
    scene.events("10:00");
    scene.aggregator_is_refused(&words);
    scene.aggregate("aggregator-2");
}

#[test]
fn whose_events_were_deleted_and_made_again_while_they_run() {
    let Some(scene) = Scene::new() else { return };
    for time in ["08:00", "09:00", "10:00"] {
        scene.events(time);
    }
    let worker = scene.start("aggregator", &["--instance", "one"]);
    wait_until(DEADLINE, "aggregates", || (!scene.aggregates().is_empty()).then_some(()));
    scene.make_again(EVENTS, "delete");
    // Fewer than the worker has read: its offset is beyond the end.
    scene.events("11:00");
    scene.is_refused(worker, &[EVENTS, "made again", "application id"]);
}

#[test]
fn whose_changelog_was_deleted_and_made_again() {
    let Some(scene) = Scene::new() else { return };
    scene.events("08:00");
    scene.aggregate("aggregator");
    // By hand, and by the worker itself, which makes a changelog that is missing.
    scene.make_again(STATE, "compact");
    let words = [STATE, "emptied or made again", "application id"];
    scene.aggregator_is_refused(&words);
    scene.delete(STATE);
    scene.aggregator_is_refused(&words);
    scene.aggregate("aggregator-2");
}

#[test]
fn with_a_transaction_that_nobody_decides() {
    let Some(scene) = Scene::new() else { return };
    scene.events("08:00");
    scene.aggregate("aggregator");
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &scene.kafka)
        .set("transactional.id", scene.topic("dead"))
        .set("transaction.timeout.ms", "600000")
        .create()
        .expect("a producer");
    producer.init_transactions(DEADLINE).expect("a session");
    producer.begin_transaction().expect("begun");
    let topic = scene.topic(STATE);
    producer.send(BaseRecord::to(&topic).partition(3).key("key").payload("?")).expect("queued");
    producer.flush(DEADLINE).expect("written");
    let mut worker = scene.start("aggregator", &["--exit-at-end", "--instance", "one"]);
    worker.wait_for_log(
        DEADLINE,
        &format!("kafka-transactions.sh --bootstrap-server … abort --topic {topic} --partition 3"),
    );
    producer.abort_transaction(DEADLINE).expect("aborted");
    let status = worker.wait(DEADLINE);
    assert!(status.success(), "{status}: {}", worker.log());
}

#[test]
fn whose_group_was_set_back() {
    let Some(scene) = Scene::new() else { return };
    scene.events("08:00");
    scene.aggregate("aggregator");
    let group = format!("{}aggregator", scene.prefix);
    let consumer: rdkafka::consumer::BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &scene.kafka).set("group.id", &group).create().expect("a client");
    let mut list = rdkafka::TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(&scene.topic(EVENTS), partition, rdkafka::Offset::Offset(0)).expect("an offset");
    }
    // The last session was a static member's: the group is in use until it has run out.
    wait_until(DEADLINE, "offsets set back", || {
        rdkafka::consumer::Consumer::commit(&consumer, &list, rdkafka::consumer::CommitMode::Sync).ok()
    });
    scene.aggregator_is_refused(&[EVENTS, "stands at offset 0", "holds the state up to offset", "application id"]);
}
