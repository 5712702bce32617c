//! Each worker reads a full topic to its end.

use std::time::Duration;

use common::stream::{Log, TopicPartition};

use super::usage::{Usage, watch};
use super::{Bench, Options, limits};

const DEADLINE: Duration = Duration::from_secs(1_800);

pub fn run(options: &Options) {
    let (bench, log) = (Bench::new(options), options.log());
    let topics = &bench.topics;
    let (events, segments) = (options.events.to_string(), options.segments.to_string());
    let mut simulate = bench.start("traffic", &["simulate", "--events", &events, "--segments", &segments], true);
    table_head();
    row("traffic simulate, into the topic", options.events, &watch(&mut simulate, DEADLINE));
    let worker = |name: &str, archive: bool| {
        watch(&mut bench.start(name, &["--instance", "bench", "--exit-at-end"], archive), DEADLINE)
    };
    if options.wants("limits") {
        let (records, usage) = limits::reading(&options.kafka, &topics.events, options.partitions);
        row("librdkafka alone", records, &usage);
        let (records, usage) = limits::parsing(&options.kafka, &topics.events, options.partitions);
        row("librdkafka and parsing", records, &usage);
    }
    if options.wants("aggregator") {
        row("aggregator", options.events, &worker("aggregator", false));
        let (entries, bytes) = size(&log, &topics.changelog("aggregator"));
        println!("  its changelog: {entries} entries, {bytes} bytes of keys and values");
    }
    if options.wants("ingest") {
        row("ingest, with the archive", options.events, &worker("ingest", true));
    }
    let (aggregates, _) = size(&log, &topics.aggregates);
    if options.wants("predictor") {
        row("predictor, in aggregates", aggregates, &worker("predictor", false));
    }
    if options.wants("alerter") {
        let (predictions, _) = size(&log, &topics.predictions);
        row("alerter, in aggregates and forecasts", aggregates + predictions, &worker("alerter", false));
    }
}

/// Records of a topic, and the bytes of their keys and values, uncompressed.
fn size(log: &dyn Log, topic: &str) -> (u64, usize) {
    let (mut records, mut bytes) = (0, 0);
    for partition in 0..log.partitions(topic).expect("Kafka answers").expect("the topic exists") {
        let mut reader = log.read(&TopicPartition::new(topic, partition), None).expect("a reader");
        while reader
            .next(&mut |record| {
                records += 1;
                bytes += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
            })
            .expect("readable")
        {}
    }
    (records, bytes)
}

fn table_head() {
    println!(
        "{:<38} {:>10} {:>8} {:>10} {:>8} {:>12} {:>9}",
        "", "records", "wall s", "per s", "CPU s", "per CPU s", "peak MiB"
    );
}

fn row(what: &str, records: u64, usage: &Usage) {
    #[expect(clippy::cast_precision_loss, reason = "records of a run")]
    let n = records as f64;
    println!(
        "{what:<38} {records:>10} {:>8.2} {:>10.0} {:>8.2} {:>12.0} {:>9.0}",
        usage.wall_s,
        n / usage.wall_s,
        usage.cpu_s,
        n / usage.cpu_s,
        usage.peak_mib
    );
}
