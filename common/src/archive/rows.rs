//! Rows in memory until there are enough for a row group: fixed-size fields in one vector, all text in one
//! buffer, no allocation per row. Sorting moves rows, never text.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use serde_json::json;

use super::ArchiveError;
use super::classify::{Content, Placed};
use super::column::{Column, Columns, Values};
use super::dataset::Dataset;
use super::layout::{Place, Table};
use super::tables::{AggregateRow, EventRow, PredictionRow, RejectedRow};
use crate::stream::{Header, Record};

/// A table's row.
pub(super) trait Row: Sized + 'static {
    /// The table's columns, in order.
    fn columns() -> &'static Columns<Self>;

    fn record(&self) -> &RecordPart;

    /// Segment and time that the table is sorted by, before the offset; `None` if by that alone.
    fn order(&self) -> Option<(Piece, i64)>;
}

/// Rows of one table.
#[derive(Debug)]
pub(super) enum Rows {
    Events(Held<EventRow>),
    Aggregates(Held<AggregateRow>),
    Predictions(Held<PredictionRow>),
    Rejected(Held<RejectedRow>),
}

/// The same for rows of whichever type.
macro_rules! whichever {
    ($rows:expr, $held:ident => $of:expr) => {
        match $rows {
            Rows::Events($held) => $of,
            Rows::Aggregates($held) => $of,
            Rows::Predictions($held) => $of,
            Rows::Rejected($held) => $of,
        }
    };
}

impl Rows {
    pub(super) fn new(table: Table) -> Self {
        match table {
            Table::Accepted(Dataset::Events) => Self::Events(Held::default()),
            Table::Accepted(Dataset::Aggregates) => Self::Aggregates(Held::default()),
            Table::Accepted(Dataset::Predictions) => Self::Predictions(Held::default()),
            Table::Rejected(_) => Self::Rejected(Held::default()),
        }
    }

    pub(super) fn len(&self) -> usize {
        whichever!(self, held => held.rows.len())
    }

    /// What the rows hold in memory.
    pub(super) fn bytes(&self) -> usize {
        whichever!(self, held => held.bytes())
    }

    /// Adds a record that was placed in this table.
    pub(super) fn push(&mut self, record: &Record<'_>, placed: &Placed<'_>) {
        let payload = record.value.filter(|_| !placed.complete);
        match (self, &placed.content) {
            (Self::Events(held), Content::Event(event)) => {
                held.push(|text| EventRow::of(record, event, payload, text));
            }
            (Self::Aggregates(held), Content::Aggregate(aggregate)) => {
                held.push(|text| AggregateRow::of(record, aggregate, payload, text));
            }
            (Self::Predictions(held), Content::Prediction(prediction)) => {
                held.push(|text| PredictionRow::of(record, prediction, payload, text));
            }
            (Self::Rejected(held), Content::Rejected(reason)) => {
                held.push(|text| RejectedRow::of(record, reason, text));
            }
            _ => unreachable!("a record's table is where it is placed"),
        }
    }

    /// Takes all rows out, sorted.
    pub(super) fn take(&mut self, place: &Place) -> Result<RecordBatch, ArchiveError> {
        whichever!(self, held => std::mem::take(held).batch(place))
    }
}

/// Rows of one type and their text.
#[derive(Debug)]
pub(super) struct Held<R> {
    rows: Vec<R>,
    text: Text,
}

impl<R> Default for Held<R> {
    fn default() -> Self {
        Self { rows: Vec::new(), text: Text::default() }
    }
}

impl<R: Row> Held<R> {
    fn push(&mut self, row: impl FnOnce(&mut Text) -> R) {
        let row = row(&mut self.text);
        self.rows.push(row);
    }

    fn bytes(&self) -> usize {
        self.rows.len() * size_of::<R>() + self.text.0.len()
    }

    fn batch(mut self, place: &Place) -> Result<RecordBatch, ArchiveError> {
        self.sort();
        let columns = R::columns();
        Ok(RecordBatch::try_new(columns.form.schema.clone(), columns.arrays(&self.rows, &self.text, place))?)
    }

    /// By segment, time and offset. Segments are few beside rows: each is ranked once, and rows are compared by numbers.
    fn sort(&mut self) {
        let text = &self.text;
        let mut ranks: HashMap<&[u8], u32> = HashMap::new();
        for (segment, _) in self.rows.iter().filter_map(Row::order) {
            ranks.entry(text.get(segment)).or_default();
        }
        let mut segments: Vec<(&[u8], &mut u32)> = ranks.iter_mut().map(|(segment, rank)| (*segment, rank)).collect();
        segments.sort_unstable();
        segments.into_iter().zip(0..).for_each(|((_, rank), place)| *rank = place);
        self.rows.sort_by_cached_key(|row| {
            let order = row.order().map(|(segment, time_ms)| (ranks[text.get(segment)], time_ms));
            (order, row.record().offset)
        });
    }
}

/// A piece of [`Text`].
pub(super) type Piece = (u32, u32);

/// Appended bytes.
#[derive(Debug, Default)]
pub(super) struct Text(Vec<u8>);

impl Text {
    pub(super) fn keep(&mut self, bytes: &[u8]) -> Piece {
        let start = self.0.len();
        self.0.extend_from_slice(bytes);
        let end = u32::try_from(self.0.len()).expect("rows are flushed long before they hold 4 GiB");
        (u32::try_from(start).expect("below the end"), end)
    }

    pub(super) fn get(&self, (start, end): Piece) -> &[u8] {
        &self.0[start as usize..end as usize]
    }

    pub(super) fn str(&self, piece: Piece) -> &str {
        std::str::from_utf8(self.get(piece)).expect("only strings are read back as strings")
    }
}

/// What of a record is no payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct RecordPart {
    offset: i64,
    timestamp_ms: i64,
    key: Option<Piece>,
    headers: Option<Piece>,
}

impl RecordPart {
    pub(super) fn of(record: &Record<'_>, text: &mut Text) -> Self {
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

/// The columns that every table has: where a record was, and what of it is no payload.
pub(super) fn record_columns<R: Row>() -> [Column<R>; 6] {
    [
        Column::new("topic", Values::Topic),
        Column::new("partition", Values::Partition),
        Column::new("offset", Values::Counter(|row, _| Some(row.record().offset))),
        Column::new("record_timestamp", Values::Instant(|row, _| Some(row.record().timestamp_ms))),
        Column::optional("key", Values::Key(|row, text| row.record().key.map(|piece| text.get(piece)))),
        // A JSON array of {"name", "value"}, or {"name", "hex"} where the value is not UTF-8.
        Column::optional("headers", Values::Word(|row, text| row.record().headers.map(|piece| text.str(piece)))),
    ]
}
