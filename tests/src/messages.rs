//! Messages as the workers write them, for archives under test.

use common::model::{Aggregate, CongestionLevel, Feature, HistoricalContext, ModelType, Prediction, UncertaintyBounds};

pub const WINDOW_MS: i64 = 300_000;

/// A window that came to `avg_speed` over so many events.
///
/// # Panics
/// Never: it is numbers and plain text.
#[must_use]
pub fn aggregate(segment: &str, window_start: i64, avg_speed: f64, event_count: u64) -> Vec<u8> {
    let aggregate = Aggregate {
        aggregate_id: format!("AGG_{segment}_{window_start}").into(),
        segment_id: segment.into(),
        window_start,
        window_end: window_start + WINDOW_MS,
        avg_speed: Some(avg_speed),
        speed_stddev: None,
        speed_min: None,
        speed_max: None,
        vehicle_count: 0,
        occupancy_avg: 0.0,
        occupancy_max: None,
        congestion_level: Some(CongestionLevel::of(avg_speed)),
        coordinates: None,
        event_count,
        quality_score: 1.0,
    };
    serde_json::to_vec(&aggregate).expect("JSON")
}

/// A forecast of 50 km/h, so many minutes ahead, that knew of 70.
///
/// # Panics
/// Never: it is numbers and plain text.
#[must_use]
pub fn prediction(segment: &str, target_timestamp: i64, horizon: u32) -> Vec<u8> {
    let at = target_timestamp - i64::from(horizon) * 60_000;
    let quantiles: [f64; 19] = std::array::from_fn(|i| 41.0 + i as f64);
    let prediction = Prediction {
        prediction_id: format!("PRED_{segment}_{at}_{horizon}").into(),
        segment_id: segment.into(),
        prediction_timestamp: at,
        prediction_horizon: horizon,
        target_timestamp,
        predicted_speed: quantiles[9],
        predicted_volume: None,
        current_speed: 70.0,
        predicted_congestion_level: CongestionLevel::of(quantiles[9]),
        uncertainty_bounds: UncertaintyBounds { speed_lower: quantiles[0], speed_upper: quantiles[18] },
        speed_quantiles: quantiles,
        confidence_score: 0.5,
        model_version: "v0.1.0".into(),
        model_type: ModelType::LinearRegression,
        features_used: vec![Feature::HistoricalSpeed, Feature::TimeOfDay].into(),
        coordinates: None,
        historical_context: HistoricalContext::default(),
    };
    serde_json::to_vec(&prediction).expect("JSON")
}
