//! What the client library alone needs for the same topic: no worker can need less.

use std::time::{Duration, Instant};

use common::model::Normaliser;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};

use super::usage::{Usage, cpu_s};

/// Reads all of a topic, handing every payload to `each`; returns how many records there were.
fn consume(kafka: &str, topic: &str, partitions: u32, each: &mut dyn FnMut(&[u8])) -> u64 {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka)
        .set("group.id", "limits")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("fetch.queue.backoff.ms", "2")
        .create()
        .expect("a consumer");
    let mut list = TopicPartitionList::new();
    for partition in 0..i32::try_from(partitions).expect("few partitions") {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&list).expect("assigned");
    let (mut ended, mut records) = (0, 0);
    while ended < partitions {
        match consumer.poll(Duration::from_secs(10)).expect("Kafka answers within ten seconds") {
            Ok(message) => {
                records += 1;
                each(message.payload().unwrap_or_default());
            }
            Err(KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => panic!("{error}"),
        }
    }
    records
}

fn measured(work: impl FnOnce() -> u64) -> (u64, Usage) {
    let (pid, began) = (std::process::id(), Instant::now());
    let before_s = cpu_s(pid).unwrap_or_default();
    let records = work();
    let cpu_s = cpu_s(pid).unwrap_or_default() - before_s;
    (records, Usage { wall_s: began.elapsed().as_secs_f64(), cpu_s, peak_mib: 0.0 })
}

/// Reading alone.
pub fn reading(kafka: &str, topic: &str, partitions: u32) -> (u64, Usage) {
    measured(|| consume(kafka, topic, partitions, &mut |_| {}))
}

/// Reading and parsing every event.
pub fn parsing(kafka: &str, topic: &str, partitions: u32) -> (u64, Usage) {
    let normaliser = Normaliser::default();
    let mut sum = 0.0;
    let measured = measured(|| {
        consume(kafka, topic, partitions, &mut |payload| {
            sum += normaliser.parse(payload).ok().and_then(|event| event.speed_kmh).unwrap_or_default();
        })
    });
    assert!(sum > 0.0, "the events have speeds");
    measured
}
