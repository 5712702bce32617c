//! A forecast of one segment's speed.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::aggregate::{CongestionLevel, Position};

/// Probabilities of [`Prediction::speed_quantiles`]: 0.05, 0.10, … 0.95.
pub const QUANTILES: usize = 19;

/// How a forecast was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ModelType {
    /// Regression trees fitted to weeks of the archive.
    GradientBoosting,
    /// Robust linear regression on lags, profile and network.
    LinearRegression,
    /// The last value, drawn towards the profile where there is one.
    Persistence,
}

/// What went into a forecast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Feature {
    HistoricalSpeed,
    TimeOfDay,
    DayOfWeek,
    AdjacentSegments,
    /// What is usual at that time of the week.
    Seasonal,
}

/// The 90 % interval, km/h.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UncertaintyBounds {
    pub speed_lower: f64,
    pub speed_upper: f64,
}

/// Mean speeds before the forecast, km/h; absent where nothing was measured.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct HistoricalContext {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub avg_speed_1h: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub avg_speed_24h: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub avg_speed_7d: Option<f64>,
}

/// A message of `traffic-predictions`: `docs/schemas/traffic-prediction.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Prediction<'a> {
    /// `PRED_<segment>_<prediction_timestamp>_<horizon>`.
    pub prediction_id: Cow<'a, str>,
    pub segment_id: Cow<'a, str>,
    /// The end of the newest window that was known, epoch ms.
    pub prediction_timestamp: i64,
    /// Minutes ahead.
    pub prediction_horizon: u32,
    /// The end of the five-minute window whose mean speed is forecast, epoch ms:
    /// `prediction_timestamp` + `prediction_horizon`.
    pub target_timestamp: i64,
    /// Median of the forecast distribution, km/h.
    pub predicted_speed: f64,
    /// Vehicles that are expected in those five minutes; `None` where none are counted.
    #[serde(default)]
    pub predicted_volume: Option<u32>,
    /// The speed that was known, km/h: the newest one measured. Last-value forecasts are scored by it.
    pub current_speed: f64,
    pub predicted_congestion_level: CongestionLevel,
    pub uncertainty_bounds: UncertaintyBounds,
    /// Speeds that are not exceeded with probability 0.05, 0.10, … 0.95, km/h, ascending.
    pub speed_quantiles: [f64; QUANTILES],
    /// Probability that the speed will be within 10 km/h of `predicted_speed`.
    pub confidence_score: f64,
    pub model_version: Cow<'a, str>,
    pub model_type: ModelType,
    pub features_used: Cow<'a, [Feature]>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub coordinates: Option<Position>,
    pub historical_context: HistoricalContext,
}

impl Prediction<'_> {
    /// The probability that the speed will be below `speed_kmh`: see [`probability_below`].
    #[must_use]
    pub fn probability_below(&self, speed_kmh: f64) -> f64 {
        probability_below(&self.speed_quantiles, speed_kmh)
    }
}

/// The probability of a speed below `speed_kmh`, by the quantiles `q` at 0.05, 0.10, … 0.95: linear between them, and
/// beyond the outermost ones falling to 0 and 1 over the same distance as the 10 % next to them.
#[must_use]
pub fn probability_below(q: &[f64; QUANTILES], speed_kmh: f64) -> f64 {
    let step = 1.0 / (QUANTILES as f64 + 1.0);
    let at = q.partition_point(|quantile| *quantile < speed_kmh);
    let (low, high, from) = if at == 0 {
        (q[0] - (q[2] - q[0]), q[0], 0.0)
    } else if at == QUANTILES {
        (q[QUANTILES - 1], 2.0 * q[QUANTILES - 1] - q[QUANTILES - 3], at as f64 * step)
    } else {
        (q[at - 1], q[at], at as f64 * step)
    };
    let share = if high > low { ((speed_kmh - low) / (high - low)).clamp(0.0, 1.0) } else { 0.0 };
    from + share * step
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(speed_quantiles: [f64; QUANTILES]) -> Prediction<'static> {
        Prediction {
            prediction_id: "PRED_S1_1759674900000_15".into(),
            segment_id: "S1".into(),
            prediction_timestamp: 1_759_674_900_000,
            prediction_horizon: 15,
            target_timestamp: 1_759_675_800_000,
            predicted_speed: speed_quantiles[9],
            predicted_volume: None,
            current_speed: 60.0,
            predicted_congestion_level: CongestionLevel::of(speed_quantiles[9]),
            uncertainty_bounds: UncertaintyBounds { speed_lower: speed_quantiles[0], speed_upper: speed_quantiles[18] },
            speed_quantiles,
            confidence_score: 0.5,
            model_version: "v0.1.0".into(),
            model_type: ModelType::LinearRegression,
            features_used: vec![Feature::HistoricalSpeed].into(),
            coordinates: None,
            historical_context: HistoricalContext::default(),
        }
    }

    #[test]
    fn probabilities_follow_the_quantiles() {
        let prediction = with(std::array::from_fn(|i| 5.0 * (i as f64 + 1.0)));
        for (speed, probability) in [(50.0, 0.5), (52.5, 0.525), (5.0, 0.05), (95.0, 0.95), (-20.0, 0.0), (200.0, 1.0)]
        {
            assert!((prediction.probability_below(speed) - probability).abs() < 1e-9, "{speed}");
        }
        let certain = with([40.0; QUANTILES]);
        assert!(certain.probability_below(39.9) < 0.06 && certain.probability_below(40.1) > 0.94);
    }
}
