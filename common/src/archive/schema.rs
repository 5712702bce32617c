//! The columns of the archive's tables, as readers see them.

use arrow::datatypes::SchemaRef;

use super::column::Form;
use super::dataset::Dataset;
use super::layout::Table;
use super::rows::Row;
use super::tables::{AggregateRow, EventRow, PredictionRow, RejectedRow};

pub(super) fn form(table: Table) -> &'static Form {
    match table {
        Table::Accepted(Dataset::Events) => &EventRow::columns().form,
        Table::Accepted(Dataset::Aggregates) => &AggregateRow::columns().form,
        Table::Accepted(Dataset::Predictions) => &PredictionRow::columns().form,
        Table::Rejected(_) => &RejectedRow::columns().form,
    }
}

/// A table's columns, in order.
#[must_use]
pub fn schema(table: Table) -> SchemaRef {
    form(table).schema.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &[&str] = &[
        "topic Utf8",
        "partition Int32",
        "offset Int64",
        "record_timestamp Timestamp(ms, \"UTC\")",
        "key Binary?",
        "headers Utf8?",
    ];
    const PAYLOAD: &[&str] = &["payload Binary?"];

    fn describe(table: Table) -> Vec<String> {
        let schema = schema(table);
        let fields = schema.fields().iter();
        fields.map(|f| format!("{} {}{}", f.name(), f.data_type(), if f.is_nullable() { "?" } else { "" })).collect()
    }

    /// Queries are written against these.
    #[test]
    fn columns_are_what_they_always_were() {
        let raw = [
            "event_id Utf8",
            "segment_id Utf8",
            "timestamp Timestamp(ms, \"UTC\")",
            "speed_kmh Float64?",
            "volume_count Int64?",
            "flow_per_hour Float64?",
            "occupancy Float64?",
            "latitude Float64?",
            "longitude Float64?",
            "source Utf8",
            "quality_score Float64",
        ];
        assert_eq!(describe(Table::Accepted(Dataset::Events)), [&raw[..], RECORD, PAYLOAD].concat());
        let rejected = [&["reason Utf8"][..], PAYLOAD, RECORD].concat();
        for dataset in Dataset::ALL {
            assert_eq!(describe(Table::Rejected(dataset)), rejected);
        }
    }

    #[test]
    fn columns_of_aggregates_are_what_they_always_were() {
        let aggregates = [
            "aggregate_id Utf8",
            "segment_id Utf8",
            "window_start Timestamp(ms, \"UTC\")",
            "window_end Timestamp(ms, \"UTC\")",
            "avg_speed Float64?",
            "speed_stddev Float64?",
            "speed_min Float64?",
            "speed_max Float64?",
            "vehicle_count Int64",
            "occupancy_avg Float64",
            "occupancy_max Float64?",
            "congestion_level Utf8?",
            "latitude Float64?",
            "longitude Float64?",
            "event_count Int64",
            "quality_score Float64",
        ];
        assert_eq!(describe(Table::Accepted(Dataset::Aggregates)), [&aggregates[..], RECORD, PAYLOAD].concat());
    }

    #[test]
    fn columns_of_predictions_are_what_they_always_were() {
        let forecast = [
            "prediction_id Utf8",
            "segment_id Utf8",
            "prediction_timestamp Timestamp(ms, \"UTC\")",
            "prediction_horizon Int64",
            "target_timestamp Timestamp(ms, \"UTC\")",
            "predicted_speed Float64",
            "predicted_volume Int64?",
            "current_speed Float64",
            "predicted_congestion_level Utf8",
            "speed_lower Float64",
            "speed_upper Float64",
        ];
        let quantiles: Vec<String> = (1..20).map(|n| format!("q{:02} Float64", n * 5)).collect();
        let quantiles: Vec<&str> = quantiles.iter().map(String::as_str).collect();
        let origin = [
            "confidence_score Float64",
            "model_version Utf8",
            "model_type Utf8",
            "features_used List(Utf8)",
            "latitude Float64?",
            "longitude Float64?",
            "avg_speed_1h Float64?",
            "avg_speed_24h Float64?",
            "avg_speed_7d Float64?",
        ];
        let expected = [&forecast[..], &quantiles, &origin, RECORD, PAYLOAD].concat();
        assert_eq!(describe(Table::Accepted(Dataset::Predictions)), expected);
    }
}
