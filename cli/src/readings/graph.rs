//! Which sensor traffic flows from and to, by a file of edges or by where the sensors are.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use predictor::forecast::network::Edge;
use predictor::forecast::series::Series;

use super::WideArgs;

const EARTH_KM: f64 = 6_371.0;
/// Weights of distances: a Gaussian kernel of this width, cut off at [`LEAST`].
const NEAR_KM: f64 = 2.0;
const LEAST: f64 = 0.1;

/// The edges between segments of the series.
///
/// # Errors
/// If a file can not be read: where and why.
pub fn edges(args: &WideArgs, series: &Series) -> Result<Vec<Edge>> {
    let indices: HashMap<&str, u32> = (0..).zip(&series.segments).map(|(i, id)| (&**id, i)).collect();
    let index = |sensor: &str| indices.get(&*args.segment(sensor)).copied();
    if let Some(path) = &args.graph {
        return from_file(path, index);
    }
    let Some(path) = &args.locations else { return Ok(Vec::new()) };
    let places = crate::replay::locations(path)?;
    let known: Vec<(u32, (f64, f64))> =
        places.iter().filter_map(|(sensor, place)| Some((index(sensor)?, *place))).collect();
    let mut edges = Vec::new();
    for (from, a) in &known {
        for (to, b) in known.iter().filter(|(to, _)| to != from) {
            let weight = (-(distance_km(*a, *b) / NEAR_KM).powi(2)).exp();
            if weight >= LEAST {
                #[expect(clippy::cast_possible_truncation, reason = "a weight")]
                edges.push((*from, *to, weight as f32));
            }
        }
    }
    edges.sort_unstable_by_key(|(from, to, _)| (*from, *to));
    Ok(edges)
}

fn from_file(path: &Path, index: impl Fn(&str) -> Option<u32>) -> Result<Vec<Edge>> {
    let what = || format!("--graph {}", path.display());
    let mut rows = csv::Reader::from_path(path).with_context(what)?;
    let header = rows.headers().with_context(what)?.clone();
    let column = |name: &str| {
        let found = header.iter().position(|column| column.trim() == name);
        found.with_context(|| format!("{}: column {name} is missing", what()))
    };
    let (from, to, weight) = (column("from")?, column("to")?, column("weight")?);
    let mut edges = Vec::new();
    for row in rows.records() {
        let row = row.with_context(what)?;
        let line = row.position().map_or(0, csv::Position::line);
        let of: f32 = row[weight].trim().parse().with_context(|| format!("{}, line {line}: weight", what()))?;
        // Edges of sensors that are not in the readings say nothing here.
        if let (Some(from), Some(to)) = (index(row[from].trim()), index(row[to].trim())) {
            edges.push((from, to, of));
        }
    }
    Ok(edges)
}

/// On a sphere (haversine).
fn distance_km(a: (f64, f64), b: (f64, f64)) -> f64 {
    let half = |from: f64, to: f64| ((to - from).to_radians() / 2.0).sin().powi(2);
    let h = half(a.0, b.0) + a.0.to_radians().cos() * b.0.to_radians().cos() * half(a.1, b.1);
    2.0 * EARTH_KM * h.sqrt().asin()
}
