//! Rows in memory until there are enough for a row group: fixed-size fields in one vector, all text in one
//! buffer, no allocation per row. Sorting moves indices, never text.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, Float64Builder, Int32Array, Int64Builder, RecordBatch, StringBuilder,
    TimestampMillisecondBuilder,
};
use serde_json::json;

use super::ArchiveError;
use super::layout::{Place, Table};
use super::schema::schema;
use crate::model::{Event, Volume};
use crate::stream::{Header, Record};

/// Rows of one table.
#[derive(Debug)]
pub(super) enum Rows {
    Raw(EventRows),
    Rejected(RejectedRows),
}

impl Rows {
    pub(super) fn new(table: Table) -> Self {
        match table {
            Table::Raw => Self::Raw(EventRows::default()),
            Table::Rejected => Self::Rejected(RejectedRows::default()),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Raw(rows) => rows.rows.len(),
            Self::Rejected(rows) => rows.rows.len(),
        }
    }

    /// What the rows hold in memory.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Raw(rows) => rows.rows.len() * size_of::<EventRow>() + rows.text.0.len(),
            Self::Rejected(rows) => rows.rows.len() * size_of::<RejectedRow>() + rows.text.0.len(),
        }
    }

    /// Takes all rows out, sorted.
    pub(super) fn take(&mut self, place: &Place) -> Result<RecordBatch, ArchiveError> {
        let (table, columns) = match self {
            Self::Raw(rows) => (Table::Raw, std::mem::take(rows).columns(place)),
            Self::Rejected(rows) => (Table::Rejected, std::mem::take(rows).columns(place)),
        };
        Ok(RecordBatch::try_new(schema(table), columns)?)
    }
}

/// A piece of [`Text`]; `None` of these is a null.
type Piece = (u32, u32);

/// Appended bytes.
#[derive(Debug, Default)]
struct Text(Vec<u8>);

impl Text {
    fn keep(&mut self, bytes: &[u8]) -> Piece {
        let start = self.0.len();
        self.0.extend_from_slice(bytes);
        let end = u32::try_from(self.0.len()).expect("rows are flushed long before they hold 4 GiB");
        (u32::try_from(start).expect("below the end"), end)
    }

    fn get(&self, (start, end): Piece) -> &[u8] {
        &self.0[start as usize..end as usize]
    }

    fn str(&self, piece: Piece) -> &str {
        std::str::from_utf8(self.get(piece)).expect("only strings are read back as strings")
    }
}

#[derive(Debug, Clone, Copy)]
struct RecordPart {
    offset: i64,
    timestamp_ms: i64,
    key: Option<Piece>,
    headers: Option<Piece>,
}

impl RecordPart {
    fn of(record: &Record<'_>, text: &mut Text) -> Self {
        let headers = record.headers();
        Self {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(|key| text.keep(key)),
            headers: (!headers.is_empty()).then(|| text.keep(headers_json(&headers).as_bytes())),
        }
    }
}

fn headers_json(headers: &[Header]) -> String {
    let headers = headers.iter().map(|header| match std::str::from_utf8(&header.value) {
        Ok(value) => json!({"name": header.name, "value": value}),
        Err(_) => {
            let hex: String = header.value.iter().map(|byte| format!("{byte:02x}")).collect();
            json!({"name": header.name, "hex": hex})
        }
    });
    serde_json::Value::Array(headers.collect()).to_string()
}

fn record_columns<'r>(
    place: &Place,
    text: &Text,
    records: impl ExactSizeIterator<Item = &'r RecordPart> + Clone,
) -> [ArrayRef; 6] {
    let rows = records.len();
    let partition = i32::try_from(place.partition).expect("partition numbers are Java ints");
    let mut topic = StringBuilder::with_capacity(rows, rows * place.topic.len());
    let mut offset = Int64Builder::with_capacity(rows);
    let mut timestamp = TimestampMillisecondBuilder::with_capacity(rows);
    let mut key = BinaryBuilder::new();
    let mut headers = StringBuilder::new();
    for record in records {
        topic.append_value(&place.topic);
        offset.append_value(record.offset);
        timestamp.append_value(record.timestamp_ms);
        key.append_option(record.key.map(|piece| text.get(piece)));
        headers.append_option(record.headers.map(|piece| text.str(piece)));
    }
    [
        Arc::new(topic.finish()),
        Arc::new(Int32Array::from(vec![partition; rows])),
        Arc::new(offset.finish()),
        Arc::new(timestamp.finish().with_timezone("UTC")),
        Arc::new(key.finish()),
        Arc::new(headers.finish()),
    ]
}

