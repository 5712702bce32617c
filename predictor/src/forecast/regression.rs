//! Linear regression that is learnt row by row, robustly.
//!
//! Rows are folded into an upper triangular factor by Givens rotations (square-root recursive least squares:
//! Golub and Van Loan, Matrix Computations, 6.5.3), which has the same least-squares solution as all rows together
//! and takes O(features²) memory. Weighting each row by 1 / |its residual| makes the solution approach that of least
//! absolute deviations (iteratively reweighted least squares: Holland and Welsch 1977). Old rows are forgotten
//! exponentially.

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2, ShapeBuilder};

use super::features::Network;
use super::snapshot::Snapshot;

/// Numbers that it sees.
pub const FEATURES: usize = 18;

/// Below this residual (km/h) a row gets no more weight.
const FLAT_KMH: f64 = 1.0;
/// Rows' weight after one window; 0.9995 halves it in five days.
const KEEP: f64 = 0.9995;
/// Pulls coefficients towards zero like so many rows of ones.
const RIDGE: f64 = 1000.0;
/// Fewer rows than this make no model.
const ENOUGH: f64 = 500.0;

/// Speeds that stay within so many km/h for an hour are calm: what moves is noise.
const CALM_KMH: f64 = 12.0;
/// Below this share of the best speed of four hours a segment is congested.
const CONGESTED: f64 = 0.7;

/// The features for a horizon, by its index in [`Snapshot::base_ahead`].
#[must_use]
pub fn features(snapshot: &Snapshot, network: Network, horizon: usize) -> [f64; FEATURES] {
    let filled = f64::from(snapshot.filled);
    let since = |before: f32| filled - f64::from(before);
    let deviation = since(snapshot.usual_now);
    let or_zero = |difference: f64| if difference.is_nan() { 0.0 } else { difference };
    let when = |holds: bool, value: f64| if holds { value } else { 0.0 };
    let calm = f64::from(snapshot.high_1h - snapshot.low_1h) < CALM_KMH;
    let top = f64::from(snapshot.top_4h);
    let congested = filled < CONGESTED * top;
    let of_hour = or_zero(since(snapshot.mean_1h));
    [
        1.0,
        deviation,
        since(snapshot.lags[0]),
        since(snapshot.lags[1]),
        since(snapshot.lags[2]),
        since(snapshot.lags[4]),
        of_hour,
        since(snapshot.mean_4h),
        f64::from(snapshot.ahead[horizon].usual) - f64::from(snapshot.usual_now),
        f64::from(network.unusual),
        f64::from(network.change),
        f64::from(snapshot.age),
        // Noise is averaged away while nothing happens, and queues dissolve otherwise than free traffic fluctuates.
        when(calm, since(snapshot.lags[0])),
        when(calm, of_hour),
        when(calm, deviation),
        when(congested, 1.0),
        when(congested, deviation),
        when(congested, top - filled),
    ]
}

/// A model of one horizon, and all it has learnt from.
#[derive(Debug, Clone, PartialEq)]
pub struct Regression {
    /// Upper triangle of the factor and its right side: row i holds columns i to FEATURES.
    pub factor: [[f64; FEATURES + 1]; FEATURES],
    /// Rows taken in, old ones counting less.
    pub rows: f64,
    pub coefficients: Option<[f64; FEATURES]>,
}

impl Default for Regression {
    fn default() -> Self {
        Self { factor: [[0.0; FEATURES + 1]; FEATURES], rows: 0.0, coefficients: None }
    }
}

impl Regression {
    /// The target for these features; `None` while too little was learnt.
    #[must_use]
    pub fn predict(&self, features: &[f64; FEATURES]) -> Option<f64> {
        let coefficients = self.coefficients.as_ref()?;
        Some(coefficients.iter().zip(features).map(|(c, x)| c * x).sum())
    }

    /// Takes a row in; `residual` is what the present forecast was wrong by.
    pub fn learn(&mut self, features: &[f64; FEATURES], target: f64, residual: f64) {
        let scale = (1.0 / residual.abs().max(FLAT_KMH)).sqrt();
        let mut row = [0.0; FEATURES + 1];
        for (x, feature) in row.iter_mut().zip(features) {
            *x = feature * scale;
        }
        row[FEATURES] = target * scale;
        for (i, pivot) in self.factor.iter_mut().enumerate() {
            if row[i] == 0.0 {
                continue;
            }
            let length = pivot[i].hypot(row[i]);
            let (cos, sin) = (pivot[i] / length, row[i] / length);
            for (p, r) in pivot[i..].iter_mut().zip(&mut row[i..]) {
                (*p, *r) = (cos * *p + sin * *r, cos * *r - sin * *p);
            }
        }
        self.rows += 1.0;
    }

    /// A window has passed: what was learnt counts a little less.
    pub fn fade(&mut self) {
        let keep = KEEP.sqrt();
        self.factor.iter_mut().flatten().for_each(|value| *value *= keep);
        self.rows *= KEEP;
    }

    /// Works the coefficients out anew.
    pub fn fit(&mut self) {
        if self.rows < ENOUGH {
            return;
        }
        // Column-major: linfa's QR is slow otherwise. The ridge stands as rows of its own beneath.
        let mut records = Array2::<f64>::zeros((2 * FEATURES, FEATURES).f());
        let mut targets = Array1::<f64>::zeros(2 * FEATURES);
        for (i, row) in self.factor.iter().enumerate() {
            for j in i..FEATURES {
                records[[i, j]] = row[j];
            }
            targets[i] = row[FEATURES];
            records[[FEATURES + i, i]] = RIDGE.sqrt();
        }
        let dataset = DatasetBase::new(records, targets);
        if let Ok(model) = LinearRegression::new().with_intercept(false).fit(&dataset) {
            let coefficients: Option<Vec<f64>> = model.params().iter().map(|c| c.is_finite().then_some(*c)).collect();
            self.coefficients = coefficients.and_then(|c| c.try_into().ok()).or(self.coefficients);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(i: u32) -> [f64; FEATURES] {
        let mut state = u64::from(i) + 1;
        std::array::from_fn(|k| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if k == 0 {
                1.0
            } else {
                f64::from(u32::try_from(state >> 33).expect("31 bits")) / f64::from(u32::MAX) * 40.0 - 10.0
            }
        })
    }

    #[test]
    fn it_finds_the_line_through_most_points_though_some_are_far_off() {
        let truth: [f64; FEATURES] = std::array::from_fn(|k| if k % 2 == 0 { 0.5 } else { -0.2 });
        let mut model = Regression::default();
        for i in 0..6_000 {
            let x = row(i);
            let clean: f64 = truth.iter().zip(&x).map(|(c, x)| c * x).sum();
            let target = if i % 10 == 0 { clean + 80.0 } else { clean };
            let residual = target - model.predict(&x).unwrap_or(0.0);
            model.learn(&x, target, residual);
            if i % 500 == 499 {
                model.fit();
            }
        }
        let found = model.coefficients.expect("enough rows");
        let worst = found[1..].iter().zip(&truth[1..]).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(worst < 0.02, "{found:?}");
        assert!((found[0] - truth[0]).abs() < 3.0, "a plain mean would be off by 8: {found:?}");
    }

    #[test]
    fn too_little_makes_no_model() {
        let mut model = Regression::default();
        (0..100).for_each(|i| model.learn(&row(i), 1.0, 1.0));
        model.fit();
        assert_eq!(model.predict(&row(1)), None);
    }
}
