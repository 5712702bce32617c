//! How long the rules take for a frame of 2,000 segments and three horizons, commit included.
//!
//! `cargo bench -p alerter --bench rules`. One thread, one partition; a twentieth of the segments is congested at a
//! time, and the congestion moves on, so that alerts open and close.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::time::{Duration, Instant};

use alerter::{PREDICTIONS, Rules, Settings, TRANSITIONS};
use common::config::{AlerterSettings, PredictedCongestionSettings};
use common::model::{CongestionLevel, Feature, HistoricalContext, ModelType, Position, Prediction, UncertaintyBounds};
use common::stream::{Machine, Outbox, Records, StoredRecord};

const SEGMENTS: usize = 2_000;
const HORIZONS: [u32; 3] = [15, 30, 60];
const FRAMES: usize = 60;
const START_MS: i64 = 1_750_000_200_000;

fn main() {
    let frames: Vec<Vec<StoredRecord>> = (0..FRAMES).map(frame).collect();
    let bytes: usize = frames[0].iter().filter_map(|r| r.value.as_ref()).map(Vec::len).sum();
    println!("{} forecasts a frame, {} bytes each", frames[0].len(), bytes / frames[0].len());
    measure("the default rules (one horizon)", Settings::default(), &frames);
    measure("a rule for each horizon", Settings::from(&three_rules()), &frames);
}

fn three_rules() -> AlerterSettings {
    let rule = |horizon_minutes: u32| {
        let set = PredictedCongestionSettings { horizon_minutes, ..PredictedCongestionSettings::default() };
        (format!("jam-{horizon_minutes}"), set)
    };
    AlerterSettings { predicted_congestion: HORIZONS.map(rule).into(), ..AlerterSettings::default() }
}

fn measure(name: &str, settings: Settings, frames: &[Vec<StoredRecord>]) {
    let (mut machine, mut out) = (Rules::new(settings), Outbox::default());
    machine.assign(0, 1);
    let (mut took, mut transitions, mut entries) = (Vec::new(), 0, 0);
    for frame in frames {
        let begun = Instant::now();
        // As polls bring them.
        for batch in frame.chunks(500) {
            machine.records(&Records::stored(PREDICTIONS, 0, batch), 0, &mut out);
        }
        machine.flush(0, 0, &mut out);
        took.push(begun.elapsed());
        transitions += out.emitted(TRANSITIONS).len();
        entries += out.entries().len();
        out.clear();
    }
    assert!(transitions > 0, "nothing happened");
    took.sort();
    let ms = |d: Duration| d.as_secs_f64() * 1_000.0;
    println!(
        "{name}: {:.2} ms a frame (median; best {:.2}, worst {:.2}); {:.0} transitions and {:.0} state entries a frame",
        ms(took[took.len() / 2]),
        ms(took[0]),
        ms(took[took.len() - 1]),
        transitions as f64 / FRAMES as f64,
        entries as f64 / FRAMES as f64,
    );
}

fn frame(number: usize) -> Vec<StoredRecord> {
    let at_ms = START_MS + 300_000 * i64::try_from(number).expect("few frames");
    let mut records = Vec::with_capacity(SEGMENTS * HORIZONS.len());
    for segment in 0..SEGMENTS {
        let id = format!("SEG_I405_N_{segment:04}");
        for horizon in HORIZONS {
            let congested = (segment + SEGMENTS - number * 10) % SEGMENTS < SEGMENTS / 20;
            let median = if congested { 25.371 } else { 71.846 };
            let value = serde_json::to_vec(&prediction(&id, at_ms, horizon, median)).expect("JSON");
            let key = Some(id.clone().into_bytes());
            records.push(StoredRecord { timestamp_ms: at_ms, key, value: Some(value), ..StoredRecord::default() });
        }
    }
    records
}

fn prediction<'a>(segment: &'a str, at_ms: i64, horizon: u32, median: f64) -> Prediction<'a> {
    let quantiles = std::array::from_fn(|i| median + 2.013 * (i as f64 - 9.0));
    Prediction {
        prediction_id: format!("PRED_{segment}_{at_ms}_{horizon}").into(),
        segment_id: segment.into(),
        prediction_timestamp: at_ms,
        prediction_horizon: horizon,
        target_timestamp: at_ms + i64::from(horizon) * 60_000,
        predicted_speed: median,
        predicted_volume: None,
        current_speed: 60.0,
        predicted_congestion_level: CongestionLevel::of(median),
        uncertainty_bounds: UncertaintyBounds { speed_lower: quantiles[0], speed_upper: quantiles[18] },
        speed_quantiles: quantiles,
        confidence_score: 0.5,
        model_version: "v0.1.0".into(),
        model_type: ModelType::LinearRegression,
        features_used: vec![Feature::HistoricalSpeed, Feature::TimeOfDay, Feature::DayOfWeek].into(),
        coordinates: Some(Position { latitude: 34.0522, longitude: -118.2437 }),
        historical_context: HistoricalContext {
            avg_speed_1h: Some(61.25),
            avg_speed_24h: Some(64.5),
            avg_speed_7d: Some(66.125),
        },
    }
}
