//! `processed/predictions`: forecasts, a column for each quantile.

use std::sync::LazyLock;

use super::word;
use crate::archive::column::{Column, Columns, Values};
use crate::archive::rows::{Piece, RecordPart, Row, Text, record_columns};
use crate::model::{HistoricalContext, Position, Prediction, QUANTILES, UncertaintyBounds};
use crate::stream::Record;

#[derive(Debug)]
pub(in crate::archive) struct PredictionRow {
    record: RecordPart,
    prediction_id: Piece,
    segment_id: Piece,
    prediction_timestamp_ms: i64,
    horizon_minutes: u32,
    target_timestamp_ms: i64,
    predicted_speed: f64,
    predicted_volume: Option<u32>,
    current_speed: f64,
    congestion_level: Piece,
    bounds: UncertaintyBounds,
    quantiles: [f64; QUANTILES],
    confidence_score: f64,
    model_version: Piece,
    model_type: Piece,
    /// Separated by commas.
    features_used: Piece,
    position: Option<Position>,
    context: HistoricalContext,
    payload: Option<Piece>,
}

impl PredictionRow {
    pub(in crate::archive) fn of(
        record: &Record<'_>,
        prediction: &Prediction<'_>,
        payload: Option<&[u8]>,
        text: &mut Text,
    ) -> Self {
        let features: Vec<String> = prediction.features_used.iter().map(word).collect();
        Self {
            record: RecordPart::of(record, text),
            prediction_id: text.keep(prediction.prediction_id.as_bytes()),
            segment_id: text.keep(prediction.segment_id.as_bytes()),
            prediction_timestamp_ms: prediction.prediction_timestamp,
            horizon_minutes: prediction.prediction_horizon,
            target_timestamp_ms: prediction.target_timestamp,
            predicted_speed: prediction.predicted_speed,
            predicted_volume: prediction.predicted_volume,
            current_speed: prediction.current_speed,
            congestion_level: text.keep(word(&prediction.predicted_congestion_level).as_bytes()),
            bounds: prediction.uncertainty_bounds,
            quantiles: prediction.speed_quantiles,
            confidence_score: prediction.confidence_score,
            model_version: text.keep(prediction.model_version.as_bytes()),
            model_type: text.keep(word(&prediction.model_type).as_bytes()),
            features_used: text.keep(features.join(",").as_bytes()),
            position: prediction.coordinates,
            context: prediction.historical_context,
            payload: payload.map(|bytes| text.keep(bytes)),
        }
    }
}

/// 5 % to 95 %.
const QUANTILE_NAMES: [&str; QUANTILES] = [
    "q05", "q10", "q15", "q20", "q25", "q30", "q35", "q40", "q45", "q50", "q55", "q60", "q65", "q70", "q75", "q80",
    "q85", "q90", "q95",
];

static COLUMNS: LazyLock<Columns<PredictionRow>> = LazyLock::new(|| {
    let forecast = [
        Column::new("prediction_id", Values::Id(|row: &PredictionRow, text| Some(text.str(row.prediction_id)))),
        Column::new("segment_id", Values::Word(|row, text| Some(text.str(row.segment_id)))),
        Column::new("prediction_timestamp", Values::Instant(|row, _| Some(row.prediction_timestamp_ms))),
        Column::new("prediction_horizon", Values::Integer(|row, _| Some(i64::from(row.horizon_minutes)))),
        Column::new("target_timestamp", Values::Instant(|row, _| Some(row.target_timestamp_ms))),
        Column::new("predicted_speed", Values::Number(|row, _| Some(row.predicted_speed))),
        Column::optional("predicted_volume", Values::Integer(|row, _| row.predicted_volume.map(i64::from))),
        Column::new("current_speed", Values::Number(|row, _| Some(row.current_speed))),
        Column::new("predicted_congestion_level", Values::Word(|row, text| Some(text.str(row.congestion_level)))),
        Column::new("speed_lower", Values::Number(|row, _| Some(row.bounds.speed_lower))),
        Column::new("speed_upper", Values::Number(|row, _| Some(row.bounds.speed_upper))),
    ];
    let quantile = |(at, name)| Column::new(name, Values::Quantile(at, |row: &PredictionRow| &row.quantiles));
    let quantiles = QUANTILE_NAMES.into_iter().enumerate().map(quantile);
    let origin = [
        Column::new("confidence_score", Values::Number(|row: &PredictionRow, _| Some(row.confidence_score))),
        Column::new("model_version", Values::Word(|row, text| Some(text.str(row.model_version)))),
        Column::new("model_type", Values::Word(|row, text| Some(text.str(row.model_type)))),
        Column::new("features_used", Values::Words(|row, text| Some(text.str(row.features_used)))),
        Column::optional("latitude", Values::Number(|row, _| row.position.map(|p| p.latitude))),
        Column::optional("longitude", Values::Number(|row, _| row.position.map(|p| p.longitude))),
        Column::optional("avg_speed_1h", Values::Number(|row, _| row.context.avg_speed_1h)),
        Column::optional("avg_speed_24h", Values::Number(|row, _| row.context.avg_speed_24h)),
        Column::optional("avg_speed_7d", Values::Number(|row, _| row.context.avg_speed_7d)),
    ];
    let payload = Values::Payload(|row: &PredictionRow, text| row.payload.map(|p| text.get(p)));
    let own = forecast.into_iter().chain(quantiles).chain(origin);
    let columns = own.chain(record_columns()).chain([Column::optional("payload", payload)]);
    Columns::new(&["segment_id", "prediction_timestamp", "offset"], columns)
});

impl Row for PredictionRow {
    fn columns() -> &'static Columns<Self> {
        &COLUMNS
    }

    fn record(&self) -> &RecordPart {
        &self.record
    }

    fn order(&self) -> Option<(Piece, i64)> {
        Some((self.segment_id, self.prediction_timestamp_ms))
    }
}
