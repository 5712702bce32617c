//! Reads an hour of the archive back, whatever files it is in just now.

use std::borrow::Cow;

use ::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use ::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use arrow::array::{Array as _, ArrayRef, ArrowPrimitiveType, AsArray as _, PrimitiveArray, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType};

use super::ArchiveError;
use super::column::conform;
use super::layout::{Hour, Table, data_name};
use super::schema::form;
use crate::model::{Coordinates, Event, Volume};
use crate::store::Store;

/// Hands the rows of one topic's table and hour to `each`, with today's columns, file by file.
///
/// # Errors
/// `Retry` where a file was compacted away meanwhile (begin the hour anew), or the store does not answer; `Fatal` where a
/// file cannot be read.
pub async fn read_hour(
    store: &Store,
    table: Table,
    topic: &str,
    hour: Hour,
    each: &mut dyn FnMut(&RecordBatch) -> Result<(), ArchiveError>,
) -> Result<(), ArchiveError> {
    for entry in store.list(&format!("{}/{}", table.dir(), hour.dir()), false).await? {
        if data_name(entry.name()).is_none_or(|name| name.topic != topic) {
            continue;
        }
        let path = &entry.path;
        let Some(content) = store.read(path).await? else {
            return Err(ArchiveError::Retry(format!("{path}: has just been compacted")));
        };
        let broken = |what: String| ArchiveError::Fatal(format!("{path}: {what}; restore it from a backup"));
        let reader = ParquetRecordBatchReaderBuilder::try_new(content).and_then(|reader| reader.build());
        for batch in reader.map_err(|error| broken(error.to_string()))? {
            let batch = batch.map_err(|error| broken(error.to_string()))?;
            each(&conform(&batch, &form(table).schema).map_err(broken)?)?;
        }
    }
    Ok(())
}

/// Reads a file's footer alone.
///
/// # Errors
/// `Fatal` where the file is no Parquet, `Retry` where it has gone or the store does not answer.
pub async fn footer(store: &Store, path: &str, size_bytes: u64) -> Result<ParquetMetaData, ArchiveError> {
    const GUESS: u64 = 64 << 10;
    const TAIL: usize = 8;
    let broken = |what: &str| ArchiveError::Fatal(format!("{path}: {what}; `traffic verify archive` says more"));
    let vanished = || ArchiveError::Retry(format!("{path}: vanished while it was read"));
    let mut length = GUESS.min(size_bytes);
    loop {
        let tail = store.read_range(path, size_bytes - length..size_bytes).await?.ok_or_else(vanished)?;
        let Some((rest, end)) = tail.split_last_chunk::<TAIL>() else { return Err(broken("too short for Parquet")) };
        let (size, magic) = end.split_first_chunk::<4>().expect("eight bytes");
        if magic != b"PAR1" {
            return Err(broken("no Parquet file, or a damaged one"));
        }
        let size = u32::from_le_bytes(*size) as usize;
        if let Some(start) = rest.len().checked_sub(size) {
            return Ok(ParquetMetaDataReader::decode_metadata(&rest[start..])?);
        }
        let needed = (size + TAIL) as u64;
        if needed > size_bytes {
            return Err(broken("its footer is longer than the file"));
        }
        length = needed;
    }
}

/// Columns of a batch by name; the schema is today's.
pub struct Rows<'a>(pub &'a RecordBatch);

impl<'a> Rows<'a> {
    fn column(&self, name: &str) -> &'a ArrayRef {
        self.0.column_by_name(name).expect("a column that the table has")
    }

    /// # Panics
    /// If the table has no such column of text.
    #[must_use]
    pub fn text(&self, name: &str) -> &'a StringArray {
        self.column(name).as_string()
    }

    /// # Panics
    /// If the table has no such column of that type.
    #[must_use]
    pub fn numbers<T: ArrowPrimitiveType>(&self, name: &str) -> &'a PrimitiveArray<T> {
        self.column(name).as_primitive()
    }

    /// The events that rows of `raw` are, in their order.
    pub fn events(&self) -> impl Iterator<Item = Event<'a>> {
        let (ids, segments) = (self.text("event_id"), self.text("segment_id"));
        let times = self.numbers::<TimestampMillisecondType>("timestamp");
        let (speeds, flows) = (self.numbers::<Float64Type>("speed_kmh"), self.numbers::<Float64Type>("flow_per_hour"));
        let (counts, occupancies) =
            (self.numbers::<Int64Type>("volume_count"), self.numbers::<Float64Type>("occupancy"));
        let (latitudes, longitudes) =
            (self.numbers::<Float64Type>("latitude"), self.numbers::<Float64Type>("longitude"));
        let qualities = self.numbers::<Float64Type>("quality_score");
        (0..self.0.num_rows()).map(move |row| {
            let count = value(counts, row).and_then(|count| u32::try_from(count).ok()).map(Volume::Count);
            Event {
                event_id: Cow::Borrowed(ids.value(row)),
                segment_id: Cow::Borrowed(segments.value(row)),
                timestamp_ms: times.value(row),
                speed_kmh: value(speeds, row),
                volume: count.or_else(|| value(flows, row).map(Volume::PerHour)),
                occupancy_percent: value(occupancies, row),
                coordinates: value(latitudes, row)
                    .zip(value(longitudes, row))
                    .map(|(latitude, longitude)| Coordinates { latitude, longitude }),
                // No aggregate knows it.
                source: "SENSOR",
                quality_score: qualities.value(row),
            }
        })
    }
}

fn value<T: ArrowPrimitiveType>(column: &PrimitiveArray<T>, row: usize) -> Option<T::Native> {
    column.is_valid(row).then(|| column.value(row))
}
