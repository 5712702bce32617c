//! How good forecasts were.

use serde::{Deserialize, Serialize};

/// Errors of point forecasts, in the unit of what was added.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Errors {
    /// Mean absolute error.
    pub mae: f64,
    /// Root of the mean squared error.
    pub rmse: f64,
    /// Mean absolute error relative to the truth, %; a truth of 0 is left out.
    pub mape: f64,
    /// Forecasts that were compared with a truth.
    pub n: u64,
}

/// How often intervals held, and how wide they were.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Intervals {
    /// Share of truths inside.
    pub coverage: f64,
    /// Mean width.
    pub width: f64,
}

/// What was said of how sure forecasts are, and how often it came true.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Confidence {
    /// Mean probability said of the speed being close to the forecast.
    pub said: f64,
    /// Share of the speeds that were.
    pub held: f64,
    /// The same apart for what was said below 0.1, 0.2, … 1.
    pub bins: Vec<ConfidenceBin>,
}

/// One of the [`Confidence::bins`].
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct ConfidenceBin {
    pub said: f64,
    pub held: f64,
    pub n: u64,
}

/// Sums that [`Errors`] are made of.
#[derive(Debug, Clone, Copy, Default)]
pub struct ErrorSums {
    absolute: f64,
    squared: f64,
    relative: f64,
    relative_n: u64,
    n: u64,
}

impl ErrorSums {
    pub fn add(&mut self, forecast: f64, truth: f64) {
        let error = (forecast - truth).abs();
        self.absolute += error;
        self.squared += error * error;
        self.n += 1;
        if truth > 0.0 {
            self.relative += error / truth;
            self.relative_n += 1;
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.absolute += other.absolute;
        self.squared += other.squared;
        self.relative += other.relative;
        self.relative_n += other.relative_n;
        self.n += other.n;
    }

    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "numbers of forecasts")]
    pub fn errors(&self) -> Errors {
        let n = self.n.max(1) as f64;
        Errors {
            mae: self.absolute / n,
            rmse: (self.squared / n).sqrt(),
            mape: 100.0 * self.relative / self.relative_n.max(1) as f64,
            n: self.n,
        }
    }
}

/// Sums that [`Intervals`] are made of.
#[derive(Debug, Clone, Copy, Default)]
pub struct IntervalSums {
    inside: u64,
    width: f64,
    n: u64,
}

impl IntervalSums {
    pub fn add(&mut self, (lower, upper): (f64, f64), truth: f64) {
        self.inside += u64::from((lower..=upper).contains(&truth));
        self.width += upper - lower;
        self.n += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        self.inside += other.inside;
        self.width += other.width;
        self.n += other.n;
    }

    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "numbers of forecasts")]
    pub fn intervals(&self) -> Intervals {
        let n = self.n.max(1) as f64;
        Intervals { coverage: self.inside as f64 / n, width: self.width / n }
    }
}

/// Sums that [`Confidence`] is made of, by what was said: its sum, how often it held, and of how many.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConfidenceSums([(f64, u64, u64); 10]);

impl ConfidenceSums {
    /// `said`: a probability.
    pub fn add(&mut self, said: f64, held: bool) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 9")]
        let bin = (said * 10.0).clamp(0.0, 9.0) as usize;
        let (sum, holds, n) = &mut self.0[bin];
        *sum += said;
        *holds += u64::from(held);
        *n += 1;
    }

    pub fn merge(&mut self, other: &Self) {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            *own = (own.0 + other.0, own.1 + other.1, own.2 + other.2);
        }
    }

    #[must_use]
    pub fn confidence(&self) -> Confidence {
        #[expect(clippy::cast_precision_loss, reason = "numbers of forecasts")]
        let shares = |(said, held, n): (f64, u64, u64)| ConfidenceBin {
            said: said / n.max(1) as f64,
            held: held as f64 / n.max(1) as f64,
            n,
        };
        let all = shares(self.0.iter().fold((0.0, 0, 0), |all, bin| (all.0 + bin.0, all.1 + bin.1, all.2 + bin.2)));
        Confidence { said: all.said, held: all.held, bins: self.0.map(shares).to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_is_kept_apart_by_what_was_said() {
        let mut sums = ConfidenceSums::default();
        [(1.0, true), (0.95, false), (0.05, false)].into_iter().for_each(|(said, held)| sums.add(said, held));
        let mut other = ConfidenceSums::default();
        other.add(0.5, true);
        sums.merge(&other);
        let confidence = sums.confidence();
        assert_eq!((confidence.said, confidence.held), (0.625, 0.5));
        assert_eq!(confidence.bins[9], ConfidenceBin { said: 0.975, held: 0.5, n: 2 });
        assert_eq!((confidence.bins[5].n, confidence.bins[5].held, confidence.bins[4].n), (1, 1.0, 0));
    }

    #[test]
    fn errors_are_as_defined_and_a_truth_of_zero_has_no_relative_one() {
        let mut sums = ErrorSums::default();
        sums.add(13.0, 10.0);
        sums.add(4.0, 0.0);
        let mut other = ErrorSums::default();
        other.add(50.0, 50.0);
        sums.merge(&other);
        let errors = sums.errors();
        assert_eq!((errors.mae, errors.n), (7.0 / 3.0, 3));
        assert!((errors.rmse - (25.0_f64 / 3.0).sqrt()).abs() < 1e-12 && (errors.mape - 15.0).abs() < 1e-12);
    }

    #[test]
    fn intervals_count_their_ends_as_inside() {
        let mut sums = IntervalSums::default();
        sums.add((10.0, 20.0), 20.0);
        sums.add((10.0, 30.0), 31.0);
        assert_eq!(sums.intervals(), Intervals { coverage: 0.5, width: 15.0 });
        assert_eq!(IntervalSums::default().intervals(), Intervals::default());
    }
}
