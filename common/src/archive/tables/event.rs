//! `raw`: valid events of any dialect, as normalised.

use std::sync::LazyLock;

use crate::archive::column::{Column, Columns, Values};
use crate::archive::rows::{Piece, RecordPart, Row, Text, record_columns};
use crate::model::{Event, Volume};
use crate::stream::Record;

#[derive(Debug)]
pub(in crate::archive) struct EventRow {
    record: RecordPart,
    event_id: Piece,
    segment_id: Piece,
    timestamp_ms: i64,
    speed_kmh: Option<f64>,
    volume: Option<Volume>,
    occupancy: Option<f64>,
    position: Option<(f64, f64)>,
    source: &'static str,
    quality_score: f64,
    payload: Option<Piece>,
}

impl EventRow {
    pub(in crate::archive) fn of(
        record: &Record<'_>,
        event: &Event<'_>,
        payload: Option<&[u8]>,
        text: &mut Text,
    ) -> Self {
        Self {
            record: RecordPart::of(record, text),
            event_id: text.keep(event.event_id.as_bytes()),
            segment_id: text.keep(event.segment_id.as_bytes()),
            timestamp_ms: event.timestamp_ms,
            speed_kmh: event.speed_kmh,
            volume: event.volume,
            occupancy: event.occupancy_percent,
            position: event.coordinates.map(|c| (c.latitude, c.longitude)),
            source: event.source,
            quality_score: event.quality_score,
            payload: payload.map(|bytes| text.keep(bytes)),
        }
    }

    fn count(&self) -> Option<i64> {
        match self.volume {
            Some(Volume::Count(count)) => Some(i64::from(count)),
            _ => None,
        }
    }

    fn flow(&self) -> Option<f64> {
        match self.volume {
            Some(Volume::PerHour(flow)) => Some(flow),
            _ => None,
        }
    }
}

static COLUMNS: LazyLock<Columns<EventRow>> = LazyLock::new(|| {
    let own = [
        Column::new("event_id", Values::Id(|row: &EventRow, text| Some(text.str(row.event_id)))),
        Column::new("segment_id", Values::Word(|row, text| Some(text.str(row.segment_id)))),
        Column::new("timestamp", Values::Instant(|row, _| Some(row.timestamp_ms))),
        Column::optional("speed_kmh", Values::Number(|row, _| row.speed_kmh)),
        Column::optional("volume_count", Values::Integer(|row, _| row.count())),
        Column::optional("flow_per_hour", Values::Number(|row, _| row.flow())),
        Column::optional("occupancy", Values::Number(|row, _| row.occupancy)),
        Column::optional("latitude", Values::Number(|row, _| row.position.map(|p| p.0))),
        Column::optional("longitude", Values::Number(|row, _| row.position.map(|p| p.1))),
        Column::new("source", Values::Word(|row, _| Some(row.source))),
        Column::new("quality_score", Values::Number(|row, _| Some(row.quality_score))),
    ];
    let payload = Column::optional("payload", Values::Payload(|row: &EventRow, text| row.payload.map(|p| text.get(p))));
    Columns::new(&["segment_id", "timestamp", "offset"], own.into_iter().chain(record_columns()).chain([payload]))
});

impl Row for EventRow {
    fn columns() -> &'static Columns<Self> {
        &COLUMNS
    }

    fn record(&self) -> &RecordPart {
        &self.record
    }

    fn order(&self) -> Option<(Piece, i64)> {
        Some((self.segment_id, self.timestamp_ms))
    }
}
