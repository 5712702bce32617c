//! How fast events are read: the canonical form, other dialects, and what a generic JSON value costs.
//!
//! `cargo bench -p common --bench parse`. One thread; each way reads the same kind of event in turn, in
//! rounds, so that a busy machine slows all of them alike; the best round counts.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::hint::black_box;
use std::time::Instant;

use common::model::{Aggregate, CongestionLevel, Normaliser, Position};

const EVENTS: usize = 20_000;
const ROUNDS: usize = 15;

/// One way of doing something with each event.
struct Way<'a> {
    name: &'static str,
    run: Box<dyn Fn(usize) + 'a>,
    best_per_second: f64,
}

fn main() {
    let canonical = events(canonical);
    let extra = events(|i| canonical_text(i).replacen('{', r#"{"producer_id":"p1","#, 1).into_bytes());
    let nested = events(nested);
    let flat = events(flat);
    let rules = Normaliser::default();
    let rules = &rules;
    let parsing = |events: &'static [Vec<u8>]| -> Box<dyn Fn(usize)> {
        let rules = rules.clone();
        Box::new(move |i| {
            black_box(rules.parse(black_box(&events[i])).expect("valid"));
        })
    };
    let mut ways = [
        way("canonical", parsing(canonical)),
        way("canonical and a field more", parsing(extra)),
        way("flat, mph, local time (D2)", parsing(flat)),
        way("nested, mph, ISO time (C2)", parsing(nested)),
        way("canonical as serde_json::Value", Box::new(|i| as_value(&canonical[i]))),
        way("nested as serde_json::Value", Box::new(|i| as_value(&nested[i]))),
        way("an aggregate written", Box::new(write_aggregate)),
    ];
    for _ in 0..ROUNDS {
        ways.iter_mut().for_each(measure);
    }
    println!("{} bytes a canonical event, {} a nested one", canonical[0].len(), nested[0].len());
    let base = ways[4].best_per_second;
    for way in &ways {
        let (name, rate) = (way.name, way.best_per_second);
        println!("{name:32} {rate:>10.0} /s  {:>6.0} ns  {:>5.2} × canonical as Value", 1e9 / rate, rate / base);
    }
}

fn way<'a>(name: &'static str, run: Box<dyn Fn(usize) + 'a>) -> Way<'a> {
    Way { name, run, best_per_second: 0.0 }
}

fn measure(way: &mut Way<'_>) {
    let begun = Instant::now();
    (0..EVENTS).for_each(&way.run);
    #[expect(clippy::cast_precision_loss, reason = "a few thousand events")]
    let per_second = EVENTS as f64 / begun.elapsed().as_secs_f64();
    way.best_per_second = way.best_per_second.max(per_second);
}

fn events(make: impl Fn(usize) -> Vec<u8>) -> &'static [Vec<u8>] {
    Vec::leak((0..EVENTS).map(make).collect())
}

fn as_value(event: &[u8]) {
    let value: serde_json::Value = serde_json::from_slice(black_box(event)).expect("JSON");
    black_box(value);
}

fn canonical(i: usize) -> Vec<u8> {
    canonical_text(i).into_bytes()
}

fn canonical_text(i: usize) -> String {
    format!(
        concat!(
            r#"{{"event_id":"{:012}","segment_id":"SEG_I405_N_{:04}","timestamp":{},"speed":{}.{},"volume":{},"#,
            r#""occupancy":{}.{},"coordinates":{{"latitude":34.{:06},"longitude":-118.{:06}}},"source":"SENSOR","#,
            r#""quality_score":0.{},"metadata":{{"road":"I-405","lanes":"4"}}}}"#
        ),
        i,
        i % 2_000,
        1_759_674_600_000 + i,
        20 + i % 90,
        i % 10,
        i % 60,
        i % 95,
        i % 7,
        i * 31 % 1_000_000,
        i * 17 % 1_000_000,
        80 + i % 20,
    )
}

fn nested(i: usize) -> Vec<u8> {
    format!(
        concat!(
            r#"{{"event_id": "{:08x}-52f6-4a0c-9a65-0d1f7b1f2c11", "sensor_id": "LA_I10_E_{:03}", "#,
            r#""timestamp": "2025-10-05T{:02}:00:07.200000", "location": {{"highway": "I-10", "direction": "E", "#,
            r#""lanes": 4}}, "traffic_data": {{"speed_mph": {}.{}, "volume_vehicles_per_hour": {}, "#,
            r#""occupancy_percentage": {}.5, "congestion_level": 4}}, "weather": {{"condition": "fog", "#,
            r#""temperature_f": 58.2, "precipitation": false}}, "hour": 7, "day_of_week": 6, "is_weekend": true}}"#
        ),
        i,
        i % 300,
        i % 24,
        10 + i % 60,
        i % 10,
        i % 4_000,
        i % 90,
    )
    .into_bytes()
}

fn flat(i: usize) -> Vec<u8> {
    format!(
        concat!(
            r#"{{"event_id": "71744_2012-03-01 00:05:00", "sensor_id": "{}", "timestamp": "2012-03-01 {:02}:05:00", "#,
            r#""speed_mph": {}.{}, "latitude": 34.0725, "longitude": -118.2677, "road_type": "freeway", "#,
            r#""lane_count": 4, "event_time": "2012-03-01T00:05:00", "pipeline_source": "metr_la"}}"#
        ),
        700_000 + i,
        i % 24,
        10 + i % 60,
        i % 10,
    )
    .into_bytes()
}

fn write_aggregate(i: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let speed = 20.0 + (i % 900) as f64 / 7.0;
    let aggregate = Aggregate {
        aggregate_id: "AGG_SEG_I405_N_0001_1759674600000".into(),
        segment_id: "SEG_I405_N_0001".into(),
        window_start: 1_759_674_600_000,
        window_end: 1_759_674_900_000,
        avg_speed: Some(speed),
        speed_stddev: Some(speed / 10.0),
        speed_min: Some(speed - 5.0),
        speed_max: Some(speed + 5.0),
        vehicle_count: 120,
        occupancy_avg: speed / 9.0,
        occupancy_max: Some(speed / 3.0),
        congestion_level: Some(CongestionLevel::of(speed)),
        coordinates: Some(Position { latitude: 34.0522, longitude: -118.2437 }),
        event_count: 10,
        quality_score: 0.95,
    };
    let mut out = Vec::with_capacity(512);
    serde_json::to_writer(&mut out, black_box(&aggregate)).expect("JSON");
    black_box(out);
}
