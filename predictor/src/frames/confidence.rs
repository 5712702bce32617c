//! How often forecasts came true, by how probable that was said to be; and what is to be said, given that.

use crate::forecast::residuals::KEEP;

/// Tenths of probability.
const BINS: usize = 10;
/// Forecasts that a bin is believed to have said rightly before there are any.
const PRIOR: f64 = 200.0;

/// Sums of a tenth.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Bin {
    pub said: f64,
    pub held: f64,
    pub n: f64,
}

/// One horizon's forecasts of one kind.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Confidence {
    pub bins: [Bin; BINS],
}

impl Confidence {
    /// A forecast of which `said` was the probability to come true.
    pub fn add(&mut self, said: f64, held: bool) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a probability")]
        let bin = ((said.clamp(0.0, 1.0) * BINS as f64) as usize).min(BINS - 1);
        let bin = &mut self.bins[bin];
        bin.said += said;
        bin.held += f64::from(u8::from(held));
        bin.n += 1.0;
    }

    /// A window has passed: what was counted counts a little less.
    pub fn fade(&mut self) {
        for bin in &mut self.bins {
            [&mut bin.said, &mut bin.held, &mut bin.n].into_iter().for_each(|sum| *sum *= KEEP);
        }
    }

    /// The probability that is to be said in place of this one: corrected by what came true where so much was said, linear
    /// from the middle of one tenth to that of the next.
    #[must_use]
    pub fn corrected(&self, said: f64) -> f64 {
        let correction = |bin: usize| (self.bins[bin].held - self.bins[bin].said) / (self.bins[bin].n + PRIOR);
        let at = (said.clamp(0.0, 1.0) * BINS as f64 - 0.5).clamp(0.0, BINS as f64 - 1.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below BINS")]
        let below = (at.floor() as usize).min(BINS - 2);
        #[expect(clippy::cast_precision_loss, reason = "below BINS")]
        let share = at - below as f64;
        (said + (1.0 - share) * correction(below) + share * correction(below + 1)).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_true_less_often_than_said_is_said_less() {
        let mut confidence = Confidence::default();
        assert!((confidence.corrected(0.42) - 0.42).abs() < 1e-9);
        for i in 0..10_000 {
            // 0.45 was said, and 0.3 held; 0.95 holds as said.
            confidence.add(0.45, i % 10 < 3);
            confidence.add(0.95, i % 20 != 0);
        }
        assert!((confidence.corrected(0.45) - 0.303).abs() < 0.001, "{}", confidence.corrected(0.45));
        assert!((confidence.corrected(0.95) - 0.95).abs() < 0.001);
        let said: Vec<f64> = (0..=100).map(|percent| confidence.corrected(f64::from(percent) / 100.0)).collect();
        assert!(said.iter().all(|p| (0.0..=1.0).contains(p)), "{said:?}");
        (0..864 * 10).for_each(|_| confidence.fade());
        assert!((confidence.corrected(0.45) - 0.45).abs() < 0.002, "long ago");
    }
}
