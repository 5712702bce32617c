//! On METR-LA: the boosting beside LightGBM, which shares no code with it, and whether confidence comes true.

#[path = "../../benches/fit/data.rs"]
mod data;
#[path = "../../benches/fit/lightgbm.rs"]
mod lightgbm;

use std::path::PathBuf;

use data::{Readings, mae};
use predictor::evaluate::Task;
use predictor::forecast::boosting::{Bins, Boosting, Columns, Table};
use predictor::forecast::features::FEATURES;
use predictor::forecast::fit::{Plan, fit};
use predictor::forecast::metrics::{Confidence, ConfidenceBin};
use predictor::{Live, Settings, Slot};

/// Forecasts that make a bin well filled.
const WELL_FILLED: u64 = 1_000;
/// Said and held differ by less: in a well-filled bin (what is said below one half is said too often), and over all.
const APART: f64 = 0.08;
const APART_OVERALL: f64 = 0.015;

#[expect(clippy::disallowed_methods, reason = "where the research data is")]
fn data() -> Option<PathBuf> {
    std::env::var_os("TRAFFIC_DATA").map(PathBuf::from)
}

/// Fitted to the first half of the windows, scored on the fifth that follows.
#[test]
fn it_is_as_good_as_lightgbm_on_the_same_rows() {
    let Some(data) = data() else {
        println!("skipped: TRAFFIC_DATA is not set");
        return;
    };
    let python = match lightgbm::python() {
        Ok(python) => python,
        Err(why) => {
            println!("skipped: {why}");
            return;
        }
    };
    let readings = Readings::metr_la(&data, 1);
    let all = readings.series.windows();
    let mut plan = Plan::new(&[30], 0..all / 2, all / 2..all * 7 / 10);
    let trees = plan.trees.clone();
    // The rows need profiles and neighbours only, not the trees.
    (plan.trees.trees, plan.spread.trees) = (1, 1);
    let model = fit(&readings.series, &readings.edges, &readings.time, &plan, &|| ());
    let (fitted, targets) = readings.fitted(&model, &plan.fit, 30);
    let (later, truths) = readings.later(&model, &plan.held_out, 30);
    let change = |(truth, (filled, _)): (&f32, &(f32, f32))| truth - filled;
    let targets: Vec<f32> = targets.iter().zip(fitted.from()).map(change).collect();
    let truths: Vec<f32> = truths.iter().zip(later.from()).map(change).collect();
    let other = lightgbm::fit(&python, (fitted.features(), &targets), later.features(), FEATURES, &trees, 1);
    let bins = Bins::of(fitted.features(), FEATURES);
    let (ours, _) = Boosting::fit(&Table::new(fitted.features(), &bins), &bins, targets, &trees, &|_| ());
    let (mut columns, mut forecasts) = (Columns::default(), Vec::new());
    columns.fill(later.features(), FEATURES);
    ours.predict_all(&columns, &mut forecasts);
    let (own, others) = (mae(forecasts.into_iter(), &truths), mae(other.forecasts.iter().copied(), &truths));
    println!(
        "MAE {own:.4} km/h, LightGBM {} {others:.4} on {} rows; it took {:.1} CPU s, {:.1} s, and {:.1} ms for 2,000 rows",
        other.version,
        truths.len(),
        other.fit_cpu_s,
        other.fit_s,
        other.frame_ms
    );
    assert!(own <= others * 1.005, "{own} against {others}");
}

/// 70 % of the windows to fit, 10 % to measure errors, 20 % to score, as `traffic evaluate` does.
#[test]
fn confidence_comes_true() {
    let Some(data) = data() else {
        println!("skipped: TRAFFIC_DATA is not set");
        return;
    };
    let Readings { series, edges, time } = Readings::metr_la(&data, 1);
    let all = series.windows();
    let plan = Plan::new(&[15, 30, 60], 0..all * 7 / 10, all * 7 / 10..all * 8 / 10);
    let slot = Slot::default();
    slot.put(Some(Live {
        version: "v0.0.0".into(),
        model: fit(&series, &edges, &time, &plan, &|| ()),
        ..Live::default()
    }));
    let scored = all * 8 / 10..all - 12;
    let task = Task {
        series: &series,
        fitted: plan.fit.clone(),
        fed: scored.start - 336..scored.end,
        scored,
        partitions: 1,
        averaged: false,
    };
    let settings = Settings { horizons: plan.horizons, time, ..Settings::default() };
    for report in task.run(&settings, &slot, &|| (), &mut |_| ()).expect("predictions") {
        let (minutes, Confidence { said, held, bins }) = (report.horizon, report.confidence);
        println!("{minutes} min: said {said:.3}, held {held:.3}");
        for ConfidenceBin { said, held, n } in bins.into_iter().filter(|bin| bin.n > 0) {
            println!("    said {said:.3}, held {held:.3} of {n}");
            assert!(n < WELL_FILLED || (said - held).abs() < APART, "{minutes} min: said {said}, held {held} of {n}");
        }
        assert!((said - held).abs() < APART_OVERALL, "{minutes} min: said {said}, held {held}");
    }
}
