//! How long a forecast and an alert take, with 2,000 segments on real Kafka: from the append of the marker that ends a
//! window until a read_committed consumer has all of it. Measures, judges nothing:
//!
//! `cargo build --workspace && cargo test -p tests --test latency -- --ignored --nocapture`, or both with `--release`

use std::time::Duration;

use common::clock::{Clock, SystemClock};
use common::stream::kafka::{KafkaConfig, KafkaLog};
use common::stream::partitioner::partition_of;
use common::stream::{Event, Log, Member, Membership, Outgoing, Producer, WATERMARK_HEADER};
use common::topics::Topics;
use tests::{Worker, services, unique};

const SEGMENTS: usize = 2_000;
const PARTITIONS: u32 = 12;
const WINDOWS: i64 = 120;
const STEP_MS: i64 = 300_000;
const PATIENCE_MS: i64 = 30_000;

/// Waits until a consumer has got so many records with a value; returns when, epoch ms.
fn wait_for(member: &mut dyn Member, wanted: usize) -> i64 {
    let deadline_ms = SystemClock.now_ms() + PATIENCE_MS;
    let mut got = 0;
    while got < wanted {
        assert!(SystemClock.now_ms() < deadline_ms, "{got} of {wanted} records within {PATIENCE_MS} ms");
        match member.poll(Duration::from_millis(50)).expect("Kafka answers") {
            Event::Records(records) => got += records.iter().filter(|record| record.value.is_some()).count(),
            Event::Assigned(parts) => {
                let starts: Vec<_> = parts.into_iter().map(|at| (at, None)).collect();
                member.start(&starts).expect("reading begins");
            }
            Event::Revoked(_) | Event::Idle | Event::End { .. } => {}
        }
    }
    SystemClock.now_ms()
}

fn reader(log: &dyn Log, topic: &str) -> Box<dyn Member> {
    let membership = Membership {
        application_id: unique("latency"),
        instance: "0".to_owned(),
        inputs: vec![topic.to_owned()],
        transactional: false,
    };
    log.join(&membership).expect("joined")
}

/// Sends a window of all segments and the markers behind it; returns when they were acknowledged, epoch ms.
fn window(producer: &mut dyn Producer, topic: &str, end_ms: i64, speed: f64) -> i64 {
    for s in 0..SEGMENTS {
        let (segment, start_ms) = (format!("SEG_LATENCY_{s:04}"), end_ms - STEP_MS);
        let value = format!(
            r#"{{"aggregate_id":"AGG_{segment}_{start_ms}","segment_id":"{segment}","window_start":{start_ms},"window_end":{end_ms},"avg_speed":{speed},"vehicle_count":100,"occupancy_avg":12.5,"event_count":10,"quality_score":1.0}}"#
        );
        let (key, value) = (Some(segment.as_bytes()), Some(value.as_bytes()));
        let partition = Some(partition_of(segment.as_bytes(), PARTITIONS));
        producer.send(&Outgoing { topic, partition, key, value, headers: &[] }).expect("sent");
    }
    producer.flush().expect("acknowledged");
    let marker = end_ms.to_string();
    for partition in 0..PARTITIONS {
        let headers: &[(&str, &[u8])] = &[(WATERMARK_HEADER, marker.as_bytes())];
        producer.send(&Outgoing { topic, partition: Some(partition), key: None, value: None, headers }).expect("sent");
    }
    producer.flush().expect("acknowledged");
    SystemClock.now_ms()
}

#[test]
#[ignore = "a measurement, with figures to read"]
fn from_a_windows_end_to_its_forecasts_and_alerts() {
    let Some(kafka) = services::kafka() else { return };
    let prefix = format!("{}.", unique("latency"));
    let environment = [
        ("TRAFFIC_LOG", format!("kafka://{kafka}")),
        ("TRAFFIC_TOPIC_PREFIX", prefix.clone()),
        ("TRAFFIC_DATABASE", "none".to_owned()),
        ("TRAFFIC_ARCHIVE_ENABLED", "false".to_owned()),
        ("TRAFFIC_HTTP_LISTEN", "off".to_owned()),
    ];
    let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let init = Worker::start("traffic", &["init"], &environment).wait(Duration::from_secs(60));
    assert!(init.success());
    let _workers = ["predictor", "alerter"].map(|worker| Worker::start(worker, &["--instance", "0"], &environment));
    let topics = Topics::with_prefix(&prefix);
    let log = KafkaLog::connect(&KafkaConfig { bootstrap_servers: kafka, ..KafkaConfig::default() }).expect("Kafka");
    let (mut forecasts, mut alerts) = (reader(&log, &topics.predictions), reader(&log, &topics.alerts));
    let mut producer = log.producer().expect("a producer");

    let first_ms = (SystemClock.now_ms() / STEP_MS - WINDOWS - 4) * STEP_MS;
    let mut took: Vec<i64> = Vec::new();
    for n in 0..WINDOWS {
        #[expect(clippy::cast_precision_loss, reason = "a few windows")]
        let speed = 90.0 + (n % 7) as f64;
        let sent_ms = window(producer.as_mut(), &topics.aggregates, first_ms + n * STEP_MS, speed);
        took.push(wait_for(forecasts.as_mut(), SEGMENTS * 3) - sent_ms);
    }
    // The first ones pay for joining and connecting.
    let steady = &mut took[10..];
    steady.sort_unstable();
    let at = |share: usize| steady[(steady.len() - 1) * share / 100];
    println!("aggregate to {SEGMENTS} x 3 forecasts: p50 {} ms, p99 {} ms, {} windows", at(50), at(99), steady.len());

    // A jam everywhere: two frames of it open an alert for every segment.
    let mut sent_ms = 0;
    for n in WINDOWS..WINDOWS + 2 {
        sent_ms = window(producer.as_mut(), &topics.aggregates, first_ms + n * STEP_MS, 10.0);
        wait_for(forecasts.as_mut(), SEGMENTS * 3);
    }
    println!("aggregate to {SEGMENTS} alerts: {} ms", wait_for(alerts.as_mut(), SEGMENTS) - sent_ms);
}
