//! Which segment traffic flows from and to.

use std::collections::HashMap;

use common::store::{Store, StoreError};
use thiserror::Error;

use crate::forecast::network::Edge;
use crate::forecast::series::Series;

/// The file in the store that tells it, beside the archive.
pub const REFERENCE: &str = "/traffic-data/reference/edges.csv";
/// Weights of distances: a Gaussian kernel of this width, cut off at [`LEAST`].
const NEAR_KM: f64 = 2.0;
const LEAST: f64 = 0.1;

/// Why a file is no list of edges.
#[derive(Debug, Error)]
pub enum GraphError {
    #[error("{file}: {error}")]
    Csv { file: String, error: csv::Error },
    #[error("{file}: it needs the columns from, to, and weight or distance_km; {missing} is missing")]
    Column { file: String, missing: &'static str },
    #[error("{file}, line {line}: {cell:?} is no {column}")]
    Cell { file: String, line: u64, cell: String, column: &'static str },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The weight of an edge of so many km; 0 for one that is too long to matter.
#[must_use]
pub fn weight_of(distance_km: f64) -> f64 {
    let weight = (-(distance_km / NEAR_KM).powi(2)).exp();
    if weight >= LEAST { weight } else { 0.0 }
}

/// The edges of a CSV `file`: columns `from`, `to` (what `index` knows), and `weight` or `distance_km`. Edges of what
/// `index` does not know are passed over.
///
/// # Errors
/// What is wrong with it, and where.
pub fn read(
    file: &str,
    content: impl std::io::Read,
    index: impl Fn(&str) -> Option<u32>,
) -> Result<Vec<Edge>, GraphError> {
    let broken = |error| GraphError::Csv { file: file.to_owned(), error };
    let mut rows = csv::Reader::from_reader(content);
    let header = rows.headers().map_err(broken)?.clone();
    let place = |name: &str| header.iter().position(|column| column.trim() == name);
    let column = |missing| place(missing).ok_or(GraphError::Column { file: file.to_owned(), missing });
    let (from, to) = (column("from")?, column("to")?);
    let (place, column) = match place("distance_km") {
        Some(distance) if place("weight").is_none() => (distance, "distance_km"),
        _ => (column("weight")?, "weight"),
    };
    let mut edges = Vec::new();
    for row in rows.records() {
        let row = row.map_err(broken)?;
        let cell = row[place].trim();
        let number = cell.parse::<f64>().ok().filter(|number| number.is_finite() && *number >= 0.0);
        let number = number.ok_or_else(|| GraphError::Cell {
            file: file.to_owned(),
            line: row.position().map_or(0, csv::Position::line),
            cell: cell.to_owned(),
            column,
        })?;
        let weight = if column == "weight" { number } else { weight_of(number) };
        if let (Some(from), Some(to), true) = (index(row[from].trim()), index(row[to].trim()), weight > 0.0) {
            #[expect(clippy::cast_possible_truncation, reason = "a weight")]
            edges.push((from, to, weight as f32));
        }
    }
    Ok(edges)
}

/// The edges between segments of the series that the store's [`REFERENCE`] tells; none if there is no such file.
///
/// # Errors
/// If it can not be read.
pub async fn reference(store: &Store, series: &Series) -> Result<Vec<Edge>, GraphError> {
    let Some(content) = store.read(REFERENCE).await? else { return Ok(Vec::new()) };
    let indices: HashMap<&str, u32> = (0..).zip(&series.segments).map(|(i, id)| (&**id, i)).collect();
    read(REFERENCE, &content[..], |segment| indices.get(segment).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(segment: &str) -> Option<u32> {
        ["A", "B"].iter().position(|known| *known == segment).and_then(|at| u32::try_from(at).ok())
    }

    #[test]
    fn weights_are_taken_as_they_are_and_distances_fall_off() {
        let edges = read("e.csv", &b"from,to,weight\nA,B,0.5\nA,C,1\nB, A ,0\n"[..], index).expect("sound");
        assert_eq!(edges, [(0, 1, 0.5)]);
        let edges = read("e.csv", &b"from,to,distance_km\nA,B,0\nB,A,2\nB,B,9\n"[..], index).expect("sound");
        assert_eq!(edges.iter().map(|(from, to, _)| (*from, *to)).collect::<Vec<_>>(), [(0, 1), (1, 0)]);
        assert!((edges[0].2 - 1.0).abs() < 1e-6 && (edges[1].2 - 0.368).abs() < 1e-3);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let why = |content: &'static str| read("e.csv", content.as_bytes(), index).expect_err("broken").to_string();
        assert_eq!(
            why("from,weight\n"),
            "e.csv: it needs the columns from, to, and weight or distance_km; to is missing"
        );
        assert_eq!(
            why("from,to\n"),
            "e.csv: it needs the columns from, to, and weight or distance_km; weight is missing"
        );
        assert_eq!(why("from,to,weight\nA,B,1\nA,B,far\n"), "e.csv, line 3: \"far\" is no weight");
        assert!(why("from,to,weight\nA,B\n").starts_with("e.csv: CSV error: record 1"));
    }
}