/// Valid events.
#[derive(Debug, Default)]
pub(super) struct EventRows {
    rows: Vec<EventRow>,
    text: Text,
}

#[derive(Debug)]
struct EventRow {
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

impl EventRows {
    /// Adds an event; `payload` is kept where the event does not say everything.
    pub(super) fn push(&mut self, record: &Record<'_>, event: &Event<'_>, payload: Option<&[u8]>) {
        let text = &mut self.text;
        self.rows.push(EventRow {
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
        });
    }

    fn columns(mut self, place: &Place) -> Vec<ArrayRef> {
        let text = &self.text;
        self.rows.sort_unstable_by(|a, b| {
            let order = text.get(a.segment_id).cmp(text.get(b.segment_id));
            order.then(a.timestamp_ms.cmp(&b.timestamp_ms)).then(a.record.offset.cmp(&b.record.offset))
        });
        let rows = self.rows.len();
        let mut event_id = StringBuilder::with_capacity(rows, rows * 32);
        let mut segment_id = StringBuilder::with_capacity(rows, rows * 16);
        let mut timestamp = TimestampMillisecondBuilder::with_capacity(rows);
        let mut volume_count = Int64Builder::with_capacity(rows);
        let mut flow_per_hour = Float64Builder::with_capacity(rows);
        let mut source = StringBuilder::with_capacity(rows, rows * 8);
        let mut payload = BinaryBuilder::new();
        for row in &self.rows {
            event_id.append_value(text.str(row.event_id));
            segment_id.append_value(text.str(row.segment_id));
            timestamp.append_value(row.timestamp_ms);
            volume_count.append_option(match row.volume {
                Some(Volume::Count(count)) => Some(i64::from(count)),
                _ => None,
            });
            flow_per_hour.append_option(match row.volume {
                Some(Volume::PerHour(flow)) => Some(flow),
                _ => None,
            });
            source.append_value(row.source);
            payload.append_option(row.payload.map(|piece| text.get(piece)));
        }
        let number = |field: fn(&EventRow) -> Option<f64>| -> ArrayRef {
            Arc::new(self.rows.iter().map(field).collect::<arrow::array::Float64Array>())
        };
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(event_id.finish()),
            Arc::new(segment_id.finish()),
            Arc::new(timestamp.finish().with_timezone("UTC")),
            number(|row| row.speed_kmh),
            Arc::new(volume_count.finish()),
            Arc::new(flow_per_hour.finish()),
            number(|row| row.occupancy),
            number(|row| row.position.map(|p| p.0)),
            number(|row| row.position.map(|p| p.1)),
            Arc::new(source.finish()),
            number(|row| Some(row.quality_score)),
        ];
        columns.extend(record_columns(place, text, self.rows.iter().map(|row| &row.record)));
        columns.push(Arc::new(payload.finish()));
        columns
    }
}

/// Records that are no valid event, in the order they came.
#[derive(Debug, Default)]
pub(super) struct RejectedRows {
    rows: Vec<RejectedRow>,
    text: Text,
}

#[derive(Debug)]
struct RejectedRow {
    record: RecordPart,
    reason: Piece,
    payload: Option<Piece>,
}

impl RejectedRows {
    pub(super) fn push(&mut self, record: &Record<'_>, reason: &str) {
        let text = &mut self.text;
        self.rows.push(RejectedRow {
            record: RecordPart::of(record, text),
            reason: text.keep(reason.as_bytes()),
            payload: record.value.map(|bytes| text.keep(bytes)),
        });
    }

    fn columns(self, place: &Place) -> Vec<ArrayRef> {
        let text = &self.text;
        let mut reason = StringBuilder::new();
        let mut payload = BinaryBuilder::new();
        for row in &self.rows {
            reason.append_value(text.str(row.reason));
            payload.append_option(row.payload.map(|piece| text.get(piece)));
        }
        let mut columns: Vec<ArrayRef> = vec![Arc::new(reason.finish()), Arc::new(payload.finish())];
        columns.extend(record_columns(place, text, self.rows.iter().map(|row| &row.record)));
        columns
    }
}
