//! NDJSON as it is, and long CSV as one flat JSON object a row.

use std::fs::File;
use std::io::{BufRead, BufReader};

use anyhow::{Context, Result};
use common::model::Normaliser;
use serde_json::{Map, Value};

use super::Key;
use crate::feed::{Item, Source};

pub struct Lines {
    rows: Rows,
    size: u64,
    read: u64,
    normaliser: Normaliser,
    keyed: bool,
    value: Vec<u8>,
    key: Option<String>,
    newest_ms: Option<i64>,
}

enum Rows {
    Json(BufReader<File>),
    Csv { rows: Box<csv::Reader<File>>, header: csv::StringRecord },
}

/// Recorded lines may be so much out of order.
const DISORDER_MS: i64 = 30_000;

impl Lines {
    pub fn ndjson(file: File, size: u64, normaliser: Normaliser, key: Key) -> Self {
        Self::new(Rows::Json(BufReader::with_capacity(1 << 20, file)), size, normaliser, key)
    }

    pub fn csv(file: File, size: u64, normaliser: Normaliser, key: Key) -> Result<Self> {
        let mut rows = csv::Reader::from_reader(file);
        let header = rows.headers().context("the header")?.clone();
        Ok(Self::new(Rows::Csv { rows: Box::new(rows), header }, size, normaliser, key))
    }

    fn new(rows: Rows, size: u64, normaliser: Normaliser, key: Key) -> Self {
        let keyed = key == Key::Segment;
        Self { rows, size, read: 0, normaliser, keyed, value: Vec::new(), key: None, newest_ms: None }
    }

    /// Puts the next line into `value`; `false` at the end.
    fn advance(&mut self) -> Result<bool> {
        self.value.clear();
        match &mut self.rows {
            Rows::Json(lines) => {
                let read = lines.read_until(b'\n', &mut self.value).context("reading the file")?;
                self.read += read as u64;
                let text = self.value.trim_ascii_end().len();
                self.value.truncate(text);
                Ok(read > 0)
            }
            Rows::Csv { rows, header } => {
                let mut row = csv::StringRecord::new();
                if !rows.read_record(&mut row)? {
                    return Ok(false);
                }
                self.read = rows.position().byte();
                let cells = header.iter().zip(&row).map(|(name, cell)| (name.to_owned(), cell_value(name, cell)));
                serde_json::to_writer(&mut self.value, &cells.collect::<Map<_, _>>())?;
                Ok(true)
            }
        }
    }
}

/// Numbers as numbers, but ids and times as they stand; an empty cell is null.
fn cell_value(name: &str, cell: &str) -> Value {
    if cell.is_empty() {
        return Value::Null;
    }
    if name.ends_with("_id") || name == "timestamp" {
        return Value::from(cell);
    }
    cell.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map_or_else(|| Value::from(cell), Value::Number)
}

impl Source for Lines {
    fn next(&mut self) -> Result<Option<Item<'_>>> {
        loop {
            if !self.advance()? {
                return Ok(None);
            }
            if !self.value.is_empty() {
                break;
            }
        }
        // What does not parse is sent all the same: the aggregator says why it refuses it.
        let event = self.normaliser.parse(&self.value).ok();
        let at_ms = event.as_ref().map(|e| e.timestamp_ms);
        self.key = event.filter(|_| self.keyed).map(|e| e.segment_id.into_owned());
        self.newest_ms = self.newest_ms.max(at_ms);
        Ok(Some(Item { key: self.key.as_deref().map(str::as_bytes), value: &self.value, at_ms }))
    }

    fn complete_ms(&self) -> Option<i64> {
        self.newest_ms.map(|newest_ms| newest_ms - DISORDER_MS)
    }

    fn done(&self) -> (u64, u64) {
        (self.read, self.size)
    }
}
