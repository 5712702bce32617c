//! A frame of 2,000 segments and three horizons on one core: aggregates in, digests told, forecasts and state out; without a
//! model and with one. Then one segment's forecasts alone.
//!
//! `taskset -c 0 cargo bench -p predictor --bench frame`

#[path = "fit/simulated.rs"]
mod simulated;

use std::time::{Duration, Instant};

use common::model::Aggregate;
use common::stream::{Header, Machine as _, Outbox, Records, StoredRecord, WATERMARK_HEADER};
use jiff::tz::TimeZone;
use predictor::forecast::features::Frame;
use predictor::forecast::fit::{Plan, fit};
use predictor::forecast::model::{Model, Rows};
use predictor::forecast::profile::Combined;
use predictor::forecast::series::Series;
use predictor::{DIGEST, Live, Predictor, Settings, Slot};

const SEGMENTS: usize = 2_000;
const PARTITIONS: u32 = 12;
const STEP_MS: i64 = 300_000;
const DAY: usize = 288;
const HORIZONS: [u32; 3] = [15, 30, 60];
/// Days that the model is fitted to.
const FITTED: usize = 3 * DAY;
/// Rows of a horizon's fit: trees of the size that real ones have.
const ROWS: usize = 200_000;

#[expect(clippy::disallowed_methods, reason = "a benchmark")]
fn main() {
    let series = simulated::simulated(SEGMENTS, FITTED + 2 * DAY);
    // Profile and regression are at work on the second day.
    frames(&series, Slot::default(), 0..2 * DAY, DAY, "without a model");
    let mut plan = Plan::new(&HORIZONS, 0..FITTED, FITTED..FITTED);
    plan.most_rows = ROWS;
    let began = Instant::now();
    let model = fit(&series, &[], &TimeZone::UTC.into(), &plan, &|| ());
    println!("a model of {SEGMENTS} segments, {ROWS} rows a horizon: fitted in {:.0} s", began.elapsed().as_secs_f64());
    let slot = Slot::default();
    slot.put(Some(Live { version: "v0.0.0".into(), model: model.clone(), ..Live::default() }));
    frames(&series, slot, FITTED - DAY / 6..FITTED + DAY / 2, DAY / 6, "with a model");
    single(&series, &model);
}

/// Feeds the windows to the machine and times those after the first `warm_up`.
#[expect(clippy::disallowed_methods, reason = "a benchmark")]
fn frames(series: &Series, slot: Slot, windows: std::ops::Range<usize>, warm_up: usize, name: &str) {
    let mut machine = Predictor::new(Settings::default(), slot);
    (0..PARTITIONS).for_each(|p| machine.assign(p, PARTITIONS));
    let mut out = Outbox::default();
    let mut took = Vec::new();
    let (mut forecasts, mut state, mut cpu) = (0, 0, 0.0);
    for at in windows {
        let input: Vec<Vec<StoredRecord>> = (0..PARTITIONS).map(|p| window(series, p, at)).collect();
        let (began, began_cpu) = (Instant::now(), cpu_ms());
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
        // Ticks of 10 ms: right on average.
        cpu += if took.len() > warm_up { cpu_ms() - began_cpu } else { 0.0 };
        forecasts = out.emitted(predictor::PREDICTIONS).len();
        state = out.entries().iter().map(|(_, key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum();
        out.clear();
    }
    let timed = &mut took[warm_up..];
    timed.sort();
    let at = |percent: usize| timed[timed.len() * percent / 100].as_secs_f64() * 1e3;
    #[expect(clippy::cast_precision_loss, reason = "some hundred frames")]
    let cpu = cpu / timed.len() as f64;
    println!(
        "{name}: {SEGMENTS} segments, {forecasts} forecasts a frame: p50 {:.1} ms, p99 {:.1} ms, {cpu:.1} CPU ms; \
         {state} bytes of state",
        at(50),
        at(99)
    );
}

/// CPU time of this process so far.
fn cpu_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may hold anything: utime and stime are fields 14 and 15, in hundredths of a second.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() * 10.0
}

/// One segment's features and estimates, all horizons, from its snapshot.
#[expect(clippy::disallowed_methods, reason = "a benchmark")]
fn single(series: &Series, model: &Model) {
    let profiles: Vec<_> = model.segments.iter().map(|member| member.profile.unpack()).collect();
    let pasts: Vec<Combined<'_>> =
        profiles.iter().map(|own| Combined { own, fitted: Some(own), frozen: true }).collect();
    let mut took: Vec<Duration> = Vec::new();
    let (mut rows, mut estimates) = (Rows::default(), Vec::new());
    let horizons = HORIZONS.map(|minutes| i64::from(minutes / 5));
    series.play(
        FITTED..FITTED + 2,
        &pasts,
        &horizons,
        &TimeZone::UTC.into(),
        &mut |_, calendar, snapshots, network| {
            let segments: Vec<_> = snapshots.iter().map(Option::as_ref).collect();
            let frame = Frame::new(calendar.now, &segments, network, &model.segments);
            for (own, member) in segments.iter().zip(&model.segments) {
                let began = Instant::now();
                for (h, horizon) in model.horizons.iter().enumerate() {
                    rows.clear();
                    rows.push(own.expect("every segment has speeds"), member, &frame, h);
                    rows.estimate(horizon, &mut estimates);
                }
                took.push(began.elapsed());
            }
        },
    );
    took.sort();
    let us = |percent: usize| took[took.len() * percent / 100].as_secs_f64() * 1e6;
    println!("one segment alone, {} horizons: p50 {:.0} µs, p99 {:.0} µs", HORIZONS.len(), us(50), us(99));
}

fn window(series: &Series, partition: u32, at: usize) -> Vec<StoredRecord> {
    let window_end = series.step(at) * STEP_MS;
    let mut records: Vec<StoredRecord> = Vec::new();
    for (id, speeds) in series.segments.iter().zip(&series.speeds).skip(partition as usize).step_by(PARTITIONS as usize)
    {
        let window_start = window_end - STEP_MS;
        let aggregate = Aggregate {
            aggregate_id: format!("AGG_{id}_{window_start}").into(),
            segment_id: (&**id).into(),
            window_start,
            window_end,
            avg_speed: Some(f64::from(speeds[at])),
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
        records.push(StoredRecord { key: Some(id.as_bytes().to_vec()), value, ..StoredRecord::default() });
    }
    let value = window_end.to_string().into_bytes();
    records.push(StoredRecord {
        headers: vec![Header { name: WATERMARK_HEADER.into(), value }],
        ..StoredRecord::default()
    });
    records
}
