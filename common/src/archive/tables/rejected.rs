//! `…/rejected`: records that are not valid, in the order they came.

use std::sync::LazyLock;

use crate::archive::column::{Column, Columns, Values};
use crate::archive::rows::{Piece, RecordPart, Row, Text, record_columns};
use crate::stream::Record;

#[derive(Debug)]
pub(in crate::archive) struct RejectedRow {
    record: RecordPart,
    reason: Piece,
    payload: Option<Piece>,
}

impl RejectedRow {
    pub(in crate::archive) fn of(record: &Record<'_>, reason: &str, text: &mut Text) -> Self {
        Self {
            record: RecordPart::of(record, text),
            reason: text.keep(reason.as_bytes()),
            payload: record.value.map(|bytes| text.keep(bytes)),
        }
    }
}

static COLUMNS: LazyLock<Columns<RejectedRow>> = LazyLock::new(|| {
    let own = [
        Column::new("reason", Values::Word(|row: &RejectedRow, text| Some(text.str(row.reason)))),
        Column::optional("payload", Values::Payload(|row, text| row.payload.map(|p| text.get(p)))),
    ];
    Columns::new(&["offset"], own.into_iter().chain(record_columns()))
});

impl Row for RejectedRow {
    fn columns() -> &'static Columns<Self> {
        &COLUMNS
    }

    fn record(&self) -> &RecordPart {
        &self.record
    }

    fn order(&self) -> Option<(Piece, i64)> {
        None
    }
}
