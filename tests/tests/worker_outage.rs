//! Workers whose Kafka is not there at the start, or goes away in the middle: they say so, are not ready
//! meanwhile, go on by themselves, and lose nothing.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tests::services::{self, Blow, Outage, Victim};
use tests::{Worker, unique, wait_until};

const DEADLINE: Duration = Duration::from_secs(90);

/// An address nobody listens on.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").to_string()
}

/// The status of `/health/ready` and its body; `None` while nobody answers.
fn readiness(address: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer))
}

fn rows(report: &Value) -> u64 {
    report["partitions"].as_array().expect("partitions").iter().filter_map(|p| p["rows"].as_u64()).sum()
}

fn wait_for_readiness(address: &str, status: u16) -> String {
    wait_until(DEADLINE, &format!("readiness {status} of {address}"), || {
        readiness(address).filter(|(found, _)| *found == status).map(|(_, answer)| answer)
    })
}

#[test]
fn without_kafka_they_say_so_and_wait() {
    for binary in ["aggregator", "ingest"] {
        let (kafka, http) = (free_address(), free_address());
        let log = format!("kafka://{kafka}");
        let mut worker = Worker::start(binary, &[], &[("TRAFFIC_LOG", &log), ("TRAFFIC_HTTP_LISTEN", &http)]);
        let said = worker.wait_for_log(DEADLINE, "trying again");
        assert!(said.contains(&kafka) && said.contains("Check the address"), "{said}");
        assert!(wait_for_readiness(&http, 503).contains(&kafka));
        worker.terminate();
        let status = worker.wait(DEADLINE);
        assert!(status.success(), "{status}: {}", worker.log());
    }
}

#[test]
fn kafka_killed_in_the_middle_costs_nothing() {
    let Some(kafka) = services::kafka() else { return };
    let dir = tempfile::tempdir().expect("a directory");
    let prefix = format!("{}.", unique("outage"));
    let (log, store) = (format!("kafka://{kafka}"), format!("file:{}", dir.path().join("store").display()));
    let events = dir.path().join("events.ndjson");
    let (aggregator_http, ingest_http) = (free_address(), free_address());
    let environment = |http: &str| -> Vec<(&'static str, String)> {
        vec![
            ("TRAFFIC_LOG", log.clone()),
            ("TRAFFIC_STORE", store.clone()),
            ("TRAFFIC_TOPIC_PREFIX", prefix.clone()),
            ("TRAFFIC_HTTP_LISTEN", http.to_owned()),
        ]
    };
    let start = |binary: &str, arguments: &[&str], http: &str| {
        let own = environment(http);
        Worker::start(binary, arguments, &own.iter().map(|(n, v)| (*n, v.as_str())).collect::<Vec<_>>())
    };
    let run = |binary: &str, arguments: &[&str]| {
        let mut worker = start(binary, arguments, "off");
        let status = worker.wait(DEADLINE);
        assert!(status.success(), "{binary} {arguments:?}: {status}: {}", worker.log());
        worker.output()
    };
    run("traffic", &["init"]);
    let file = events.to_str().expect("UTF-8");
    let ids = ["--instance", "outage"];
    let mut workers = [start("aggregator", &ids, &aggregator_http), start("ingest", &ids, &ingest_http)];
    wait_for_readiness(&aggregator_http, 200);
    wait_for_readiness(&ingest_http, 200);
    // The sensors' first hour; then the broker is gone; then 20 minutes more.
    run(
        "traffic",
        &["simulate", "--events", "6000", "--segments", "50", "--start", "2026-01-05T00:00:00Z", "--out", file],
    );
    run("traffic", &["replay", file]);

    let outage = Outage::begin(Victim::Kafka, Blow::Kill);
    wait_for_readiness(&aggregator_http, 503);
    outage.end();
    wait_for_readiness(&aggregator_http, 200);
    run(
        "traffic",
        &[
            "simulate",
            "--events",
            "2000",
            "--segments",
            "50",
            "--seed",
            "2",
            "--start",
            "2026-01-05T01:00:00Z",
            "--out",
            file,
        ],
    );
    run("traffic", &["replay", file]);
    wait_until(DEADLINE, "no lag", || {
        let lag: Value =
            serde_json::from_str(&run("traffic", &["lag", "--group", "aggregator", "--json"])).expect("JSON");
        (lag["lag"] == 0).then_some(())
    });
    for worker in &mut workers {
        worker.terminate();
        let status = worker.wait(DEADLINE);
        assert!(status.success(), "{status}: {}", worker.log());
    }
    run("ingest", &["--exit-at-end", "--instance", "outage"]);
    // One report a dataset: the aggregates, archived by the aggregator's process, are proved too.
    let reports = run("traffic", &["verify", "archive", "--json"]);
    let rows: Vec<u64> = reports.lines().map(|report| rows(&serde_json::from_str(report).expect("JSON"))).collect();
    assert_eq!((rows.len(), rows[0]), (3, 8_000), "{reports}");
    assert!(rows[1] > 0, "{reports}");
    let dead = run("traffic", &["inspect", "topic", &format!("{prefix}traffic-events-dlq")]);
    assert!(!dead.contains(r#""reason":"late""#), "an outage makes nothing late: {dead}");
}
