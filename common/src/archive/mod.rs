//! The archive: a topic copied into Parquet files, every committed record exactly once.
//!
//! One offset range falls into several hours and so into several files, which appear together or not at
//! all: they are written where no reader looks, named by one *manifest* that is created if absent, and only
//! then renamed into the readers' tree. The manifests of a partition form a chain (each begins where the
//! last one ended) that alone decides what has been archived; the consumer group's offset merely follows.
//! `docs/storage-layout.md` describes the files and what a reader may rely on.
//!
//! | file | owns |
//! |---|---|
//! | `config.rs` | settings |
//! | `layout.rs` | where everything lies |
//! | `manifest.rs` | the commit protocol's decisions, pure: facts in, decision out |
//! | `ledger.rs` | the protocol's reads and writes for one partition |
//! | `dataset.rs` | what is archived: events, aggregates, predictions |
//! | `classify.rs` | which table and hour a record belongs to |
//! | `tables/` | a row type per table, with its columns |
//! | `column.rs`, `schema.rs` | columns: name, type, encoding and value in one list |
//! | `rows.rs` | rows held in memory until they are sorted into a row group |
//! | `parquet.rs` | a file streamed out one row group at a time |
//! | `batch.rs` | what is open between two commits: rows and files per hour |
//! | `sink.rs` | sessions until the end, pauses between them |
//! | `session.rs` | one membership: log → batches → commits |
//! | `compaction/` | merges closed hours' files, removes hours that are too old |
//! | `registrar.rs` | tells a Hive metastore of new hours, beside the sink |
//! | `schedule.rs` | compaction beside the sink |
//! | `read.rs` | rows of an hour, as events |
//! | `verify.rs` | proves the invariant over an archive, and against the log |

mod batch;
mod classify;
mod column;
pub mod compaction;
mod concurrent;
pub mod config;
mod dataset;
pub mod layout;
mod ledger;
pub mod manifest;
mod parquet;
pub mod read;
mod registrar;
mod rows;
mod schedule;
pub mod schema;
mod session;
mod sink;
mod tables;
pub mod verify;

pub use config::ArchiveConfig;
pub use dataset::Dataset;
pub use parquet::encode;
pub use registrar::register_hours;
pub use sink::{Control, Sink, Summary};

use crate::store::StoreError;
use crate::stream::LogError;

/// Why archiving stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArchiveError {
    /// Out of reach for now, or another owner was faster: take the partition over anew and read again.
    #[error("{0}")]
    Retry(String),
    /// Trying again cannot help.
    #[error("{0}")]
    Fatal(String),
}

impl From<StoreError> for ArchiveError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Retry(text) => Self::Retry(text),
            StoreError::Fatal(text) => Self::Fatal(text),
        }
    }
}

impl From<LogError> for ArchiveError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Retry(text) | LogError::Unstable(text) | LogError::Fenced(text) => Self::Retry(text),
            LogError::Fatal(text) => Self::Fatal(text),
        }
    }
}

impl From<::parquet::errors::ParquetError> for ArchiveError {
    fn from(error: ::parquet::errors::ParquetError) -> Self {
        Self::Fatal(format!("Parquet: {error}"))
    }
}

impl From<arrow::error::ArrowError> for ArchiveError {
    fn from(error: arrow::error::ArrowError) -> Self {
        Self::Fatal(format!("Arrow: {error}"))
    }
}

#[cfg(test)]
mod tests;
