//! Which sensor traffic flows from and to, by a file of edges or by where the sensors are.

use std::collections::HashMap;

use anyhow::{Context, Result};
use predictor::forecast::network::Edge;
use predictor::forecast::series::Series;
use predictor::graph;

use super::WideArgs;

const EARTH_KM: f64 = 6_371.0;

/// The edges between segments of the series.
///
/// # Errors
/// If a file can not be read: where and why.
pub fn edges(args: &WideArgs, series: &Series) -> Result<Vec<Edge>> {
    let indices: HashMap<&str, u32> = (0..).zip(&series.segments).map(|(i, id)| (&**id, i)).collect();
    let index = |name: &str| indices.get(name).or_else(|| indices.get(&*args.segment(name))).copied();
    if let Some(path) = &args.graph {
        let file = std::fs::File::open(path).with_context(|| format!("--graph {}", path.display()))?;
        return Ok(graph::read(&path.display().to_string(), file, index)?);
    }
    let Some(path) = &args.locations else { return Ok(Vec::new()) };
    let places = crate::replay::locations(path)?;
    let known: Vec<(u32, (f64, f64))> =
        places.iter().filter_map(|(sensor, place)| Some((index(sensor)?, *place))).collect();
    let mut edges = Vec::new();
    for (from, a) in &known {
        for (to, b) in known.iter().filter(|(to, _)| to != from) {
            let weight = graph::weight_of(distance_km(*a, *b));
            if weight > 0.0 {
                #[expect(clippy::cast_possible_truncation, reason = "a weight")]
                edges.push((*from, *to, weight as f32));
            }
        }
    }
    edges.sort_unstable_by_key(|(from, to, _)| (*from, *to));
    Ok(edges)
}

/// On a sphere (haversine).
fn distance_km(a: (f64, f64), b: (f64, f64)) -> f64 {
    let half = |from: f64, to: f64| ((to - from).to_radians() / 2.0).sin().powi(2);
    let h = half(a.0, b.0) + a.0.to_radians().cos() * b.0.to_radians().cos() * half(a.1, b.1);
    2.0 * EARTH_KM * h.sqrt().asin()
}
