//! The distribution of forecast errors: signed residuals, each divided by the spread expected of its segment,
//! counted in bins of which old ones fade (split conformal prediction with normalised residuals: Lei et al. 2018;
//! signed, because what matters to alerts is the lower side).

use common::model::QUANTILES;

/// Bins on each side of zero, at sinh(k × WIDTH): fine near zero, up to ±30 spreads.
const SIDE: usize = 100;
pub const BINS: usize = 2 * SIDE + 1;
const WIDTH: f64 = 0.040_946_225_05;
/// Weight of a count after one window: 1/e in two days.
pub const KEEP: f64 = 1.0 - 1.0 / 576.0;
/// Residuals that a Laplace distribution stands for before there are any.
const PRIOR: f64 = 100.0;

/// Counts of normalised residuals.
#[derive(Debug, Clone, PartialEq)]
pub struct Residuals {
    pub counts: [f32; BINS],
}

impl Default for Residuals {
    /// A Laplace distribution of mean absolute value 1.
    fn default() -> Self {
        let below = |x: f64| if x < 0.0 { 0.5 * x.exp() } else { 1.0 - 0.5 * (-x).exp() };
        #[expect(clippy::cast_possible_truncation, reason = "a count")]
        let counts = std::array::from_fn(|bin| (PRIOR * (below(edge(bin + 1)) - below(edge(bin)))) as f32);
        Self { counts }
    }
}

/// The lower edge of a bin.
#[expect(clippy::cast_precision_loss, reason = "a few hundred")]
fn edge(bin: usize) -> f64 {
    ((bin as f64 - SIDE as f64 - 0.5) * WIDTH).sinh()
}

impl Residuals {
    /// Counts a residual divided by its spread.
    pub fn add(&mut self, normalised: f64) {
        self.counts[bin_of(normalised)] += 1.0;
    }

    /// Of what was counted at `known` residuals a window, as much as `rows` a window are: those of as many windows, and of
    /// no more than count in the long run.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a count")]
    pub fn thinned(&self, known: f64, rows: f64) -> Self {
        let all: f64 = self.counts.iter().map(|count| f64::from(*count)).sum();
        let windows = (all / known).min(1.0 / (1.0 - KEEP));
        let scale = rows * windows / all;
        Self { counts: self.counts.map(|count| (f64::from(count) * scale) as f32) }
    }

    /// A window has passed: what was counted counts a little less.
    #[expect(clippy::cast_possible_truncation, reason = "a count")]
    pub fn fade(&mut self) {
        self.counts.iter_mut().for_each(|count| *count = (f64::from(*count) * KEEP) as f32);
    }

    /// The distribution as it stands.
    #[must_use]
    pub fn distribution(&self) -> Distribution {
        let mut below = [0.0; BINS + 1];
        let mut sum = 0.0;
        for (below, count) in below[1..].iter_mut().zip(&self.counts) {
            sum += f64::from(*count);
            *below = sum;
        }
        below.iter_mut().for_each(|share| *share /= sum);
        Distribution { below }
    }
}

/// Probabilities of normalised residuals, linear within each bin.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// Probability of less than each bin's lower edge.
    below: [f64; BINS + 1],
}

impl Distribution {
    /// The normalised residuals that are not exceeded with probability 0.05, 0.10, … 0.95.
    #[must_use]
    pub fn quantiles(&self) -> [f64; QUANTILES] {
        std::array::from_fn(|i| {
            #[expect(clippy::cast_precision_loss, reason = "below 20")]
            let sought = (i as f64 + 1.0) / (QUANTILES as f64 + 1.0);
            let bin = (self.below.partition_point(|below| *below < sought)).clamp(1, BINS) - 1;
            let inside = (self.below[bin + 1] - self.below[bin]).max(f64::MIN_POSITIVE);
            let share = ((sought - self.below[bin]) / inside).clamp(0.0, 1.0);
            edge(bin) + share * (edge(bin + 1) - edge(bin))
        })
    }

    /// The probability of a normalised residual between two bounds.
    #[must_use]
    pub fn between(&self, low: f64, high: f64) -> f64 {
        (self.below(high) - self.below(low)).clamp(0.0, 1.0)
    }

    fn below(&self, normalised: f64) -> f64 {
        let bin = bin_of(normalised);
        let share = ((normalised - edge(bin)) / (edge(bin + 1) - edge(bin))).clamp(0.0, 1.0);
        self.below[bin] + share * (self.below[bin + 1] - self.below[bin])
    }
}

/// The bin that holds a normalised residual.
fn bin_of(normalised: f64) -> usize {
    #[expect(clippy::cast_possible_truncation, reason = "below a few hundred")]
    let bin = (normalised.asinh() / WIDTH).round() as i64 + SIDE as i64;
    usize::try_from(bin.clamp(0, BINS as i64 - 1)).expect("clamped to the bins")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_probabilities_are_those_of_what_was_counted() {
        let laplace = Residuals::default();
        let quantiles = laplace.distribution().quantiles();
        assert!(quantiles.is_sorted());
        assert!(quantiles[9].abs() < 0.02 && (quantiles[0] + 2.303).abs() < 0.05, "{quantiles:?}");
        assert!((laplace.distribution().between(-1.0, 1.0) - 0.632).abs() < 0.01);
        let mut skewed = Residuals::default();
        for i in 0..20_000 {
            skewed.add(f64::from(i % 100) / 100.0 * 4.0 - 3.0);
        }
        let quantiles = skewed.distribution().quantiles();
        assert!((quantiles[0] + 2.8).abs() < 0.1 && (quantiles[9] + 1.0).abs() < 0.1, "{quantiles:?}");
        assert!((skewed.distribution().between(-3.0, -1.0) - 0.5).abs() < 0.02);
    }

    #[test]
    fn what_was_counted_long_ago_counts_little() {
        let mut residuals = Residuals::default();
        (0..5_000).for_each(|_| residuals.add(3.0));
        for _ in 0..288 * 10 {
            residuals.fade();
            residuals.add(-1.0);
        }
        let quantiles = residuals.distribution().quantiles();
        assert!((quantiles[4] + 1.0).abs() < 0.1 && (quantiles[14] + 1.0).abs() < 0.1, "{quantiles:?}");
    }

    #[test]
    fn what_was_measured_before_counts_as_many_windows_as_it_was_measured_in() {
        let mut few = Residuals::default();
        (0..10_000).for_each(|i| few.add(f64::from(i % 7)));
        let all = |residuals: &Residuals| residuals.counts.iter().map(|count| f64::from(*count)).sum::<f64>();
        // 10,000 residuals and the prior, of 100 segments: 101 windows; of 5 segments: more than count.
        assert!((all(&few.thinned(100.0, 30.0)) - 101.0 * 30.0).abs() < 1.0);
        assert!((all(&few.thinned(5.0, 30.0)) - 576.0 * 30.0).abs() < 1.0);
        let (before, after) = (few.distribution().quantiles(), few.thinned(100.0, 30.0).distribution().quantiles());
        assert!(before.iter().zip(after).all(|(before, after)| (before - after).abs() < 1e-4), "{before:?} {after:?}");
    }

    #[test]
    fn extremes_are_counted_at_the_ends() {
        let mut residuals = Residuals::default();
        residuals.add(1e9);
        residuals.add(-1e9);
        assert!(residuals.counts[0] >= 1.0 && residuals.counts[BINS - 1] >= 1.0);
    }
}
