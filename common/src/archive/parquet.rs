//! Parquet as the archive writes it: one sorted row group at a time, each sent to the store before the next,
//! so that a file of any size needs the memory of one row group.

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{BloomFilterPosition, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::ArchiveError;
use super::layout::Table;
use super::schema::{schema, sorted_by};
use crate::store::{Store, Writer};

/// A dictionary that outgrows this has no repetition worth it: the column goes on split byte by byte.
const NUMBER_DICTIONARY_BYTES: usize = 64 << 10;
/// Segments that a row group's bloom filter is made for; it is folded smaller when there are fewer.
const BLOOM_SEGMENTS: u64 = 10_000;

/// A file being written.
pub(super) struct ParquetFile {
    encoder: ArrowWriter<Vec<u8>>,
    out: Writer,
    pub(super) rows: u64,
    pub(super) size_bytes: u64,
}

impl std::fmt::Debug for ParquetFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetFile").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl ParquetFile {
    pub(super) async fn begin(
        store: &Store,
        path: &str,
        table: Table,
        zstd_level: i32,
        about: Vec<KeyValue>,
    ) -> Result<Self, ArchiveError> {
        let properties = properties(table, zstd_level)?.set_key_value_metadata(Some(about)).build();
        let encoder = ArrowWriter::try_new(Vec::new(), schema(table), Some(properties))?;
        Ok(Self { encoder, out: store.create(path).await?, rows: 0, size_bytes: 0 })
    }

    /// Writes one row group.
    pub(super) async fn append(&mut self, rows: &RecordBatch) -> Result<(), ArchiveError> {
        self.encoder.write(rows)?;
        self.encoder.flush()?;
        self.rows += rows.num_rows() as u64;
        self.send().await
    }

    /// Writes the footer and closes the file.
    pub(super) async fn close(mut self) -> Result<(u64, u64), ArchiveError> {
        self.encoder.finish()?;
        self.send().await?;
        self.out.close().await?;
        Ok((self.rows, self.size_bytes))
    }

    async fn send(&mut self) -> Result<(), ArchiveError> {
        self.encoder.sync().map_err(|e| ArchiveError::Fatal(format!("Parquet: {e}")))?;
        let encoded = Bytes::from(std::mem::take(self.encoder.inner_mut()));
        self.size_bytes += encoded.len() as u64;
        Ok(self.out.write(encoded).await?)
    }
}

fn properties(table: Table, zstd_level: i32) -> Result<WriterPropertiesBuilder, ArchiveError> {
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("traffic ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(zstd_level)?))
        .set_max_row_group_row_count(None)
        // Filters kept until the end of the file would be memory that grows with it.
        .set_bloom_filter_position(BloomFilterPosition::AfterRowGroup)
        .set_sorting_columns(Some(sorting(table)));
    // Nearly every value is new: a dictionary would only be in the way.
    for column in ["timestamp", "offset", "record_timestamp"] {
        properties = plainly(properties, column, Encoding::DELTA_BINARY_PACKED);
    }
    properties = plainly(properties, "event_id", Encoding::DELTA_BYTE_ARRAY);
    properties = plainly(properties, "payload", Encoding::DELTA_LENGTH_BYTE_ARRAY);
    for column in ["speed_kmh", "flow_per_hour", "occupancy", "latitude", "longitude", "quality_score"] {
        properties = properties
            .set_column_dictionary_page_size_limit(ColumnPath::from(column), NUMBER_DICTIONARY_BYTES)
            .set_column_encoding(ColumnPath::from(column), Encoding::BYTE_STREAM_SPLIT);
    }
    if table == Table::Raw {
        properties = properties.set_column_bloom_filter_max_ndv(ColumnPath::from("segment_id"), BLOOM_SEGMENTS);
    }
    Ok(properties)
}

fn plainly(properties: WriterPropertiesBuilder, column: &str, encoding: Encoding) -> WriterPropertiesBuilder {
    properties
        .set_column_dictionary_enabled(ColumnPath::from(column), false)
        .set_column_encoding(ColumnPath::from(column), encoding)
}

fn sorting(table: Table) -> Vec<SortingColumn> {
    let schema = schema(table);
    let index = |name| {
        let (index, _) = schema.column_with_name(name).expect("a table is sorted by its own columns");
        i32::try_from(index).expect("a table has few columns")
    };
    let columns = sorted_by(table).iter();
    columns.map(|name| SortingColumn { column_idx: index(name), descending: false, nulls_first: false }).collect()
}
