//! What a fit minimises.

/// A loss of residuals (target − prediction).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Loss {
    Absolute,
    Squared,
    /// The pinball loss of a quantile between 0 and 1.
    Quantile(f32),
}

/// A quantile's gradients are α and α − 1, in these parts.
const PARTS: f32 = 1_000.0;

impl Loss {
    /// Writes the negative gradients as integers whose sum over all rows stays below 2³¹.
    pub fn gradients(self, residuals: &[f32], into: &mut Vec<i32>) {
        into.clear();
        match self {
            Self::Absolute => into.extend(residuals.iter().map(|r| i32::from(*r > 0.0) - i32::from(*r < 0.0))),
            Self::Quantile(alpha) => {
                let (above, below) = (whole(alpha * PARTS), whole((alpha - 1.0) * PARTS));
                into.extend(residuals.iter().map(|r| if *r > 0.0 { above } else { below }));
            }
            Self::Squared => {
                let largest = residuals.iter().fold(0.0_f32, |largest, r| largest.max(r.abs()));
                #[expect(clippy::cast_precision_loss, reason = "a scale")]
                let scale = (i32::MAX as usize / residuals.len().max(1)).min(1 << 20) as f32 / largest.max(1e-30);
                into.extend(residuals.iter().map(|r| whole(r * scale)));
            }
        }
    }

    /// The value that minimises the loss over some residuals: median, mean, quantile.
    pub fn leaf(self, residuals: &[f32]) -> f32 {
        match self {
            Self::Absolute => quantile(residuals, 0.5),
            Self::Quantile(alpha) => quantile(residuals, alpha),
            Self::Squared => mean(residuals),
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "below 2^31 by its callers")]
fn whole(value: f32) -> i32 {
    value.round() as i32
}

#[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "speeds")]
fn mean(values: &[f32]) -> f32 {
    (values.iter().map(|value| f64::from(*value)).sum::<f64>() / values.len().max(1) as f64) as f32
}

/// Halfway between the two values next to the quantile, where it falls between two.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "places in an array"
)]
fn quantile(values: &[f32], alpha: f32) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let place = f64::from(alpha) * (values.len() - 1) as f64;
    // As integers of the same order, which compare faster.
    let mut keys: Vec<i32> = values.iter().map(|value| key(*value)).collect();
    let (_, lower, above) = keys.select_nth_unstable(place.floor() as usize);
    let lower = value(*lower);
    if place.fract() == 0.0 {
        return lower;
    }
    let upper = above.iter().min().map_or(lower, |least| value(*least));
    lower + (upper - lower) * place.fract() as f32
}

/// An integer that is ordered as the number is.
fn key(value: f32) -> i32 {
    let bits = value.to_bits().cast_signed();
    bits ^ ((bits >> 31) & i32::MAX)
}

/// The number of a [`key`].
fn value(key: i32) -> f32 {
    f32::from_bits((key ^ ((key >> 31) & i32::MAX)).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_say_what_minimises_the_loss() {
        let values = [9.0, 1.0, 2.0, 4.0];
        assert_eq!(Loss::Absolute.leaf(&values), 3.0);
        assert_eq!(Loss::Absolute.leaf(&[5.0, 1.0, 9.0]), 5.0);
        assert_eq!(Loss::Squared.leaf(&values), 4.0);
        assert_eq!(Loss::Quantile(1.0).leaf(&values), 9.0);
        assert_eq!(Loss::Absolute.leaf(&[]), 0.0);
        assert_eq!(Loss::Absolute.leaf(&[-5.0, 0.0, -1.0, -0.5]), -0.75);
    }

    #[test]
    fn gradients_point_to_the_target_and_their_sum_fits() {
        let mut gradients = Vec::new();
        Loss::Absolute.gradients(&[3.0, -0.5, 0.0], &mut gradients);
        assert_eq!(gradients, [1, -1, 0]);
        Loss::Quantile(0.9).gradients(&[3.0, -3.0], &mut gradients);
        assert_eq!(gradients, [900, -100]);
        let many = vec![100.0_f32; 100_000];
        Loss::Squared.gradients(&many, &mut gradients);
        assert!(gradients.iter().map(|g| i64::from(*g)).sum::<i64>() <= i64::from(i32::MAX));
        assert!(gradients[0] > 20_000);
    }
}
