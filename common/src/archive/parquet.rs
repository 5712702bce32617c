//! Parquet as the archive writes it: one sorted row group at a time, each sent to the store before the next,
//! so that a file of any size needs the memory of one row group.

use arrow::array::RecordBatch;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{BloomFilterPosition, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use super::ArchiveError;
use super::layout::Table;
use super::schema::form;
use crate::store::{Store, Writer};

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
        let encoder = ArrowWriter::try_new(Vec::new(), form(table).schema.clone(), Some(properties))?;
        Ok(Self { encoder, out: store.create(path).await?, rows: 0, size_bytes: 0 })
    }

    /// Writes one row group.
    pub(super) async fn append(&mut self, rows: RecordBatch) -> Result<(), ArchiveError> {
        self.encoder.write(&rows)?;
        self.encoder.flush()?;
        self.rows += rows.num_rows() as u64;
        drop(rows);
        self.send().await
    }

    /// Adds a fact to the footer.
    pub(super) fn say(&mut self, fact: KeyValue) {
        self.encoder.append_key_value_metadata(fact);
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

/// A file in memory: a row group for each of these batches of sorted rows.
///
/// # Errors
/// The batches have other columns than the table.
pub fn encode(table: Table, groups: &[RecordBatch], zstd_level: i32) -> Result<Bytes, ArchiveError> {
    let properties = properties(table, zstd_level)?.build();
    let mut encoder = ArrowWriter::try_new(Vec::new(), form(table).schema.clone(), Some(properties))?;
    for rows in groups {
        encoder.write(rows)?;
        encoder.flush()?;
    }
    Ok(encoder.into_inner()?.into())
}

fn properties(table: Table, zstd_level: i32) -> Result<WriterPropertiesBuilder, ArchiveError> {
    let mut properties = WriterProperties::builder()
        // Readers in Java take a file whose writer they cannot parse for one of an old writer's, with its bugs: they refuse
        // to read DELTA_BYTE_ARRAY and leave the statistics of text aside.
        .set_created_by(concat!("traffic version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(zstd_level)?))
        .set_max_row_group_row_count(None)
        // Filters kept until the end of the file would be memory that grows with it.
        .set_bloom_filter_position(BloomFilterPosition::AfterRowGroup)
        .set_sorting_columns(Some(sorting(table)));
    properties = form(table).encode(properties);
    if matches!(table, Table::Accepted(_)) {
        properties = properties.set_column_bloom_filter_max_ndv(ColumnPath::from("segment_id"), BLOOM_SEGMENTS);
    }
    Ok(properties)
}

fn sorting(table: Table) -> Vec<SortingColumn> {
    let form = form(table);
    // No column before these has more than one leaf.
    let index = |name| {
        let (index, _) = form.schema.column_with_name(name).expect("a table is sorted by its own columns");
        i32::try_from(index).expect("a table has few columns")
    };
    let columns = form.sorted_by.iter();
    columns.map(|name| SortingColumn { column_idx: index(name), descending: false, nulls_first: false }).collect()
}
