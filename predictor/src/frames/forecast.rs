//! A forecast, and the distribution of errors that it is made of.

use common::model::QUANTILES;

use crate::forecast::residuals::{Distribution, Residuals};

pub const MOST_KMH: f64 = 200.0;
/// "Close to the forecast", km/h.
pub const CLOSE_KMH: f64 = 10.0;

/// What made a forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maker {
    /// A fitted model.
    Model,
    /// The regression that is learnt while running.
    Regression,
    /// The last value and the profile.
    Fallback,
}

/// A forecast, km/h.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// Minutes ahead.
    pub horizon: u32,
    pub maker: Maker,
    pub quantiles: [f64; QUANTILES],
    /// Probability that the speed will be within [`CLOSE_KMH`] of the median.
    pub confidence: f64,
}

impl Forecast {
    #[must_use]
    pub fn median(&self) -> f64 {
        self.quantiles[QUANTILES / 2]
    }
}

/// The distribution of errors in units of their spread.
pub struct Shape {
    distribution: Distribution,
    quantiles: [f64; QUANTILES],
}

impl Shape {
    #[must_use]
    pub fn of(residuals: &Residuals) -> Self {
        let distribution = residuals.distribution();
        Self { quantiles: distribution.quantiles(), distribution }
    }

    /// Where errors around a center put the median, km/h.
    #[must_use]
    pub fn median(&self, center: f64, spread: f64) -> f64 {
        (center + spread * self.quantiles[QUANTILES / 2]).clamp(0.0, MOST_KMH)
    }

    /// The forecast around a center, with the probability of being close as the distribution has it.
    #[must_use]
    pub fn around(&self, horizon: u32, maker: Maker, center: f64, spread: f64) -> Forecast {
        let speed = |u: f64| (center + spread * u).clamp(0.0, MOST_KMH);
        let (median, close) = (self.quantiles[QUANTILES / 2], CLOSE_KMH / spread);
        Forecast {
            horizon,
            maker,
            quantiles: self.quantiles.map(speed),
            confidence: self.distribution.between(median - close, median + close),
        }
    }
}
