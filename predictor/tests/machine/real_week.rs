//! A week of 207 real sensors: forecasts beat the last value, and their intervals hold.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::cluster::{Cluster, STEP_MS, aggregate};
use predictor::Settings;

/// 2012-03-01 00:00 in Los Angeles.
const START: i64 = 1_330_588_800_000 / STEP_MS;
const KMH: f64 = 1.609_344;

#[expect(clippy::disallowed_methods, reason = "where the research data is")]
fn data() -> Option<PathBuf> {
    std::env::var_os("TRAFFIC_DATA").map(PathBuf::from)
}

#[test]
fn forecasts_beat_the_last_value() {
    let Some(data) = data() else {
        println!("skipped: TRAFFIC_DATA is not set");
        return;
    };
    let text = std::fs::read_to_string(data.join("los_speed.csv")).expect("the week");
    let mut lines = text.lines();
    let sensors: Vec<&str> = lines.next().expect("a head").split(',').collect();
    let time = jiff::tz::TimeZone::get("America/Los_Angeles").expect("bundled").into();
    let mut cluster = Cluster::new(Settings { time, ..Settings::default() }, 4, 1);
    let mut truth: HashMap<(&str, i64), f64> = HashMap::new();
    let mut windows = 0;
    for (step, line) in (START + 1..).zip(lines) {
        windows += 1;
        for (i, (sensor, speed)) in sensors.iter().zip(line.split(',')).enumerate() {
            let speed: f64 = speed.parse().expect("a speed");
            if speed > 0.0 {
                truth.insert((sensor, step), speed * KMH);
                cluster.send(i % 4, &aggregate(sensor, step, speed * KMH, 1));
            }
        }
        cluster.marker(step);
    }
    cluster.finish();
    // Scored on the last fifth: what comes before is what it learns from.
    let from_ms = (START + windows * 4 / 5) * STEP_MS;
    for horizon in [15, 30, 60] {
        let (mut n, mut error, mut last, mut inside) = (0.0, 0.0, 0.0, 0.0);
        let made = cluster.forecasts().filter(|p| p.prediction_horizon == horizon && p.prediction_timestamp >= from_ms);
        for p in made {
            let Some(actual) = truth.get(&(&*p.segment_id, p.target_timestamp / STEP_MS)) else { continue };
            n += 1.0;
            error += (p.predicted_speed - actual).abs();
            last += (p.current_speed - actual).abs();
            let bounds = p.uncertainty_bounds;
            inside += f64::from(u8::from((bounds.speed_lower..=bounds.speed_upper).contains(actual)));
        }
        let (error, last, coverage) = (error / n, last / n, inside / n);
        println!(
            "{horizon} min: {n} scored, MAE {error:.3} km/h, last value {last:.3}, 90 % interval holds {coverage:.3}"
        );
        assert!(error < 0.95 * last, "{horizon} min: {error} against {last}");
        assert!((0.86..0.94).contains(&coverage), "{horizon} min: {coverage}");
    }
}
