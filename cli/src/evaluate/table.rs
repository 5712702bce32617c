//! The report as people read it.

use predictor::evaluate::HorizonReport;
use predictor::forecast::metrics::{Confidence, ConfidenceBin, Errors};

use super::Report;

pub fn print(report: &Report) {
    let Report { unit, segments, fit_windows, held_out_windows, scored_windows, .. } = report;
    println!(
        "{segments} segments; fitted to {fit_windows} windows of 5 min, errors measured on {held_out_windows}, \
         scored on {scored_windows}; {unit}, {}{}",
        if report.protocol == "averaged" { "averaged over steps" } else { "by horizon" },
        if report.online { ", learning on" } else { "" }
    );
    println!();
    println!("{:>7}  {:<20} {:>8} {:>8} {:>8} {:>10}", "MINUTES", "FORECAST", "MAE", "RMSE", "MAPE %", "N");
    for report in &report.horizons {
        for (name, errors) in rows(report) {
            let Errors { mae, rmse, mape, n } = errors;
            println!("{:>7}  {name:<20} {mae:>8.3} {rmse:>8.3} {mape:>8.2} {n:>10}", report.horizon);
        }
    }
    println!();
    println!("{:>7}  {:<20} {:>8} {:>8}", "MINUTES", "INTERVAL", "HOLDS", "WIDTH");
    for report in &report.horizons {
        for (name, interval) in [("80 %", report.interval_80), ("90 %", report.interval_90)] {
            println!("{:>7}  {name:<20} {:>8.3} {:>8.2}", report.horizon, interval.coverage, interval.width);
        }
    }
    println!();
    println!("{:>7}  {:<20} {:>8} {:>8} {:>19}", "MINUTES", "CONFIDENCE", "SAID", "HELD", "N");
    for report in &report.horizons {
        let Confidence { said, held, bins } = &report.confidence;
        println!("{:>7}  {:<20} {said:>8.3} {held:>8.3} {:>19}", report.horizon, "all", report.model.n);
        for (tenth, ConfidenceBin { said, held, n }) in (0..).zip(bins).filter(|(_, bin)| bin.n > 0) {
            let name = format!("{} to {} %", tenth * 10, tenth * 10 + 10);
            println!("{:>7}  {name:<20} {said:>8.3} {held:>8.3} {n:>19}", report.horizon);
        }
    }
    println!();
    println!("fitted in {:.1} s, scored in {:.1} s", report.fit_seconds, report.predict_seconds);
}

fn rows(report: &HorizonReport) -> impl Iterator<Item = (&'static str, Errors)> {
    let linear = report.linear.map(|errors| ("linear regression", errors));
    [("model", report.model), ("last value", report.last_value), ("historical average", report.historical_average)]
        .into_iter()
        .chain(linear)
}
