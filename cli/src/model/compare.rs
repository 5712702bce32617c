//! `traffic model compare`.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Args;
use predictor::registry::{Metadata, Registry, Score, Version};
use serde_json::{Map, Value, json};

use super::number;

/// Two versions side by side
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  traffic model compare v1.0.0 v1.1.0
  traffic model compare v1.0.0 v1.1.0 --json | jq '.horizons[] | {horizon_minutes, mae: .difference.mae_kmh}'

The difference is the second version's, as a share of the first's: errors and widths are better when it is negative.
Of shares within an interval it is in points.")]
pub struct CompareArgs {
    /// Like v1.0.0
    first: Version,
    /// Like v1.1.0
    second: Version,
}

/// What is compared: its name in JSON, on paper, and of a score.
type Measure = (&'static str, &'static str, fn(&Score) -> Option<f64>);

const MEASURES: [Measure; 7] = [
    ("mae_kmh", "MAE km/h", |score| Some(score.mae_kmh)),
    ("rmse_kmh", "RMSE km/h", |score| Some(score.rmse_kmh)),
    ("mape_percent", "MAPE %", |score| score.mape_percent),
    (COVERAGES[0], "held by 80 %", |score| score.coverage_80),
    ("width_80_kmh", "width 80 km/h", |score| score.width_80_kmh),
    (COVERAGES[1], "held by 90 %", |score| score.coverage_90),
    ("width_90_kmh", "width 90 km/h", |score| score.width_90_kmh),
];
/// Shares, whose difference is in points.
const COVERAGES: [&str; 2] = ["coverage_80", "coverage_90"];

pub async fn run(args: &CompareArgs, registry: &Registry, as_json: bool) -> Result<()> {
    let (first, second) = (registry.metadata(args.first).await?, registry.metadata(args.second).await?);
    if as_json {
        println!("{}", object(&first, &second));
    } else {
        print(&first, &second);
    }
    Ok(())
}

/// Horizons of either, with the scores that there are.
fn pairs<'m>(first: &'m Metadata, second: &'m Metadata) -> Vec<(u32, Option<&'m Score>, Option<&'m Score>)> {
    let (first, second) = (&first.description.metrics, &second.description.metrics);
    let horizons: BTreeSet<u32> = first.iter().chain(second).map(|score| score.horizon_minutes).collect();
    let at = |scores: &'m [Score], horizon| scores.iter().find(|score| score.horizon_minutes == horizon);
    horizons.into_iter().map(|horizon| (horizon, at(first, horizon), at(second, horizon))).collect()
}

/// Relative, or of a coverage absolute; `None` where it says nothing.
fn difference(name: &str, first: f64, second: f64) -> Option<f64> {
    let difference = if COVERAGES.contains(&name) { second - first } else { (second - first) / first };
    difference.is_finite().then_some(difference)
}

fn object(first: &Metadata, second: &Metadata) -> Value {
    let horizons: Vec<Value> = pairs(first, second)
        .into_iter()
        .map(|(horizon, a, b)| {
            let differences: Map<String, Value> = MEASURES
                .iter()
                .filter_map(|(name, _, of)| Some(((*name).to_owned(), difference(name, of(a?)?, of(b?)?)?.into())))
                .collect();
            json!({ "horizon_minutes": horizon, "first": a, "second": b, "difference": differences })
        })
        .collect();
    json!({
        "first": first.version,
        "second": second.version,
        "same_held_out_data": first.description.held_out_data == second.description.held_out_data,
        "horizons": horizons,
        "changed": changes(first, second).into_iter().map(|(name, a, b)| json!({"what": name, "first": a, "second": b})).collect::<Vec<_>>(),
    })
}

fn print(first: &Metadata, second: &Metadata) {
    println!("{:<24} {:>10} {:>10} {:>12}", "", first.version, second.version, "DIFFERENCE");
    for (horizon, a, b) in pairs(first, second) {
        let mut head = format!("{horizon} min");
        for (name, label, of) in MEASURES {
            let (a, b) = (a.and_then(of), b.and_then(of));
            if a.is_none() && b.is_none() {
                continue;
            }
            let difference = a.zip(b).and_then(|(a, b)| difference(name, a, b)).map(|d| d * 100.0);
            let unit = if COVERAGES.contains(&name) { "pt" } else { "% " };
            let difference = difference.map_or_else(|| "-   ".to_owned(), |d| format!("{d:+.2} {unit}"));
            println!("{head:<8} {label:<15} {:>10} {:>10} {difference:>12}", number(a, 3), number(b, 3));
            head.clear();
        }
    }
    if first.description.held_out_data != second.description.held_out_data {
        println!("measured on different held-out data: a difference may be the days', not the models'");
    }
    for (name, a, b) in changes(first, second) {
        println!("{name}: {a} → {b}");
    }
}

/// What else is not the same in both.
fn changes(first: &Metadata, second: &Metadata) -> Vec<(String, Value, Value)> {
    let (a, b) = (&first.description, &second.description);
    let only_in =
        |x: &[String], y: &[String]| -> Vec<String> { x.iter().filter(|f| !y.contains(f)).cloned().collect() };
    let mut found = vec![
        ("type".to_owned(), json!(a.model_type), json!(b.model_type)),
        ("rows fitted on".to_owned(), json!(a.training_data.rows), json!(b.training_data.rows)),
        ("size in bytes".to_owned(), json!(first.model_size_bytes), json!(second.model_size_bytes)),
        ("features".to_owned(), json!(only_in(&a.features, &b.features)), json!(only_in(&b.features, &a.features))),
    ];
    let names: BTreeSet<&String> = a.hyperparameters.keys().chain(b.hyperparameters.keys()).collect();
    for name in names {
        let of = |parameters: &Map<String, Value>| parameters.get(name).cloned().unwrap_or(Value::Null);
        found.push((name.clone(), of(&a.hyperparameters), of(&b.hyperparameters)));
    }
    found.retain(|(_, a, b)| a != b);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_shares_and_of_coverages_points() {
        assert_eq!(difference("mae_kmh", 4.0, 3.0), Some(-0.25));
        assert_eq!(difference("coverage_80", 0.5, 0.75), Some(0.25));
        assert_eq!(difference("mae_kmh", 0.0, 3.0), None);
        assert_eq!(difference("mape_percent", 0.0, 0.0), None);
    }
}
