//! The columns of the archive's tables.
//!
//! Every table is a complete copy of its records. A rejected record keeps its bytes. An accepted one keeps
//! its typed columns, and its bytes only where the columns do not say everything (another dialect,
//! metadata): for canonical events, the bulk of most archives, `payload` is null.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

use super::layout::Table;

/// UTC, epoch ms.
pub(super) fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// Where a record was, and what of it is no payload.
fn record_fields() -> [Field; 6] {
    [
        Field::new("topic", DataType::Utf8, false),
        Field::new("partition", DataType::Int32, false),
        Field::new("offset", DataType::Int64, false),
        Field::new("record_timestamp", instant(), false),
        Field::new("key", DataType::Binary, true),
        // A JSON array of {"name", "value"}, or {"name", "hex"} where the value is not UTF-8.
        Field::new("headers", DataType::Utf8, true),
    ]
}

static RAW: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = vec![
        Field::new("event_id", DataType::Utf8, false),
        Field::new("segment_id", DataType::Utf8, false),
        Field::new("timestamp", instant(), false),
        Field::new("speed_kmh", DataType::Float64, true),
        Field::new("volume_count", DataType::Int64, true),
        Field::new("flow_per_hour", DataType::Float64, true),
        Field::new("occupancy", DataType::Float64, true),
        Field::new("latitude", DataType::Float64, true),
        Field::new("longitude", DataType::Float64, true),
        Field::new("source", DataType::Utf8, false),
        Field::new("quality_score", DataType::Float64, false),
    ];
    fields.extend(record_fields());
    fields.push(Field::new("payload", DataType::Binary, true));
    Arc::new(Schema::new(fields))
});

static REJECTED: LazyLock<SchemaRef> = LazyLock::new(|| {
    let mut fields = vec![Field::new("reason", DataType::Utf8, false), Field::new("payload", DataType::Binary, true)];
    fields.extend(record_fields());
    Arc::new(Schema::new(fields))
});

/// A table's columns, in order.
#[must_use]
pub fn schema(table: Table) -> SchemaRef {
    match table {
        Table::Raw => Arc::clone(&RAW),
        Table::Rejected => Arc::clone(&REJECTED),
    }
}

/// The columns that a table's row groups are sorted by.
#[must_use]
pub fn sorted_by(table: Table) -> &'static [&'static str] {
    match table {
        Table::Raw => &["segment_id", "timestamp", "offset"],
        Table::Rejected => &["offset"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Queries are written against these.
    #[test]
    fn columns_are_what_they_always_were() {
        let describe = |table| {
            let schema = schema(table);
            let fields = schema.fields().iter();
            fields
                .map(|f| format!("{} {}{}", f.name(), f.data_type(), if f.is_nullable() { "?" } else { "" }))
                .collect::<Vec<_>>()
        };
        let record = [
            "topic Utf8",
            "partition Int32",
            "offset Int64",
            "record_timestamp Timestamp(ms, \"UTC\")",
            "key Binary?",
            "headers Utf8?",
        ];
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
        assert_eq!(describe(Table::Raw), [&raw[..], &record, &["payload Binary?"]].concat());
        assert_eq!(describe(Table::Rejected), [&["reason Utf8", "payload Binary?"][..], &record].concat());
    }
}
