//! A whole fit, three horizons with the sizes of their errors, and its boosting beside LightGBM on the same rows.
//!
//! `TRAFFIC_DATA=… cargo bench -p predictor --bench fit -- --copies 3`; with TRAFFIC_TEST_PYTHON, LightGBM too.
//!
//! Fitted to the first half of METR-LA's windows, scored on the fifth that follows; without TRAFFIC_DATA, on simulated
//! readings.

mod data;
mod lightgbm;
mod simulated;

use std::time::Instant;

use data::{Readings, mae};
use predictor::forecast::boosting::{Bins, Boosting, Columns, Table};
use predictor::forecast::features::FEATURES;
use predictor::forecast::fit::{Plan, fit};
use predictor::forecast::model::Model;

const HORIZONS: [u32; 3] = [15, 30, 60];
const FRAME: usize = 2_000;

#[expect(clippy::disallowed_methods, reason = "a benchmark")]
fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|at| arguments.get(at + 1));
    let copies = value("--copies").map_or(1, |copies| copies.parse().expect("--copies: a number"));
    let readings = match std::env::var_os("TRAFFIC_DATA") {
        Some(folder) => Readings::metr_la(folder.as_ref(), copies),
        None => {
            println!("TRAFFIC_DATA is not set: simulated readings");
            let series = simulated::simulated(60 * copies, 5_141);
            Readings { series, edges: Vec::new(), time: jiff::tz::TimeZone::UTC.into() }
        }
    };
    let all = readings.series.windows();
    let (fitted, later) = (0..all / 2, all / 2..all * 7 / 10);
    let plan = Plan::new(&HORIZONS, fitted, later);
    let (began, began_cpu) = (Instant::now(), cpu_s());
    let model = fit(&readings.series, &readings.edges, &readings.time, &plan, &|| ());
    let (took, took_cpu) = (began.elapsed().as_secs_f64(), cpu_s() - began_cpu);
    let rows = readings.fitted(&model, &plan.fit, HORIZONS[0]).1.len();
    println!(
        "a model of {} segments, {rows} rows, {} horizons: {took_cpu:.1} CPU s, {took:.1} s on {} threads, peak {} MiB",
        readings.series.segments.len(),
        HORIZONS.len(),
        rayon::current_num_threads(),
        peak_mib()
    );
    for horizon in &model.horizons {
        let (mut rows, truths) = readings.later(&model, &plan.held_out, horizon.minutes);
        let mut estimates = Vec::new();
        rows.estimate(horizon, &mut estimates);
        let error = mae(estimates.iter().map(|estimate| estimate.center), &truths);
        println!("  {:>2} min: MAE {error:.4} km/h on {} rows not seen", horizon.minutes, truths.len());
    }
    match lightgbm::python() {
        Ok(python) => HORIZONS.iter().for_each(|minutes| compare(&python, &readings, &model, &plan, *minutes)),
        Err(why) => println!("LightGBM left out: {why}"),
    }
}

/// One boosting of the change from now, by both.
#[expect(clippy::disallowed_methods, reason = "a benchmark")]
fn compare(python: &std::path::Path, readings: &Readings, model: &Model, plan: &Plan, minutes: u32) {
    let changes = |(rows, truths): &(predictor::forecast::model::Rows, Vec<f32>)| -> Vec<f32> {
        truths.iter().zip(rows.from()).map(|(truth, (filled, _))| truth - filled).collect()
    };
    let fitted = readings.fitted(model, &plan.fit, minutes);
    let later = readings.later(model, &plan.held_out, minutes);
    let (targets, truths) = (changes(&fitted), changes(&later));
    let (began, began_cpu) = (Instant::now(), cpu_s());
    let bins = Bins::of(fitted.0.features(), FEATURES);
    let table = Table::new(fitted.0.features(), &bins);
    let (ours, _) = Boosting::fit(&table, &bins, targets.clone(), &plan.trees, &|_| ());
    let (took, took_cpu) = (began.elapsed().as_secs_f64(), cpu_s() - began_cpu);
    let (mut columns, mut forecasts) = (Columns::default(), Vec::new());
    let frame: Vec<f32> = later.0.features().iter().copied().cycle().take(FRAME * FEATURES).collect();
    let mut frames: Vec<f64> = (0..15)
        .map(|_| {
            let began = Instant::now();
            columns.fill(&frame, FEATURES);
            ours.predict_all(&columns, &mut forecasts);
            began.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    frames.sort_by(f64::total_cmp);
    columns.fill(later.0.features(), FEATURES);
    ours.predict_all(&columns, &mut forecasts);
    let threads = rayon::current_num_threads();
    let rows = (fitted.0.features(), &targets[..]);
    let other = lightgbm::fit(python, rows, later.0.features(), FEATURES, &plan.trees, threads);
    let line = |name: &str, cpu_s: f64, s: f64, frame_ms: f64, error: f64| {
        println!(
            "  {name:<16} fit {cpu_s:>5.1} CPU s, {s:>5.1} s; {FRAME} rows {frame_ms:>5.2} ms; MAE {error:.4} km/h"
        );
    };
    println!("one boosting, {minutes} min, {} rows, {threads} threads:", targets.len());
    line("ours", took_cpu, took, frames[frames.len() / 2], mae(forecasts.iter().copied(), &truths));
    let name = format!("LightGBM {}", other.version);
    line(&name, other.fit_cpu_s, other.fit_s, other.frame_ms, mae(other.forecasts.iter().copied(), &truths));
}

/// CPU time of this process so far, of all its threads, in user and kernel.
fn cpu_s() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name, which may hold anything: utime and stime are fields 14 and 15, in hundredths of a second.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}
