//! From the record that ends a window to the receipt of its aggregates by a read_committed consumer.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::clock::{Clock, SystemClock};
use common::model::Aggregate;
use common::stream::partitioner::partition_of;
use common::stream::{Event, Log, Membership, Outgoing, Producer};
use tests::unique;

use super::usage::cpu_s;
use super::{Bench, Options};

const WINDOW_MS: i64 = 300_000;
/// The aggregator's default: a window is over when an event so much behind its end is there.
const OUT_OF_ORDERNESS_MS: i64 = 30_000;
/// How long the last aggregates may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A partition and a window's end.
type Closing = (u32, i64);

#[derive(Default)]
struct Times {
    /// When the record that ends it was handed to the producer.
    ended: Mutex<HashMap<Closing, Instant>>,
    /// When each of its aggregates was received.
    received: Mutex<Vec<(Closing, Instant)>>,
}

pub fn run(options: &Options) {
    let (bench, log) = (Bench::new(options), options.log());
    let aggregator = bench.start("aggregator", &["--instance", "bench"], false);
    let (topics, times, over) = (&bench.topics, Times::default(), AtomicBool::new(false));
    let mut cpu = 0.0;
    std::thread::scope(|scope| {
        scope.spawn(|| receive(&log, &topics.aggregates, options, &times, &over));
        // Both have joined by then.
        std::thread::sleep(Duration::from_secs(5));
        let (before, began) = (cpu_s(aggregator.pid()).unwrap_or_default(), Instant::now());
        let mut producer = log.producer().expect("a producer");
        send(producer.as_mut(), &topics.events, options, &times);
        cpu = (cpu_s(aggregator.pid()).unwrap_or_default() - before) / began.elapsed().as_secs_f64();
        let wanted = options.segments as usize * usize::try_from(options.windows).expect("few windows");
        let waits = Instant::now();
        while times.received.lock().expect("not poisoned").len() < wanted && waits.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
        }
        over.store(true, Ordering::Relaxed);
    });
    tell(options, &times, cpu);
}

/// Sends events of all segments in turn, evenly over time, until the last window is over.
fn send(producer: &mut dyn Producer, topic: &str, options: &Options, times: &Times) {
    let per_window = options.rate * options.every_ms.unsigned_abs() / 1_000;
    let first_ms = (SystemClock.now_ms() / WINDOW_MS - options.windows - 3) * WINDOW_MS;
    let until_ms = first_ms + options.windows * WINDOW_MS + OUT_OF_ORDERNESS_MS;
    let segments: Vec<(String, u32)> = (0..options.segments)
        .map(|s| format!("SEG_LIVE_{s:05}"))
        .map(|segment| (segment.clone(), partition_of(segment.as_bytes(), options.partitions)))
        .collect();
    // Windows that are over, by partition.
    let mut over = vec![0; options.partitions as usize];
    let (began, mut sent) = (Instant::now(), 0_u64);
    loop {
        let due = u64::try_from(began.elapsed().as_micros()).expect("a short run") * options.rate / 1_000_000;
        while sent < due {
            let event_ms = first_ms + i64::try_from(sent * WINDOW_MS.unsigned_abs() / per_window).expect("small");
            let (segment, partition) = &segments[usize::try_from(sent % segments.len() as u64).expect("small")];
            let value = format!(
                r#"{{"event_id":"EVT_LIVE_{sent:010}","segment_id":"{segment}","timestamp":{event_ms},"speed":{}.5,"volume":{},"occupancy":12.5,"coordinates":{{"latitude":34.05,"longitude":-118.25}},"source":"SENSOR","quality_score":0.98}}"#,
                40 + sent % 60,
                sent % 20
            );
            let (key, value) = (Some(segment.as_bytes()), Some(value.as_bytes()));
            producer.send(&Outgoing { topic, partition: Some(*partition), key, value, headers: &[] }).expect("sent");
            let closed = (event_ms - OUT_OF_ORDERNESS_MS - first_ms).div_euclid(WINDOW_MS);
            let before = &mut over[*partition as usize];
            if closed > *before {
                *before = closed;
                let closing = (*partition, first_ms + closed * WINDOW_MS);
                times.ended.lock().expect("not poisoned").insert(closing, Instant::now());
            }
            sent += 1;
            if event_ms > until_ms {
                return producer.flush().expect("acknowledged");
            }
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

fn receive(log: &dyn Log, topic: &str, options: &Options, times: &Times, over: &AtomicBool) {
    let membership = Membership {
        application_id: unique("live"),
        instance: "0".to_owned(),
        inputs: vec![topic.to_owned()],
        transactional: false,
    };
    let mut member = log.join(&membership).expect("joined");
    while !over.load(Ordering::Relaxed) {
        match member.poll(Duration::from_millis(20)).expect("Kafka answers") {
            Event::Records(records) => {
                let now = Instant::now();
                let mut received = times.received.lock().expect("not poisoned");
                for value in records.iter().filter_map(|record| record.value) {
                    let aggregate: Aggregate<'_> = serde_json::from_slice(value).expect("an aggregate");
                    let partition = partition_of(aggregate.segment_id.as_bytes(), options.partitions);
                    received.push(((partition, aggregate.window_end), now));
                }
            }
            Event::Assigned(parts) => {
                let starts: Vec<_> = parts.into_iter().map(|at| (at, None)).collect();
                member.start(&starts).expect("reading begins");
            }
            Event::Revoked(_) | Event::Idle | Event::End { .. } => {}
        }
    }
}

fn tell(options: &Options, times: &Times, cpu: f64) {
    let (ended, received) = (times.ended.lock().expect("not poisoned"), times.received.lock().expect("not poisoned"));
    let took =
        |closing: &Closing, at: &Instant| ended.get(closing).map(|end| at.duration_since(*end).as_secs_f64() * 1e3);
    let mut all: Vec<f64> = received.iter().filter_map(|(closing, at)| took(closing, at)).collect();
    let first_end = ended.keys().map(|(_, end)| *end).min().unwrap_or_default();
    let first = received.iter().filter(|((_, end), _)| *end == first_end);
    let first = first.filter_map(|(closing, at)| took(closing, at)).fold(0.0, f64::max);
    let mut slowest: HashMap<i64, f64> = HashMap::new();
    for (closing, at) in received.iter() {
        let slowest = slowest.entry(closing.1).or_default();
        *slowest = slowest.max(took(closing, at).unwrap_or_default());
    }
    assert!(!all.is_empty(), "not one aggregate came");
    all.sort_unstable_by(f64::total_cmp);
    let share = |percent: usize| all[(all.len() - 1) * percent / 100];
    println!(
        "{} events/s, {} closings, {} aggregates: p50 {:.0} ms, p90 {:.0} ms, p99 {:.0} ms, most {:.0} ms; first window {first:.0} ms; aggregator {:.0} % of a CPU",
        options.rate,
        ended.len(),
        all.len(),
        share(50),
        share(90),
        share(99),
        share(100),
        cpu * 100.0
    );
    if options.latencies {
        let mut slowest: Vec<_> = slowest.into_iter().collect();
        slowest.sort_unstable_by_key(|(end, _)| *end);
        slowest.iter().for_each(|(end, ms)| println!("  {end}: {ms:.0} ms"));
    }
}
