//! What the replaced system's producers send goes in unmodified, whatever its key.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use common::clock::SystemClock;
use common::model::Normaliser;
use common::stream::sqlite::SqliteLog;
use common::stream::{Log, Outgoing, WATERMARK_HEADER};
use serde_json::Value;
use tests::{Worker, services};

const DEADLINE: Duration = Duration::from_secs(60);
const PARTITIONS: u32 = 12;

/// An embedded flow in a directory of its own.
struct Flow {
    dir: tempfile::TempDir,
}

impl Flow {
    fn new() -> Self {
        let flow = Self { dir: tempfile::tempdir().expect("a directory") };
        flow.run("traffic", &["init"]);
        flow
    }

    fn database(&self) -> PathBuf {
        self.dir.path().join("traffic.db")
    }

    fn run(&self, binary: &str, arguments: &[&str]) -> String {
        let log = format!("sqlite:{}", self.database().display());
        let store = format!("file:{}", self.dir.path().join("store").display());
        let environment =
            [("TRAFFIC_LOG", log.as_str()), ("TRAFFIC_STORE", store.as_str()), ("TRAFFIC_HTTP_LISTEN", "off")];
        let mut worker = Worker::start(binary, arguments, &environment);
        let status = worker.wait(DEADLINE);
        assert!(status.success(), "{binary} {arguments:?}: {status}: {}", worker.log());
        worker.output()
    }

    /// Rows of the aggregates' archive, which is proved whole.
    fn archived_aggregates(&self) -> usize {
        let report = self.run("traffic", &["verify", "archive", "--dataset", "aggregates", "--json"]);
        let report: Value = serde_json::from_str(&report).expect("JSON");
        let rows = report["partitions"].as_array().expect("partitions").iter().filter_map(|p| p["rows"].as_u64());
        usize::try_from(rows.sum::<u64>()).expect("few")
    }

    fn topic(&self, name: &str) -> Vec<Value> {
        let lines = self.run("traffic", &["inspect", "topic", name]);
        lines.lines().map(|line| serde_json::from_str(line).expect("NDJSON")).collect()
    }

    /// The newest aggregate of each window, by its id.
    fn aggregates(&self) -> BTreeMap<String, Value> {
        let values = self.topic("processed-traffic-aggregates").into_iter().map(|record| record["value"].clone());
        let aggregates = values.filter(Value::is_object);
        aggregates.map(|a| (a["aggregate_id"].as_str().expect("an id").to_owned(), a)).collect()
    }
}

fn original(file: &str) -> Option<PathBuf> {
    services::data().map(|data| data.join("original").join(file))
}

fn replayed(file: &Path, more: &[&str]) -> Flow {
    let flow = Flow::new();
    let mut arguments = vec!["replay", file.to_str().expect("UTF-8")];
    arguments.extend(more);
    flow.run("traffic", &arguments);
    flow.run("aggregator", &["--exit-at-end"]);
    flow
}

#[test]
fn the_csv_has_99_good_rows_and_a_dead_letter() {
    let Some(file) = original("test_data.csv") else { return };
    let flow = replayed(&file, &[]);
    let counted: u64 = flow.aggregates().values().filter_map(|a| a["event_count"].as_u64()).sum();
    assert_eq!(counted, 99);
    let dead = flow.topic("traffic-events-dlq");
    assert_eq!(dead.len(), 1);
    let reason = dead[0]["headers"]["reason"].as_str().expect("a reason");
    assert!(reason.starts_with("invalid: speed_mph: -"), "{reason}");
    assert_eq!(dead[0]["value"]["sensor_id"], "METR_LA_005");
}

#[test]
fn rain_makes_465_windows_whatever_the_key() {
    let Some(file) = original("scenario_5_weather_impact.jsonl") else { return };
    let flow = replayed(&file, &[]);
    let keyed = flow.aggregates();
    let mut levels: BTreeMap<&str, usize> = BTreeMap::new();
    for aggregate in keyed.values() {
        *levels.entry(aggregate["congestion_level"].as_str().expect("a level")).or_default() += 1;
    }
    assert_eq!(levels, BTreeMap::from([("FREE_FLOW", 6), ("LIGHT", 316), ("MODERATE", 143)]));

    let written =
        flow.topic("processed-traffic-aggregates").iter().filter(|record| record["value"].is_object()).count();
    assert_eq!(flow.archived_aggregates(), written);

    let keyless = replayed(&file, &["--key", "none"]);
    assert_eq!(keyless.aggregates(), keyed);
    assert!(keyless.topic("traffic-events-dlq").is_empty());

    let crc = Flow::new();
    send_by_crc32(&crc.database(), &file);
    crc.run("aggregator", &["--exit-at-end"]);
    assert_eq!(crc.aggregates(), keyed);
    assert!(crc.topic("traffic-events-dlq").is_empty());
}

/// Sends the lines keyed by sensor, but to the partitions that librdkafka's default partitioner picks.
fn send_by_crc32(database: &Path, file: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
    let log = SqliteLog::open(database, runtime.handle().clone(), Arc::new(SystemClock)).expect("the log opens");
    let mut producer = log.producer().expect("a producer");
    for line in std::fs::read_to_string(file).expect("the file").lines() {
        let segment = Normaliser::default().parse(line.as_bytes()).expect("valid").segment_id.into_owned();
        let record = Outgoing {
            topic: "traffic-events",
            partition: Some(crc32(segment.as_bytes()) % PARTITIONS),
            key: Some(segment.as_bytes()),
            value: Some(line.as_bytes()),
            headers: &[],
        };
        producer.send(&record).expect("sent");
    }
    let end_ms: i64 = "2025-10-05T14:30:00Z".parse::<jiff::Timestamp>().expect("a time").as_millisecond();
    let end = end_ms.to_string();
    for partition in 0..PARTITIONS {
        let headers: [(&str, &[u8]); 1] = [(WATERMARK_HEADER, end.as_bytes())];
        let marker =
            Outgoing { topic: "traffic-events", partition: Some(partition), key: None, value: None, headers: &headers };
        producer.send(&marker).expect("sent");
    }
    producer.flush().expect("flushed");
}

/// CRC-32 (ISO-HDLC), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 })
    })
}
