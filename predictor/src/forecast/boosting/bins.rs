//! Features to bins: splits are sought between bins only.

use rayon::prelude::*;

/// Most bins of a feature.
pub const MOST: usize = 128;
/// Rows from which a feature's quantiles are taken.
const SAMPLE: usize = 100_000;

/// Where each feature's bins end: a value is in the first bin whose edge it does not exceed.
#[derive(Debug, Clone, PartialEq)]
pub struct Bins {
    edges: Vec<Vec<f32>>,
}

impl Bins {
    /// Bins of equal weight for rows of `width` features, one after the other. Values must not be NaN.
    #[must_use]
    pub fn of(rows: &[f32], width: usize) -> Self {
        let count = rows.len() / width.max(1);
        let every = count.div_ceil(SAMPLE).max(1);
        let edges = (0..width).into_par_iter().map(|feature| {
            let mut values: Vec<f32> = rows[feature.min(rows.len())..].iter().step_by(width * every).copied().collect();
            values.sort_unstable_by(f32::total_cmp);
            edges(&values)
        });
        Self { edges: edges.collect() }
    }

    /// The largest value of a bin, which a split after it compares with; infinite for the last.
    #[must_use]
    pub fn edge(&self, feature: usize, bin: usize) -> f32 {
        self.edges[feature].get(bin).copied().unwrap_or(f32::INFINITY)
    }

    #[must_use]
    pub fn features(&self) -> usize {
        self.edges.len()
    }

    /// The edges of a feature, infinite where it has fewer: to find a bin takes always as many steps.
    fn steps(&self, feature: usize) -> [f32; MOST] {
        let mut steps = [f32::INFINITY; MOST];
        steps.iter_mut().zip(&self.edges[feature]).for_each(|(step, edge)| *step = *edge);
        steps
    }
}

/// The number of edges that a value exceeds.
#[inline]
fn bin(steps: &[f32; MOST], value: f32) -> u8 {
    let mut bin = 0_u8;
    for half in [64_u8, 32, 16, 8, 4, 2, 1] {
        bin += if value > steps[usize::from(bin + half - 1) % MOST] { half } else { 0 };
    }
    bin
}

/// Upper edges of at most [`MOST`] bins for sorted values, halfway between neighbouring values; the last bin has none.
fn edges(sorted: &[f32]) -> Vec<f32> {
    let mut distinct: Vec<(f32, usize)> = Vec::new();
    for value in sorted {
        match distinct.last_mut() {
            Some((last, count)) if last == value => *count += 1,
            _ => distinct.push((*value, 1)),
        }
    }
    let halfway = |a: f32, b: f32| a + (b - a) / 2.0;
    if distinct.len() <= MOST {
        return distinct.windows(2).map(|pair| halfway(pair[0].0, pair[1].0)).collect();
    }
    let (mut edges, mut inside, mut left) = (Vec::with_capacity(MOST), 0, sorted.len());
    for pair in distinct.windows(2) {
        inside += pair[0].1;
        // A value that fills a bin by itself leaves the rest to share the others.
        if inside * (MOST - edges.len()) >= left {
            edges.push(halfway(pair[0].0, pair[1].0));
            left -= inside;
            inside = 0;
            if edges.len() == MOST - 1 {
                break;
            }
        }
    }
    edges
}

/// Rows of binned features, column by column.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    rows: usize,
    columns: Vec<Vec<u8>>,
}

impl Table {
    /// Bins rows of features, one after the other.
    #[must_use]
    pub fn new(rows: &[f32], bins: &Bins) -> Self {
        let width = bins.features();
        let column = |feature: usize| {
            let steps = bins.steps(feature);
            rows[feature.min(rows.len())..].iter().step_by(width).map(|value| bin(&steps, *value)).collect()
        };
        Self { rows: rows.len() / width.max(1), columns: (0..width).into_par_iter().map(column).collect() }
    }

    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    #[must_use]
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// The bins of a feature, a row each.
    #[inline]
    #[must_use]
    pub fn column(&self, feature: usize) -> &[u8] {
        &self.columns[feature]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_values_have_a_bin_each_and_many_share_them_equally() {
        assert_eq!(edges(&[1.0, 1.0, 3.0, 5.0]), [2.0, 4.0]);
        assert!(edges(&[7.0; 10]).is_empty() && edges(&[]).is_empty());
        let many: Vec<f32> = (0..10_000_u16).map(f32::from).collect();
        let edges = edges(&many);
        assert_eq!(edges.len(), MOST - 1);
        assert!(edges.windows(2).all(|pair| (pair[1] - pair[0] - 78.0).abs() < 2.0), "{edges:?}");
    }

    #[test]
    fn a_value_that_comes_often_leaves_room_for_the_others() {
        let mut values = vec![0.0; 9_000];
        values.extend((1..=1_000_u16).map(f32::from));
        let edges = edges(&values);
        assert!(edges.len() > 100 && edges[0] == 0.5, "{edges:?}");
        let bins = Bins { edges: vec![edges] };
        let steps = bins.steps(0);
        assert_eq!((bin(&steps, -5.0), bin(&steps, 0.5), bin(&steps, 0.6)), (0, 0, 1));
        assert_eq!(usize::from(bin(&steps, 1e9)), bins.edges[0].len());
        for value in (0..10_100_u16).map(|tenths| f32::from(tenths) / 10.0) {
            assert_eq!(usize::from(bin(&steps, value)), bins.edges[0].partition_point(|edge| value > *edge));
        }
        assert!(bins.edge(0, 127).is_infinite());
    }
}
