//! A frame of 2,000 segments and three horizons on one core: aggregates in, digests told, forecasts and state out.
//!
//! `cargo bench -p predictor --bench frame`

use std::time::Instant;

use common::model::Aggregate;
use common::stream::{Header, Machine as _, Outbox, Records, StoredRecord, WATERMARK_HEADER};
use predictor::{DIGEST, Predictor, Settings, Slot};

const SEGMENTS: i64 = 2_000;
const PARTITIONS: u32 = 12;
const STEP_MS: i64 = 300_000;
const START: i64 = 5_900_000;

#[expect(clippy::disallowed_methods, reason = "a benchmark")]
fn main() {
    let mut machine = Predictor::new(Settings::default(), Slot::default());
    (0..PARTITIONS).for_each(|p| machine.assign(p, PARTITIONS));
    let mut out = Outbox::default();
    let mut took = Vec::new();
    let (mut forecasts, mut state) = (0, 0);
    for step in START..START + 2 * 288 {
        let input: Vec<Vec<StoredRecord>> = (0..PARTITIONS).map(|p| window(p, step)).collect();
        let began = Instant::now();
        for (p, records) in (0..PARTITIONS).zip(&input) {
            machine.records(&Records::stored(0, p, records), 4_000_000_000_000, &mut out);
        }
        let digests = out.emitted(DIGEST);
        for digest in digests {
            let record = StoredRecord { key: digest.key, value: digest.value, ..StoredRecord::default() };
            machine.tailed(&record.as_record(), 4_000_000_000_000, &mut out);
        }
        (0..PARTITIONS).for_each(|p| machine.flush(p, 4_000_000_000_000, &mut out));
        took.push(began.elapsed());
        forecasts = out.emitted(predictor::PREDICTIONS).len();
        state = out.entries().iter().map(|(_, key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
        out.clear();
    }
    // The second day: profile and regression are at work.
    let day = &mut took[288..];
    day.sort();
    println!(
        "{SEGMENTS} segments, {forecasts} forecasts a frame: p50 {:.1} ms, p99 {:.1} ms; {state} bytes of state a frame",
        day[144].as_secs_f64() * 1e3,
        day[285].as_secs_f64() * 1e3
    );
}

fn window(partition: u32, step: i64) -> Vec<StoredRecord> {
    let mut records: Vec<StoredRecord> = Vec::new();
    for s in (0..SEGMENTS).filter(|s| s % i64::from(PARTITIONS) == i64::from(partition)) {
        let segment = format!("SEG_I405_N_{s:04}");
        let window_start = (step - 1) * STEP_MS;
        let phase = (step * 31 + s * 17) % 97;
        let aggregate = Aggregate {
            aggregate_id: format!("AGG_{segment}_{window_start}").into(),
            segment_id: (&*segment).into(),
            window_start,
            window_end: step * STEP_MS,
            avg_speed: Some(60.0 + f64::from(i32::try_from(phase).expect("small")) / 3.0),
            speed_stddev: Some(4.0),
            speed_min: Some(40.0),
            speed_max: Some(110.0),
            vehicle_count: 100,
            occupancy_avg: 12.0,
            occupancy_max: Some(20.0),
            congestion_level: None,
            coordinates: None,
            event_count: 10,
            quality_score: 1.0,
        };
        let value = Some(serde_json::to_vec(&aggregate).expect("JSON"));
        records.push(StoredRecord { key: Some(segment.into_bytes()), value, ..StoredRecord::default() });
    }
    let value = (step * STEP_MS).to_string().into_bytes();
    records.push(StoredRecord {
        headers: vec![Header { name: WATERMARK_HEADER.into(), value }],
        ..StoredRecord::default()
    });
    records
}
