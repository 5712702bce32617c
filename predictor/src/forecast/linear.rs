//! The linear baseline: own lags and what is usual, fitted to least absolute deviations by iteratively reweighted least
//! squares (Holland and Welsch 1977) over all segments together.

use linfa::DatasetBase;
use linfa::traits::Fit;
use linfa_linear::LinearRegression;
use ndarray::{Array1, Array2, ShapeBuilder};

use super::snapshot::{LAGS, Snapshot};

const COLUMNS: usize = LAGS.len() + 5;
/// Residuals below this get no more weight, km/h.
const FLAT_KMH: f64 = 0.5;
const ROUNDS: usize = 8;
/// Rows that are enough for a dozen coefficients.
pub const MOST_ROWS: usize = 60_000;

/// The change of speed from now to a horizon as a linear function.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear([f64; COLUMNS]);

/// The numbers it sees, for the horizon with index `h`.
fn row(snapshot: &Snapshot, h: usize) -> [f64; COLUMNS] {
    let filled = f64::from(snapshot.filled);
    let mut row = [1.0; COLUMNS];
    for (x, lag) in row.iter_mut().zip(snapshot.lags) {
        *x = filled - f64::from(lag);
    }
    row[LAGS.len()] = f64::from(snapshot.unusual[0]);
    row[LAGS.len() + 1] = f64::from(snapshot.unusual_1h);
    row[LAGS.len() + 2] = f64::from(snapshot.ahead[h].usual - snapshot.usual_now);
    row[LAGS.len() + 3] = f64::from(snapshot.unusual_4h);
    row
}

impl Linear {
    /// Fits to snapshots and the speeds (km/h) that followed at the horizon with index `h`; `None` if they are too few.
    #[must_use]
    pub fn fit(h: usize, snapshots: &[(Snapshot, f32)]) -> Option<Self> {
        if snapshots.len() < 10 * COLUMNS {
            return None;
        }
        let mut coefficients = [0.0; COLUMNS];
        for round in 0..ROUNDS {
            // Column-major: linfa is slow otherwise.
            let mut records = Array2::<f64>::zeros((snapshots.len(), COLUMNS).f());
            let mut targets = Array1::<f64>::zeros(snapshots.len());
            for (i, (snapshot, speed)) in snapshots.iter().enumerate() {
                let (row, change) = (row(snapshot, h), f64::from(speed - snapshot.filled));
                let residual = change - dot(&coefficients, &row);
                let weight = if round == 0 { 1.0 } else { (1.0 / residual.abs().max(FLAT_KMH)).sqrt() };
                for (j, x) in row.iter().enumerate() {
                    records[[i, j]] = x * weight;
                }
                targets[i] = change * weight;
            }
            let dataset = DatasetBase::new(records, targets);
            let fitted = LinearRegression::new().with_intercept(false).fit(&dataset).ok()?;
            let found: Vec<f64> = fitted.params().iter().copied().collect();
            coefficients = found.try_into().ok().filter(|c: &[f64; COLUMNS]| c.iter().all(|c| c.is_finite()))?;
        }
        Some(Self(coefficients))
    }

    /// The speed to be expected, km/h.
    #[must_use]
    pub fn predict(&self, snapshot: &Snapshot, h: usize) -> f64 {
        f64::from(snapshot.filled) + dot(&self.0, &row(snapshot, h))
    }
}

fn dot(a: &[f64; COLUMNS], b: &[f64; COLUMNS]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
