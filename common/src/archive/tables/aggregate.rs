//! `processed/aggregates`: what five minutes of a segment came to. A correction is a row of its own.

use std::sync::LazyLock;

use super::word;
use crate::archive::column::{Column, Columns, Values};
use crate::archive::rows::{Piece, RecordPart, Row, Text, record_columns};
use crate::model::{Aggregate, Position};
use crate::stream::Record;

#[derive(Debug)]
pub(in crate::archive) struct AggregateRow {
    record: RecordPart,
    aggregate_id: Piece,
    segment_id: Piece,
    window_start_ms: i64,
    window_end_ms: i64,
    avg_speed: Option<f64>,
    speed_stddev: Option<f64>,
    speed_min: Option<f64>,
    speed_max: Option<f64>,
    vehicle_count: i64,
    occupancy_avg: f64,
    occupancy_max: Option<f64>,
    congestion_level: Option<Piece>,
    position: Option<Position>,
    event_count: i64,
    quality_score: f64,
    payload: Option<Piece>,
}

impl AggregateRow {
    pub(in crate::archive) fn of(
        record: &Record<'_>,
        aggregate: &Aggregate<'_>,
        payload: Option<&[u8]>,
        text: &mut Text,
    ) -> Self {
        let count = |count: u64| i64::try_from(count).expect("a count was checked when the record was placed");
        Self {
            record: RecordPart::of(record, text),
            aggregate_id: text.keep(aggregate.aggregate_id.as_bytes()),
            segment_id: text.keep(aggregate.segment_id.as_bytes()),
            window_start_ms: aggregate.window_start,
            window_end_ms: aggregate.window_end,
            avg_speed: aggregate.avg_speed,
            speed_stddev: aggregate.speed_stddev,
            speed_min: aggregate.speed_min,
            speed_max: aggregate.speed_max,
            vehicle_count: count(aggregate.vehicle_count),
            occupancy_avg: aggregate.occupancy_avg,
            occupancy_max: aggregate.occupancy_max,
            congestion_level: aggregate.congestion_level.map(|level| text.keep(word(&level).as_bytes())),
            position: aggregate.coordinates,
            event_count: count(aggregate.event_count),
            quality_score: aggregate.quality_score,
            payload: payload.map(|bytes| text.keep(bytes)),
        }
    }
}

static COLUMNS: LazyLock<Columns<AggregateRow>> = LazyLock::new(|| {
    let own = [
        Column::new("aggregate_id", Values::Id(|row: &AggregateRow, text| Some(text.str(row.aggregate_id)))),
        Column::new("segment_id", Values::Word(|row, text| Some(text.str(row.segment_id)))),
        Column::new("window_start", Values::Instant(|row, _| Some(row.window_start_ms))),
        Column::new("window_end", Values::Instant(|row, _| Some(row.window_end_ms))),
        Column::optional("avg_speed", Values::Number(|row, _| row.avg_speed)),
        Column::optional("speed_stddev", Values::Number(|row, _| row.speed_stddev)),
        Column::optional("speed_min", Values::Number(|row, _| row.speed_min)),
        Column::optional("speed_max", Values::Number(|row, _| row.speed_max)),
        Column::new("vehicle_count", Values::Integer(|row, _| Some(row.vehicle_count))),
        Column::new("occupancy_avg", Values::Number(|row, _| Some(row.occupancy_avg))),
        Column::optional("occupancy_max", Values::Number(|row, _| row.occupancy_max)),
        Column::optional("congestion_level", Values::Word(|row, text| row.congestion_level.map(|p| text.str(p)))),
        Column::optional("latitude", Values::Number(|row, _| row.position.map(|p| p.latitude))),
        Column::optional("longitude", Values::Number(|row, _| row.position.map(|p| p.longitude))),
        Column::new("event_count", Values::Integer(|row, _| Some(row.event_count))),
        Column::new("quality_score", Values::Number(|row, _| Some(row.quality_score))),
    ];
    let payload = Values::Payload(|row: &AggregateRow, text| row.payload.map(|p| text.get(p)));
    let columns = own.into_iter().chain(record_columns()).chain([Column::optional("payload", payload)]);
    Columns::new(&["segment_id", "window_start", "offset"], columns)
});

impl Row for AggregateRow {
    fn columns() -> &'static Columns<Self> {
        &COLUMNS
    }

    fn record(&self) -> &RecordPart {
        &self.record
    }

    fn order(&self) -> Option<(Piece, i64)> {
        Some((self.segment_id, self.window_start_ms))
    }
}
